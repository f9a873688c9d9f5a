//! One message, from and to both serializers.
//!
//! `vsn` 1.0.0 writes objects, 2.0.0 writes arrays; both become one [`ClientMessage`], and both are written by
//! [`Vsn::encode`]. References are opaque: they are kept as the JSON text the client wrote and echoed byte for
//! byte. Whatever does not parse is [`Malformed`], which callers drop: a bad frame never costs a connection.
//!
//! ```text
//! 1.0.0   {"topic":T,"event":E,"payload":P,"ref":R,"join_ref":J}      join_ref is never written
//! 2.0.0   [J,R,T,E,P]
//! 2.0.0   binary frames: see `binary`
//! ```

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::binary::{self, Said};
use super::json;
use crate::hub::Frame;
use crate::rowjson::push_string;

/// Which serializer a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vsn {
    /// `vsn=1.0.0`, objects.
    V1,
    /// `vsn=2.0.0`, arrays.
    V2,
}

/// A frame that is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// One message from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientMessage<'a> {
    /// The join it belongs to, as JSON text; `null` when absent.
    pub join_ref: Cow<'a, str>,
    /// What a reply must name, as JSON text.
    pub reference: Cow<'a, str>,
    /// The topic, as written.
    pub topic: Cow<'a, str>,
    /// The event.
    pub event: Cow<'a, str>,
    /// The payload, as JSON text; `null` when the frame was binary.
    pub payload: &'a str,
    /// What a binary frame said instead.
    pub said: Option<Said<'a>>,
}

/// The JSON text of nothing.
pub const NULL: &str = "null";

/// References longer than this are nobody's; they are kept for the life of a channel.
const MAX_REFERENCE: usize = 256;

impl Vsn {
    /// Parses a text frame.
    ///
    /// # Errors
    /// The frame is no message of this serializer.
    pub fn parse(self, text: &str) -> Result<ClientMessage<'_>, Malformed> {
        let message = match self {
            // Serde would take an array for a struct, too.
            Self::V1 if !text.trim_start().starts_with('{') => return Err(Malformed),
            Self::V1 => serde_json::from_str::<Object<'_>>(text).map(ClientMessage::from),
            Self::V2 => serde_json::from_str::<Array<'_>>(text).map(|array| array.0),
        };
        let message = message.map_err(|_| Malformed)?;
        // Raw parts are echoed, and some are passed on.
        if !json::has_whole_pairs(text) {
            return Err(Malformed);
        }
        let longest = message.join_ref.len().max(message.reference.len());
        if longest > MAX_REFERENCE { Err(Malformed) } else { Ok(message) }
    }

    /// Parses a binary frame.
    ///
    /// # Errors
    /// The frame is no broadcast, or not of this serializer.
    pub fn parse_binary(self, bytes: &[u8]) -> Result<ClientMessage<'_>, Malformed> {
        if self == Self::V2 { binary::parse(bytes) } else { Err(Malformed) }
    }

    /// Writes one message. References and payload are JSON text.
    pub fn encode(
        self,
        (join_ref, reference): (&str, &str),
        topic: &str,
        event: &str,
        payload: &str,
    ) -> Frame {
        let room = join_ref.len() + reference.len() + topic.len() + event.len() + payload.len();
        let mut text = String::with_capacity(room + 64);
        match self {
            Self::V1 => {
                text.push_str(r#"{"topic":"#);
                push_string(&mut text, topic);
                text.push_str(r#","event":"#);
                push_string(&mut text, event);
                text.push_str(r#","payload":"#);
                text.push_str(payload);
                text.push_str(r#","ref":"#);
                text.push_str(reference);
                text.push('}');
            }
            Self::V2 => {
                text.push('[');
                text.push_str(join_ref);
                text.push(',');
                text.push_str(reference);
                text.push(',');
                push_string(&mut text, topic);
                text.push(',');
                push_string(&mut text, event);
                text.push(',');
                text.push_str(payload);
                text.push(']');
            }
        }
        Frame::Text(Utf8Bytes::from(text))
    }

    /// Writes a `phx_reply`; `response` is JSON text and an object.
    pub fn reply(self, refs: (&str, &str), topic: &str, is_ok: bool, response: &str) -> Frame {
        let status = if is_ok { "ok" } else { "error" };
        let payload = format!(r#"{{"status":"{status}","response":{response}}}"#);
        self.encode(refs, topic, "phx_reply", &payload)
    }

    /// Writes an error `phx_reply` whose response is `{"reason":…}`.
    pub fn refusal(self, refs: (&str, &str), topic: &str, reason: &str) -> Frame {
        let mut response = String::from(r#"{"reason":"#);
        push_string(&mut response, reason);
        response.push('}');
        self.reply(refs, topic, false, &response)
    }
}

/// A string that is borrowed when it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(borrow, rename = "ref")]
    reference: &'a RawValue,
    #[serde(borrow, default)]
    join_ref: Option<&'a RawValue>,
}

impl<'a> From<Object<'a>> for ClientMessage<'a> {
    fn from(object: Object<'a>) -> Self {
        Self {
            join_ref: Cow::Borrowed(object.join_ref.map_or(NULL, RawValue::get)),
            reference: Cow::Borrowed(object.reference.get()),
            topic: object.topic,
            event: object.event,
            payload: object.payload.get(),
            said: None,
        }
    }
}

struct Array<'a>(ClientMessage<'a>);

impl<'de> Deserialize<'de> for Array<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FiveElements)
    }
}

