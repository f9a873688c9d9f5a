//! What one client wrote as JSON is read by another's parser: only what every parser survives is passed on.

use serde_json::value::RawValue;

/// Parsers of some clients give up on deeper nesting.
const MAX_DEPTH: usize = 100;

/// Whether bytes are one JSON value that may be passed on.
pub(super) fn read(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    serde_json::from_str::<&RawValue>(text).ok()?;
    is_shallow(text).then_some(text)
}

/// Whether a JSON text is an object that may be passed on.
pub(super) fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{') && is_shallow(json)
}

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
    use super::*;

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
