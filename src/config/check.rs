//! What was written, made to mean something, or refused with the dotted key and a fix.
//!
//! All faults are found in one go, so that a configuration is mended in one go. Nothing here looks at the network
//! or at Postgres; that is `relay check`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::keys::nearest;
use super::units::{Size, Time};
use super::written::{self, Written};
use super::{Admin, Config, Deletes, Http, Limits, Log, Nonsense, Postgres, Realtime};
use crate::secret::Secret;

/// A file larger than this is no secret.
const LARGEST_SECRET_FILE: u64 = 64 * 1024;
/// Postgres cuts longer names.
const LONGEST_NAME: usize = 63;

/// Faults found so far, and the directory that relative paths of the file start from.
pub(super) struct Check<'a> {
    pub(super) faults: Vec<Nonsense>,
    /// Where a relative path given under a key starts.
    pub(super) base: &'a dyn Fn(&str) -> PathBuf,
    /// Whether somebody gave the key a value.
    pub(super) is_given: &'a dyn Fn(&str) -> bool,
}

impl Check<'_> {
    /// Everything. Meaningless when faults were found.
    pub(super) fn config(&mut self, written: &Written) -> Config {
        let mut config = Config {
            http: self.http(&written.http),
            postgres: self.postgres(&written.postgres),
            log: self.log(&written.log),
            auth: self.auth(&written.auth),
            realtime: self.realtime(&written.realtime),
            limits: self.limits(&written.limits),
            chat: self.chat(&written.chat),
        };
        self.together(written, &mut config);
        config
    }

    fn http(&mut self, written: &written::Http) -> Http {
        let listen = written.listen.parse().unwrap_or_else(|_| {
            let reason = format!(
                "{:?} is no address and port; write \"127.0.0.1:4000\", or \"0.0.0.0:4000\" to be \
                 reached from other machines",
                written.listen
            );
            self.say("http.listen", reason);
            SocketAddr::from(([127, 0, 0, 1], 4000))
        });
        let admin = self.admin(&written.admin_listen);
        let drain = self.time("http.drain", written.drain, 0, 3_600_000);
        let pages = written.pages.as_ref().map(|path| (self.base)("http.pages").join(path));
        if let Some(pages) = &pages
            && !pages.join("index.html").is_file()
        {
            let reason = format!("there is no index.html in {}; build the pages", pages.display());
            self.say("http.pages", reason);
        }
        let trusted_proxies = self.proxies(&written.trusted_proxies);
        Http { listen, admin, trusted_proxies, drain, pages }
    }

    fn admin(&mut self, written: &str) -> Option<Admin> {
        if written == "off" {
            return None;
        }
        let is_given = (self.is_given)("http.admin_listen");
        let Ok(address) = written.parse() else {
            let reason = format!(
                "{written:?} is no address and port; write \"127.0.0.1:9464\", the value of \
                 http.listen to have one listener for all, or \"off\""
            );
            self.say("http.admin_listen", reason);
            return None;
        };
        Some(Admin { address, is_given })
    }

    fn postgres(&mut self, written: &written::Postgres) -> Postgres {
        let url = self.secret(
            ("postgres.url", written.url.as_ref()),
            ("postgres.url_file", written.url_file.as_deref()),
        );
        if written.url.is_none() && written.url_file.is_none() {
            let fix = "nothing to read from; set postgres.url, postgres.url_file, \
                       RELAY_POSTGRES__URL or DATABASE_URL to \"postgres://relay:…@host/database\"";
            self.say("postgres.url", fix);
        }
        self.name("postgres.publication", &written.publication);
        self.name("postgres.slot", &written.slot);
        if !written.slot.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_')) {
            let reason = format!(
                "{:?} is no slot name; use lower-case letters, digits and underscores",
                written.slot
            );
            self.say("postgres.slot", reason);
        }
        Postgres {
            url: url.unwrap_or_default(),
            publication: written.publication.clone(),
            slot: written.slot.clone(),
            pool: self.count("postgres.pool", written.pool, 1, 1_000),
            check_timeout: self.time("postgres.check_timeout", written.check_timeout, 10, 600_000),
            // Below two seconds an ordinary pause of the network cuts the stream.
            wal_sender_timeout: self.time(
                "postgres.wal_sender_timeout",
                written.wal_sender_timeout,
                2_000,
                3_600_000,
            ),
            heartbeat: self.heartbeat(written.heartbeat),
            max_slot_lag: self.budget(written.max_slot_lag),
            max_transaction: self.size(
                "postgres.max_transaction",
                written.max_transaction,
                1 << 20,
            ),
            max_backlog: self.size("postgres.max_backlog", written.max_backlog, 1 << 20),
        }
    }

    fn log(&mut self, written: &written::Log) -> Log {
        if written.dir.as_os_str().is_empty() {
            self.say(
                "log.dir",
                "it is empty; name a directory, or start with `relay run --ephemeral`",
            );
        }
        Log {
            dir: (self.base)("log.dir").join(&written.dir),
            // Fewer than a handful of segments could not be told from none.
            retain_bytes: self.size("log.retain_bytes", written.retain_bytes, 64 << 20),
            retain_age: self.time("log.retain_age", written.retain_age, 60_000, 365 * 86_400_000),
            level: self.level(&written.level),
            is_ephemeral: false,
        }
    }

    /// A word, or a filter by target, such as `info,relay::source=debug`.
    fn level(&mut self, written: &str) -> String {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
        // A target alone would be read as everything of it and nothing else, which nobody means who writes "inof".
        let odd = written.split(',').map(str::trim).find(|part| {
            let is_filter = part.contains(['=', '[']);
            !is_filter && !is_level(part)
        });
        let reason = match odd {
            Some(word) => {
                let near = nearest(word, LEVELS.into_iter())
                    .map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
                format!("{word:?} is not one of {}{near}", LEVELS.join(", "))
            }
            None => match EnvFilter::try_new(written) {
                Ok(_) => return written.to_owned(),
                Err(error) => format!("it cannot be read: {error}"),
            },
        };
        self.say("log.level", reason);
        written.to_owned()
    }

    fn deletes(&mut self, word: &str) -> Deletes {
        const CHOICES: [&str; 3] = ["authorised", "strict", "supabase"];
        match word {
            "authorised" => Deletes::Authorised,
            "strict" => Deletes::Strict,
            "supabase" => Deletes::Supabase,
            _ => {
                let near = nearest(word, CHOICES.into_iter())
                    .map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
                let choices = CHOICES.map(|choice| format!("\"{choice}\"")).join(", ");
                self.say("realtime.deletes", format!("{word:?} is not one of {choices}{near}"));
                Deletes::Authorised
            }
        }
    }

    fn realtime(&mut self, written: &written::Realtime) -> Realtime {
        let deletes = self.deletes(&written.deletes);
        let presence_grace =
            self.time("realtime.presence_grace", written.presence_grace, 0, 3_600_000);
        let hold = self.time("realtime.hold", written.hold, 0, 1_000);
        let (private_only, presence_always) = (written.private_only, written.presence_always);
        Realtime { deletes, presence_grace, private_only, presence_always, hold }
    }

    fn limits(&mut self, written: &written::Limits) -> Limits {
        for (key, rate, who) in [
            ("limits.joins_per_second", written.joins_per_second, "nobody could join"),
            (
                "limits.connection_joins_per_second",
                written.connection_joins_per_second,
                "nobody could join",
            ),
            (
                "limits.subject_joins_per_second",
                written.subject_joins_per_second,
                "no user could join",
            ),
            ("limits.messages_per_second", written.messages_per_second, "nobody could speak"),
            (
                "limits.subject_messages_per_second",
                written.subject_messages_per_second,
                "no user could speak",
            ),
            (
                "limits.http_messages_per_second",
                written.http_messages_per_second,
                "nobody could speak",
            ),
            ("limits.presence_calls", written.presence_calls, "nobody could be present"),
            (
                "limits.presence_messages_per_second",
                written.presence_messages_per_second,
                "nobody could be present",
            ),
            (
                "limits.subject_presence_messages_per_second",
                written.subject_presence_messages_per_second,
                "no user could be present",
            ),
        ] {
            if rate == 0 {
                self.say(key, format!("{who}; use at least 1"));
            }
        }
        Limits {
            connections: self.count("limits.connections", written.connections, 1, 10_000_000),
            subject_connections: self.count(
                "limits.subject_connections",
                written.subject_connections,
                1,
                10_000_000,
            ),
            address_connections: self.address_connections(written),
            channels: self.count("limits.channels", written.channels, 1, 1_000_000),
            joins_per_second: written.joins_per_second,
            connection_joins_per_second: written.connection_joins_per_second,
            subject_joins_per_second: written.subject_joins_per_second,
            messages_per_second: written.messages_per_second,
            subject_messages_per_second: written.subject_messages_per_second,
            http_messages_per_second: written.http_messages_per_second,
            subject_http_messages_per_second: written.subject_http_messages_per_second,
            frames_per_second: written.frames_per_second,
            subject_frames_per_second: written.subject_frames_per_second,
            broadcast_payload: self.size(
                "limits.broadcast_payload",
                written.broadcast_payload,
                1 << 10,
            ),
            replay: self.count("limits.replay", written.replay, 1, 10_000),
            snapshot_rows: self.count("limits.snapshot_rows", written.snapshot_rows, 1, 100_000),
            frame: self.size("limits.frame", written.frame, 16 << 10),
            outbox: self.size("limits.outbox", written.outbox, 16 << 10),
            outboxes: self.size("limits.outboxes", written.outboxes, 1 << 20),
            memory: self.memory(written),
            frame_time: self.time("limits.frame_time", written.frame_time, 1_000, 3_600_000),
            write_stall: self.time("limits.write_stall", written.write_stall, 100, 3_600_000),
            idle: self.time("limits.idle", written.idle, 5_000, 86_400_000),
            record: self.size("limits.record", written.record, 1 << 10),
            presence_calls: written.presence_calls,
            presence_window: self.time(
                "limits.presence_window",
                written.presence_window,
                1_000,
                86_400_000,
            ),
            presence_messages_per_second: written.presence_messages_per_second,
            subject_presence_messages_per_second: written.subject_presence_messages_per_second,
            presence_payload: self.size(
                "limits.presence_payload",
                written.presence_payload,
                1 << 10,
            ),
        }
    }

    /// A secret given directly or in a file, never both.
    pub(super) fn secret(
        &mut self,
        (key, direct): (&'static str, Option<&Secret<String>>),
        (file_key, file): (&'static str, Option<&Path>),
    ) -> Option<Secret<String>> {
        let (place, secret) = match (direct, file) {
            (None, None) => return None,
            (Some(_), Some(_)) => {
                self.say(key, format!("both {key} and {file_key} are set; remove one"));
                return None;
            }
            (Some(secret), None) => (key, secret.clone()),
            (None, Some(path)) => match secret_file(&(self.base)(file_key).join(path)) {
                Ok(secret) => (file_key, secret),
                Err(reason) => {
                    self.say(file_key, reason);
                    return None;
                }
            },
        };
        if secret.reveal().is_empty() {
            self.say(place, "it is empty; remove it or fill it");
            return None;
        }
        Some(secret)
    }

    pub(super) fn name(&mut self, key: &'static str, name: &str) {
        if name.is_empty() || LONGEST_NAME < name.len() || name.contains(char::is_control) {
            let reason = format!("{name:?} is no Postgres name; use 1 to {LONGEST_NAME} bytes");
            self.say(key, reason);
        }
    }

    pub(super) fn count(
        &mut self,
        key: &'static str,
        value: usize,
        least: usize,
        most: usize,
    ) -> usize {
        if value < least || most < value {
            self.say(key, format!("{value} is out of range; use {least} to {most}"));
        }
        value
    }

    pub(super) fn time(
        &mut self,
        key: &'static str,
        time: Time,
        least_ms: u64,
        most_ms: u64,
    ) -> Duration {
        let (least, most) = (Duration::from_millis(least_ms), Duration::from_millis(most_ms));
        if time.0 < least || most < time.0 {
            let range = format!("{} to {}", Time(least), Time(most));
            self.say(key, format!("{time} is out of range; use {range}"));
        }
        time.0
    }

    /// Zero, or an interval longer than it takes Postgres to flush what nobody waits for.
    fn heartbeat(&mut self, time: Time) -> Duration {
        if !time.0.is_zero()
            && !(Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&time.0)
        {
            let reason = format!("{time} is out of range; use 1s to 1h, or 0s for none");
            self.say("postgres.heartbeat", reason);
        }
        time.0
    }

    /// Zero, or more than an ordinary pause leaves behind.
    fn budget(&mut self, size: Size) -> usize {
        let least = 16 << 20;
        if size.0 != 0 && size.0 < least {
            let reason =
                format!("{size} is too small; use at least {}, or 0 B for no limit", Size(least));
            self.say("postgres.max_slot_lag", reason);
        }
        size.0
    }

    pub(super) fn size(&mut self, key: &'static str, size: Size, least: usize) -> usize {
        if size.0 < least {
            self.say(key, format!("{size} is too small; use at least {}", Size(least)));
        }
        size.0
    }

    pub(super) fn say(&mut self, key: &'static str, reason: impl Into<String>) {
        self.faults.push(Nonsense { key: key.to_owned(), reason: reason.into() });
    }
}

/// The file's text without the line end an editor leaves.
fn secret_file(path: &Path) -> Result<Secret<String>, String> {
    let name = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("{name}: {error}"))?.len();
    if LARGEST_SECRET_FILE < size {
        return Err(format!("{name} holds {size} bytes; a secret has a few dozen"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}
