//! Who may ask about the relay, and who may tell it what to do.
//!
//! With `auth.api_secret`, whoever holds a token signed with it may do both. Without it, every client may ask, and only
//! a token of `service_role` may act: the others are in everybody's browser.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::keys::{Algorithm, Family, Key};
use super::token::Tokens;
use super::token_claims::{check_expiry, seconds};
use super::token_parse::{Parsed, clean};
use crate::config::Auth;

/// The role of servers. It may act where there is no secret of its own for that.
pub const SERVICE: &str = "service_role";

/// Judges who asks. Shared.
#[derive(Debug)]
pub struct ApiKeys {
    secret: ArcSwapOption<Key>,
    tokens: Arc<Tokens>,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Ask.
    Asks,
    /// Ask and act.
    Acts,
}

#[derive(Deserialize)]
struct Times<'a> {
    #[serde(borrow)]
    exp: Option<&'a RawValue>,
    #[serde(borrow)]
    nbf: Option<&'a RawValue>,
}

impl ApiKeys {
    /// Uses `auth.api_secret`, or else `tokens`.
    pub fn new(auth: &Auth, tokens: Arc<Tokens>) -> Arc<Self> {
        let secret = ArcSwapOption::new(secret_of(auth));
        Arc::new(Self { secret, tokens })
    }

    /// Uses another `auth.api_secret` from now on, or none.
    pub fn renew(&self, auth: &Auth) {
        self.secret.store(secret_of(auth));
    }

    /// What the holder of a token may do at `now` (Unix seconds); nothing when it is not believed.
    pub async fn judge(&self, token: &str, now: i64) -> Option<Standing> {
        match self.secret.load_full() {
            Some(secret) => is_signed(&secret, token, now).then_some(Standing::Acts),
            None => {
                let verified = self.tokens.verify(token, now).await.ok()?;
                let acts = verified.principal.role() == SERVICE;
                Some(if acts { Standing::Acts } else { Standing::Asks })
            }
        }
    }
}

fn secret_of(auth: &Auth) -> Option<Arc<Key>> {
    let secret = auth.api_secret.as_ref();
    secret.map(|secret| Arc::new(Key::secret(secret.reveal().as_bytes())))
}

/// Whether a token is signed with the secret, and in its time. Nothing else is asked of it.
fn is_signed(secret: &Key, token: &str, now: i64) -> bool {
    let Ok(token) = clean(token) else { return false };
    let Ok(parsed) = Parsed::read(&token) else { return false };
    let algorithm = Algorithm::parse(&parsed.algorithm);
    let Some(algorithm) = algorithm.filter(|it| it.family() == Family::Hmac) else { return false };
    if !secret.verifies(algorithm, parsed.message, parsed.signature) {
        return false;
    }
    let Ok(times) = serde_json::from_str::<Times<'_>>(&parsed.payload) else { return false };
    let is_due = times.nbf.is_none_or(|at| seconds(at).is_ok_and(|at| at <= now));
    let is_good = |at| seconds(at).is_ok_and(|at| check_expiry(at, now).is_ok());
    is_due && times.exp.is_some_and(is_good)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn signed(claims: &Value, secret: &str) -> String {
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::default(), claims, &key).unwrap()
    }

    #[test]
    fn a_token_counts_in_its_time_and_with_its_secret() {
        let key = Key::secret(b"s");
        for (claims, secret, expected) in [
            (json!({ "exp": NOW + 1 }), "s", true),
            (json!({ "exp": NOW + 1, "nbf": NOW }), "s", true),
            (json!({ "exp": NOW + 1, "nbf": NOW + 1 }), "s", false),
            (json!({ "exp": NOW }), "s", false),
            (json!({ "exp": "soon" }), "s", false),
            (json!({}), "s", false),
            (json!({ "exp": NOW + 1 }), "t", false),
        ] {
            assert_eq!(is_signed(&key, &signed(&claims, secret), NOW), expected, "{claims}");
        }
        assert!(!is_signed(&key, "a.b.c", NOW) && !is_signed(&key, "", NOW));
        // {"alg":"none"}, and one that names a public key's algorithm
        let body = "eyJleHAiOjk5OTk5OTk5OTl9";
        for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJSUzI1NiJ9"] {
            assert!(!is_signed(&key, &format!("{header}.{body}."), NOW));
        }
    }
}