/// Reads `[join_ref, ref, topic, event, payload]` and skips what follows.
struct FiveElements;

impl<'de> Visitor<'de> for FiveElements {
    type Value = Array<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of five elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        fn next<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(seq: &mut A) -> Result<T, A::Error> {
            seq.next_element()?.ok_or_else(|| serde::de::Error::custom("fewer than five elements"))
        }
        let join_ref = Cow::Borrowed(next::<&RawValue, A>(&mut seq)?.get());
        let reference = Cow::Borrowed(next::<&RawValue, A>(&mut seq)?.get());
        let topic = next::<Text<'de>, A>(&mut seq)?.0;
        let event = next::<Text<'de>, A>(&mut seq)?.0;
        let payload = next::<&RawValue, A>(&mut seq)?.get();
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Array(ClientMessage { join_ref, reference, topic, event, payload, said: None }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_parse(vsn: Vsn, text: &str, expected: Option<[&str; 5]>) {
        let parsed = vsn.parse(text).ok();
        let fields =
            parsed.as_ref().map(|m| [&*m.join_ref, &*m.reference, &*m.topic, &*m.event, m.payload]);
        assert_eq!(fields, expected, "{text}");
    }

    #[test]
    fn reads_arrays_and_keeps_references_as_they_are() {
        let fields = [r#""6""#, r#""7""#, "realtime:a", "phx_leave", "{}"];
        check_parse(Vsn::V2, r#"["6","7","realtime:a","phx_leave",{}]"#, Some(fields));
        check_parse(Vsn::V2, r#" ["6" ,"7","realtime:a","phx_leave",{} , 1,[2]] "#, Some(fields));
        let fields = ["null", r#"{ "a": 1}"#, "é\n", "e", "null"];
        check_parse(Vsn::V2, r#"[null,{ "a": 1},"\u00e9\n","e",null]"#, Some(fields));
    }

    #[test]
    fn reads_objects_with_or_without_a_join_ref() {
        let text = r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":null}"#;
        check_parse(Vsn::V1, text, Some(["null", "null", "phoenix", "heartbeat", "{}"]));
        let text =
            r#"{"event":"e","payload":{"a":[1]},"topic":"t","ref":12,"join_ref":"1","new":{}}"#;
        check_parse(Vsn::V1, text, Some([r#""1""#, "12", "t", "e", r#"{"a":[1]}"#]));
    }

    #[test]
    fn refuses_whatever_is_not_a_message() {
        let long = "9".repeat(MAX_REFERENCE + 1);
        for text in [
            "",
            "[]",
            "nonsense",
            "{}",
            r#"["1","2","t","e"]"#,
            r#"[1,2,3,4,5]"#,
            r#"["1","2","t",null,{}]"#,
            r#"["1","2","t","e",{}"#,
            r#"["1","2","t","e",{}] trailing"#,
            &format!(r#"["1",{long},"t","e",{{}}]"#),
        ] {
            check_parse(Vsn::V2, text, None);
        }
        for text in [
            r#"{"topic":"t","event":"e","payload":{}}"#,
            r#"{"topic":null,"event":"e","payload":{},"ref":"1"}"#,
            r#"["1","2","t","e",{}]"#,
        ] {
            check_parse(Vsn::V1, text, None);
        }
    }

    fn text(frame: Frame) -> String {
        match frame {
            Frame::Text(text) => text.as_str().to_owned(),
            Frame::Binary(_) | Frame::Ping(_) => panic!("no text frame"),
        }
    }

    #[test]
    fn writes_replies_as_each_serializer_does() {
        let refs = (r#""6""#, r#""7""#);
        assert_eq!(
            text(Vsn::V2.reply(refs, "realtime:\"", true, "{}")),
            r#"["6","7","realtime:\"","phx_reply",{"status":"ok","response":{}}]"#
        );
        assert_eq!(
            text(Vsn::V1.reply(refs, "realtime:a", true, "{}")),
            r#"{"topic":"realtime:a","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"7"}"#
        );
        assert_eq!(
            text(Vsn::V2.refusal((NULL, "8"), "x", "unmatched topic")),
            r#"[null,8,"x","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#
        );
    }
}
