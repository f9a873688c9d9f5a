//! What happens in a chat, as its socket tells it: the stream's changes under the events' names.
//!
//! Every event is a row that committed: `new_message` a new message, `chat_closed` a session that was closed. A hole in
//! the stream is an event, too, because only the client can read again what it missed.
//!
//! Values are passed on as the text they have in the change: numbers keep their digits.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::catalog::bind::Wish;
use crate::config::{Chat, Table};
use crate::hub::{Broadcast, Dialect, Frame, Notice};
use crate::rowjson::push_string;

/// Hands changes to a socket as they are; it knows the names.
#[derive(Debug)]
pub(super) struct Plain;

impl Dialect for Plain {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn change(&self, _topic: &str, _ids: &[u64], data: &str) -> Frame {
        Frame::Text(data.into())
    }

    fn notice(&self, _topic: &str, _join_ref: &str, notice: &Notice) -> Frame {
        let text = if notice.is_ok { Value::Null } else { json!({ "trouble": notice.message }) };
        Frame::Text(text.to_string().into())
    }

    fn presence_state(&self, _topic: &str, _join_ref: &str, _state: &str) -> Frame {
        Frame::Text("null".into())
    }

    fn presence_diff(&self, _topic: &str, _diff: &str) -> Frame {
        Frame::Text("null".into())
    }

