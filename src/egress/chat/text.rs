//! The statements of one chat: the shipped queries with the names of its tables and columns put in.
//!
//! Made once, at the start. Names come from the configuration and are quoted; values are never part of a text.

use std::collections::BTreeMap;

use super::live::MESSAGE;
use crate::config::{Chat, Preset, Table};
use crate::postgres::quote::{fill, identifier, literal};

/// The texts. Those for columns that the chat has not are absent.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) open: String,
    pub(super) open_if_none: String,
    pub(super) turn: String,
    pub(super) session: String,
    /// Sessions of one status, and those of another.
    pub(super) sessions: [String; 2],
    /// The same, after one of them.
    pub(super) sessions_after: [String; 2],
    /// The newest, and the newest before one of them.
    pub(super) history: [String; 2],
    /// The same of a visitor.
    pub(super) history_of: [String; 2],
    /// As the visitor, and as anybody else.
    pub(super) say: [String; 2],
    pub(super) say_to: String,
    pub(super) said: String,
    pub(super) said_to: String,
    pub(super) touch: Option<String>,
    pub(super) activate: String,
    pub(super) assign: Option<String>,
    pub(super) assigned: Option<String>,
    pub(super) close: String,
    pub(super) close_all: String,
    pub(super) closed: String,
    pub(super) rate: Option<String>,
    pub(super) read: Option<String>,
    pub(super) agents: Option<String>,
    pub(super) counts: String,
}

/// Columns of a new session after its id, in the order of their values.
pub(super) const OPENED: [&str; 6] = ["visitor", "status", "name", "email", "subject", "message"];

/// Columns of a new message, in the order of their values; its session and its visitor come from the session.
pub(super) const SAID: [&str; 6] = ["id", "sender", "body", "name", "sender_id", "client_id"];

/// A message's column for how far it has come, which has a word of its own.
pub(super) const DELIVERY: &str = "status";

macro_rules! query {
    ($name:literal) => {
        include_str!(concat!("../../../sql/queries/chat_", $name, ".sql"))
    };
}

impl Texts {
    /// Puts the names of `chat` in.
    pub(super) fn new(chat: &Chat) -> Self {
        let places = Places::new(chat);
        let with = |template: &str, more: &[(&str, &str)]| places.fill(template, more);
        let plain = |template: &str| with(template, &[]);
        let has = |meaning: &str| chat.sessions.column(meaning).is_some();
        let column = |meaning: &str| chat.sessions.column(meaning).map(identifier);

        let opened = |first: usize| {
            let names = ["id"].iter().chain(&OPENED);
            let names: Vec<&str> = names.filter_map(|name| chat.sessions.column(name)).collect();
            inserted(&names, first)
        };
        let open = |template: &str, first: usize| {
            let (columns, values) = opened(first);
            with(template, &[("columns", &columns), ("values", &values)])
        };
        let say = |template: &str, side: &str| {
            let (columns, values) = said(chat);
            with(template, &[("columns", &columns), ("values", &values), ("side", side)])
        };
        let before = plain(query!("before"));
        let before = format!("\n      {}", before.trim_end());
        let paged = |template: &str| {
            [with(template, &[("before", "")]), with(template, &[("before", &before)])]
        };
        let of_status = ["s.{session_status} = $2", "s.{session_status} is distinct from $2"];
        let after = plain(query!("sessions_after"));
        let listed = |more: &str| {
            of_status.map(|which| {
                let which = format!("{}{more}", plain(which).trim_end());
                with(query!("sessions"), &[("which", &which)])
            })
        };

        let mut closing = format!("{} = $2", column("status").unwrap_or_default());
        if chat.times == crate::config::Times::Relay {
            closing.extend(column("closed_at").map(|at| format!(", {at} = now()")));
            closing.extend(column("closed_by").map(|by| format!(", {by} = $3")));
        }
        let close = |which: &str| {
            let which = plain(which);
            with(query!("close"), &[("changes", &closing), ("which", which.trim_end())])
        };
        let rating = column("rating").map(|rating| {
            let why = column("feedback").map_or_else(String::new, |why| format!(", {why} = $3"));
            with(query!("rate"), &[("changes", &format!("{rating} = $2{why}"))])
        });
        let assigns = chat.agents.is_some() && has("agent");
        Self {
            open: open(query!("open"), 2),
            open_if_none: open(query!("open_if_none"), 4),
            turn: plain(query!("turn")),
            session: plain(query!("session")),
            sessions: listed(""),
            sessions_after: listed(&format!("\n    and {}", after.trim_end())),
            history: paged(query!("history")),
            history_of: paged(query!("history_of")),
            say: ["=", "is distinct from"].map(|side| say(query!("say"), side)),
            say_to: say(query!("say_to"), ""),
            said: plain(query!("said")),
            said_to: plain(query!("said_to")),
            touch: has("last_message_at").then(|| plain(query!("touch"))),
            activate: plain(query!("activate")),
            assign: assigns.then(|| plain(query!("assign"))),
            assigned: assigns.then(|| plain(query!("assigned"))),
            close: close("s.{session_id}"),
            close_all: close("s.{session_visitor}"),
            closed: plain(query!("closed")),
            rate: rating,
            read: reading(chat).map(|(changes, unread)| {
                with(query!("read"), &[("changes", &changes), ("unread", &unread)])
            }),
            agents: chat.agents.as_ref().map(|_| plain(query!("agents"))),
            counts: plain(query!("counts")),
        }
    }
}

