//! A token's text taken apart: nothing is believed yet.
//!
//! The limits come before the work: a token over [`LONGEST_TOKEN`] is refused before anything is decoded. Objects with
//! a key twice are refused at every depth, because two readers of such an object (this relay and a policy in Postgres)
//! may each take another one.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::token_refusal::TokenRefusal;

/// Longer tokens are refused unread. One with much `user_metadata` has 9 KiB and more.
pub(super) const LONGEST_TOKEN: usize = 16 * 1024;

/// A token with every byte percent-encoded.
const LONGEST_TEXT: usize = LONGEST_TOKEN * 3;

/// A text that is given as a token, cut where it is too long to be one: it is as much refused, and takes no more memory.
pub fn bounded(mut token: String) -> String {
    if LONGEST_TEXT < token.len() {
        token.truncate(token.floor_char_boundary(LONGEST_TEXT + 4));
        token.shrink_to_fit();
    }
    token
}

/// What a token says about itself.
pub(super) struct Parsed<'a> {
    /// `alg`; empty when it is missing or no string.
    pub(super) algorithm: String,
    pub(super) kid: Option<String>,
    /// The payload, a JSON object without white space between its parts.
    pub(super) payload: String,
    /// What was signed: `header.payload`, still encoded.
    pub(super) message: &'a str,
    /// The signature, still encoded.
    pub(super) signature: &'a str,
}

/// The token as it is verified: percent-encoding and white space undone.
///
/// # Errors
/// `TooLong`, or `Malformed`: not ASCII once decoded.
pub(super) fn clean(token: &str) -> Result<Cow<'_, str>, TokenRefusal> {
    if LONGEST_TEXT < token.len() {
        return Err(TokenRefusal::TooLong);
    }
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if token.bytes().all(is_plain) {
        let is_long = LONGEST_TOKEN < token.len();
        return if is_long { Err(TokenRefusal::TooLong) } else { Ok(Cow::Borrowed(token)) };
    }
    let mut plain = String::with_capacity(token.len());
    let mut rest = token;
    while let Some(c) = rest.chars().next() {
        let hex = rest.strip_prefix('%').and_then(|after| after.get(..2));
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let (c, length) = byte.map_or((c, c.len_utf8()), |byte| (char::from(byte), 3));
        if !c.is_ascii() {
            return Err(TokenRefusal::Malformed);
        }
        if !c.is_whitespace() {
            plain.push(c);
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    if LONGEST_TOKEN < plain.len() { Err(TokenRefusal::TooLong) } else { Ok(Cow::Owned(plain)) }
}

impl<'a> Parsed<'a> {
    /// Takes a clean token apart.
    ///
    /// # Errors
    /// `Malformed`: not three parts, or header or payload is no JSON object.
    pub(super) fn read(token: &'a str) -> Result<Self, TokenRefusal> {
        Self::parts(token).ok_or(TokenRefusal::Malformed)
    }

    fn parts(token: &'a str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        let header: Header = serde_json::from_str(&object(header)?).ok()?;
        let payload = object(payload)?;
        URL_SAFE_NO_PAD.decode(signature).ok()?;
        // What a critical extension demands is unknown here, so such a token cannot be understood (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return None;
        }
        let kid = match header.kid {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::String(kid)) => Some(kid),
            Some(_) => return None,
        };
        let algorithm = header.alg.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
        Some(Self { algorithm: algorithm.to_owned(), kid, payload, message, signature })
    }
}

#[derive(Deserialize)]
struct Header {
    alg: Option<serde_json::Value>,
    kid: Option<serde_json::Value>,
    crit: Option<serde_json::Value>,
}

/// A part of a token as the text of one JSON object.
fn object(part: &str) -> Option<String> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok()?;
    if !text.trim_start().starts_with('{') {
        return None;
    }
    serde_json::from_str::<Unambiguous>(&text).ok()?;
    Some(compact(&text))
}

/// Valid JSON without white space between its parts; every value keeps its own text.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut is_escaped) = (false, false);
    for c in json.chars() {
        if in_string {
            in_string = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            in_string = c == '"';
        }
        out.push(c);
    }
    out
}

/// Any JSON in which no object has a key twice.
struct Unambiguous;

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without a repeated key")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while let Some(Self) = items.next_element()? {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some((key, Self)) = entries.next_entry::<String, Self>()? {
            if !keys.insert(key) {
                return Err(A::Error::custom("a key is repeated"));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_and_white_space_are_undone() {
        assert_eq!(clean("a.b-c_d").unwrap(), "a.b-c_d");
        assert_eq!(clean(" a%2Eb\r\n.%63 \t").unwrap(), "a.b.c");
        assert_eq!(clean("%20a%").unwrap(), "a%");
        assert_eq!(clean("%zz%2").unwrap(), "%zz%2");
        assert_eq!(clean("é"), Err(TokenRefusal::Malformed));
        assert_eq!(clean("%é"), Err(TokenRefusal::Malformed));
        assert_eq!(clean("%c3%a9"), Err(TokenRefusal::Malformed));
    }

    #[test]
    fn the_limit_is_of_the_token_whatever_it_is_wrapped_in() {
        for wrapped in ["a", "%61", "a "] {
            let clean = |count: usize| clean(&wrapped.repeat(count)).map(|token| token.len());
            assert_eq!(clean(LONGEST_TOKEN), Ok(LONGEST_TOKEN), "{wrapped}");
            assert_eq!(clean(LONGEST_TOKEN + 1), Err(TokenRefusal::TooLong), "{wrapped}");
        }
        assert_eq!(clean(&" ".repeat(LONGEST_TEXT + 1)), Err(TokenRefusal::TooLong));
    }

    #[test]
    fn what_cannot_be_a_token_is_cut_and_still_too_long() {
        assert_eq!(bounded("a".repeat(LONGEST_TEXT)).len(), LONGEST_TEXT);
        for text in ["a".repeat(5_000_000), "\u{1F600}".repeat(1_000_000)] {
            let cut = bounded(text);
            assert!((LONGEST_TEXT + 1..=LONGEST_TEXT + 4).contains(&cut.len()));
            assert_eq!(clean(&cut), Err(TokenRefusal::TooLong));
        }
    }

    #[test]
    fn compacting_touches_white_space_only() {
        let json = "{ \"a b\" : [ 1.50 , \"x \\\" y\\\\\" , 1e2 ] ,\n\"c\":\"\\u0041 \" }";
        assert_eq!(compact(json), "{\"a b\":[1.50,\"x \\\" y\\\\\",1e2],\"c\":\"\\u0041 \"}");
    }

    #[test]
    fn a_repeated_key_is_refused_at_every_depth() {
        let is_fine = |json: &str| serde_json::from_str::<Unambiguous>(json).is_ok();
        assert!(is_fine(r#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#));
        assert!(!is_fine(r#"{"a":1,"a":1}"#));
        assert!(!is_fine(r#"{"a":1,"\u0061":1}"#));
        assert!(!is_fine(r#"{"b":[{"a":1,"a":2}]}"#));
    }
}
