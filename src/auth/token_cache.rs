//! Tokens that were verified before, found by their hash.
//!
//! A reconnect storm brings the same tokens again, and an ES256 signature costs 60 µs. Only tokens with a good
//! signature enter, and each is forgotten when the keys change. Bounded by two generations: when the young one is
//! full, in number or in bytes, it becomes the old one, and what was old is dropped.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::token::Verified;

/// Tokens of one generation.
const MOST: usize = 4096;

/// Bytes of one generation, by the claims of its tokens: 4096 with 1 KiB each, 680 of the longest that are read.
const MOST_BYTES: usize = 8 << 20;

/// SHA-256 of a token.
pub(super) type Digest = [u8; 32];

/// The cache. Shared.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    /// The key set that the tokens were verified with.
    keys: u64,
    young: HashMap<Digest, Verified>,
    young_bytes: usize,
    old: HashMap<Digest, Verified>,
}

impl Cache {
    /// What the token said, if it was verified with key set number `keys`.
    pub(super) fn find(&self, token: &Digest, keys: u64) -> Option<Verified> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.keys != keys {
            return None;
        }
        if let Some(verified) = cache.young.get(token) {
            return Some(verified.clone());
        }
        let verified = cache.old.remove(token)?;
        cache.insert(*token, verified.clone());
        Some(verified)
    }

    /// Remembers a token that was verified with key set number `keys`.
    pub(super) fn remember(&self, token: Digest, keys: u64, verified: Verified) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.keys < keys {
            *cache = Generations { keys, ..Generations::default() };
        }
        if cache.keys == keys {
            cache.insert(token, verified);
        }
    }

    /// Forgets an expired token.
    pub(super) fn forget(&self, token: &Digest) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verified) = cache.young.remove(token) {
            cache.young_bytes -= size(&verified);
        }
        cache.old.remove(token);
    }
}

impl Generations {
    fn insert(&mut self, token: Digest, verified: Verified) {
        let bytes = size(&verified);
        if MOST <= self.young.len() || MOST_BYTES < self.young_bytes.saturating_add(bytes) {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        if let Some(same) = self.young.insert(token, verified) {
            self.young_bytes -= size(&same);
        }
    }
}

/// Bytes that a remembered token takes, about.
fn size(verified: &Verified) -> usize {
    let Verified { principal, .. } = verified;
    size_of::<(Digest, Verified)>() + principal.claims().len() + principal.role().len()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Principal;

    fn digest(n: usize) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        digest
    }

    fn verified() -> Verified {
        Verified { principal: Arc::new(Principal::new("anon", "{}")), expires_at: 1 }
    }

    #[test]
    fn stays_bounded_and_keeps_what_is_used() {
        let cache = Cache::default();
        for n in 0..5 * MOST {
            cache.remember(digest(n), 0, verified());
            assert!(cache.find(&digest(0), 0).is_some());
        }
        let held = cache.0.lock().unwrap();
        assert!(held.young.len() + held.old.len() <= 2 * MOST);
    }

    #[test]
    fn stays_bounded_in_bytes() {
        let large = Verified {
            principal: Arc::new(Principal::new("anon", "x".repeat(12 * 1024))),
            expires_at: 1,
        };
        let cache = Cache::default();
        for n in 0..2 * MOST {
            // Twice, and some forgotten: what is counted is what is held.
            cache.remember(digest(n), 0, large.clone());
            cache.remember(digest(n), 0, large.clone());
            if n % 3 == 0 {
                cache.forget(&digest(n));
            }
        }
        let held = cache.0.lock().unwrap();
        let bytes = |tokens: &HashMap<Digest, Verified>| tokens.values().map(size).sum::<usize>();
        assert_eq!(held.young_bytes, bytes(&held.young));
        assert!(bytes(&held.young) <= MOST_BYTES && bytes(&held.old) <= MOST_BYTES);
        assert!(MOST_BYTES / 2 < bytes(&held.young) + bytes(&held.old));
    }

    #[test]
    fn tokens_of_older_keys_are_forgotten_and_never_come_back() {
        let cache = Cache::default();
        cache.remember(digest(1), 0, verified());
        assert!(cache.find(&digest(1), 1).is_none());
        cache.remember(digest(2), 1, verified());
        cache.remember(digest(1), 0, verified());
        assert!(cache.find(&digest(1), 1).is_none());
        assert!(cache.find(&digest(2), 1).is_some());
    }

    #[test]
    fn an_expired_token_can_be_forgotten() {
        let cache = Cache::default();
        cache.remember(digest(1), 0, verified());
        cache.forget(&digest(1));
        assert!(cache.find(&digest(1), 0).is_none());
    }
}