/// The names that every query knows.
struct Places(BTreeMap<&'static str, String>);

impl Places {
    fn new(chat: &Chat) -> Self {
        let mut places = BTreeMap::new();
        let mut put = |place, table: &Table, meaning| {
            if let Some(name) = table.column(meaning) {
                places.insert(place, identifier(name));
            }
        };
        for (place, meaning) in [
            ("session_id", "id"),
            ("session_visitor", "visitor"),
            ("session_status", "status"),
            ("session_agent", "agent"),
            ("session_created", "created_at"),
            ("last_message_at", "last_message_at"),
        ] {
            put(place, &chat.sessions, meaning);
        }
        let order = ["last_message_at", "created_at"];
        let order = order.into_iter().find(|meaning| chat.sessions.column(meaning).is_some());
        put("session_at", &chat.sessions, order.unwrap_or("created_at"));
        for (place, meaning) in [
            ("message_id", "id"),
            ("message_session", "session"),
            ("message_sender", "sender"),
            ("message_at", "created_at"),
        ] {
            put(place, &chat.messages, meaning);
        }
        if let Some(agents) = &chat.agents {
            for (place, meaning) in
                [("agent_id", "id"), ("agent_user", "user"), ("agent_name", "name")]
            {
                put(place, agents, meaning);
            }
            places.insert("agents", table(agents));
            places.insert("answerer", row("a", agents));
        }
        places.insert("sessions", table(&chat.sessions));
        places.insert("messages", table(&chat.messages));
        places.insert("session", row("s", &chat.sessions));
        let message = if chat.preset == Preset::Support {
            row("m", &chat.messages)
        } else {
            told(&chat.messages)
        };
        places.insert("message", message);
        Self(places)
    }

    fn fill(&self, template: &str, more: &[(&str, &str)]) -> String {
        let known = self.0.iter().map(|(place, name)| (*place, name.as_str()));
        let places: Vec<(&str, &str)> = more.iter().copied().chain(known).collect();
        fill(template, &places)
    }
}

fn table(table: &Table) -> String {
    format!("{}.{}", identifier(&table.schema), identifier(&table.name))
}

/// A row as JSON under the table's own names, as its changes have them.
fn row(alias: &str, table: &Table) -> String {
    object(
        table.columns.values().map(|name| (name.as_str(), format!("{alias}.{}", identifier(name)))),
    )
}

/// A message as JSON under the names that clients of the older chats know.
fn told(messages: &Table) -> String {
    object(MESSAGE.iter().filter_map(|(told, meaning)| {
        let name = messages.column(meaning)?;
        Some((*told, format!("m.{}", identifier(name))))
    }))
}

fn object<'a>(members: impl Iterator<Item = (&'a str, String)>) -> String {
    let members: Vec<String> =
        members.map(|(name, value)| format!("{}, {value}", literal(name))).collect();
    format!("json_build_object({})", members.join(", "))
}

/// Columns and their parameters, from `first` on.
fn inserted(names: &[&str], first: usize) -> (String, String) {
    let columns: Vec<String> = names.iter().map(|name| identifier(name)).collect();
    let values: Vec<String> = (first..).take(names.len()).map(|n| format!("${n}")).collect();
    (columns.join(", "), values.join(", "))
}

fn said(chat: &Chat) -> (String, String) {
    let column = |meaning: &str| chat.messages.column(meaning);
    let names: Vec<&str> = SAID.iter().chain([&DELIVERY]).filter_map(|name| column(name)).collect();
    let (mut columns, mut values) = inserted(&names, 4);
    for (meaning, of_session) in [("session", "id"), ("visitor", "visitor")] {
        if let (Some(here), Some(there)) = (column(meaning), chat.sessions.column(of_session)) {
            columns.push_str(&format!(", {}", identifier(here)));
            values.push_str(&format!(", s.{}", identifier(there)));
        }
    }
    (columns, values)
}

/// What marks a message as read, and what shows that it is not.
fn reading(chat: &Chat) -> Option<(String, String)> {
    let column = |meaning: &str| chat.messages.column(meaning).map(identifier);
    let (at, status) = (column("read_at"), column(DELIVERY));
    let changes = [
        at.as_ref().map(|at| format!("{at} = now()")),
        status.as_ref().map(|status| format!("{status} = $5")),
    ];
    let changes: Vec<String> = changes.into_iter().flatten().collect();
    let unread = match (&at, &status) {
        (Some(at), _) => format!("m.{at} is null"),
        (None, Some(status)) => format!("m.{status} <> $5"),
        (None, None) => return None,
    };
    Some((changes.join(", "), unread))
}
