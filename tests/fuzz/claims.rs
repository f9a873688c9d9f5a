//! Tokens: as they come, and signed by whoever may sign, so that what is in them is read.

use std::sync::OnceLock;

use relay::auth::token::{TokenRefusal, Tokens};
use relay::config::{Auth, JwksSource};
use relay::secret::Secret;
use relay::shutdown::Stage;
use serde_json::json;

use super::runner::outcome;
use crate::support::relay::SECRET;
use crate::support::signer::{Signer, encode};

const NOW: i64 = 1_800_000_000;

/// Words of tokens.
pub const WORDS: &[&str] = &[
    "\"role\":",
    "\"exp\":",
    "\"sub\":",
    "\"nbf\":",
    "\"iat\":",
    "\"aud\":",
    "\"iss\":",
    "\"anon\"",
    "\"authenticated\"",
    "1800003600",
    "1e400",
    "-1",
    "9223372036854775808",
    "1.5",
    "null",
    "[]",
    "{}",
    "\\ud800",
    "\\u0000",
    "%2E",
    "%",
    "\"alg\":\"none\"",
    "\"kid\":\"k\"",
    "==",
    ".",
];

/// A byte that says how it is to be taken: `t` a token, anything else a payload to be signed.
pub fn corpus() -> Vec<Vec<u8>> {
    let good = r#"{"role":"authenticated","exp":1800003600,"sub":"u1"}"#;
    let more = r#"{"role":"anon","exp":1.8000036e9,"nbf":1,"iat":2,"iss":"i","aud":["a","b"],"sub":12.50,"app":{"x":[1,{}]}}"#;
    let ours = signer();
    let es = Signer::p256();
    let tokens = [
        ours.token(r#"{"alg":"HS256","typ":"JWT"}"#, good),
        ours.token(r#"{"alg":"HS512","kid":"k"}"#, more),
        es.token(r#"{"alg":"ES256","kid":"e"}"#, good),
        format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(good)),
    ];
    let tokens = tokens.iter().map(|token| format!("t{token}").into_bytes());
    tokens.chain([good, more].map(|payload| format!("p{payload}").into_bytes())).collect()
}

fn signer() -> Signer {
    Signer::secret(SECRET)
}

fn tokens() -> &'static (tokio::runtime::Runtime, std::sync::Arc<Tokens>) {
    static TOKENS: OnceLock<(tokio::runtime::Runtime, std::sync::Arc<Tokens>)> = OnceLock::new();
    TOKENS.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let set = json!({ "keys": [signer().jwk("k")] });
        let auth = Auth {
            jwt_secret: Some(Secret::new(SECRET.to_owned())),
            api_secret: None,
            jwks: Some(JwksSource::Inline(set.to_string())),
            roles: ["anon", "authenticated"].map(str::to_owned).to_vec(),
            issuer: None,
            audience: None,
        };
        let tokens = runtime.block_on(async { Tokens::new(&auth, &Stage::new()).unwrap() });
        (runtime, tokens)
    })
}

/// Verifies a token, or one with this payload.
pub fn read(input: &[u8]) -> u64 {
    let Some((kind, rest)) = input.split_first() else { return 0 };
    let text = String::from_utf8_lossy(rest);
    let token = match kind {
        b't' => text.into_owned(),
        _ => signer().token(r#"{"alg":"HS256"}"#, &text),
    };
    let (runtime, tokens) = tokens();
    match runtime.block_on(tokens.verify(&token, NOW)) {
        Ok(verified) => {
            // What is believed is handed to Postgres, which must be able to read it.
            let claims = verified.principal.claims();
            assert!(serde_json::from_str::<serde_json::Value>(claims).is_ok(), "{claims}");
            outcome((0, verified.principal.role().len(), claims.len().min(40) / 4))
        }
        Err(refused) => {
            let _ = (refused.on_connect(), refused.on_join(), refused.on_channel());
            let kind = std::mem::discriminant::<TokenRefusal>(&refused);
            outcome((1, kind, refused.code()))
        }
    }
}
