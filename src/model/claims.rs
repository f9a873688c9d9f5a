//! Who asks: the verified contents of a token, and the Postgres role they name.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::Deserialize;
use serde_json::value::RawValue;

/// A role and its claims: the unit of authorisation and of caching.
///
/// Two tokens with the same claims are one principal. `claims` is the exact JSON object that Postgres is given
/// as `request.jwt.claims`; it never appears in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Principal {
    role: Box<str>,
    claims: Box<str>,
}

impl Principal {
    /// A principal from a role that was checked against the allow-list, and the claims as one JSON object.
    pub fn new(role: impl Into<Box<str>>, claims: impl Into<Box<str>>) -> Self {
        Self { role: role.into(), claims: claims.into() }
    }

    /// Anybody who has a role.
    pub fn of_role(role: &str) -> Self {
        Self::new(role, serde_json::json!({ "role": role }).to_string())
    }

    /// The Postgres role.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// All claims, as one JSON object.
    pub fn claims(&self) -> &str {
        &self.claims
    }

    /// The claim `sub` as a text, as [`read_subject`] reads it; empty when there is none.
    pub fn subject(&self) -> String {
        let claims = serde_json::from_str::<Subject<'_>>(&self.claims);
        let sub = claims.ok().and_then(|claims| claims.sub);
        sub.and_then(|sub| read_subject(sub.get())).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Subject<'a> {
    #[serde(borrow)]
    sub: Option<&'a RawValue>,
}

/// A claim `sub`, given as JSON text, as the text that `->> 'sub'` gives for it in Postgres. A number keeps its digits:
/// no float stands between, which would make one subject of two. `None` where `json` and `jsonb` give different texts
/// (a number with an exponent, a negative zero, an array, an object), or where it is no JSON.
pub fn read_subject(json: &str) -> Option<String> {
    match json {
        "null" => Some(String::new()),
        "true" | "false" => Some(json.to_owned()),
        _ if json.starts_with('"') => serde_json::from_str(json).ok(),
        _ => {
            serde_json::from_str::<serde_json::Number>(json).ok()?;
            let is_plain = json.bytes().all(|byte| matches!(byte, b'-' | b'.' | b'0'..=b'9'));
            let is_zero = json.bytes().all(|byte| matches!(byte, b'-' | b'.' | b'0'));
            let is_one = is_plain && !(is_zero && json.starts_with('-'));
            is_one.then(|| json.to_owned())
        }
    }
}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.role.hash(state);
        self.claims.hash(state);
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("role", &self.role).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_its_digits_and_what_has_two_readings_is_none() {
        for (json, subject) in [
            ("18446744073709551617", Some("18446744073709551617")),
            ("-5.10", Some("-5.10")),
            ("0.0", Some("0.0")),
            (r#""\u00e9\n""#, Some("é\n")),
            ("null", Some("")),
            ("1e1", None),
            ("-0", None),
            ("-0.0", None),
            ("01", None),
            ("1.2.3", None),
            ("--1", None),
            ("", None),
            ("[]", None),
            ("{}", None),
            (r#""\ud800""#, None),
        ] {
            assert_eq!(read_subject(json).as_deref(), subject, "{json}");
        }
    }

    #[test]
    fn claims_are_not_printed() {
        let principal = Principal::new("anon", r#"{"sub":"secret"}"#);
        assert!(!format!("{principal:?}").contains("secret"));
    }
}
