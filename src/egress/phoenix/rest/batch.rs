//! Many messages in one request: all of them are valid, or none is passed on.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::binary::MAX_EVENT;
use super::super::desk::Desk;
use super::super::dialect::message;
use super::super::json;
use super::super::session::MAX_SUBTOPIC;
use super::super::talk::pieces;
use super::answer::Answer;
use super::{Sender, admit, rate_of, read};
use crate::hub::{Broadcast, Namespace, RoomName};
use crate::rowjson::push_string;

/// Takes a batch.
pub(super) async fn say(State(desk): State<Arc<Desk>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let sender = admit(&desk, &head).await;
    let answer = match &sender {
        Ok(sender) => take(&desk, sender, body).await.unwrap_or_else(|refused| refused),
        Err(refused) => refused.clone(),
    };
    answer.respond(rate_of(&desk, sender.as_ref().ok()))
}

async fn take(desk: &Desk, sender: &Sender, body: Body) -> Result<Answer, Answer> {
    sender.may_begin(desk)?;
    let (body, _held) = read(desk, sender, body).await?;
    let elements = elements(&body)?;
    let reduce = "Too many messages to broadcast, please reduce the batch size";
    let left = rate_of(desk, Some(sender)).left;
    if left < u64::try_from(elements.len()).unwrap_or(u64::MAX) {
        desk.refused("MessageRateLimitReached");
        return Err(Answer::told(429, reduce));
    }
    let messages = parse(&elements, desk.limits.broadcast_payload)?;
    let count = messages.iter().map(|message| message.pieces).fold(0, u32::saturating_add);
    sender.pay(desk, count, reduce)?;
    let mut permitted: HashMap<Arc<str>, bool> = HashMap::new();
    for Message { room, broadcast, .. } in messages {
        let may_send = match (room.namespace, permitted.get(&room.topic)) {
            (Namespace::Public, _) => true,
            (Namespace::Private, Some(known)) => *known,
            (Namespace::Private, None) => {
                // What could not be found out is told to nobody, as what is forbidden is.
                let may = sender.may_send(desk, &room.topic).await.unwrap_or(false);
                permitted.insert(Arc::clone(&room.topic), may);
                may
            }
        };
        if may_send {
            desk.broadcast(&room, None, &broadcast);
        } else {
            // The others are passed on, and so is the answer.
            desk.refused("Unauthorized");
        }
    }
    Ok(Answer::accepted())
}

/// One message, understood.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    room: RoomName,
    broadcast: Broadcast,
    pieces: u32,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Element<'a> {
    #[serde(borrow, default)]
    topic: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    private: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

const BLANK: &str = "can't be blank";
const INVALID: &str = "is invalid";

/// The elements of `messages`.
fn elements(body: &[u8]) -> Result<Vec<&RawValue>, Answer> {
    let blank = || Answer::invalid("messages", BLANK);
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(blank());
    }
    let body = json::read(body).ok_or_else(|| Answer::told(400, "Bad Request"))?;
    if !json::is_object(body) {
        return Err(blank());
    }
    let invalid = |_| Answer::invalid("messages", INVALID);
    let batch: Batch<'_> = serde_json::from_str(body).map_err(invalid)?;
    let messages = batch.messages.ok_or_else(blank)?;
    let elements: Vec<&RawValue> = serde_json::from_str(messages.get()).map_err(invalid)?;
    if elements.is_empty() { Err(blank()) } else { Ok(elements) }
}

