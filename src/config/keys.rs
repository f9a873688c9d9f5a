//! Every key once: its name, how it is read from text, and how it is shown.
//!
//! The environment, `config show`, and the suggestions for a misspelt key all walk this table, so none of them can
//! miss a key.

use std::path::PathBuf;

use super::units::{Size, Time, Written as _};
use super::written::Written;
use crate::secret::Secret;

/// One setting.
pub(crate) struct Key {
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    /// `section.name`.
    pub(crate) dotted: &'static str,
    /// Its value must not be repeated in a message.
    pub(crate) is_secret: bool,
    /// Reads a new value from text; the error says what was expected.
    pub(crate) read: fn(&mut Written, &str) -> Result<(), String>,
    /// The value as a person may see it; `None` when it is not set.
    pub(crate) show: fn(&Written) -> Option<String>,
    /// Whether two readings say the same.
    pub(crate) same: fn(&Written, &Written) -> bool,
}

macro_rules! keys {
    ($($section:ident.$name:ident $($secret:literal)?),* $(,)?) => {
        &[$(Key {
            section: stringify!($section),
            name: stringify!($name),
            dotted: concat!(stringify!($section), ".", stringify!($name)),
            is_secret: false $(|| $secret)?,
            read: |written, text| written.$section.$name.read(text),
            show: |written| written.$section.$name.show(),
            same: |one, other| one.$section.$name == other.$section.$name,
        }),*]
    };
}

/// All settings, in the order of `relay.toml`.
pub(crate) const KEYS: &[Key] = keys![
    http.listen,
    http.admin_listen,
    http.trusted_proxies,
    http.drain,
    http.pages,
    postgres.url true,
    postgres.url_file,
    postgres.publication,
    postgres.slot,
    postgres.pool,
    postgres.check_timeout,
    postgres.wal_sender_timeout,
    postgres.heartbeat,
    postgres.max_slot_lag,
    postgres.max_transaction,
    postgres.max_backlog,
    log.dir,
    log.retain_bytes,
    log.retain_age,
    log.level,
    auth.jwt_secret true,
    auth.jwt_secret_file,
    auth.jwks true,
    auth.api_secret true,
    auth.api_secret_file,
    auth.roles,
    auth.issuer,
    auth.audience,
    realtime.deletes,
    realtime.presence_grace,
    realtime.private_only,
    realtime.presence_always,
    realtime.hold,
    limits.connections,
    limits.subject_connections,
    limits.address_connections,
    limits.channels,
    limits.joins_per_second,
    limits.connection_joins_per_second,
    limits.subject_joins_per_second,
    limits.messages_per_second,
    limits.subject_messages_per_second,
    limits.http_messages_per_second,
    limits.subject_http_messages_per_second,
    limits.frames_per_second,
    limits.subject_frames_per_second,
    limits.broadcast_payload,
    limits.replay,
    limits.snapshot_rows,
    limits.frame,
    limits.outbox,
    limits.outboxes,
    limits.memory,
    limits.frame_time,
    limits.write_stall,
    limits.idle,
    limits.record,
    limits.presence_calls,
    limits.presence_window,
    limits.presence_messages_per_second,
    limits.subject_presence_messages_per_second,
    limits.presence_payload,
    chat.preset,
    chat.pool,
    chat.timeout,
    chat.requests_per_second,
    chat.body,
    chat.sessions,
    chat.session_columns,
    chat.messages,
    chat.message_columns,
    chat.agents,
    chat.agent_columns,
    chat.words,
    chat.times,
];

impl Key {
    /// The environment variable that overrides it.
    pub(crate) fn variable(&self) -> String {
        format!("RELAY_{}__{}", self.section, self.name).to_ascii_uppercase()
    }
}

/// The candidate a misspelt `name` was probably meant to be.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let close = candidates.map(|candidate| (distance(name, candidate), candidate)).min();
    close.filter(|(edits, _)| *edits <= 1 + name.len() / 4).map(|(_, candidate)| candidate)
}

/// How many letters must be changed, added or removed.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let cells = row.iter_mut();
        for (cell, y) in cells.zip(std::iter::once(None).chain(b.chars().map(Some))) {
            let above = *cell;
            left = match y {
                None => i + 1,
                Some(y) => (diagonal + usize::from(x != y)).min(above + 1).min(left + 1),
            };
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// A value that is read from the environment and shown by `config show`.
trait Value {
    fn read(&mut self, text: &str) -> Result<(), String>;
    fn show(&self) -> Option<String>;
}

impl Value for String {
    fn read(&mut self, text: &str) -> Result<(), String> {
        text.clone_into(self);
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(self.clone())
    }
}

impl Value for Option<String> {
    fn read(&mut self, text: &str) -> Result<(), String> {
        *self = Some(text.to_owned());
        Ok(())
    }

    fn show(&self) -> Option<String> {
        self.clone()
    }
}

impl Value for PathBuf {
    fn read(&mut self, text: &str) -> Result<(), String> {
        *self = Self::from(text);
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(self.display().to_string())
    }
}

impl Value for Option<PathBuf> {
    fn read(&mut self, text: &str) -> Result<(), String> {
        *self = Some(PathBuf::from(text));
        Ok(())
    }

    fn show(&self) -> Option<String> {
        self.as_ref().map(|path| path.display().to_string())
    }
}

impl Value for Option<Secret<String>> {
    fn read(&mut self, text: &str) -> Result<(), String> {
        *self = Some(Secret::new(text.to_owned()));
        Ok(())
    }

    fn show(&self) -> Option<String> {
        self.as_ref().map(|_| "‹set›".to_owned())
    }
}

impl Value for Vec<String> {
    fn read(&mut self, text: &str) -> Result<(), String> {
        *self = text.split(',').map(|item| item.trim().to_owned()).collect();
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(self.join(", "))
    }
}

macro_rules! read_by_parsing {
    ($($type:ty: $parse:expr, $expected:expr);* $(;)?) => {$(
        impl Value for $type {
            fn read(&mut self, text: &str) -> Result<(), String> {
                let parse: fn(&str) -> Option<$type> = $parse;
                *self = parse(text).ok_or_else(|| format!("expected {}", $expected))?;
                Ok(())
            }

            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}

read_by_parsing! {
    usize: |text| text.trim().parse().ok(), "a whole number";
    u32: |text| text.trim().parse().ok(), "a whole number";
    bool: |text| text.trim().parse().ok(), "true or false";
    Time: Time::parse, Time::EXPECTED;
    Size: Size::parse, Size::EXPECTED;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_finds_the_one_that_was_meant() {
        let near = |name| nearest(name, KEYS.iter().map(|key| key.name));
        assert_eq!(near("lisen"), Some("listen"));
        assert_eq!(near("jwt_secrets"), Some("jwt_secret"));
        assert_eq!(near("wal_sender_timout"), Some("wal_sender_timeout"));
        assert_eq!(near("nothing_like_it"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }
}
