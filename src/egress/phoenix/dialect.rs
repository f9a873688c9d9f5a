//! How the hub's deliveries look on a Phoenix client's wire.
//!
//! A change frame is built by putting the topic and the ids around the ready-made JSON of the change: one
//! allocation, nothing parsed, nothing serialized.

use std::fmt::Write as _;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::binary;
use super::frame::{NULL, Vsn};
use crate::hub::{Broadcast, Content, Dialect, Frame, Notice};
use crate::rowjson::push_string;

/// What every topic of the protocol starts with.
pub const TOPIC_PREFIX: &str = "realtime:";

/// A Phoenix serializer as a [`Dialect`].
#[derive(Debug)]
pub struct Phoenix {
    name: &'static str,
    /// The serializer.
    pub vsn: Vsn,
}

/// `vsn=1.0.0`.
pub static PHOENIX_V1: Phoenix = Phoenix { name: "phoenix-1", vsn: Vsn::V1 };

/// `vsn=2.0.0`.
pub static PHOENIX_V2: Phoenix = Phoenix { name: "phoenix-2", vsn: Vsn::V2 };

/// Bytes of a change frame beside topic, ids and data.
const CHANGE_FRAME: usize = 80;

/// Bytes an id takes, its comma included; see `payload::MAX_ID`.
const ID: usize = 11;

impl Phoenix {
    /// The dialect of a serializer.
    pub const fn of(vsn: Vsn) -> &'static Self {
        match vsn {
            Vsn::V1 => &PHOENIX_V1,
            Vsn::V2 => &PHOENIX_V2,
        }
    }
}

