//! `[chat]`: the presets, and what was written on top of them.
//!
//! The three chats that are known say the same with other names. A preset is those names; each can be replaced.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::Check;
use super::keys::nearest;
use super::written;

/// The chat API.
#[derive(Clone, Debug)]
pub struct Chat {
    /// Whose routes and names.
    pub preset: Preset,
    /// Connections per role.
    pub pool: usize,
    /// How long one request may take in Postgres.
    pub timeout: Duration,
    /// Requests per second of one caller.
    pub requests_per_second: u32,
    /// Bytes of a request's body.
    pub body: usize,
    /// Where sessions are.
    pub sessions: Table,
    /// Where messages are.
    pub messages: Table,
    /// Where those who answer are.
    pub agents: Option<Table>,
    /// What is written into columns, by what it means.
    pub words: BTreeMap<&'static str, String>,
    /// Who keeps times and states in step.
    pub times: Times,
}

/// A chat that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The support chat.
    Support,
    /// Guest relations.
    Gre,
    /// The unified chat.
    Unified,
}

/// Who writes what follows from a message or a closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Triggers.
    Database,
    /// The API.
    Relay,
}

/// A table and what its columns are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Columns by what they mean.
    pub columns: BTreeMap<&'static str, String>,
}

impl Table {
    /// The name of a column, if the table has one of this meaning.
    pub fn column(&self, meaning: &str) -> Option<&str> {
        self.columns.get(meaning).map(String::as_str)
    }
}

impl Chat {
    /// The word for something; empty when no preset knows it.
    pub fn word(&self, meaning: &str) -> &str {
        self.words.get(meaning).map_or("", String::as_str)
    }
}

/// What a table's columns may mean; the first so many cannot be missing.
struct Meanings {
    names: &'static [&'static str],
    required: usize,
}

const SESSION: Meanings = Meanings {
    names: &[
        "id",
        "visitor",
        "status",
        "created_at",
        "name",
        "email",
        "agent",
        "subject",
        "rating",
        "feedback",
        "message",
        "updated_at",
        "last_message_at",
        "closed_at",
        "closed_by",
    ],
    required: 4,
};
const MESSAGE: Meanings = Meanings {
    names: &[
        "id",
        "session",
        "sender",
        "body",
        "created_at",
        "visitor",
        "sender_id",
        "name",
        "client_id",
        "status",
        "read_at",
    ],
    required: 5,
};
const AGENT: Meanings = Meanings { names: &["id", "user", "name"], required: 3 };
const WORD: Meanings = Meanings {
    names: &["waiting", "active", "closed", "visitor", "agent", "sent", "read"],
    required: 7,
};

/// The names of one chat.
struct Names {
    sessions: &'static str,
    session_columns: &'static [(&'static str, &'static str)],
    messages: &'static str,
    message_columns: &'static [(&'static str, &'static str)],
    agents: &'static str,
    words: &'static [(&'static str, &'static str)],
    times: Times,
}

const SUPPORT: Names = Names {
    sessions: "public.live_chat_sessions",
    session_columns: &[
        ("id", "id"),
        ("visitor", "visitor_id"),
        ("name", "visitor_name"),
        ("email", "visitor_email"),
        ("status", "status"),
        ("agent", "assigned_agent_id"),
        ("subject", "subject"),
        ("rating", "rating"),
        ("feedback", "feedback"),
        ("created_at", "created_at"),
        ("updated_at", "updated_at"),
        ("last_message_at", "last_message_at"),
        ("closed_at", "closed_at"),
    ],
    messages: "public.chat_messages",
    message_columns: &[
        ("id", "id"),
        ("session", "session_id"),
        ("sender", "sender_type"),
        ("sender_id", "sender_id"),
        ("name", "sender_name"),
        ("body", "body"),
        ("client_id", "client_id"),
        ("read_at", "read_at"),
        ("created_at", "created_at"),
    ],
    agents: "public.support_agents",
    words: &[
        ("waiting", "waiting"),
        ("active", "active"),
        ("closed", "closed"),
        ("visitor", "visitor"),
        ("agent", "agent"),
        ("sent", "sent"),
        ("read", "read"),
    ],
    times: Times::Database,
};

const GRE: Names = Names {
    sessions: "public.gre_chat_sessions",
    session_columns: &[
        ("id", "id"),
        ("visitor", "player_id"),
        ("name", "player_name"),
        ("status", "status"),
        ("created_at", "created_at"),
        ("last_message_at", "last_message_at"),
        ("closed_at", "closed_at"),
        ("closed_by", "closed_by"),
    ],
    messages: "public.gre_chat_messages",
    message_columns: &[
        ("id", "id"),
        ("session", "session_id"),
        ("visitor", "player_id"),
        ("body", "message"),
        ("sender", "sender"),
        ("name", "sender_name"),
        ("created_at", "timestamp"),
    ],
    agents: "",
    words: &[
        ("waiting", "waiting"),
        ("active", "active"),
        ("closed", "closed"),
        ("visitor", "player"),
        ("agent", "gre"),
        ("sent", "sent"),
        ("read", "read"),
    ],
    times: Times::Relay,
};

