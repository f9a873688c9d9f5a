//! Text as a JSON string. Most texts need no escape, so the first question is whether this one does.

/// Bytes looked at together: few enough that one escape does not slow a long text down, many enough to be one
/// vector operation.
const CHUNK: usize = 64;

/// Appends `text` as a JSON string, escaped.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// Appends `text` escaped, without quotes.
pub(super) fn push_escaped(out: &mut String, text: &str) {
    if is_plain(text.as_bytes()) {
        out.push_str(text);
        return;
    }
    let mut rest = text;
    while let Some((plain, special, tail)) = split_at_special(rest) {
        out.push_str(plain);
        push_escape(out, special);
        rest = tail;
    }
    out.push_str(rest);
}

/// Whether no byte needs an escape. Without an early exit, so that it is compiled to vector instructions.
fn is_plain(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |special, byte| special | is_special(*byte))
}

const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// What precedes the first special byte, that byte, and what follows it.
fn split_at_special(text: &str) -> Option<(&str, u8, &str)> {
    let bytes = text.as_bytes();
    let skipped: usize =
        bytes.chunks(CHUNK).take_while(|chunk| is_plain(chunk)).map(<[u8]>::len).sum();
    let at = skipped + bytes.get(skipped..)?.iter().position(|byte| is_special(*byte))?;
    // Special bytes are ASCII: both sides of one are character boundaries.
    Some((text.get(..at)?, *bytes.get(at)?, text.get(at + 1..)?))
}

fn push_escape(out: &mut String, byte: u8) {
    const HEX: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    match byte {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        0x08 => out.push_str("\\b"),
        0x0c => out.push_str("\\f"),
        _ => {
            out.push_str("\\u00");
            out.extend(HEX.get(usize::from(byte >> 4)));
            out.extend(HEX.get(usize::from(byte & 0xf)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn string(text: &str) -> String {
        let mut out = String::new();
        push_string(&mut out, text);
        out
    }

    #[test]
    fn quotes_backslashes_and_control_characters_are_escaped() {
        assert_eq!(
            string("a\"b\\c\n\r\t\u{8}\u{c}\u{1}\u{1f}"),
            r#""a\"b\\c\n\r\t\b\f\u0001\u001f""#
        );
    }

    #[test]
    fn everything_else_is_itself() {
        assert_eq!(string(""), "\"\"");
        assert_eq!(string("漢\u{2028}🙂/\u{7f}"), "\"漢\u{2028}🙂/\u{7f}\"");
    }

    #[test]
    fn an_escape_is_found_wherever_it_stands() {
        for at in 0..(3 * CHUNK) {
            let text = format!("{}\"é\\", "ü".repeat(at));
            assert_eq!(serde_json::from_str::<String>(&string(&text)).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn a_json_reader_gets_back_what_was_written(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&string(&text)).unwrap(), text);
        }
    }
}
