//! What settings mean to one another: contradictions, which are refused, and what can be meant but rarely is.

use std::time::Duration;

use super::check::Check;
use super::units::Size;
use super::written::Written;
use super::{Config, Nonsense};

/// What client libraries leave between two heartbeats at most.
const HEARTBEAT: Duration = Duration::from_secs(30);

impl Check<'_> {
    /// Looks at settings that limit one another. A default that another setting leaves no room for gives way; a value that
    /// was written is refused.
    pub(super) fn together(&mut self, written: &Written, config: &mut Config) {
        let limits = &mut config.limits;
        let (frame, outboxes) = (limits.frame, limits.outboxes);
        for (key, value, other, most) in [
            ("limits.broadcast_payload", &mut limits.broadcast_payload, "limits.frame", frame),
            ("limits.presence_payload", &mut limits.presence_payload, "limits.frame", frame),
            ("limits.outbox", &mut limits.outbox, "limits.outboxes", outboxes),
        ] {
            if *value <= most {
                continue;
            }
            if (self.is_given)(key) {
                let (value, most) = (Size(*value), Size(most));
                let reason = format!(
                    "{value} is more than {other} ({most}) lets through; lower it, or raise {other}"
                );
                self.say(key, reason);
            } else {
                *value = most;
            }
        }
        if config.auth.jwt_secret.is_some() && config.auth.jwt_secret == config.auth.api_secret {
            let key = if written.auth.api_secret.is_some() {
                "auth.api_secret"
            } else {
                "auth.api_secret_file"
            };
            let reason = "it is the secret of clients' tokens, so every client could act; make another one, or remove it";
            self.say(key, reason);
        }
        self.scheme(written, config.postgres.url.reveal());
    }

    /// Whether a connection string is one of Postgres. What else is in it is looked at by whoever connects.
    fn scheme(&mut self, written: &Written, url: &str) {
        let Some((scheme, _)) = url.split_once("://") else { return };
        if ["postgres", "postgresql"].contains(&scheme) {
            return;
        }
        let key = if written.postgres.url.is_some() { "postgres.url" } else { "postgres.url_file" };
        // Anything else may be a piece of a password in `key=value` words.
        let is_plain = scheme.len() <= 20
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.:".contains(&byte));
        if !is_plain {
            return;
        }
        let reason = match scheme.strip_prefix("jdbc:") {
            Some("postgres" | "postgresql") => {
                "jdbc:… is for Java; write postgres://user:password@host:5432/database".to_owned()
            }
            _ => format!(
                "{scheme}:// is not Postgres; write postgres://user:password@host:5432/database, or key=value words"
            ),
        };
        self.say(key, reason);
    }
}

impl Config {
    /// Settings that can be meant but rarely are, for the log of a relay that starts with them. `files` is how many files
    /// the process may have open.
    pub fn doubts(&self, files: Option<u64>) -> Vec<Nonsense> {
        let mut doubts = Vec::new();
        let mut doubt = |key: &str, reason: String| {
            doubts.push(Nonsense { key: key.to_owned(), reason });
        };
        if self.limits.idle <= HEARTBEAT {
            let reason = "client libraries send a heartbeat every 25 to 30 s, so they are closed in between and come \
                          back, over and over; use more than 30s unless all clients send more";
            doubt("limits.idle", reason.to_owned());
        }
        let connections = self.limits.connections as u64;
        if let Some(files) = files.filter(|files| *files < connections.saturating_add(FILES)) {
            let reason = format!(
                "{connections} sockets need as many open files and about {FILES} more, and this process may have {files}: \
                 whoever comes then waits unanswered; raise the limit (ulimit -n, LimitNOFILE), or lower this"
            );
            doubt("limits.connections", reason);
        }
        doubts
    }
}

/// Files that are not sockets of clients: connections to Postgres, requests, and the change log.
const FILES: u64 = 200;
