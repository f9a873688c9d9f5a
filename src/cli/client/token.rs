//! Tokens for the relay's own clients, signed with the shared secret.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use crate::error::{Error, ErrorKind};

/// A token for `role`, and for the user `sub` if given, that lives for `lifetime`.
///
/// # Errors
/// `Misconfigured`: a secret that cannot sign.
pub(crate) fn mint(
    secret: &str,
    role: &str,
    sub: Option<&str>,
    lifetime: Duration,
) -> Result<String, Error> {
    let now = unix_now();
    let mut claims = json!({
        "role": role,
        "iat": now.as_secs(),
        "exp": now.saturating_add(lifetime).as_secs(),
    });
    if let (Some(sub), Some(map)) = (sub, claims.as_object_mut()) {
        map.insert("sub".to_owned(), sub.into());
    }
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).map_err(|error| {
        Error::new(ErrorKind::Misconfigured, "could not sign a token").because(error)
    })
}

/// Time since 1970.
#[allow(
    clippy::disallowed_methods,
    reason = "a verb is the outermost edge, where the clock is read"
)]
pub(crate) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
