//! What the configuration means: checked, typed, secrets loaded.
//!
//! `written` is `relay.toml` as written; this is what it means. The step between them is the only place that says
//! no, and it says the dotted key.

mod auth;
mod chat;
mod check;
mod env;
mod file;
mod keys;
mod live;
mod memory;
mod origin;
mod proxies;
mod reload;
mod together;
mod units;
mod written;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::Cidr;
use crate::secret::Secret;
use written::Written;

pub use chat::{Chat, Preset, Table, Times};
pub use live::Live;
pub use origin::{Origin, Origins};
pub use reload::Changes;

/// Everything the relay was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[http]`
    pub http: Http,
    /// `[postgres]`
    pub postgres: Postgres,
    /// `[log]`
    pub log: Log,
    /// `[auth]`
    pub auth: Auth,
    /// `[realtime]`
    pub realtime: Realtime,
    /// `[limits]`
    pub limits: Limits,
    /// `[chat]`; `None` when it is off.
    pub chat: Option<Chat>,
}

/// Where clients connect.
#[derive(Clone, Debug)]
pub struct Http {
    /// Address of the one listener.
    pub listen: SocketAddr,
    /// Where probes and metrics are served; `None` when they have no address of their own.
    pub admin: Option<Admin>,
    /// Proxies that are believed when they say for whom they ask.
    pub trusted_proxies: Vec<Cidr>,
    /// How long SIGTERM lets connections finish.
    pub drain: Duration,
    /// Directory of the chat's built pages, served when given.
    pub pages: Option<PathBuf>,
}

/// Where probes and metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The address. The same as that of clients means that they share a listener.
    pub address: SocketAddr,
    /// Whether somebody wrote it. A default that cannot be had is done without.
    pub is_given: bool,
}

/// Where rows come from.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// Connection string, `postgres://…` or `key=value …`.
    pub url: Secret<String>,
    /// The publication to read.
    pub publication: String,
    /// The persistent slot to read through.
    pub slot: String,
    /// Connections per API role for row checks.
    pub pool: usize,
    /// How long one row check may take.
    pub check_timeout: Duration,
    /// `wal_sender_timeout` of our own replication connection.
    pub wal_sender_timeout: Duration,
    /// How often a message of ours goes through the WAL; zero for never.
    pub heartbeat: Duration,
    /// Bytes the slot may lag before it is given up with an announced gap; zero for no limit.
    pub max_slot_lag: usize,
    /// Without a log on disk: changes of one transaction held in memory, in bytes, before it is let go with an
    /// announced gap.
    pub max_transaction: usize,
    /// Decoded changes in memory that wait for the disk, or without one for delivery, in bytes, before reading pauses.
    pub max_backlog: usize,
}

/// What is kept of the changes, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The directory.
    pub dir: PathBuf,
    /// Bytes on disk above which the oldest changes go.
    pub retain_bytes: usize,
    /// How old changes may become.
    pub retain_age: Duration,
    /// What the relay says of itself on standard error, as a filter of `tracing`.
    pub level: String,
    /// Nothing is kept on disk. Said by a flag of the run, not by the file.
    pub is_ephemeral: bool,
}

/// Who clients are.
#[derive(Clone, Debug)]
pub struct Auth {
    /// Shared secret for HS256/384/512.
    pub jwt_secret: Option<Secret<String>>,
    /// Public keys.
    pub jwks: Option<JwksSource>,
    /// Secret of tokens that may ask and act at `/api/tenants`; without it, clients' tokens.
    pub api_secret: Option<Secret<String>>,
    /// Postgres roles a token may name.
    pub roles: Vec<String>,
    /// `iss` every token must carry, when set.
    pub issuer: Option<String>,
    /// `aud` every token must carry, when set.
    pub audience: Option<String>,
}

/// Where the key set is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// A file, re-read when it changes.
    File(PathBuf),
    /// An https address, fetched again from time to time and when an unknown `kid` appears.
    Url(String),
    /// The set itself, as JSON.
    Inline(String),
}

/// How changes are told.
#[derive(Clone, Debug)]
pub struct Realtime {
    /// What subscribers learn of deleted rows under row security.
    pub deletes: Deletes,
    /// How long a member whose socket broke stays present.
    pub presence_grace: Duration,
    /// Whether joins of public channels are refused.
    pub private_only: bool,
    /// Whether every channel is told who is present.
    pub presence_always: bool,
    /// How long row changes are held back after they arrived.
    pub hold: Duration,
}

/// What subscribers learn of a DELETE on a table with row security.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletes {
    /// The old row is judged and, if readable, sent whole; otherwise the primary key only.
    Authorised,
    /// Nothing unless the old row is known and readable.
    Strict,
    /// The primary key to every subscriber, as Supabase Realtime does.
    Supabase,
}