impl Dialect for Phoenix {
    fn name(&self) -> &'static str {
        self.name
    }

    fn change(&self, topic: &str, ids: &[u64], data: &str) -> Frame {
        let room = CHANGE_FRAME + topic.len() + ids.len() * ID + data.len();
        let mut text = String::with_capacity(room);
        let (before_topic, before_ids, end) = match self.vsn {
            Vsn::V1 => (
                r#"{"topic":"#,
                r#","event":"postgres_changes","payload":{"ids":["#,
                r#"},"ref":null}"#,
            ),
            Vsn::V2 => ("[null,null,", r#","postgres_changes",{"ids":["#, "}]"),
        };
        text.push_str(before_topic);
        push_string(&mut text, topic);
        text.push_str(before_ids);
        for (place, id) in ids.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = if place == 0 { write!(text, "{id}") } else { write!(text, ",{id}") };
        }
        text.push_str(r#"],"data":"#);
        text.push_str(data);
        text.push_str(end);
        Frame::Text(Utf8Bytes::from(text))
    }

    fn notice(&self, topic: &str, join_ref: &str, notice: &Notice) -> Frame {
        let mut payload = system(notice);
        payload.push_str(r#","channel":"#);
        push_string(&mut payload, topic.strip_prefix(TOPIC_PREFIX).unwrap_or(topic));
        payload.push('}');
        self.vsn.encode((join_ref, NULL), topic, "system", &payload)
    }

    fn presence_state(&self, topic: &str, join_ref: &str, state: &str) -> Frame {
        self.vsn.encode((join_ref, NULL), topic, "presence_state", state)
    }

    fn presence_diff(&self, topic: &str, diff: &str) -> Frame {
        self.vsn.encode((NULL, NULL), topic, "presence_diff", diff)
    }

    fn broadcast(&self, topic: &str, broadcast: &Broadcast) -> Option<Frame> {
        let (event, meta) = (&*broadcast.event, broadcast.meta.as_deref().unwrap_or_default());
        match (self.vsn, &broadcast.content) {
            (_, Content::Whole(message)) => {
                Some(self.vsn.encode((NULL, NULL), topic, "broadcast", message))
            }
            (Vsn::V1, Content::Binary(_)) => None,
            (_, Content::Json(json)) => {
                let binary = |vsn| match vsn {
                    Vsn::V1 => None,
                    Vsn::V2 => binary::write(topic, event, meta, true, json.as_bytes()),
                };
                // What a binary frame cannot name is told by a text, which clients read just as well.
                binary(self.vsn).or_else(|| {
                    let message = message(event, meta, json);
                    Some(self.vsn.encode((NULL, NULL), topic, "broadcast", &message))
                })
            }
            (Vsn::V2, Content::Binary(bytes)) => binary::write(topic, event, meta, false, bytes),
        }
    }
}

impl Phoenix {
    /// The farewell of a server that is going away: to the whole topic, and of no channel.
    pub fn farewell(&self, topic: &str) -> Frame {
        let message = "Server requested disconnect".to_owned();
        let mut payload = system(&Notice::of_channel(true, message));
        payload.push('}');
        self.vsn.encode((NULL, NULL), topic, "system", &payload)
    }
}

/// A broadcast as an object. `meta`, unless empty, and `payload` are JSON text.
pub(super) fn message(event: &str, meta: &str, payload: &str) -> String {
    let mut text = String::with_capacity(event.len() + meta.len() + payload.len() + 64);
    text.push_str(r#"{"event":"#);
    push_string(&mut text, event);
    if !meta.is_empty() {
        text.push_str(r#","meta":"#);
        text.push_str(meta);
    }
    text.push_str(r#","payload":"#);
    text.push_str(payload);
    text.push_str(r#","type":"broadcast"}"#);
    text
}

/// The payload of a `system` message, still open.
fn system(notice: &Notice) -> String {
    let status = if notice.is_ok { "ok" } else { "error" };
    let mut payload = String::with_capacity(notice.message.len() + 96);
    payload.push_str(r#"{"extension":""#);
    payload.push_str(notice.extension);
    payload.push_str(r#"","status":""#);
    payload.push_str(status);
    payload.push_str(r#"","message":"#);
    push_string(&mut payload, &notice.message);
    if let Some(hole) = &notice.hole {
        let place = |payload: &mut String, place: &Option<Box<str>>| match place {
            Some(place) => push_string(payload, place),
            None => payload.push_str(NULL),
        };
        payload.push_str(r#","gap":{"from":"#);
        place(&mut payload, &hole.from);
        payload.push_str(r#","to":"#);
        place(&mut payload, &hole.to);
        payload.push_str(r#","reason":""#);
        payload.push_str(hole.reason);
        payload.push_str(r#""}"#);
    }
    if let Some(shown) = &notice.shown {
        payload.push_str(r#","snapshot":{"rows":"#);
        payload.push_str(&shown.rows.to_string());
        payload.push_str(r#","id":"#);
        push_string(&mut payload, &shown.position);
        payload.push('}');
    }
    if notice.is_new {
        payload.push_str(r#","resume":"new""#);
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frame: Frame, expected: &str) {
        assert_eq!(frame, Frame::Text(expected.into()));
    }

    #[test]
    fn puts_topic_and_ids_around_the_data() {
        let (topic, ids, data) = ("realtime:room \"1\"", [83_781_214, 7], r#"{"type":"INSERT"}"#);
        check(
            PHOENIX_V2.change(topic, &ids, data),
            r#"[null,null,"realtime:room \"1\"","postgres_changes",{"ids":[83781214,7],"data":{"type":"INSERT"}}]"#,
        );
        check(
            PHOENIX_V1.change(topic, &ids, data),
            r#"{"topic":"realtime:room \"1\"","event":"postgres_changes","payload":{"ids":[83781214,7],"data":{"type":"INSERT"}},"ref":null}"#,
        );
    }

    #[test]
    fn writes_a_broadcast_as_each_serializer_can() {
        let topic = "realtime:a";
        let binary = |bytes: &[u8]| Some(Frame::Binary(bytes.to_vec().into()));
        let whole = Broadcast::whole(r#"{"own":[1]}"#);
        let text = |text: &str| Some(Frame::Text(text.into()));
        assert_eq!(
            PHOENIX_V2.broadcast(topic, &whole),
            text(r#"[null,null,"realtime:a","broadcast",{"own":[1]}]"#)
        );
        assert_eq!(
            PHOENIX_V1.broadcast(topic, &whole),
            text(r#"{"topic":"realtime:a","event":"broadcast","payload":{"own":[1]},"ref":null}"#)
        );
        let json = Broadcast::json("e\"", r#"{ "b":1}"#);
        assert_eq!(
            PHOENIX_V2.broadcast(topic, &json),
            binary(b"\x04\x0a\x02\x00\x01realtime:ae\"{ \"b\":1}")
        );
        assert_eq!(
            PHOENIX_V1.broadcast(topic, &json),
            text(
                r#"{"topic":"realtime:a","event":"broadcast","payload":{"event":"e\"","payload":{ "b":1},"type":"broadcast"},"ref":null}"#
            )
        );
        let known = json.with_meta(r#"{"id":"7"}"#);
        assert_eq!(
            PHOENIX_V1.broadcast(topic, &known),
            text(
                r#"{"topic":"realtime:a","event":"broadcast","payload":{"event":"e\"","meta":{"id":"7"},"payload":{ "b":1},"type":"broadcast"},"ref":null}"#
            )
        );
        let bytes = Broadcast::binary("e", vec![0, 255]).with_meta("{}");
        assert_eq!(
            PHOENIX_V2.broadcast(topic, &bytes),
            binary(b"\x04\x0a\x01\x02\x00realtime:ae{}\x00\xff")
        );
        assert_eq!(PHOENIX_V1.broadcast(topic, &bytes), None);
    }

    #[test]
    fn tells_by_a_text_what_a_binary_frame_cannot_name() {
        let (fits, long) = ("t".repeat(255), "t".repeat(256));
        let said = |event: &str| Broadcast::json(event, "{}").with_meta("[7]");
        for (topic, event) in [(&fits, &fits), (&fits, &"e".to_owned())] {
            let frame = PHOENIX_V2.broadcast(topic, &said(event));
            assert!(matches!(frame, Some(Frame::Binary(_))), "{topic} {event}");
        }
        for (topic, event) in [(&long, "e"), (&fits, &*long)] {
            let expected = format!(
                r#"[null,null,"{topic}","broadcast",{{"event":"{event}","meta":[7],"payload":{{}},"type":"broadcast"}}]"#
            );
            assert_eq!(
                PHOENIX_V2.broadcast(topic, &said(event)),
                Some(Frame::Text(expected.into()))
            );
            assert_eq!(PHOENIX_V2.broadcast(topic, &Broadcast::binary(event, vec![0])), None);
        }
    }

    #[test]
    fn names_the_channel_in_a_notice_and_none_in_a_farewell() {
        let message = "Subscribed to PostgreSQL".to_owned();
        let notice = Notice::of_changes(true, message);
        check(
            PHOENIX_V2.notice("realtime:room:1", r#""6""#, &notice),
            r#"["6",null,"realtime:room:1","system",{"extension":"postgres_changes","status":"ok","message":"Subscribed to PostgreSQL","channel":"room:1"}]"#,
        );
        check(
            PHOENIX_V1.farewell("realtime:a"),
            r#"{"topic":"realtime:a","event":"system","payload":{"extension":"system","status":"ok","message":"Server requested disconnect"},"ref":null}"#,
        );
    }
}
