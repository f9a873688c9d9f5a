//! Tokens for the relay's own clients.

use std::time::Duration;

use serde_json::Map;

use crate::cli::{now, token};
use crate::error::Error;
use crate::secret::Secret;

/// A token for `role`, and for the user `sub` if given, that lives for `lifetime`.
///
/// # Errors
/// `Bug`: it cannot be signed.
pub(crate) fn mint(
    secret: &Secret<String>,
    role: &str,
    sub: Option<&str>,
    lifetime: Duration,
) -> Result<String, Error> {
    let now = now();
    let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    let mut claims = Map::new();
    claims.insert("role".to_owned(), role.into());
    claims.insert("iat".to_owned(), now.into());
    claims.insert("exp".to_owned(), now.saturating_add(lifetime).into());
    claims.extend(sub.map(|sub| ("sub".to_owned(), sub.into())));
    token::mint(secret, &claims)
}
