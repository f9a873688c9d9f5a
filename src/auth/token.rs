//! JWT → principal, or why not.
//!
//! The order is: size, shape, key, signature, times, issuer and audience, role. Nothing is read from a token before
//! its signature is good but `alg` and `kid`, and those choose among configured keys only. No step touches Postgres,
//! and none lets a token name an address.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::keys::Algorithm;
use super::token_cache::{Cache, Digest};
use super::token_claims::{Rules, check_expiry};
use super::token_keyring::Keyring;
use super::token_parse::{Parsed, clean};
use crate::config::Auth;
use crate::error::Error;
use crate::model::Principal;
use crate::shutdown::Stage;

pub use super::token_parse::bounded;
pub use super::token_refusal::TokenRefusal;

/// A token that was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whom it names.
    pub principal: Arc<Principal>,
    /// `exp`, in Unix seconds.
    pub expires_at: i64,
}

/// Verifies tokens. Shared.
#[derive(Debug)]
pub struct Tokens {
    verifier: ArcSwap<TokenVerifier>,
    stage: Stage,
}

/// What tokens are verified by, and those that were. Replaced as a whole, so that no token is believed for keys or rules
/// that are in force no more.
#[derive(Debug)]
struct TokenVerifier {
    rules: Rules,
    keyring: Arc<Keyring>,
    cache: Cache,
}

impl Tokens {
    /// Loads keys; a JWKS file or address is watched by a task in `stage`.
    ///
    /// # Errors
    /// `Misconfigured`: a key that cannot be read.
    pub fn new(auth: &Auth, stage: &Stage) -> Result<Arc<Self>, Error> {
        let verifier = TokenVerifier::new(auth, Keyring::new(auth, stage)?);
        Ok(Arc::new(Self { verifier: ArcSwap::from_pointee(verifier), stage: stage.clone() }))
    }

    /// Loads the keys anew and forgets every token that was verified; a key set that is fetched from the same address
    /// stays until the next one is there.
    ///
    /// # Errors
    /// `Misconfigured`: a key that cannot be read. The keys from before stay in force.
    pub fn renew(&self, auth: &Auth) -> Result<(), Error> {
        let before = self.verifier.load_full();
        let keyring = Keyring::new(auth, &self.stage)?;
        keyring.inherit(&before.keyring);
        self.verifier.store(Arc::new(TokenVerifier::new(auth, keyring)));
        before.keyring.retire();
        Ok(())
    }

    /// Verifies one token at `now` (Unix seconds). Percent-encoding and white space are undone first. Waits up to two
    /// seconds for fresh keys when its `kid` is unknown.
    ///
    /// # Errors
    /// Why it is not believed.
    pub async fn verify(&self, token: &str, now: i64) -> Result<Verified, TokenRefusal> {
        let token = clean(token)?;
        let digest = digest(&token);
        let verifier = self.verifier.load_full();
        let TokenVerifier { rules, keyring, cache } = &*verifier;
        if let Some(verified) = cache.find(&digest, keyring.number()) {
            return match check_expiry(verified.expires_at, now) {
                Ok(()) => Ok(verified),
                Err(refusal) => {
                    cache.forget(&digest);
                    Err(refusal)
                }
            };
        }
        let parsed = Parsed::read(&token)?;
        let kid = parsed.kid.as_deref();
        let no_signer = || TokenRefusal::no_signer(kid);
        let algorithm = Algorithm::parse(&parsed.algorithm).ok_or_else(no_signer)?;
        let chosen = keyring.choose(algorithm, kid).await;
        let (key, keys) = chosen.ok_or_else(no_signer)?;
        if !key.verifies(algorithm, parsed.message, parsed.signature) {
            return Err(TokenRefusal::BadSignature);
        }
        let verified = rules.apply(parsed.payload, now)?;
        cache.remember(digest, keys, verified.clone());
        Ok(verified)
    }
}

impl TokenVerifier {
    fn new(auth: &Auth, keyring: Arc<Keyring>) -> Self {
        let rules = Rules {
            roles: auth.roles.clone(),
            issuer: auth.issuer.clone(),
            audience: auth.audience.clone(),
        };
        Self { rules, keyring, cache: Cache::default() }
    }
}

/// SHA-256.
fn digest(token: &str) -> Digest {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let mut digest = Digest::default();
    for (to, from) in digest.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    digest
}
