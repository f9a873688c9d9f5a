//! A JSON Web Key Set: its text, made into keys.
//!
//! A key that is of an unknown kind, for encryption, or without `kid` is left out: sets are shared with other
//! readers, and one odd key must not take the good ones away. A set that is no JSON object with `keys` is an error.

use std::sync::Arc;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use serde::Deserialize;
use serde_json::Value;

use super::keys::{Algorithm, Family, Key, KeySet};
use crate::error::{Error, ErrorKind};

#[derive(Deserialize)]
struct Written {
    keys: Vec<Value>,
}

/// The keys of a set that can be used. The new set has the given number.
///
/// # Errors
/// `Misconfigured`: not a key set.
pub(super) fn parse(text: &str, number: u64) -> Result<KeySet, Error> {
    // The cause is dropped: serde repeats values, and an oct key is a secret.
    let written: Written = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let context = format!(
            "the key set is not {{\"keys\": […]}} with JSON objects (line {line}, column {column})"
        );
        Error::new(ErrorKind::Misconfigured, context)
    })?;
    let mut set = KeySet { number, ..KeySet::default() };
    for value in &written.keys {
        match key(value) {
            Ok((kid, family, key)) => {
                set.keys.insert((kid, family), Arc::new(key));
            }
            Err(reason) => {
                let kty = value.get("kty").and_then(Value::as_str).unwrap_or_default();
                tracing::warn!(
                    kty = kty.get(..8).unwrap_or(kty),
                    reason,
                    "left a key out of the key set"
                );
            }
        }
    }
    Ok(set)
}

/// One key, its `kid` and family, or why it cannot be used.
fn key(value: &Value) -> Result<(String, Family, Key), &'static str> {
    let kid = value.get("kid").and_then(Value::as_str).ok_or("it has no kid")?;
    if value.get("use").is_some_and(|purpose| purpose != "sig") {
        return Err("it is not for signatures");
    }
    let only = match value.get("alg").and_then(Value::as_str) {
        None => None,
        Some(name) => Some(Algorithm::parse(name).ok_or("its algorithm is not accepted")?),
    };
    // Only what makes the key: other members may be anything.
    let mut bare = value.clone();
    if let Some(members) = bare.as_object_mut() {
        members.retain(|name, _| ["kty", "crv", "x", "y", "n", "e", "k"].contains(&name.as_str()));
    }
    let jwk: Jwk = serde_json::from_value(bare).map_err(|_| "its members do not make a key")?;
    let family = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(_) => Family::Hmac,
        AlgorithmParameters::RSA(_) => Family::Rsa,
        AlgorithmParameters::EllipticCurve(_) => Family::Ec,
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            Family::Ed
        }
        AlgorithmParameters::OctetKeyPair(_) => return Err("its curve is not Ed25519"),
        _ => return Err("its kind is unknown"),
    };
    if only.is_some_and(|only| only.family() != family) {
        return Err("its algorithm does not fit its kind");
    }
    let material = DecodingKey::from_jwk(&jwk).map_err(|_| "its members do not make a key")?;
    if family == Family::Hmac && material.try_get_as_bytes().is_ok_and(<[u8]>::is_empty) {
        return Err("its secret is empty");
    }
    Ok((kid.to_owned(), family, Key { material, only }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable(text: &str) -> Vec<(String, Family)> {
        let mut keys: Vec<_> = parse(text, 1).unwrap().keys.into_keys().collect();
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        keys
    }

    #[test]
    fn odd_keys_are_left_out_and_the_good_ones_stay() {
        let text = r#"{"keys": [
            {"kty": "oct", "kid": "good", "k": "c2VjcmV0", "alg": "HS256", "key_ops": ["verify"], "ext": true},
            {"kty": "oct", "k": "c2VjcmV0"},
            {"kty": "oct", "kid": "empty", "k": ""},
            {"kty": "oct", "kid": "not base64", "k": "*"},
            {"kty": "oct", "kid": "other family", "k": "c2VjcmV0", "alg": "RS256"},
            {"kty": "oct", "kid": "unknown algorithm", "k": "c2VjcmV0", "alg": "A128KW"},
            {"kty": "oct", "kid": "encryption", "k": "c2VjcmV0", "use": "enc"},
            {"kty": "OKP", "kid": "ed448", "crv": "Ed448", "x": "AAAA"},
            {"kty": "new", "kid": "unknown kind"},
            {"kty": "RSA", "kid": "halved", "n": "AQAB"},
            {"kid": "no kind"}, 7, null
        ]}"#;
        assert_eq!(usable(text), [("good".to_owned(), Family::Hmac)]);
    }

    #[test]
    fn one_name_can_stand_for_keys_of_two_families() {
        let text = r#"{"keys": [{"kty": "oct", "kid": "k", "k": "c2VjcmV0"},
            {"kty": "OKP", "kid": "k", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let families: Vec<_> = usable(text).into_iter().map(|(_, family)| family).collect();
        assert!(families.contains(&Family::Hmac) && families.contains(&Family::Ed));
    }

    #[test]
    fn what_is_no_key_set_is_refused_without_repeating_it() {
        for text in
            ["", "canary", "[]", r#"{"keys": "canary"}"#, r#"{"kty": "oct", "k": "canary"}"#]
        {
            let error = parse(text, 1).unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
