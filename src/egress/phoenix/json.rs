//! What one client wrote as JSON is read by another's parser: only what every parser survives is passed on.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Parsers of some clients give up on deeper nesting.
const MAX_DEPTH: usize = 100;

/// Whether bytes are one JSON value that may be passed on.
pub(super) fn read(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| has_whole_pairs(text))?;
    serde_json::from_str::<&RawValue>(text).ok()?;
    is_shallow(text).then_some(text)
}

/// Whether a JSON text is an object that may be passed on.
pub(super) fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{') && is_shallow(json)
}

/// Whether a JSON text is a message that may be passed on as it is. supabase-js throws, and under Node ends its
/// process, at a message with `ids` that is no row change, and at an `event` that is no string.
pub(super) fn is_message(json: &str) -> bool {
    is_object(json) && serde_json::from_str::<Harmless>(json).is_ok()
}

/// Whether every surrogate that a JSON text names by an escape is half of a pair. Parsers differ on a half alone: a
/// [`RawValue`] holds it, as JavaScript does, Supabase Realtime's parser and many others refuse the whole text.
pub(super) fn has_whole_pairs(json: &str) -> bool {
    let mut rest = json;
    let mut is_high = false;
    while let Some(at) = rest.find('\\') {
        // Of a pair, one escape is right behind the other.
        if is_high && at != 0 {
            return false;
        }
        let (_, escape) = rest.split_at(at);
        let digits = escape.strip_prefix("\\u").and_then(|digits| digits.get(..4));
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let is_low = matches!(unit, Some(0xdc00..=0xdfff));
        if is_low != is_high {
            return false;
        }
        is_high = matches!(unit, Some(0xd800..=0xdbff));
        // An escape has six characters, or two, all of them ASCII; what is cut short is no JSON.
        rest = escape.get(if unit.is_some() { 6 } else { 2 }..).unwrap_or_default();
    }
    !is_high
}

struct Harmless;

impl<'de> Deserialize<'de> for Harmless {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

/// Looks at every key, because readers differ in which of equal ones they take.
struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Harmless;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Harmless, A::Error> {
        while let Some((key, value)) = map.next_entry::<Key<'de>, &RawValue>()? {
            let is_text = || value.get().starts_with('"') || value.get() == "null";
            if key.0 == "ids" || (key.0 == "event" && !is_text()) {
                return Err(A::Error::custom("would harm its readers"));
            }
        }
        Ok(Harmless)
    }
}

/// A key that is borrowed when it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether a JSON text nests no deeper than it may.
fn is_shallow(json: &str) -> bool {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' if depth == MAX_DEPTH => return false,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// serde_json reads a text into strings only if all its pairs are whole.
        #[test]
        fn pairs_are_whole_exactly_when_strings_can_be_read(
            parts in prop::collection::vec(prop::sample::select(PARTS.to_vec()), 0..8)
        ) {
            let text = format!(r#"["{}"]"#, parts.concat());
            let reads = serde_json::from_str::<Vec<String>>(&text).is_ok();
            prop_assert_eq!(read(text.as_bytes()).is_some(), reads, "{}", text);
        }
    }

    const PARTS: [&str; 11] = [
        r"\ud800", r"\uDBFF", r"\udc00", r"\uDfff", r"\ud7ff", r"\ue000", r"\\", r"\n", "u", "a",
        r#"",""#,
    ];

    #[test]
    fn passes_on_what_is_json_and_nothing_else() {
        for text in ["{}", " [1, 2.5e3]", "null", r#""\"[[[\\""#, "\"é\u{1F600}\"", "-0"] {
            assert_eq!(read(text.as_bytes()), Some(text));
        }
        for bytes in [
            &b""[..],
            b"{",
            b"{}{}",
            b"{\"a\":1},\"b\"",
            b"nul",
            b"'a'",
            b"NaN",
            b"\"\xff\"",
            b"\"\n\"",
            b"\xef\xbb\xbf{}",
            b"01",
        ] {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn passes_on_no_half_of_a_pair() {
        for (text, expected) in [
            (r#""\ud83d\ude00""#, true),
            (r#""a\uD83D\uDE00b\ud83d\ude00""#, true),
            (r#""\\ud800""#, true),
            (r#""\\\\ud800""#, true),
            (r#""\ud7ff\ue000\u0000""#, true),
            ("\"\u{1F600}\"", true),
            (r#""\ud800""#, false),
            (r#""\udc00""#, false),
            (r#""\ud800a\udc00""#, false),
            (r#""\ud800\n\udc00""#, false),
            (r#""\ud800\ud800\udc00""#, false),
            (r#""\ud800\udc00\udc00""#, false),
            (r#""\\\ud800""#, false),
            (r#"["\ud800","\udc00"]"#, false),
            (r#"{"\udbff":1}"#, false),
        ] {
            assert_eq!(read(text.as_bytes()).is_some(), expected, "{text}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(text).is_ok(), expected, "{text}");
        }
        // What is no JSON has no panic either.
        for text in ["\\", "\\u", "\\ud8", "\\ud800", "\\ud800\\", "\\é", "\\ud80é", "\\u+d80"] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn passes_on_no_message_that_throws_in_the_sdks() {
        for json in ["{}", r#"{"event":"e","payload":{"ids":[1],"event":1}}"#, r#"{"event":null}"#]
        {
            assert!(is_message(json), "{json}");
        }
        for json in [
            "[]",
            "null",
            r#"{"ids":[1]}"#,
            r#"{"a":1,"\u0069ds":null}"#,
            r#"{"event":1}"#,
            r#"{"event":{}}"#,
            r#"{"event":"e","event":[]}"#,
        ] {
            assert!(!is_message(json), "{json}");
        }
    }

    #[test]
    fn passes_on_no_nesting_that_a_parser_may_not_survive() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(nested(MAX_DEPTH).as_bytes()).is_some());
        assert!(read(nested(MAX_DEPTH + 1).as_bytes()).is_none());
        let wide = format!("[{}[]]", "[],".repeat(1000));
        assert!(read(wide.as_bytes()).is_some());
        let quoted = format!(r#"{{"a":"\\\"{}"}}"#, "[".repeat(1000));
        assert!(read(quoted.as_bytes()).is_some() && is_object(&quoted));
        assert!(!is_object("[]") && !is_object("null") && is_object(" {}"));
    }
}
