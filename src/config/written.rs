//! `relay.toml` as written: its sections, its keys, and the default of each.
//!
//! What a value means, and whether it can be meant, is decided in `check`. The shipped `relay.toml` is this file in
//! words; a test holds the two together.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::units::{Size, Time};
use crate::secret::Secret;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Written {
    pub(crate) http: Http,
    pub(crate) postgres: Postgres,
    pub(crate) log: Log,
    pub(crate) auth: Auth,
    pub(crate) realtime: Realtime,
    pub(crate) limits: Limits,
    pub(crate) chat: Chat,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    pub(crate) listen: String,
    pub(crate) admin_listen: String,
    pub(crate) trusted_proxies: Vec<String>,
    pub(crate) drain: Time,
    pub(crate) pages: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Postgres {
    #[serde(deserialize_with = "hidden")]
    pub(crate) url: Option<Secret<String>>,
    pub(crate) url_file: Option<PathBuf>,
    pub(crate) publication: String,
    pub(crate) slot: String,
    pub(crate) pool: usize,
    pub(crate) check_timeout: Time,
    pub(crate) wal_sender_timeout: Time,
    pub(crate) heartbeat: Time,
    pub(crate) max_slot_lag: Size,
    pub(crate) max_transaction: Size,
    pub(crate) max_backlog: Size,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) dir: PathBuf,
    pub(crate) retain_bytes: Size,
    pub(crate) retain_age: Time,
    pub(crate) level: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Auth {
    #[serde(deserialize_with = "hidden")]
    pub(crate) jwt_secret: Option<Secret<String>>,
    pub(crate) jwt_secret_file: Option<PathBuf>,
    #[serde(deserialize_with = "hidden")]
    pub(crate) jwks: Option<Secret<String>>,
    #[serde(deserialize_with = "hidden")]
    pub(crate) api_secret: Option<Secret<String>>,
    pub(crate) api_secret_file: Option<PathBuf>,
    pub(crate) roles: Vec<String>,
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Realtime {
    pub(crate) deletes: String,
    pub(crate) presence_grace: Time,
    pub(crate) private_only: bool,
    pub(crate) presence_always: bool,
    pub(crate) hold: Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) subject_connections: usize,
    pub(crate) address_connections: usize,
    pub(crate) channels: usize,
    pub(crate) joins_per_second: u32,
    pub(crate) connection_joins_per_second: u32,
    pub(crate) subject_joins_per_second: u32,
    pub(crate) messages_per_second: u32,
    pub(crate) subject_messages_per_second: u32,
    pub(crate) http_messages_per_second: u32,
    pub(crate) subject_http_messages_per_second: u32,
    pub(crate) frames_per_second: u32,
    pub(crate) subject_frames_per_second: u32,
    pub(crate) broadcast_payload: Size,
    pub(crate) replay: usize,
    pub(crate) snapshot_rows: usize,
    pub(crate) frame: Size,
    pub(crate) outbox: Size,
    pub(crate) outboxes: Size,
    pub(crate) memory: Size,
    pub(crate) frame_time: Time,
    pub(crate) write_stall: Time,
    pub(crate) idle: Time,
    pub(crate) record: Size,
    pub(crate) presence_calls: u32,
    pub(crate) presence_window: Time,
    pub(crate) presence_messages_per_second: u32,
    pub(crate) subject_presence_messages_per_second: u32,
    pub(crate) presence_payload: Size,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Chat {
    pub(crate) preset: String,
    pub(crate) pool: usize,
    pub(crate) timeout: Time,
    pub(crate) requests_per_second: u32,
    pub(crate) body: Size,
    pub(crate) sessions: Option<String>,
    pub(crate) session_columns: Vec<String>,
    pub(crate) messages: Option<String>,
    pub(crate) message_columns: Vec<String>,
    pub(crate) agents: Option<String>,
    pub(crate) agent_columns: Vec<String>,
    pub(crate) words: Vec<String>,
    pub(crate) times: Option<String>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:4000".to_owned(),
            admin_listen: "127.0.0.1:9464".to_owned(),
            trusted_proxies: ["127.0.0.0/8", "::1"].map(str::to_owned).into(),
            drain: seconds(25),
            pages: None,
        }
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            publication: "supabase_realtime".to_owned(),
            slot: "relay".to_owned(),
            pool: 4,
            check_timeout: seconds(5),
            wal_sender_timeout: seconds(4),
            heartbeat: seconds(10),
            max_slot_lag: Size(10 << 30),
            max_transaction: Size(64 << 20),
            max_backlog: Size(64 << 20),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("relay-log"),
            retain_bytes: Size(1 << 30),
            retain_age: seconds(24 * 3600),
            level: "info".to_owned(),
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            jwt_secret: None,
            jwt_secret_file: None,
            jwks: None,
            api_secret: None,
            api_secret_file: None,
            roles: ["anon", "authenticated", "service_role"].map(str::to_owned).to_vec(),
            issuer: None,
            audience: None,
        }
    }
}

