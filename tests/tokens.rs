//! A token is believed for what its issuer signed, and for nothing else.

mod corpus;
mod key_sets;

use std::process::Command;
use std::sync::{Arc, OnceLock};

use relay::auth::token::{TokenRefusal, Tokens, Verified};
use relay::config::{Auth, JwksSource};
use relay::secret::Secret;
use relay::shutdown::Stage;
use serde_json::{Value, json};

use crate::support::relay::SECRET;
use crate::support::signer::{Signer, encode};

const NOW: i64 = 1_800_000_000;
/// A payload that is believed.
const GOOD: &str = r#"{"role":"authenticated","exp":1800003600,"sub":"u1"}"#;

/// Every kind of key, and the set that verifies all but `stranger`.
struct Issuers {
    secret: Signer,
    oct: Signer,
    rsa: Signer,
    p256: Signer,
    p384: Signer,
    p521: Signer,
    ed: Signer,
    stranger: Signer,
}

fn issuers() -> &'static Issuers {
    static ISSUERS: OnceLock<Issuers> = OnceLock::new();
    ISSUERS.get_or_init(|| Issuers {
        secret: Signer::secret(SECRET),
        oct: Signer::secret("the-secret-of-an-oct-key-in-the-set-of-keys"),
        rsa: Signer::rsa(),
        p256: Signer::p256(),
        p384: Signer::p384(),
        p521: Signer::p521(),
        ed: Signer::ed25519(),
        stranger: Signer::rsa(),
    })
}

fn set() -> Value {
    let of = issuers();
    json!({ "keys": [
        of.oct.jwk("oct"), of.rsa.jwk("rsa"), of.p256.jwk("p256"), of.p384.jwk("p384"),
        of.p521.jwk("p521"), of.ed.jwk("ed"),
        { "kty": "OKP", "kid": "ed448", "crv": "Ed448", "x": encode([7; 57]) },
    ]})
}

fn auth(jwks: Option<JwksSource>) -> Auth {
    Auth {
        jwt_secret: Some(Secret::new(SECRET.to_owned())),
        api_secret: None,
        jwks,
        roles: ["anon", "authenticated", "service_role"].map(str::to_owned).to_vec(),
        issuer: None,
        audience: None,
    }
}

fn tokens(auth: &Auth) -> Arc<Tokens> {
    Tokens::new(auth, &Stage::new()).unwrap()
}

fn all_keys() -> Auth {
    auth(Some(JwksSource::Inline(set().to_string())))
}

