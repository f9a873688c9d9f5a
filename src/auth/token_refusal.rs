//! Why a token was not believed, in the words clients know from Supabase Realtime.
//!
//! The same refusal reads differently at the three doors (connecting, joining, inside a channel), so each door has
//! its text here. Nothing of the token is repeated but its `kid` and its role, cut and escaped.

use super::token_parse::LONGEST_TOKEN;

/// Bytes of a token's own text that a message may repeat.
const LONGEST_ECHO: usize = 128;

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
    /// Longer than is read.
    TooLong,
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
        let text = match self {
            Self::Expired { .. } => "Token has expired".to_owned(),
            _ => self.text(),
        };
        (401, text)
    }

    /// Text for a refused join (`Code: message`).
    pub fn on_join(&self) -> String {
        format!("{}: {}", self.code(), self.text())
    }

    /// Text of the `system` message before a channel closes.
    pub fn on_channel(&self) -> String {
        match self {
            // Clients of Supabase Realtime see the name of its internal atom here.
            Self::BadSignature => ":signature_error".to_owned(),
            _ => self.text(),
        }
    }

    /// The code alone, for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expired { .. } | Self::MissingClaims | Self::BadClaims | Self::TooLong => {
                "InvalidJWTToken"
            }
            Self::Malformed => "MalformedJWT",
            Self::BadSignature => "JwtSignatureError",
            Self::NoSigner { .. } => "JwtSignerError",
            Self::RoleNotAllowed { .. } => "Unauthorized",
        }
    }

    pub(super) fn no_signer(kid: Option<&str>) -> Self {
        Self::NoSigner { kid: kid.map(echo) }
    }

    pub(super) fn role_not_allowed(role: &str) -> Self {
        Self::RoleNotAllowed { role: echo(role) }
    }

    fn text(&self) -> String {
        match self {
            Self::Expired { seconds_ago } => format!("Token has expired {seconds_ago} seconds ago"),
            Self::MissingClaims => "Fields `role` and `exp` are required in JWT".to_owned(),
            Self::Malformed => "The token provided is not a valid JWT".to_owned(),
            Self::TooLong => format!("The token is longer than {LONGEST_TOKEN} bytes"),
            Self::BadSignature => "Failed to validate JWT signature".to_owned(),
            Self::NoSigner { kid: None } => "Failed to generate JWT signer, check your JWT secret \
                                             or JWKS configuration"
                .to_owned(),
            Self::NoSigner { kid: Some(kid) } => format!(
                "Failed to generate JWT signer for key ID (kid) \"{kid}\", check your JWT secret \
                 or JWKS configuration"
            ),
            Self::RoleNotAllowed { role } => {
                format!("The role \"{role}\" in the JWT is not one this server accepts")
            }
            Self::BadClaims => "A claim in the JWT is not valid: `exp`, `iat` and `nbf` must be \
                                numbers and `nbf` past, `role` a string, `sub` a string or a \
                                number without exponent, `iss` and `aud` as the server expects"
                .to_owned(),
        }
    }
}

/// Text of a stranger, printable, on one line, and at most 128 bytes.
fn echo(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let mut escaped = String::new();
        match c {
            '\'' => escaped.push(c),
            _ => escaped.extend(c.escape_debug()),
        }
        if LONGEST_ECHO < out.len() + escaped.len() {
            break;
        }
        out.push_str(&escaped);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_door_has_the_text_clients_know() {
        let expired = TokenRefusal::Expired { seconds_ago: 3 };
        assert_eq!(expired.on_connect(), (401, "Token has expired".to_owned()));
        assert_eq!(expired.on_join(), "InvalidJWTToken: Token has expired 3 seconds ago");
        assert_eq!(expired.on_channel(), "Token has expired 3 seconds ago");
        let text = "Fields `role` and `exp` are required in JWT";
        assert_eq!(TokenRefusal::MissingClaims.on_connect(), (401, text.to_owned()));
        assert_eq!(TokenRefusal::MissingClaims.on_join(), format!("InvalidJWTToken: {text}"));
        assert_eq!(TokenRefusal::MissingClaims.on_channel(), text);
        let text = "The token provided is not a valid JWT";
        assert_eq!(TokenRefusal::Malformed.on_connect(), (401, text.to_owned()));
        assert_eq!(TokenRefusal::Malformed.on_join(), format!("MalformedJWT: {text}"));
        assert_eq!(TokenRefusal::Malformed.on_channel(), text);
        let text = "The token is longer than 16384 bytes";
        assert_eq!(TokenRefusal::TooLong.on_connect(), (401, text.to_owned()));
        assert_eq!(TokenRefusal::TooLong.on_join(), format!("InvalidJWTToken: {text}"));
        assert_eq!(TokenRefusal::TooLong.on_channel(), text);
        let text = "Failed to validate JWT signature";
        assert_eq!(TokenRefusal::BadSignature.on_connect(), (401, text.to_owned()));
        assert_eq!(TokenRefusal::BadSignature.on_join(), format!("JwtSignatureError: {text}"));
        assert_eq!(TokenRefusal::BadSignature.on_channel(), ":signature_error");
    }

    #[test]
    fn a_missing_key_is_named_when_the_token_names_it() {
        let tail = "check your JWT secret or JWKS configuration";
        let without = format!("Failed to generate JWT signer, {tail}");
        assert_eq!(TokenRefusal::no_signer(None).on_connect(), (401, without.clone()));
        assert_eq!(TokenRefusal::no_signer(None).on_join(), format!("JwtSignerError: {without}"));
        let with = format!("Failed to generate JWT signer for key ID (kid) \"k1\", {tail}");
        assert_eq!(TokenRefusal::no_signer(Some("k1")).on_connect(), (401, with.clone()));
        assert_eq!(TokenRefusal::no_signer(Some("k1")).on_channel(), with);
    }

    #[test]
    fn what_a_stranger_wrote_is_cut_and_escaped() {
        assert_eq!(echo("a\u{1b}[31m\"\n'"), "a\\u{1b}[31m\\\"\\n'");
        assert_eq!(echo(&"x".repeat(5000)).len(), 128);
        assert!(echo(&"\u{0}".repeat(5000)).len() <= 128);
        assert!(echo(&"é".repeat(5000)).len() <= 128);
    }
}
