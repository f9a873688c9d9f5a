//! JWT → principal, or why not.

use std::sync::Arc;

use crate::error::Error;
use crate::model::Principal;

/// A token that was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whom it names.
    pub principal: Arc<Principal>,
    /// `exp`, in Unix seconds.
    pub expires_at: i64,
}

/// Why a token was not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenRefusal {
    /// `exp` has passed.
    Expired {
        /// Seconds since then.
        seconds_ago: i64,
    },
    /// `role` or `exp` is missing.
    MissingClaims,
    /// Not a JWT.
    Malformed,
    /// The signature is wrong.
    BadSignature,
    /// No key fits its algorithm and `kid`.
    NoSigner {
        /// The `kid`, cut and escaped.
        kid: Option<String>,
    },
    /// The role is not in `auth.roles`.
    RoleNotAllowed {
        /// The role, cut and escaped.
        role: String,
    },
    /// A claim has a type or value that cannot be meant.
    BadClaims,
}

impl TokenRefusal {
    /// Text for a refused connection (`{"error": …}`), and its HTTP status.
    pub fn on_connect(&self) -> (u16, String) {
        todo!()
    }

    /// Text for a refused join (`Code: message`).
    pub fn on_join(&self) -> String {
        todo!()
    }

    /// Text of the `system` message before a channel closes.
    pub fn on_channel(&self) -> String {
        todo!()
    }

    /// The code alone, for metrics.
    pub fn code(&self) -> &'static str {
        todo!()
    }
}

/// Verifies tokens. Shared.
#[derive(Debug)]
pub struct Tokens {}

impl Tokens {
    /// Loads keys; a JWKS address is fetched in the background by a task in `stage`.
    ///
    /// # Errors
    /// `Misconfigured`: a key that cannot be read.
    pub fn new(
        _auth: &crate::config::Auth,
        _stage: &crate::shutdown::Stage,
    ) -> Result<Arc<Self>, Error> {
        todo!()
    }

    /// Verifies one token at `now` (Unix seconds). Percent-encoding and white space are undone first.
    ///
    /// # Errors
    /// Why it is not believed.
    pub async fn verify(&self, _token: &str, _now: i64) -> Result<Verified, TokenRefusal> {
        todo!()
    }
}
