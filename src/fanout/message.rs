//! What the database says: a row of `realtime.messages` as a broadcast.
//!
//! Such a row is never shown as a change of a table. One that lacks what a broadcast needs, or is too large, is dropped
//! and counted; its sender is a transaction that is over.

use std::sync::Arc;

use crate::hub::{Broadcast, Namespace, RoomName};
use crate::model::{Change, ChangeKind, Relation, Row};

/// A message of the database and where it is to be heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Where.
    pub(super) room: RoomName,
    /// The message.
    pub(super) broadcast: Broadcast,
    /// Its id, by which a channel knows that it had it already.
    pub(super) id: Box<str>,
}

/// Whether a relation is `realtime.messages`, or one of its days.
pub(super) fn is_messages(relation: &Relation) -> bool {
    let is_day =
        |day: &str| day.len() == 10 && day.chars().all(|char| char.is_ascii_digit() || char == '_');
    &*relation.schema == "realtime"
        && relation
            .name
            .strip_prefix("messages")
            .is_some_and(|rest| rest.is_empty() || rest.strip_prefix('_').is_some_and(is_day))
}

/// The message a change of such a relation is. `Ok(None)`: only new rows are messages.
///
/// # Errors
/// Why it cannot be heard.
pub(super) fn read(change: &Change, most_bytes: usize) -> Result<Option<Message>, &'static str> {
    let ChangeKind::Insert { new } = &change.kind else { return Ok(None) };
    let text = |name| text(&change.relation, new, name);
    let (Some(topic), Some(event), Some(id), Some(private), Some(_)) =
        (text("topic"), text("event"), text("id"), text("private"), text("inserted_at"))
    else {
        return Err("message_incomplete");
    };
    let broadcast = match (text("payload"), text("binary_payload")) {
        (Some(json), _) if json.len() <= most_bytes => Broadcast::json(event, json),
        (None, Some(hex)) if hex.len().saturating_sub(2) / 2 <= most_bytes => {
            Broadcast::binary(event, bytes(hex).ok_or("message_incomplete")?)
        }
        (None, None) => return Err("message_incomplete"),
        (Some(_), _) | (None, Some(_)) => return Err("message_too_large"),
    };
    let namespace = if private == "t" { Namespace::Private } else { Namespace::Public };
    Ok(Some(Message {
        room: RoomName { namespace, topic: Arc::from(topic) },
        broadcast: broadcast.with_meta(format!("{{\"id\":\"{id}\"}}")),
        id: id.into(),
    }))
}

fn text<'a>(relation: &Relation, row: &'a Row, name: &str) -> Option<&'a str> {
    row.cell(relation.column(name)?)?.text()
}

/// The bytes of a `bytea` in Postgres' hexadecimal form.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.strip_prefix("\\x")?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Content;
    use crate::model::{Cell, Column, ReplicaIdentity};

    fn relation(name: &str) -> Relation {
        let columns =
            ["topic", "event", "id", "private", "inserted_at", "payload", "binary_payload"];
        let column =
            |name: &str| Column { name: name.into(), type_oid: 25, typmod: -1, is_key: false };
        Relation {
            oid: 1,
            generation: 1,
            schema: "realtime".into(),
            name: name.into(),
            identity: ReplicaIdentity::Default,
            columns: columns.map(column).into(),
        }
    }

    fn insert(cells: [Option<&str>; 7]) -> Change {
        let cell =
            |text: Option<&str>| text.map_or(Cell::Null, |text| Cell::Text(text.to_owned().into()));
        let new = Row { cells: cells.into_iter().map(cell).collect() };
        Change { relation: Arc::new(relation("messages")), kind: ChangeKind::Insert { new } }
    }

    #[test]
    fn days_are_messages_and_other_tables_are_not() {
        for name in ["messages", "messages_2026_01_31"] {
            assert!(is_messages(&relation(name)), "{name}");
        }
        for name in ["messages_", "messages_of_mine", "subscription", "messagesx"] {
            assert!(!is_messages(&relation(name)), "{name}");
        }
        assert!(!is_messages(&Relation { schema: "public".into(), ..relation("messages") }));
    }

    #[test]
    fn a_row_becomes_a_broadcast_with_its_id() {
        let all = [Some("t"), Some("e"), Some("7"), Some("t"), Some("now"), Some("{}"), None];
        let message = read(&insert(all), 2).unwrap().unwrap();
        assert_eq!(message.room.namespace, Namespace::Private);
        assert_eq!(message.broadcast, Broadcast::json("e", "{}").with_meta("{\"id\":\"7\"}"));
        let bytes =
            [Some("t"), Some("e"), Some("7"), Some("f"), Some("now"), None, Some("\\x00fF")];
        let message = read(&insert(bytes), 2).unwrap().unwrap();
        assert_eq!(message.room.namespace, Namespace::Public);
        assert_eq!(message.broadcast.content, Content::Binary(vec![0, 255].into()));
    }

    #[test]
    fn what_lacks_something_or_is_too_large_is_not_heard() {
        let all = [Some("t"), Some("e"), Some("7"), Some("t"), Some("now"), Some("{}"), None];
        for missing in 0..6 {
            let mut cells = all;
            cells[missing] = None;
            assert_eq!(read(&insert(cells), 2), Err("message_incomplete"), "{missing}");
        }
        assert_eq!(read(&insert(all), 1), Err("message_too_large"));
        let odd = [Some("t"), Some("e"), Some("7"), Some("f"), Some("now"), None, Some("\\x0")];
        assert_eq!(read(&insert(odd), 9), Err("message_incomplete"));
    }
}