/// Understands all messages, or says what is wrong with each.
fn parse(elements: &[&RawValue], max_payload: usize) -> Result<Vec<Message>, Answer> {
    let (mut messages, mut faults) = (Vec::with_capacity(elements.len()), Vec::new());
    for element in elements {
        let read = Some(element.get()).filter(|element| json::is_object(element));
        let read = read.and_then(|element| serde_json::from_str::<Element<'_>>(element).ok());
        let element = read.ok_or_else(|| Answer::invalid("messages", INVALID))?;
        match read_one(&element, max_payload) {
            Ok(message) => {
                messages.push(message);
                faults.push(String::new());
            }
            Err(fault) => faults.push(fault),
        }
    }
    if faults.iter().all(String::is_empty) {
        return Ok(messages);
    }
    let faults: Vec<_> = faults.into_iter().map(|fault| format!("{{{fault}}}")).collect();
    let body = format!(r#"{{"errors":{{"messages":[{}]}}}}"#, faults.join(","));
    Err(Answer { status: 422, body })
}

/// Understands one message; its faults as the inside of a JSON object.
fn read_one(element: &Element<'_>, max_payload: usize) -> Result<Message, String> {
    let (topic, event) = (text(element.topic, MAX_SUBTOPIC), text(element.event, MAX_EVENT));
    let payload = match element.payload.map(RawValue::get) {
        None => Err(BLANK.to_owned()),
        Some(payload) if !json::is_object(payload) => Err(INVALID.to_owned()),
        Some(payload) if max_payload < payload.len() => Err(TOO_LARGE.to_owned()),
        Some(payload) => Ok(payload),
    };
    let is_private = match element.private.map(RawValue::get) {
        None | Some("false" | r#""false""# | "0" | r#""0""#) => Ok(false),
        Some("true" | r#""true""# | "1" | r#""1""#) => Ok(true),
        Some(_) => Err(INVALID.to_owned()),
    };
    match (topic, event, payload, is_private) {
        (Ok(topic), Ok(event), Ok(payload), Ok(is_private)) => {
            let namespace = if is_private { Namespace::Private } else { Namespace::Public };
            let id = element.id.map(RawValue::get).filter(|id| is_uuid(id));
            let meta = id.map(|id| format!(r#"{{"id":{id}}}"#)).unwrap_or_default();
            let broadcast = Broadcast::whole(message(&event, &meta, payload));
            let room = RoomName { namespace, topic: topic.into() };
            Ok(Message { room, broadcast, pieces: pieces(payload.len()) })
        }
        (topic, event, payload, is_private) => {
            let faults = [
                ("topic", topic.err()),
                ("event", event.err()),
                ("payload", payload.err()),
                ("private", is_private.err()),
            ];
            let mut inside = String::new();
            for (key, fault) in faults.into_iter().filter_map(|(key, fault)| Some((key, fault?))) {
                let comma = if inside.is_empty() { "" } else { "," };
                inside.push_str(&format!(r#"{comma}"{key}":["#));
                push_string(&mut inside, &fault);
                inside.push(']');
            }
            Err(inside)
        }
    }
}

/// What is said of a payload over the limit.
pub(super) const TOO_LARGE: &str = "Payload size exceeds tenant limit";

/// A text that is there and not too long, or what is wrong with it.
fn text(value: Option<&RawValue>, longest: usize) -> Result<String, String> {
    let Some(value) = value else { return Err(BLANK.to_owned()) };
    let text: String = serde_json::from_str(value.get()).map_err(|_| INVALID.to_owned())?;
    match text.len() {
        _ if text.trim().is_empty() => Err(BLANK.to_owned()),
        len if longest < len => Err(too_long(longest)),
        _ => Ok(text),
    }
}

/// What is said of a text over the limit.
pub(super) fn too_long(longest: usize) -> String {
    format!("should be at most {longest} byte(s)")
}

/// Whether a JSON text is a UUID.
fn is_uuid(json: &str) -> bool {
    let Some(text) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return false;
    };
    let fits = |(place, byte): (usize, u8)| match place {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(body: &str) -> Result<Vec<Message>, Answer> {
        parse(&elements(body.as_bytes())?, 100)
    }

    #[test]
    fn reads_messages_with_what_each_says() {
        let body = r#"{"messages":[
            {"topic":"room:1","event":"e","payload":{"a": 1},"new":[]},
            {"topic":"r","event":"e","payload":{},"private":true,"id":"0F1e0000-0000-4000-8000-000000000000"},
            {"topic":"r","event":"e","payload":{},"private":null,"id":"7"}],"more":1}"#;
        let message = |namespace, topic: &str, text: &str| Message {
            room: RoomName { namespace, topic: topic.into() },
            broadcast: Broadcast::whole(text),
            pieces: 1,
        };
        let expected = vec![
            message(
                Namespace::Public,
                "room:1",
                r#"{"event":"e","payload":{"a": 1},"type":"broadcast"}"#,
            ),
            message(
                Namespace::Private,
                "r",
                r#"{"event":"e","meta":{"id":"0F1e0000-0000-4000-8000-000000000000"},"payload":{},"type":"broadcast"}"#,
            ),
            message(Namespace::Public, "r", r#"{"event":"e","payload":{},"type":"broadcast"}"#),
        ];
        assert_eq!(read_all(body), Ok(expected));
    }

    #[test]
    fn refuses_a_batch_whole_and_says_what_is_wrong_with_each_message() {
        let large = "x".repeat(100);
        let long = "x".repeat(1016);
        let good = r#"{"topic":"r","event":"e","payload":{}}"#;
        let errors = |inside: &str| format!(r#"{{"errors":{{"messages":[{inside}]}}}}"#);
        let blank = || errors(r#""can't be blank""#);
        let invalid = || errors(r#""is invalid""#);
        let messages = |inside: &str| format!(r#"{{"messages":[{inside}]}}"#);
        for (body, expected) in [
            (String::new(), blank()),
            ("{}".to_owned(), blank()),
            ("[]".to_owned(), blank()),
            (r#"{"messages":null}"#.to_owned(), blank()),
            (messages(""), blank()),
            (r#"{"messages":{}}"#.to_owned(), invalid()),
            (messages("1"), invalid()),
            (messages(r#"["t","e",{},false,null]"#), invalid()),
            (
                messages(&format!(r#"{{"topic":"r"}},{good}"#)),
                errors(r#"{"event":["can't be blank"],"payload":["can't be blank"]},{}"#),
            ),
            (
                messages(r#"{"topic":" ","event":7,"payload":[],"private":"yes"}"#),
                errors(
                    r#"{"topic":["can't be blank"],"event":["is invalid"],"payload":["is invalid"],"private":["is invalid"]}"#,
                ),
            ),
            (
                messages(&format!(
                    r#"{good},{{"topic":"r","event":"e","payload":{{"a":"{large}"}}}}"#
                )),
                errors(r#"{},{"payload":["Payload size exceeds tenant limit"]}"#),
            ),
            (
                messages(&format!(r#"{{"topic":"{long}","event":"{long}","payload":{{}}}}"#)),
                errors(
                    r#"{"topic":["should be at most 1015 byte(s)"],"event":["should be at most 255 byte(s)"]}"#,
                ),
            ),
        ] {
            assert_eq!(read_all(&body), Err(Answer { status: 422, body: expected }), "{body}");
        }
        let bad = Answer::told(400, "Bad Request");
        assert_eq!(read_all(r#"{"messages":[}"#), Err(bad));
    }
}
