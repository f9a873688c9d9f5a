//! What the configuration means: checked, typed, secrets loaded.
//!
//! `written` is `relay.toml` as written; this is what it means. The step between them is the only place that says
//! no, and it says the dotted key.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// Everything the relay was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[http]`
    pub http: Http,
    /// `[postgres]`
    pub postgres: Postgres,
    /// `[auth]`
    pub auth: Auth,
    /// `[realtime]`
    pub realtime: Realtime,
    /// `[limits]`
    pub limits: Limits,
}

/// Where clients connect.
#[derive(Clone, Debug)]
pub struct Http {
    /// Address of the one listener.
    pub listen: SocketAddr,
    /// How long SIGTERM lets connections finish.
    pub drain: Duration,
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
    /// Changes of one transaction held in memory, in bytes, before it is let go with an announced gap.
    pub max_transaction: usize,
    /// Decoded changes waiting for delivery, in bytes, before reading pauses.
    pub max_backlog: usize,
}

/// Who clients are.
#[derive(Clone, Debug)]
pub struct Auth {
    /// Shared secret for HS256/384/512.
    pub jwt_secret: Option<Secret<String>>,
    /// Public keys.
    pub jwks: Option<JwksSource>,
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
#[derive(Clone, Debug)]
pub struct Limits {
    /// Sockets at once.
    pub connections: usize,
    /// Channels per socket.
    pub channels: usize,
    /// Joins per second over all sockets.
    pub joins_per_second: u32,
    /// Bytes of one incoming frame.
    pub frame: usize,
    /// Bytes queued for one socket before it is closed as slow.
    pub outbox: usize,
    /// How long one write may stall before the socket is closed as slow.
    pub write_stall: Duration,
    /// Silence from a client before it is closed.
    pub idle: Duration,
    /// Bytes of one row's JSON before it is cut to its small columns.
    pub record: usize,
}

/// A setting that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonsense {
    /// The dotted key, e.g. `http.listen`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub reason: String,
}

impl std::fmt::Display for Nonsense {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

/// Where each value came from.
#[derive(Clone, Debug, Default)]
pub struct Origins {}

impl Config {
    /// Reads the file, then the environment, then says what it means.
    ///
    /// # Errors
    /// Every setting that cannot be meant.
    pub fn load(
        _path: Option<&std::path::Path>,
        _env: &impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, Origins), Vec<Nonsense>> {
        todo!()
    }
}