fn hs(payload: &str) -> String {
    issuers().secret.token(r#"{"alg":"HS256","typ":"JWT"}"#, payload)
}

fn no_signer(kid: &str) -> TokenRefusal {
    TokenRefusal::NoSigner { kid: Some(kid.to_owned()) }
}

#[tokio::test]
async fn every_accepted_algorithm_is_accepted() {
    let of = issuers();
    let tokens = tokens(&all_keys());
    for (signer, algorithm, kid) in [
        (&of.secret, "HS256", None),
        (&of.secret, "HS384", None),
        (&of.secret, "HS512", None),
        (&of.oct, "HS256", Some("oct")),
        (&of.oct, "HS512", Some("oct")),
        (&of.secret, "HS256", Some("unknown")),
        (&of.secret, "HS256", Some("rsa")),
        (&of.rsa, "RS256", Some("rsa")),
        (&of.rsa, "RS384", Some("rsa")),
        (&of.rsa, "RS512", Some("rsa")),
        (&of.p256, "ES256", Some("p256")),
        (&of.p384, "ES384", Some("p384")),
        (&of.p521, "ES512", Some("p521")),
        (&of.ed, "EdDSA", Some("ed")),
        (&of.ed, "Ed25519", Some("ed")),
    ] {
        let token = signer.token(&json!({ "alg": algorithm, "kid": kid }).to_string(), GOOD);
        for _ in 0..2 {
            let verified = tokens.verify(&token, NOW).await;
            let Verified { principal, expires_at } =
                verified.unwrap_or_else(|refusal| panic!("{algorithm} {kid:?}: {refusal:?}"));
            assert_eq!((principal.role(), principal.claims()), ("authenticated", GOOD));
            assert_eq!(expires_at, 1_800_003_600);
        }
    }
}

#[tokio::test]
async fn a_token_is_believed_in_every_dress_it_travels_in() {
    let tokens = tokens(&auth(None));
    let spaced =
        hs("{ \"role\" : \"anon\" ,\n \"exp\" : 1800000060.75 , \"iat\": 1.5e9, \"n\": 1.10 }");
    let compact = r#"{"role":"anon","exp":1800000060.75,"iat":1.5e9,"n":1.10}"#;
    for token in [
        spaced.clone(),
        spaced.replace('.', "%2E").replace('-', "%2d"),
        format!(" {}\n{}\t", &spaced[..40], &spaced[40..]),
        format!("%20{}%0A{}", &spaced[..40], &spaced[40..]),
    ] {
        let verified = tokens.verify(&token, NOW).await.unwrap();
        assert_eq!(verified.principal.claims(), compact);
        assert_eq!(verified.expires_at, 1_800_000_060);
    }
}

#[tokio::test]
async fn a_subject_is_read_as_postgres_reads_it_or_not_at_all() {
    let tokens = tokens(&auth(None));
    let of = |sub: &str| hs(&format!(r#"{{"role":"anon","exp":1800003600,"sub":{sub}}}"#));
    for (sub, subject) in [
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("123456789012345678901234567891", "123456789012345678901234567891"),
        ("18446744073709551616", "18446744073709551616"),
        ("-7", "-7"),
        ("0", "0"),
        ("1.50", "1.50"),
        ("9007199254740993.000000000000000000001", "9007199254740993.000000000000000000001"),
        (r#""7""#, "7"),
        (r#""\u0041 b""#, "A b"),
        ("true", "true"),
        ("null", ""),
        ("\"\"", ""),
    ] {
        let verified = tokens.verify(&of(sub), NOW).await.unwrap();
        assert_eq!(verified.principal.subject(), subject, "{sub}");
        assert!(verified.principal.claims().contains(&format!(r#""sub":{sub}"#)), "{sub}");
    }
    // `json` and `jsonb` read each of these differently.
    for sub in ["1e2", "1E2", "1.5e300", "-0", "-0.0", "-0.00", "{}", r#"{"a":1}"#, "[1]"] {
        let refused = tokens.verify(&of(sub), NOW).await;
        assert_eq!(refused, Err(TokenRefusal::BadClaims), "{sub}");
    }
}

#[tokio::test]
async fn a_believed_token_expires_to_the_second() {
    let tokens = tokens(&auth(None));
    let token = hs(r#"{"role":"anon","exp":1800000001}"#);
    assert!(tokens.verify(&token, NOW).await.is_ok());
    for seconds_ago in [0, 1, 1, 60] {
        let expected = Err(TokenRefusal::Expired { seconds_ago });
        assert_eq!(tokens.verify(&token, NOW + 1 + seconds_ago).await, expected);
    }
}

#[tokio::test]
async fn issuer_and_audience_are_asked_for_when_configured() {
    let issuer = Some("https://issuer.example".to_owned());
    let strict = tokens(&Auth { issuer, audience: Some("app".to_owned()), ..auth(None) });
    let with = |further: &str| hs(&format!(r#"{{"role":"anon","exp":1800003600{further}}}"#));
    let iss = r#","iss":"https://issuer.example""#;
    for (further, is_believed) in [
        (format!(r#"{iss},"aud":"app""#), true),
        (format!(r#"{iss},"aud":["other","app"]"#), true),
        (format!(r#"{iss},"aud":["other"]"#), false),
        (format!(r#"{iss},"aud":"apple""#), false),
        (format!(r#"{iss},"aud":7"#), false),
        (format!(r#"{iss},"aud":[]"#), false),
        (format!(r#"{iss},"aud":null"#), false),
        (iss.to_owned(), false),
        (r#","aud":"app""#.to_owned(), false),
        (r#","iss":"https://issuer.example/","aud":"app""#.to_owned(), false),
        (r#","iss":["https://issuer.example"],"aud":"app""#.to_owned(), false),
        (r#","iss":null,"aud":"app""#.to_owned(), false),
    ] {
        let verdict = strict.verify(&with(&further), NOW).await;
        assert_eq!(verdict.is_ok(), is_believed, "{further}");
        assert!(is_believed || verdict == Err(TokenRefusal::BadClaims), "{further}: {verdict:?}");
    }
    let easy = tokens(&auth(None));
    assert!(easy.verify(&with(r#","iss":"x","aud":"y""#), NOW).await.is_ok());
}

#[tokio::test]
async fn without_a_secret_or_keys_nothing_of_that_kind_is_believed() {
    let of = issuers();
    let keys_only = tokens(&Auth { jwt_secret: None, ..all_keys() });
    let no_key = Err(TokenRefusal::NoSigner { kid: None });
    assert_eq!(keys_only.verify(&hs(GOOD), NOW).await, no_key);
    let empty = Signer::secret("").token(r#"{"alg":"HS256"}"#, GOOD);
    assert_eq!(keys_only.verify(&empty, NOW).await, no_key);
    let secret_only = tokens(&auth(None));
    let token = of.p256.token(r#"{"alg":"ES256","kid":"p256"}"#, GOOD);
    assert_eq!(secret_only.verify(&token, NOW).await, Err(no_signer("p256")));
}

#[tokio::test]
async fn a_key_that_names_its_algorithm_serves_no_other() {
    let of = issuers();
    let mut jwk = of.rsa.jwk("rsa");
    jwk["alg"] = json!("RS256");
    let text = json!({ "keys": [jwk] }).to_string();
    let tokens = tokens(&auth(Some(JwksSource::Inline(text))));
    let token = |alg: &str| of.rsa.token(&json!({ "alg": alg, "kid": "rsa" }).to_string(), GOOD);
    assert!(tokens.verify(&token("RS256"), NOW).await.is_ok());
    assert_eq!(tokens.verify(&token("RS512"), NOW).await, Err(no_signer("rsa")));
}

#[test]
fn what_is_minted_is_believed_and_said() {
    let directory = tempfile::tempdir().unwrap();
    let relay = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
        command.args(args).current_dir(directory.path()).env_clear();
        let output = command.env("RELAY_AUTH__JWT_SECRET", SECRET).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let wish = [
        "token", "mint", "--role", "anon", "--sub", "u7", "--claim", "tenant=7", "--claim",
        "team=red",
    ];
    let (code, token, _) = relay(&wish);
    assert_eq!(code, Some(0));
    let (code, told, _) = relay(&["token", "verify", token.trim()]);
    assert_eq!(code, Some(0));
    let claims: Value = serde_json::from_str(told.split("claims   ").nth(1).unwrap()).unwrap();
    assert_eq!(
        (&claims["sub"], &claims["tenant"], &claims["team"]),
        (&json!("u7"), &json!(7), &json!("red"))
    );
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);

    let (code, _, told) = relay(&["token", "verify", "canary.canary.canary"]);
    assert_eq!(code, Some(2));
    assert!(told.contains("MalformedJWT: The token provided is not a valid JWT"), "{told}");
    assert!(!told.contains("canary"), "{told}");
    let (_, stale, _) = relay(&["token", "mint", "--expires", "0s"]);
    let (code, _, told) = relay(&["token", "verify", stale.trim()]);
    assert_eq!(code, Some(2));
    assert!(told.contains("InvalidJWTToken: Token has expired "), "{told}");
}