const UNIFIED: Names = Names {
    sessions: "public.chat_requests",
    session_columns: &[
        ("id", "id"),
        ("visitor", "player_id"),
        ("name", "player_name"),
        ("message", "initial_message"),
        ("status", "status"),
        ("created_at", "created_at"),
    ],
    messages: "public.chat_messages",
    message_columns: &[
        ("id", "id"),
        ("session", "request_id"),
        ("visitor", "player_id"),
        ("sender", "sender"),
        ("name", "sender_name"),
        ("body", "message_text"),
        ("created_at", "timestamp"),
        ("status", "status"),
    ],
    agents: "",
    words: &[
        ("waiting", "waiting"),
        ("active", "in_progress"),
        ("closed", "resolved"),
        ("visitor", "player"),
        ("agent", "staff"),
        ("sent", "sent"),
        ("read", "read"),
    ],
    times: Times::Relay,
};

/// What the columns of agents are called unless said otherwise.
const AGENT_COLUMNS: [(&str, &str); 3] =
    [("id", "id"), ("user", "user_id"), ("name", "display_name")];

const PRESETS: [&str; 4] = ["off", "support", "gre", "unified"];

impl Check<'_> {
    /// `[chat]`; nothing when it is off.
    pub(super) fn chat(&mut self, written: &written::Chat) -> Option<Chat> {
        let (preset, names) = match &*written.preset {
            "off" => return None,
            "support" => (Preset::Support, SUPPORT),
            "gre" => (Preset::Gre, GRE),
            "unified" => (Preset::Unified, UNIFIED),
            other => {
                let near = nearest(other, PRESETS.into_iter())
                    .map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
                let choices = PRESETS.map(|choice| format!("\"{choice}\"")).join(", ");
                self.say("chat.preset", format!("{other:?} is not one of {choices}{near}"));
                return None;
            }
        };
        if written.requests_per_second == 0 {
            self.say("chat.requests_per_second", "nobody could write; use at least 1");
        }
        let given = written.agents.as_deref().unwrap_or(names.agents);
        let agent_columns =
            self.named("chat.agent_columns", &AGENT, &AGENT_COLUMNS, &written.agent_columns);
        let agents = (!given.is_empty()).then(|| self.table("chat.agents", given, agent_columns));
        let sessions = self.named(
            "chat.session_columns",
            &SESSION,
            names.session_columns,
            &written.session_columns,
        );
        let messages = self.named(
            "chat.message_columns",
            &MESSAGE,
            names.message_columns,
            &written.message_columns,
        );
        let table = written.sessions.as_deref().unwrap_or(names.sessions);
        let sessions = self.table("chat.sessions", table, sessions);
        let table = written.messages.as_deref().unwrap_or(names.messages);
        let messages = self.table("chat.messages", table, messages);
        Some(Chat {
            preset,
            pool: self.count("chat.pool", written.pool, 1, 1_000),
            timeout: self.time("chat.timeout", written.timeout, 10, 600_000),
            requests_per_second: written.requests_per_second,
            body: self.size("chat.body", written.body, 1 << 10),
            sessions,
            messages,
            agents,
            words: self.named("chat.words", &WORD, names.words, &written.words),
            times: self.times(written.times.as_deref(), names.times),
        })
    }

    fn times(&mut self, written: Option<&str>, usual: Times) -> Times {
        match written {
            None => usual,
            Some("database") => Times::Database,
            Some("relay") => Times::Relay,
            Some(other) => {
                let reason = format!("{other:?} is not one of \"database\", \"relay\"");
                self.say("chat.times", reason);
                usual
            }
        }
    }

    fn table(
        &mut self,
        key: &'static str,
        written: &str,
        columns: BTreeMap<&'static str, String>,
    ) -> Table {
        let (schema, name) = written.split_once('.').unwrap_or(("public", written));
        for part in [schema, name] {
            self.name(key, part);
        }
        Table { schema: schema.to_owned(), name: name.to_owned(), columns }
    }

    /// The preset's names with those that were given in their place.
    fn named(
        &mut self,
        key: &'static str,
        meanings: &Meanings,
        usual: &[(&'static str, &'static str)],
        written: &[String],
    ) -> BTreeMap<&'static str, String> {
        let mut names: BTreeMap<&'static str, String> =
            usual.iter().map(|(meaning, name)| (*meaning, (*name).to_owned())).collect();
        for entry in written.iter().filter(|entry| !entry.is_empty()) {
            let Some((meaning, name)) = entry.split_once('=') else {
                self.say(key, format!("{entry:?} has no `=`; write \"meaning=name\""));
                continue;
            };
            let (meaning, name) = (meaning.trim(), name.trim());
            let known = || meanings.names.iter().copied();
            let Some(place) = known().position(|known| known == meaning) else {
                let near = nearest(meaning, known()).unwrap_or("one that relay.toml lists");
                self.say(key, format!("{meaning:?} is not known here; did you mean {near}?"));
                continue;
            };
            let Some(meaning) = known().nth(place) else { continue };
            if !name.is_empty() {
                self.name(key, name);
                names.insert(meaning, name.to_owned());
            } else if place < meanings.required {
                self.say(key, format!("a chat cannot do without {meaning}; name it"));
            } else {
                names.remove(meaning);
            }
        }
        names
    }
}
