//! Who asks: the verified contents of a token, and the Postgres role they name.

use std::fmt;
use std::hash::{Hash, Hasher};

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

    /// The claim `sub` as a text; empty when there is none.
    pub fn subject(&self) -> String {
        let claims = serde_json::from_str::<serde_json::Value>(&self.claims);
        match claims.ok().as_mut().and_then(|claims| claims.get_mut("sub")) {
            Some(serde_json::Value::String(sub)) => std::mem::take(sub),
            None | Some(serde_json::Value::Null) => String::new(),
            Some(other) => other.to_string(),
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
    fn claims_are_not_printed() {
        let principal = Principal::new("anon", r#"{"sub":"secret"}"#);
        assert!(!format!("{principal:?}").contains("secret"));
    }
}
