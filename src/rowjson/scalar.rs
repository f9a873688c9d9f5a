//! Values that are one thing: numbers, booleans, JSON, bytes, points in time.

use serde::de::IgnoredAny;

use crate::rowjson::Place;
use crate::rowjson::string::{push_escaped, push_string};

pub(super) fn push_number(out: &mut String, text: &str, place: Place) {
    if is_json_number(text.as_bytes()) {
        out.push_str(text);
    } else if place == Place::Column && matches!(text, "NaN" | "Infinity" | "-Infinity") {
        out.push_str("null");
    } else {
        push_string(out, text);
    }
}

pub(super) fn push_bool(out: &mut String, text: &str) {
    match text {
        "t" => out.push_str("true"),
        "f" => out.push_str("false"),
        _ => push_string(out, text),
    }
}

/// JSON is copied as it is stored, once it was seen to be JSON: a type changed behind our back must not be able to
/// break the frame around it.
pub(super) fn push_json(out: &mut String, text: &str) {
    if serde_json::from_str::<IgnoredAny>(text).is_ok() {
        out.push_str(text);
    } else {
        push_string(out, text);
    }
}

pub(super) fn push_bytea(out: &mut String, text: &str, place: Place) {
    match text.strip_prefix("\\x") {
        Some(hex) if place == Place::Column && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            push_string(out, hex);
        }
        _ => push_string(out, text),
    }
}

pub(super) fn push_timestamp(out: &mut String, text: &str) {
    out.push('"');
    push_date_and_time(out, text);
    out.push('"');
}

/// Postgres writes an offset of whole hours as `+00`; ISO 8601 in JSON has `+00:00`.
pub(super) fn push_timestamptz(out: &mut String, text: &str) {
    let (moment, era) = match text.strip_suffix(" BC") {
        Some(moment) => (moment, " BC"),
        None => (text, ""),
    };
    out.push('"');
    push_date_and_time(out, moment);
    if let Some((_, [b'+' | b'-', b'0'..=b'9', b'0'..=b'9'])) = moment.as_bytes().split_last_chunk()
    {
        out.push_str(":00");
    }
    out.push_str(era);
    out.push('"');
}

fn push_date_and_time(out: &mut String, text: &str) {
    match text.split_once(' ') {
        Some((date, time)) => {
            push_escaped(out, date);
            // `infinity` has no time, and ` BC` is not one.
            out.push(if time.starts_with(|first: char| first.is_ascii_digit()) {
                'T'
            } else {
                ' '
            });
            push_escaped(out, time);
        }
        None => push_escaped(out, text),
    }
}

/// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`
fn is_json_number(text: &[u8]) -> bool {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let mut rest = match unsigned {
        [b'0', rest @ ..] => rest,
        [b'1'..=b'9', rest @ ..] => skip_digits(rest),
        _ => return false,
    };
    if let [b'.', b'0'..=b'9', fraction @ ..] = rest {
        rest = skip_digits(fraction);
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        rest = match exponent {
            [b'+' | b'-', b'0'..=b'9', digits @ ..] | [b'0'..=b'9', digits @ ..] => {
                skip_digits(digits)
            }
            _ => return false,
        };
    }
    rest.is_empty()
}

fn skip_digits(mut text: &[u8]) -> &[u8] {
    while let [b'0'..=b'9', rest @ ..] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_json_number_is_what_a_json_reader_takes_for_one(text in "-?[0-9]{0,3}[.]?[0-9]{0,2}[eE]?[+-]?[0-9]{0,2}") {
            let taken = serde_json::from_str::<Box<serde_json::value::RawValue>>(&text).is_ok();
            prop_assert_eq!(is_json_number(text.as_bytes()), taken);
        }
    }
}
