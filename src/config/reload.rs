//! Reading the configuration again while the relay runs: which settings count at once, and what changed.
//!
//! Everything that is read again is checked like at the start, so that a file with a fault changes nothing.

use super::keys::KEYS;
use super::{Config, Effective, Limits};

/// Settings that count as soon as they are read again. Whatever is not here counts after a restart.
const LIVE: &[&str] = &[
    "log.level",
    "auth.jwt_secret",
    "auth.jwt_secret_file",
    "auth.jwks",
    "auth.api_secret",
    "auth.api_secret_file",
    "auth.issuer",
    "auth.audience",
    "limits.connections",
    "limits.subject_connections",
    "limits.channels",
    "limits.joins_per_second",
    "limits.connection_joins_per_second",
    "limits.subject_joins_per_second",
    "limits.messages_per_second",
    "limits.subject_messages_per_second",
    "limits.http_messages_per_second",
    "limits.subject_http_messages_per_second",
    "limits.frames_per_second",
    "limits.subject_frames_per_second",
    "limits.replay",
    "limits.snapshot_rows",
    "limits.frame",
    "limits.frame_time",
    "limits.outbox",
    "limits.write_stall",
    "limits.idle",
    "limits.presence_calls",
    "limits.presence_window",
    "limits.presence_messages_per_second",
    "limits.subject_presence_messages_per_second",
    "limits.presence_payload",
];

/// What changed between two readings, by dotted keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What counts at once.
    pub live: Vec<&'static str>,
    /// What counts after a restart.
    pub restart: Vec<&'static str>,
}

impl Effective {
    /// What another reading says otherwise. `postgres.url` is left to whoever can tell a new password from a new server.
    pub fn changes_to(&self, other: &Self) -> Changes {
        let mut changes = Changes::default();
        for key in KEYS.iter().filter(|key| !(key.same)(&self.written, &other.written)) {
            if key.dotted.starts_with("postgres.url") {
                continue;
            }
            let list =
                if LIVE.contains(&key.dotted) { &mut changes.live } else { &mut changes.restart };
            list.push(key.dotted);
        }
        changes
    }
}

impl Changes {
    /// Adds the files of secrets that have the same name and another content.
    pub fn look_into_files(&mut self, before: &Config, now: &Config) {
        for (key, twin, is_other) in [
            (
                "auth.jwt_secret",
                "auth.jwt_secret_file",
                before.auth.jwt_secret != now.auth.jwt_secret,
            ),
            (
                "auth.api_secret",
                "auth.api_secret_file",
                before.auth.api_secret != now.auth.api_secret,
            ),
        ] {
            if is_other && !self.live.contains(&key) && !self.live.contains(&twin) {
                self.live.push(twin);
            }
        }
    }
}

impl Limits {
    /// These limits, as far as they count at once; the others stay as they were `before`.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        let &Self { broadcast_payload, outboxes, record, memory, .. } = before;
        Self { broadcast_payload, outboxes, record, memory, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::written::Written;

    #[test]
    fn every_live_setting_is_one() {
        for live in LIVE {
            assert!(KEYS.iter().any(|key| key.dotted == *live), "{live}");
        }
    }

    #[test]
    fn the_manual_names_the_limits_that_need_a_restart() {
        let manual = include_str!("../../README.md");
        let help = include_str!("../cli/run.rs");
        for key in KEYS.iter().map(|key| key.dotted).filter(|key| !LIVE.contains(key)) {
            let Some(name) = key.strip_prefix("limits.") else { continue };
            let words = |text: &str, from: &str, to: &str| {
                let (_, rest) = text.split_once(from).unwrap();
                rest.split_once(to).unwrap().0.contains(name)
            };
            assert!(words(manual, "`[limits]` but", "The log names"), "{name} in README.md");
            assert!(words(help, "[limits] but", "What changed"), "{name} in --help");
        }
    }

    #[test]
    fn what_changed_is_named_and_whether_it_counts_at_once() {
        let read = |text: &str| Effective {
            written: toml::from_str::<Written>(text).unwrap(),
            origins: crate::config::Origins::default(),
            directory: std::path::PathBuf::new(),
        };
        let before = read("[postgres]\nslot = 'a'\nurl = 'x'\n[limits]\nchannels = 3");
        let now = read("[postgres]\nslot = 'b'\nurl = 'y'\n[limits]\nchannels = 4\nidle = '60s'");
        let expected = Changes { live: vec!["limits.channels"], restart: vec!["postgres.slot"] };
        assert_eq!(before.changes_to(&now), expected);
        assert_eq!(before.changes_to(&before), Changes::default());
    }
}
