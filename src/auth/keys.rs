//! Keys that signatures are verified with, and which algorithm may use which.
//!
//! The algorithm decides the family of the key, never the other way round: an RSA public key cannot serve as an HMAC
//! secret. Accepted are HS, RS and ES with 256, 384 and 512 bits, and EdDSA with Ed25519. Ed448, PSS, `none` and all
//! others have no signer.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm as Jwa, DecodingKey};

/// An accepted signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// One that `jsonwebtoken` knows.
    Known(Jwa),
    /// ECDSA on P-521, which it does not.
    Es512,
}

/// What kind of key an algorithm needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Family {
    /// A shared secret.
    Hmac,
    /// An RSA public key.
    Rsa,
    /// A point on a NIST curve.
    Ec,
    /// An Ed25519 public key.
    Ed,
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) material: DecodingKey,
    /// The only algorithm it is for, if it says so.
    pub(super) only: Option<Algorithm>,
}

/// Keys by `kid` and family, and the number of the set: a new set has a higher one.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    pub(super) number: u64,
    pub(super) keys: HashMap<(String, Family), Arc<Key>>,
}

impl Algorithm {
    /// The algorithm a header's `alg` names; `None` when it is not accepted.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(Self::Known(match name {
            "HS256" => Jwa::HS256,
            "HS384" => Jwa::HS384,
            "HS512" => Jwa::HS512,
            "RS256" => Jwa::RS256,
            "RS384" => Jwa::RS384,
            "RS512" => Jwa::RS512,
            "ES256" => Jwa::ES256,
            "ES384" => Jwa::ES384,
            "ES512" => return Some(Self::Es512),
            "EdDSA" | "Ed25519" => Jwa::EdDSA,
            _ => return None,
        }))
    }

    pub(super) fn family(self) -> Family {
        match self {
            Self::Es512 | Self::Known(Jwa::ES256 | Jwa::ES384) => Family::Ec,
            Self::Known(Jwa::EdDSA) => Family::Ed,
            Self::Known(Jwa::HS256 | Jwa::HS384 | Jwa::HS512) => Family::Hmac,
            Self::Known(_) => Family::Rsa,
        }
    }
}

impl Key {
    /// A shared secret for every HS algorithm.
    pub(super) fn secret(secret: &[u8]) -> Self {
        Self { material: DecodingKey::from_secret(secret), only: None }
    }

    /// Whether `signature` (base64url) is this key's over `message`. A key that does not fit the algorithm says no.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &str, signature: &str) -> bool {
        match algorithm {
            Algorithm::Known(known) => {
                let verdict = jsonwebtoken::crypto::verify(
                    signature,
                    message.as_bytes(),
                    &self.material,
                    known,
                );
                verdict.unwrap_or(false)
            }
            Algorithm::Es512 => {
                let Ok(point) = self.material.try_get_as_bytes() else { return false };
                let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
                UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point)
                    .verify(message.as_bytes(), &signature)
                    .is_ok()
            }
        }
    }
}

impl KeySet {
    /// The key called `kid` that fits the algorithm.
    pub(super) fn find(&self, kid: &str, algorithm: Algorithm) -> Option<Arc<Key>> {
        let key = self.keys.get(&(kid.to_owned(), algorithm.family()))?;
        key.only.is_none_or(|only| only == algorithm).then(|| Arc::clone(key))
    }
}