/// What one client may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sockets at once.
    pub connections: usize,
    /// Sockets of one subject at once.
    pub subject_connections: usize,
    /// Connections of one address at once that are no sockets.
    pub address_connections: usize,
    /// Channels per socket.
    pub channels: usize,
    /// Joins per second over all sockets.
    pub joins_per_second: u32,
    /// Joins and new tokens per second of one socket.
    pub connection_joins_per_second: u32,
    /// Joins and new tokens per second of one subject.
    pub subject_joins_per_second: u32,
    /// Broadcasts per second of one socket.
    pub messages_per_second: u32,
    /// Broadcasts per second of one subject.
    pub subject_messages_per_second: u32,
    /// Broadcasts per second by HTTP, over all requests.
    pub http_messages_per_second: u32,
    /// Broadcasts per second by HTTP of one subject, servers aside.
    pub subject_http_messages_per_second: u32,
    /// Frames per second of one socket that are no broadcasts.
    pub frames_per_second: u32,
    /// The same of one subject.
    pub subject_frames_per_second: u32,
    /// Bytes of the payload of one broadcast.
    pub broadcast_payload: usize,
    /// Messages of the past a private channel gets when it asks for them.
    pub replay: usize,
    /// Rows that one join may have read first.
    pub snapshot_rows: usize,
    /// Bytes of one incoming frame.
    pub frame: usize,
    /// Bytes queued for one socket before it is closed as slow.
    pub outbox: usize,
    /// Bytes queued for all sockets together before those over their own limit are closed.
    pub outboxes: usize,
    /// Bytes that clients together make the relay hold, what waits for them aside.
    pub memory: usize,
    /// How long one incoming message may take to arrive.
    pub frame_time: Duration,
    /// How long one write may stall before the socket is closed as slow.
    pub write_stall: Duration,
    /// Silence from a client before it is closed.
    pub idle: Duration,
    /// Bytes of one row's JSON before it is cut to its small columns.
    pub record: usize,
    /// Presence messages of one channel in one window.
    pub presence_calls: u32,
    /// How long such a window is.
    pub presence_window: Duration,
    /// Presence messages per second of one socket.
    pub presence_messages_per_second: u32,
    /// Presence messages per second of one subject.
    pub subject_presence_messages_per_second: u32,
    /// Bytes of one presence message.
    pub presence_payload: usize,
}

/// A setting that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonsense {
    /// The dotted key (`http.listen`), the variable, or the file and line.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub reason: String,
}

impl fmt::Display for Nonsense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

/// One setting as `config show` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The dotted key.
    pub key: &'static str,
    /// The value in force; a secret is a word; `None` when there is none.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Origin,
}

/// What the file and the environment said together, not yet checked.
#[derive(Debug)]
pub struct Effective {
    written: Written,
    origins: Origins,
    directory: PathBuf,
}

impl Config {
    /// Reads the file, then the environment, then says what it means. Relative paths in the file start where the
    /// file is.
    ///
    /// # Errors
    /// Every setting that cannot be meant.
    pub fn load(
        path: Option<&Path>,
        env: &impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, Origins), Vec<Nonsense>> {
        let effective = Effective::read(path, env)?;
        let config = effective.check()?;
        Ok((config, effective.origins))
    }
}

impl Effective {
    /// Reads the file, then the environment.
    ///
    /// # Errors
    /// A file that cannot be read or parsed, or variables that cannot.
    pub fn read(
        path: Option<&Path>,
        env: &impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<Nonsense>> {
        let (mut written, mut origins) = (Written::default(), Origins::default());
        if let Some(path) = path {
            let parsed = file::read(path).map_err(|fault| vec![fault])?;
            written = parsed.written;
            for key in keys::KEYS.iter().filter(|key| parsed.given.iter().any(|k| k == key.dotted))
            {
                origins.set(key.dotted, Origin::File);
            }
        }
        let faults = env::overlay(&mut written, &mut origins, env);
        let directory = path.and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        if faults.is_empty() { Ok(Self { written, origins, directory }) } else { Err(faults) }
    }

    /// What it all means.
    ///
    /// # Errors
    /// Every setting that cannot be meant.
    pub fn check(&self) -> Result<Config, Vec<Nonsense>> {
        self.checked(|check| check.config(&self.written))
    }

    /// What `[auth]` alone means, for those who need no Postgres.
    ///
    /// # Errors
    /// Every setting of `[auth]` that cannot be meant.
    pub fn auth(&self) -> Result<Auth, Vec<Nonsense>> {
        self.checked(|check| check.auth(&self.written.auth))
    }

    /// Every setting, in the order of `relay.toml`.
    pub fn settings(&self) -> Vec<Setting> {
        let settings = keys::KEYS.iter().map(|key| Setting {
            key: key.dotted,
            value: (key.show)(&self.written),
            origin: self.origins.of(key.dotted).clone(),
        });
        settings.collect()
    }

    fn checked<T>(
        &self,
        read: impl FnOnce(&mut check::Check<'_>) -> T,
    ) -> Result<T, Vec<Nonsense>> {
        let base = |key: &str| match self.origins.of(key) {
            Origin::File => self.directory.clone(),
            Origin::Default | Origin::Environment(_) => PathBuf::new(),
        };
        let is_given = |key: &str| *self.origins.of(key) != Origin::Default;
        let mut check = check::Check { faults: Vec::new(), base: &base, is_given: &is_given };
        let value = read(&mut check);
        let mut faults = check.faults;
        if faults.is_empty() {
            return Ok(value);
        }
        for fault in &mut faults {
            if let Origin::Environment(variable) = self.origins.of(&fault.key) {
                fault.key = format!("{} ({variable})", fault.key);
            }
        }
        Err(faults)
    }
}

/// Variables that look like settings and are none, so that a misspelt one does not go unnoticed: names that begin with
/// `RELAY_`, but those in `known`, empty ones, and what Kubernetes sets for a service that is called `relay`.
pub fn strangers(
    variables: impl Iterator<Item = (String, String)>,
    known: &[String],
) -> Vec<Nonsense> {
    env::strangers(variables, known)
}

/// The shipped `relay.toml`: the manual of all settings, at their defaults.
pub const MANUAL: &str = include_str!("../../relay.toml");

/// Reads a time as the configuration writes it: `250ms`, `10s`, `5m`, `1h`.
///
/// # Errors
/// What was expected.
pub fn parse_time(text: &str) -> Result<Duration, &'static str> {
    <units::Time as units::Written>::parse(text)
        .map(|time| time.0)
        .ok_or(<units::Time as units::Written>::EXPECTED)
}