impl Default for Realtime {
    fn default() -> Self {
        Self {
            deletes: "authorised".to_owned(),
            presence_grace: seconds(3),
            private_only: false,
            presence_always: false,
            hold: seconds(0),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            subject_connections: 10_000,
            address_connections: 1024,
            channels: 100,
            joins_per_second: 1_000,
            connection_joins_per_second: 50,
            subject_joins_per_second: 500,
            messages_per_second: 200,
            subject_messages_per_second: 1_000,
            http_messages_per_second: 1_000,
            subject_http_messages_per_second: 250,
            frames_per_second: 1_000,
            subject_frames_per_second: 10_000,
            broadcast_payload: Size(3_000_000),
            replay: 25,
            snapshot_rows: 1000,
            frame: Size(5_000_000),
            outbox: Size(1 << 20),
            outboxes: Size(512 << 20),
            memory: Size(1 << 30),
            frame_time: seconds(60),
            write_stall: seconds(10),
            idle: seconds(60),
            record: Size(1 << 20),
            presence_calls: 5,
            presence_window: seconds(30),
            presence_messages_per_second: 50,
            subject_presence_messages_per_second: 200,
            presence_payload: Size(64 << 10),
        }
    }
}

impl Default for Chat {
    fn default() -> Self {
        Self {
            preset: "off".to_owned(),
            pool: 8,
            timeout: seconds(5),
            requests_per_second: 20,
            body: Size(64 << 10),
            sessions: None,
            session_columns: Vec::new(),
            messages: None,
            message_columns: Vec::new(),
            agents: None,
            agent_columns: Vec::new(),
            words: Vec::new(),
            times: None,
        }
    }
}

const fn seconds(seconds: u64) -> Time {
    Time(Duration::from_secs(seconds))
}

/// A secret, whose type error never repeats what was written instead of a string.
fn hidden<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret<String>>, D::Error> {
    match toml::Value::deserialize(from)? {
        toml::Value::String(text) => Ok(Some(Secret::new(text))),
        _ => Err(serde::de::Error::custom("expected a string in quotes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MANUAL;
    use crate::config::keys::KEYS;

    #[test]
    fn the_manual_tells_the_defaults() {
        assert_eq!(toml::from_str::<Written>(MANUAL).unwrap(), Written::default());
    }

    #[test]
    fn the_manual_has_every_key_once_and_explains_it() {
        let (mut section, mut told, mut before) = ("", Vec::new(), "");
        for line in MANUAL.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name;
            }
            let plain = line.strip_prefix("# ").unwrap_or(line);
            let key = plain.split_once(" = ").map(|(key, _)| key).unwrap_or_default();
            if !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                assert!(before.starts_with('#'), "{section}.{key} is not explained");
                told.push(format!("{section}.{key}"));
            }
            before = line;
        }
        let known: Vec<&str> = KEYS.iter().map(|key| key.dotted).collect();
        assert_eq!(told, known);
    }

    #[test]
    fn what_is_commented_out_can_be_uncommented() {
        let is_example = |line: &&str| line.starts_with("# ") && line.contains(" = \"");
        let examples: Vec<&str> = MANUAL.lines().filter(is_example).collect();
        assert_eq!(examples.len(), 14);
        let uncomment = |line: &str| {
            if examples.contains(&line) { line.replacen("# ", "", 1) } else { line.to_owned() }
        };
        let text: Vec<String> = MANUAL.lines().map(uncomment).collect();
        let written: Written = toml::from_str(&text.join("\n")).unwrap();
        assert!(KEYS.iter().all(|key| (key.show)(&written).is_some()));
    }
}
