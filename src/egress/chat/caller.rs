//! Who calls, and how often they may.
//!
//! A caller is the `sub` of a token; a token without one is a caller for each network it comes from, so that strangers
//! who hold the same public key do not share a limit. The map is bounded: who has not called for a while is forgotten, which changes nothing for them. Overflow: when
//! all of [`MOST`] are busy, the next one is let in uncounted.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};

use super::Chat;
use super::calls::As;
use super::problem::Problem;
use crate::egress::budget::Budget;
use crate::egress::network_of;
use crate::model::{CallerIdentity, Network, Principal};

/// Callers that are counted at once.
const MOST: usize = 100_000;

/// Somebody whose token was believed, and who is within their rate.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) principal: Arc<Principal>,
    pub(super) sub: String,
    /// Whose rate it uses.
    identity: CallerIdentity,
}

impl Caller {
    pub(super) fn as_caller(&self) -> As<'_> {
        As { principal: &self.principal, sub: &self.sub }
    }

    /// Whose share it uses of what callers share.
    pub(super) const fn identity(&self) -> &CallerIdentity {
        &self.identity
    }
}

impl FromRequestParts<Arc<Chat>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, chat: &Arc<Chat>) -> Result<Self, Problem> {
        let Some(token) = token(&parts.headers) else {
            chat.refused("ApiKeyMissing");
            return Err(unauthorised("Send a token: `Authorization: Bearer …`."));
        };
        chat.admit(token, network_of(&parts.extensions)).await
    }
}

impl Chat {
    /// Believes a token and finds its caller within their rate.
    async fn admit(&self, token: &str, network: Network) -> Result<Caller, Problem> {
        let (caller, _) = self.believe(token, network).await?;
        self.pay(&caller)?;
        Ok(caller)
    }

    /// Believes a token; until when, in Unix seconds.
    pub(super) async fn believe(
        &self,
        token: &str,
        network: Network,
    ) -> Result<(Caller, i64), Problem> {
        let verified = self.tokens.verify(token, (self.clock)()).await.map_err(|refused| {
            self.refused(refused.code());
            unauthorised(&format!("{}.", refused.on_connect().1))
        })?;
        let principal = verified.principal;
        let sub = principal.subject();
        let identity = CallerIdentity::of(&principal, network);
        Ok((Caller { principal, sub, identity }, verified.expires_at))
    }

    /// Takes one request from the caller's rate.
    pub(super) fn pay(&self, caller: &Caller) -> Result<(), Problem> {
        if self.callers.take(&caller.identity, Instant::now()) {
            return Ok(());
        }
        self.refused("ChatRateLimitReached");
        let detail = "Too many requests; wait a second.";
        Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).after(1))
    }
}

fn unauthorised(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
        .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// The token of `Authorization: Bearer`.
fn token(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = given.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// How much of their rate callers have used.
#[derive(Debug)]
pub(super) struct Callers {
    per_second: u32,
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// By a hash of the caller that nobody outside can compute.
    budgets: HashMap<u64, Budget>,
    sweep_at: usize,
}

/// Fewer are never looked through.
const FEW: usize = 256;

impl Callers {
    /// Nobody has called yet.
    pub(super) fn new(per_second: u32) -> Self {
        let known = Known { budgets: HashMap::new(), sweep_at: FEW };
        Self { per_second, hasher: RandomState::new(), known: Mutex::new(known) }
    }

    /// Takes one request; false when the caller has none left.
    fn take(&self, caller: &CallerIdentity, now: Instant) -> bool {
        let key = self.hasher.hash_one(caller);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(budget) = known.budgets.get(&key) {
            return budget.take(1, now);
        }
        if known.sweep_at <= known.budgets.len() {
            known.budgets.retain(|_, budget| !budget.is_rested(now));
            known.sweep_at = (known.budgets.len() * 2).clamp(FEW, MOST);
        }
        let budget = Budget::new(self.per_second, now);
        let may = budget.take(1, now);
        if known.budgets.len() < MOST {
            known.budgets.insert(key, budget);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn subject(sub: &str) -> CallerIdentity {
        CallerIdentity::Subject(sub.into())
    }

    #[test]
    fn each_caller_has_a_rate_of_their_own() {
        let (callers, now) = (Callers::new(2), Instant::now());
        let taken =
            |caller: &str, at| (0..100).filter(|_| callers.take(&subject(caller), at)).count();
        assert_eq!(taken("ann", now), 10);
        assert_eq!(taken("bob", now), 10);
        assert_eq!(taken("ann", now + Duration::from_secs(1)), 2);
    }

    #[test]
    fn who_rests_is_forgotten() {
        let (callers, now) = (Callers::new(1), Instant::now());
        for n in 0..FEW {
            assert!(callers.take(&subject(&n.to_string()), now));
        }
        let later = now + Duration::from_secs(60);
        assert!(callers.take(&subject("one more"), later));
        assert_eq!(callers.known.lock().unwrap().budgets.len(), 1);
    }
}
