//! What the claims of a token with a good signature must say.
//!
//! Times are compared without leeway, but for five seconds on `nbf`: an expired token is expired. A decimal `exp`
//! counts from its whole second, so a token never lives longer than it says. The role is looked up in the list of
//! the configuration before anything else sees it. A subject that policies might read differently than the relay is
//! refused; every other claim reaches them as its own text.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::token::Verified;
use super::token_refusal::TokenRefusal;
use crate::model::{Principal, read_subject};

/// How far the clock of whoever issues tokens may be ahead of ours.
const CLOCK_SKEW_S: i64 = 5;

/// What the configuration asks of every token.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) roles: Vec<String>,
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
}

#[derive(Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    role: Option<&'a RawValue>,
    #[serde(borrow)]
    exp: Option<&'a RawValue>,
    #[serde(borrow)]
    iat: Option<&'a RawValue>,
    #[serde(borrow)]
    nbf: Option<&'a RawValue>,
    #[serde(borrow)]
    iss: Option<&'a RawValue>,
    #[serde(borrow)]
    aud: Option<&'a RawValue>,
    #[serde(borrow)]
    sub: Option<&'a RawValue>,
}

/// One audience, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Rules {
    /// Whom the payload names, and until when.
    ///
    /// # Errors
    /// The first claim that does not hold: times, then issuer and audience, then what is required, then the role.
    pub(super) fn apply(&self, payload: String, now: i64) -> Result<Verified, TokenRefusal> {
        let (role, expires_at) = {
            let claims: Claims<'_> =
                serde_json::from_str(&payload).map_err(|_| TokenRefusal::Malformed)?;
            let expires_at = claims.exp.map(seconds).transpose()?;
            claims.iat.map(seconds).transpose()?;
            let not_before = claims.nbf.map(seconds).transpose()?;
            if let Some(expires_at) = expires_at {
                check_expiry(expires_at, now)?;
            }
            if not_before.is_some_and(|at| now.saturating_add(CLOCK_SKEW_S) < at) {
                return Err(TokenRefusal::BadClaims);
            }
            self.check_issuer(claims.iss)?;
            self.check_audience(claims.aud)?;
            if claims.sub.is_some_and(|sub| read_subject(sub.get()).is_none()) {
                return Err(TokenRefusal::BadClaims);
            }
            let (Some(role), Some(expires_at)) = (claims.role, expires_at) else {
                return Err(TokenRefusal::MissingClaims);
            };
            let role: String = read(role)?;
            if !self.roles.contains(&role) {
                return Err(TokenRefusal::role_not_allowed(&role));
            }
            (role, expires_at)
        };
        Ok(Verified { principal: Arc::new(Principal::new(role, payload)), expires_at })
    }

    fn check_issuer(&self, written: Option<&RawValue>) -> Result<(), TokenRefusal> {
        let Some(expected) = &self.issuer else { return Ok(()) };
        let issuer: Cow<'_, str> = written.map(read).transpose()?.unwrap_or_default();
        if issuer == expected.as_str() { Ok(()) } else { Err(TokenRefusal::BadClaims) }
    }

    fn check_audience(&self, written: Option<&RawValue>) -> Result<(), TokenRefusal> {
        let Some(expected) = &self.audience else { return Ok(()) };
        let is_meant = match written.map(read).transpose()? {
            None => false,
            Some(Audience::One(one)) => one == *expected,
            Some(Audience::Many(many)) => many.contains(expected),
        };
        if is_meant { Ok(()) } else { Err(TokenRefusal::BadClaims) }
    }
}

/// Whether a token that ends at `expires_at` is still good.
///
/// # Errors
/// `Expired`.
pub(super) fn check_expiry(expires_at: i64, now: i64) -> Result<(), TokenRefusal> {
    match now.saturating_sub(expires_at) {
        seconds_ago if seconds_ago < 0 => Ok(()),
        seconds_ago => Err(TokenRefusal::Expired { seconds_ago }),
    }
}

/// A NumericDate in whole seconds, rounded down.
pub(super) fn seconds(written: &RawValue) -> Result<i64, TokenRefusal> {
    // By its digits, where a float might round up.
    let (whole, decimals) = written.get().split_once('.').unwrap_or((written.get(), ""));
    if let (Ok(whole), true) = (whole.parse::<i64>(), is_digits(decimals)) {
        let is_below =
            written.get().starts_with('-') && decimals.bytes().any(|digit| digit != b'0');
        return Ok(whole.saturating_sub(i64::from(is_below)));
    }
    let number: f64 = read(written)?;
    // The cast saturates, and JSON knows no NaN.
    Ok(number.floor() as i64)
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn read<'a, T: Deserialize<'a>>(written: &'a RawValue) -> Result<T, TokenRefusal> {
    serde_json::from_str(written.get()).map_err(|_| TokenRefusal::BadClaims)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn apply(payload: &str) -> Result<Verified, TokenRefusal> {
        let rules = Rules { roles: vec!["anon".to_owned()], issuer: None, audience: None };
        rules.apply(payload.to_owned(), NOW)
    }

    #[test]
    fn decimals_count_from_their_whole_second() {
        let ends = |exp: &str| apply(&format!(r#"{{"role":"anon","exp":{exp}}}"#));
        assert_eq!(ends("1700000001").unwrap().expires_at, NOW + 1);
        assert_eq!(ends("1700000001.9").unwrap().expires_at, NOW + 1);
        assert_eq!(ends("1.7000000015e9").unwrap().expires_at, NOW + 1);
        assert_eq!(ends("1700000000.9"), Err(TokenRefusal::Expired { seconds_ago: 0 }));
        let nearly_one_more = "1700000000.99999999999999999999";
        assert_eq!(ends(nearly_one_more), Err(TokenRefusal::Expired { seconds_ago: 0 }));
        assert_eq!(ends("-0.5"), Err(TokenRefusal::Expired { seconds_ago: NOW + 1 }));
        assert_eq!(ends("-1.0"), Err(TokenRefusal::Expired { seconds_ago: NOW + 1 }));
        assert_eq!(ends("99999999999999999999").unwrap().expires_at, i64::MAX);
        assert_eq!(ends("1e300").unwrap().expires_at, i64::MAX);
        assert_eq!(ends("-1e300"), Err(TokenRefusal::Expired { seconds_ago: i64::MAX }));
    }

    #[test]
    fn claims_keep_the_text_of_their_numbers() {
        let payload =
            r#"{"role":"anon","exp":1800000000.250,"big":123456789012345678901234567890}"#;
        assert_eq!(apply(payload).unwrap().principal.claims(), payload);
    }

    #[test]
    fn not_before_has_five_seconds_of_leeway_and_expiry_none() {
        let at = |nbf: i64| apply(&format!(r#"{{"role":"anon","exp":1800000000,"nbf":{nbf}}}"#));
        assert!(at(NOW + 5).is_ok());
        assert_eq!(at(NOW + 6), Err(TokenRefusal::BadClaims));
    }
}
