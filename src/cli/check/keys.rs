//! Facts about the keys that tokens are verified with.

use std::time::Duration;

use serde_json::Value;

use super::fact::Facts;
use crate::config::{Auth, JwksSource};

/// How long the key set's address may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The facts.
pub(super) async fn judge(auth: &Auth, facts: &mut Facts) {
    // That there is a key at all, and a secret that cannot be guessed, a checked configuration promises.
    if auth.jwt_secret.is_some() {
        facts.good("auth.jwt_secret", "is set");
    }
    match &auth.jwks {
        None => {}
        Some(JwksSource::Inline(text)) => judge_set("auth.jwks", text.as_bytes(), facts),
        Some(JwksSource::File(path)) => match std::fs::read(path) {
            Ok(bytes) => judge_set("auth.jwks", &bytes, facts),
            Err(error) => {
                facts
                    .bad("auth.jwks", format!("{} cannot be read: {error}", path.display()))
                    .also("correct the path, or the file's permissions");
            }
        },
        Some(JwksSource::Url(url)) => {
            let fetched = tokio::time::timeout(PATIENCE, fetch(url)).await;
            match fetched.unwrap_or_else(|_| Err("it did not answer".to_owned())) {
                Ok(bytes) => judge_set("auth.jwks", &bytes, facts),
                Err(why) => {
                    facts
                        .bad("auth.jwks", format!("{url} cannot be fetched: {why}"))
                        .also("correct the address, or let this machine reach it");
                }
            }
        }
    }
}

fn judge_set(about: &str, bytes: &[u8], facts: &mut Facts) {
    let set: Option<Value> = serde_json::from_slice(bytes).ok();
    let keys = set.as_ref().and_then(|set| set.get("keys")).and_then(Value::as_array);
    match keys {
        Some(keys) if !keys.is_empty() => facts.good(about, format!("{} keys", keys.len())),
        Some(_) => {
            facts.bad(about, "the key set is empty").also("publish a key");
        }
        None => {
            facts.bad(about, "is not a key set: a JSON object with an array `keys`").also(
                "point auth.jwks at one, e.g. https://<project>/auth/v1/.well-known/jwks.json",
            );
        }
    }
}

/// The body behind an https address.
async fn fetch(url: &str) -> Result<Vec<u8>, String> {
    use http_body_util::{BodyExt, Limited};
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_native_roots()
        .map_err(|error| error.to_string())?
        .https_or_http()
        .enable_http1()
        .build();
    let client: hyper_util::client::legacy::Client<_, http_body_util::Empty<bytes::Bytes>> =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
            .build(connector);
    let uri = url.parse().map_err(|_| "it is no address".to_owned())?;
    let response = client.get(uri).await.map_err(|error| error.to_string())?;
    if !response.status().is_success() {
        return Err(format!("it answered {}", response.status()));
    }
    let body = Limited::new(response.into_body(), 1 << 20).collect().await;
    Ok(body.map_err(|error| error.to_string())?.to_bytes().to_vec())
}
