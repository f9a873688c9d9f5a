//! The two binary frames of serializer 2.0.0: broadcasts, to the relay and from it.
//!
//! ```text
//! 03 |J| |R| |T| |E| |meta| encoding  J R T E meta payload    from a client; its meta is ignored
//! 04 |T| |E| |meta| encoding          T E meta payload        to a client
//! ```
//!
//! Every length is one byte and counts bytes, so a topic that is longer can be said nothing in, and told nothing, by
//! such a frame; JSON is told it by a text instead. Encoding 0 is bytes, any other JSON. Clients fail on every other
//! kind of frame, and on JSON that is none: whoever writes a frame has checked it.

use std::borrow::Cow;

use super::dialect::TOPIC_PREFIX;
use super::frame::{ClientMessage, Malformed, NULL};
use crate::hub::Frame;
use crate::rowjson::push_string;

/// What one byte can count.
const MAX: usize = 255;

/// The longest topic, without the protocol's prefix, that can be told bytes.
pub(super) const MAX_SUBTOPIC: usize = MAX - TOPIC_PREFIX.len();

/// The longest event of a broadcast by HTTP.
pub(super) const MAX_EVENT: usize = MAX;

/// From a client.
const KIND_PUSH: u8 = 3;

/// To a client.
const KIND_BROADCAST: u8 = 4;

/// What a binary push says beside its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said<'a> {
    /// The event, of the client's own choice.
    pub event: &'a str,
    /// Whether the payload claims to be JSON. Nobody has checked that.
    pub is_json: bool,
    /// The payload.
    pub payload: &'a [u8],
}

/// Parses a broadcast from a client.
///
/// # Errors
/// The frame is something else.
pub(super) fn parse(bytes: &[u8]) -> Result<ClientMessage<'_>, Malformed> {
    let Some(([KIND_PUSH, join_ref, reference, topic, event, meta, encoding], rest)) =
        bytes.split_first_chunk::<7>()
    else {
        return Err(Malformed);
    };
    let mut rest = rest;
    let mut take = |len: &u8| -> Result<&str, Malformed> {
        let (field, tail) = rest.split_at_checked(usize::from(*len)).ok_or(Malformed)?;
        rest = tail;
        std::str::from_utf8(field).map_err(|_| Malformed)
    };
    let join_ref = quoted(take(join_ref)?);
    let reference = quoted(take(reference)?);
    let topic = Cow::Borrowed(take(topic)?);
    let event = take(event)?;
    take(meta)?;
    let said = Said { event, is_json: *encoding != 0, payload: rest };
    let event = Cow::Borrowed("broadcast");
    Ok(ClientMessage { join_ref, reference, topic, event, payload: NULL, said: Some(said) })
}

/// Writes a broadcast to a client; `None` when the topic, the event or the meta is longer than 255 bytes. An empty
/// `meta` is none.
pub(super) fn write(
    topic: &str,
    event: &str,
    meta: &str,
    is_json: bool,
    payload: &[u8],
) -> Option<Frame> {
    let len = |text: &str| u8::try_from(text.len()).ok();
    let head = [KIND_BROADCAST, len(topic)?, len(event)?, len(meta)?, u8::from(is_json)];
    let room = head.len() + topic.len() + event.len() + meta.len() + payload.len();
    let mut bytes = Vec::with_capacity(room);
    for part in [&head, topic.as_bytes(), event.as_bytes(), meta.as_bytes(), payload] {
        bytes.extend_from_slice(part);
    }
    Some(Frame::Binary(bytes.into()))
}

/// A reference of a binary frame as JSON text; none is null.
fn quoted(text: &str) -> Cow<'static, str> {
    if text.is_empty() {
        return Cow::Borrowed(NULL);
    }
    let mut json = String::with_capacity(text.len() + 2);
    push_string(&mut json, text);
    Cow::Owned(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as two hexadecimal digits each; white space is ignored.
    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
    }

    const JSON: &str =
        "03 01 01 0f 04 00 01  36  37  7265616c74696d653a726f6f6d3a31  6576c3a9  7b2261223a317d";
    const BYTES: &str = "03 01 01 0f 01 00 00  36  38  7265616c74696d653a726f6f6d3a31  62  0102ff";

    fn check_parse(frame: &str, reference: &str, said: Said<'_>) {
        let frame = hex(frame);
        let expected = ClientMessage {
            join_ref: r#""6""#.into(),
            reference: reference.into(),
            topic: "realtime:room:1".into(),
            event: "broadcast".into(),
            payload: NULL,
            said: Some(said),
        };
        assert_eq!(parse(&frame), Ok(expected));
    }

    #[test]
    fn reads_what_supabase_js_sends() {
        let json = Said { event: "evé", is_json: true, payload: br#"{"a":1}"# };
        check_parse(JSON, r#""7""#, json);
        let bytes = Said { event: "b", is_json: false, payload: &[1, 2, 255] };
        check_parse(BYTES, r#""8""#, bytes);
        // With metadata, and an encoding from the future.
        let meta = BYTES.replace("01 00 00", "01 02 07").replace("62  ", "62 7b7d ");
        check_parse(&meta, r#""8""#, Said { is_json: true, ..bytes });
        let nothing = hex("03 00 00 00 00 00 00");
        let message = parse(&nothing).unwrap();
        assert_eq!((&*message.join_ref, &*message.reference), (NULL, NULL));
    }

    #[test]
    fn refuses_other_kinds_and_every_part_of_a_head() {
        let frame = hex(JSON);
        let head = frame.len() - br#"{"a":1}"#.len();
        for cut in 0..head {
            assert_eq!(parse(&frame[..cut]), Err(Malformed), "{cut}");
        }
        for kind in (0..=255).filter(|kind| *kind != KIND_PUSH) {
            let mut other = frame.clone();
            other[0] = kind;
            assert_eq!(parse(&other), Err(Malformed), "{kind}");
        }
        // The lengths count bytes: one less cuts the é in two.
        let mut cut = frame;
        cut[4] = 3;
        assert_eq!(parse(&cut), Err(Malformed));
    }

    #[test]
    fn writes_what_supabase_js_reads() {
        let expected = "04 0f 02 0a 01  7265616c74696d653a726f6f6d3a31  6576  7b226964223a2231227d  7b2271223a327d";
        let frame = write("realtime:room:1", "ev", r#"{"id":"1"}"#, true, br#"{"q":2}"#);
        assert_eq!(frame, Some(Frame::Binary(hex(expected).into())));
        let frame = write("é", "", "", false, &[0, 255]);
        assert_eq!(frame, Some(Frame::Binary(hex("04 02 00 00 00 c3a9 00ff").into())));
    }

    #[test]
    fn writes_nothing_that_has_no_length() {
        let (fits, long) = ("x".repeat(255), "x".repeat(256));
        assert!(write(&fits, &fits, &fits, true, b"{}").is_some());
        assert!(write(&long, "", "", true, b"{}").is_none());
        assert!(write("", &long, "", true, b"{}").is_none());
        assert!(write("", "", &long, true, b"{}").is_none());
    }
}