    fn broadcast(&self, _topic: &str, _broadcast: &Broadcast) -> Option<Frame> {
        None
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// A message, by its id, in JSON.
    NewMessage(String, String),
    /// A session in JSON, by the id of its change: a session that was opened again can be closed again.
    ChatClosed(String, String),
    /// Something is missing, and why.
    Gap(String),
}

impl Event {
    /// As it is sent.
    pub(super) fn to_json(&self) -> String {
        match self {
            Self::NewMessage(_, message) => {
                format!(r#"{{"type":"new_message","message":{message}}}"#)
            }
            Self::ChatClosed(_, session) => {
                format!(r#"{{"type":"chat_closed","session":{session}}}"#)
            }
            Self::Gap(detail) => json!({ "type": "gap", "detail": detail }).to_string(),
        }
    }
}

/// The names that a change has.
#[derive(Debug)]
pub(super) struct Names {
    sessions: Table,
    messages: Table,
    closed: String,
}

/// A row by its columns.
type Row = BTreeMap<String, Box<RawValue>>;

#[derive(Deserialize)]
struct Change {
    #[serde(default)]
    schema: String,
    #[serde(default)]
    table: String,
    #[serde(default, rename = "type")]
    kind: String,
    /// The same whenever this change is told.
    #[serde(default)]
    id: String,
    #[serde(default)]
    record: Row,
    #[serde(default)]
    old_record: Row,
    errors: Option<Vec<String>>,
    trouble: Option<String>,
}

impl Names {
    pub(super) fn new(chat: &Chat) -> Self {
        Self {
            sessions: chat.sessions.clone(),
            messages: chat.messages.clone(),
            closed: chat.word("closed").to_owned(),
        }
    }

    /// What a socket wishes to hear of: everything it may see, or what is of one player.
    pub(super) fn wishes(&self, player: Option<&str>) -> Vec<Wish> {
        let wish = |table: &Table, event: &str| {
            let filter = player.zip(table.column("visitor")).map(|(player, column)| {
                let quoted = player.replace('\\', "\\\\").replace('"', "\\\"");
                format!("{column}=eq.\"{quoted}\"")
            });
            Wish {
                event: Some(event.to_owned()),
                schema: Some(table.schema.clone()),
                table: Some(table.name.clone()),
                filter,
                select: None,
                first: None,
            }
        };
        vec![wish(&self.messages, "INSERT"), wish(&self.sessions, "UPDATE")]
    }

    /// What a change means; nothing when it is of no interest.
    pub(super) fn read(&self, data: &str) -> Option<Event> {
        let change: Change = serde_json::from_str(data).ok()?;
        if let Some(trouble) = change.trouble {
            return Some(Event::Gap(trouble));
        }
        let is = |table: &Table| change.schema == table.schema && change.table == table.name;
        if change.errors.is_some() {
            return Some(Event::Gap("A change could not be shown whole.".to_owned()));
        }
        if change.kind == "INSERT" && is(&self.messages) {
            let id = self.messages.column("id").and_then(|id| change.record.get(id));
            let id = id.map(|id| text(id)).unwrap_or_default();
            return Some(Event::NewMessage(
                id,
                values_of(&self.messages, &change.record, &MESSAGE),
            ));
        }
        if change.kind == "UPDATE" && is(&self.sessions) {
            let status = self.sessions.column("status")?;
            let is_closed =
                |row: &Row| row.get(status).is_some_and(|status| text(status) == self.closed);
            if is_closed(&change.record) && !is_closed(&change.old_record) {
                let session = values_of(&self.sessions, &change.record, &SESSION);
                return Some(Event::ChatClosed(change.id, session));
            }
        }
        None
    }
}

/// A message as clients of the older chats know it: their names, and what the column means.
pub(super) const MESSAGE: [(&str, &str); 8] = [
    ("id", "id"),
    ("message", "body"),
    ("sender", "sender"),
    ("sender_name", "name"),
    ("player_id", "visitor"),
    ("timestamp", "created_at"),
    ("status", "status"),
    ("session_id", "session"),
];

/// A closed session, likewise.
const SESSION: [(&str, &str); 4] = [
    ("id", "id"),
    ("player_id", "visitor"),
    ("closed_at", "closed_at"),
    ("closed_by", "closed_by"),
];

/// The columns that there are, in JSON under the names they are told by.
fn values_of(table: &Table, row: &Row, names: &[(&str, &str)]) -> String {
    let mut json = String::from("{");
    for (told, meaning) in names {
        let Some(column) = table.column(meaning) else { continue };
        if json.len() > 1 {
            json.push(',');
        }
        push_string(&mut json, told);
        json.push(':');
        json.push_str(row.get(column).map_or("null", |value| value.get()));
    }
    json.push('}');
    json
}

/// A value as a text: a string as it is, anything else as it is written.
pub(super) fn text(value: &RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn names() -> Names {
        let given = |name: &str| match name {
            "RELAY_POSTGRES__URL" => Some("postgres://127.0.0.1/x".to_owned()),
            "RELAY_AUTH__JWT_SECRET" => Some("x".repeat(32)),
            "RELAY_CHAT__PRESET" => Some("gre".to_owned()),
            _ => None,
        };
        Names::new(&Config::load(None, &given).unwrap().0.chat.unwrap())
    }

    fn change(table: &str, kind: &str, record: Value, old: Value) -> String {
        json!({
            "schema": "public", "table": table, "type": kind, "id": "e:1:1", "record": record, "old_record": old,
            "errors": null
        })
        .to_string()
    }

    #[test]
    fn changes_have_their_events() {
        let message =
            json!({ "id": "1", "message": "hi", "sender": "gre", "player_id": "p", "further": 1 });
        let closed = json!({ "id": "s", "player_id": "p", "status": "closed", "closed_by": "g" });
        let open = json!({ "id": "s", "player_id": "p", "status": "active" });
        let (sessions, messages) = ("gre_chat_sessions", "gre_chat_messages");
        let read = |table, kind, record: &Value, old: &Value| {
            names().read(&change(table, kind, record.clone(), old.clone()))
        };
        let none = json!({});
        let value = |json: &str| serde_json::from_str::<Value>(json).unwrap();
        let Some(Event::NewMessage(id, told)) = read(messages, "INSERT", &message, &none) else {
            panic!()
        };
        let told = value(&told);
        assert_eq!(
            (&*id, &told["message"], &told["sender_name"]),
            ("1", &json!("hi"), &Value::Null)
        );
        assert!(told.get("further").is_none() && told.get("status").is_none());
        let Some(Event::ChatClosed(id, told)) = read(sessions, "UPDATE", &closed, &open) else {
            panic!()
        };
        let told = value(&told);
        assert_eq!((&*id, &told["id"], &told["closed_by"]), ("e:1:1", &json!("s"), &json!("g")));
        for (table, kind, record, old) in [
            (messages, "UPDATE", &message, &message),
            (sessions, "UPDATE", &closed, &closed),
            (sessions, "UPDATE", &open, &open),
            (sessions, "INSERT", &closed, &none),
            ("other", "INSERT", &message, &none),
        ] {
            assert_eq!(read(table, kind, record, old), None, "{table} {kind}");
        }
        let gap = names().read(r#"{"trouble":"lost"}"#);
        assert_eq!(gap, Some(Event::Gap("lost".to_owned())));
        for nonsense in ["", "null", "[]", "{", "7"] {
            assert_eq!(names().read(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_player_cannot_end_the_quotes_of_the_filter() {
        let [messages, _] = <[Wish; 2]>::try_from(names().wishes(Some(r#"a",b\"#))).unwrap();
        assert_eq!(messages.filter.as_deref(), Some(r#"player_id=eq."a\",b\\""#));
        assert!(names().wishes(None).iter().all(|wish| wish.filter.is_none()));
    }
}
