//! A token is believed for what its issuer signed, and for nothing else.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

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

/// The payload that is believed, with one claim replaced or added, as JSON text.
fn claim(name: &str, value: &str) -> String {
    let mut claims = vec![("role", "\"authenticated\""), ("exp", "1800003600")];
    claims.retain(|(key, _)| *key != name);
    claims.push((name, value));
    let parts: Vec<String> =
        claims.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    hs(&format!("{{{}}}", parts.join(",")))
}

fn no_signer(kid: &str) -> TokenRefusal {
    TokenRefusal::NoSigner { kid: Some(kid.to_owned()) }
}

fn role(role: &str) -> TokenRefusal {
    TokenRefusal::RoleNotAllowed { role: role.to_owned() }
}

/// What may not be believed, and why it is not.
fn bad_tokens() -> Vec<(&'static str, String, TokenRefusal)> {
    use TokenRefusal::{BadClaims, BadSignature, Malformed, MissingClaims};
    let of = issuers();
    let good = hs(GOOD);
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let unsigned = |header: &str| format!("{}.{}.", encode(header), encode(GOOD));
    let modulus = of.rsa.jwk("rsa")["n"].as_str().unwrap().to_owned();
    let jwk_text = of.rsa.jwk("rsa").to_string();
    let none = || TokenRefusal::NoSigner { kid: None };
    let expired = |seconds_ago| TokenRefusal::Expired { seconds_ago };
    let long_role = "r".repeat(64);
    let hs_head = |rest: &str| of.secret.token(&format!(r#"{{"alg":"HS256"{rest}}}"#), GOOD);
    let sign = |signer: &Signer, header: &str| signer.token(header, GOOD);
    let mut table = vec![
        // Shapes.
        ("empty", String::new(), Malformed),
        ("white space", " \n ".to_owned(), Malformed),
        ("a word", "hello".to_owned(), Malformed),
        ("an opaque key", "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH".to_owned(), Malformed),
        ("two parts", format!("{header}.{payload}"), Malformed),
        ("four parts", format!("{good}.{signature}"), Malformed),
        ("five parts, as encrypted tokens have", "a.b.c.d.e".to_owned(), Malformed),
        ("only dots", "..".to_owned(), Malformed),
        ("no header", format!(".{payload}.{signature}"), Malformed),
        ("no payload", format!("{header}..{signature}"), Malformed),
        ("header is not base64", format!("*{header}.{payload}.{signature}"), Malformed),
        ("payload is not base64", format!("{header}.{payload}*.{signature}"), Malformed),
        ("signature is not base64", format!("{header}.{payload}.{signature}*"), Malformed),
        ("padded base64", format!("{header}=.{payload}.{signature}"), Malformed),
        ("not ASCII", format!("{good}é"), Malformed),
        ("a nul byte", format!("{good}\u{0}"), Malformed),
        ("8 KiB and a byte", "a".repeat(8193), Malformed),
        (
            "1 MB",
            hs(&format!(
                r#"{{"role":"authenticated","exp":1800003600,"x":"{}"}}"#,
                "x".repeat(1_000_000)
            )),
            Malformed,
        ),
        (
            "truncated payload",
            format!("{header}.{}.{signature}", &payload[..payload.len() / 2]),
            Malformed,
        ),
        ("header is an array", of.secret.token("[]", GOOD), Malformed),
        ("header is text", of.secret.token("\"HS256\"", GOOD), Malformed),
        ("header is not JSON", of.secret.token("{alg:HS256}", GOOD), Malformed),
        ("payload is an array", hs(r#"["authenticated"]"#), Malformed),
        ("payload is null", hs("null"), Malformed),
        ("payload is a number", hs("7"), Malformed),
        ("payload is not JSON", hs("{role:authenticated}"), Malformed),
        ("payload goes on after its end", hs(&format!("{GOOD}{GOOD}")), Malformed),
        (
            "payload is not UTF-8",
            format!("{header}.{}.{signature}", encode([b'{', 0xff, b'}'])),
            Malformed,
        ),
        (
            "payload is 200 levels deep",
            hs(&format!("{{\"x\":{}{}}}", "[".repeat(200), "]".repeat(200))),
            Malformed,
        ),
        ("half a surrogate pair", claim("sub", r#""\ud800""#), Malformed),
        (
            "a role twice",
            hs(r#"{"role":"anon","exp":1800003600,"role":"service_role"}"#),
            Malformed,
        ),
        (
            "a role twice, once in disguise",
            hs(r#"{"role":"anon","exp":1800003600,"r\u006fle":"service_role"}"#),
            Malformed,
        ),
        ("a nested key twice", claim("app_metadata", r#"{"team":1,"team":2}"#), Malformed),
        ("alg twice", of.secret.token(r#"{"alg":"none","alg":"HS256"}"#, GOOD), Malformed),
        ("an unknown critical extension", hs_head(r#","crit":["b64"],"b64":false"#), Malformed),
        ("kid is a number", hs_head(r#","kid":7"#), Malformed),
        // Signatures.
        (
            "signed with another secret",
            Signer::secret("another-secret-that-nobody-here-knows")
                .token(r#"{"alg":"HS256"}"#, GOOD),
            BadSignature,
        ),
        (
            "signed with no secret",
            Signer::secret("").token(r#"{"alg":"HS256"}"#, GOOD),
            BadSignature,
        ),
        ("no signature", format!("{header}.{payload}."), BadSignature),
        ("half a signature", format!("{header}.{payload}.{}", encode([7; 16])), BadSignature),
        (
            "another payload under a good signature",
            format!("{header}.{}.{signature}", encode(GOOD.replace("u1", "u2"))),
            BadSignature,
        ),
        (
            "another header over a good signature",
            format!("{}.{payload}.{signature}", encode(r#"{"alg":"HS512"}"#)),
            BadSignature,
        ),
        (
            "HS with the RSA modulus as secret",
            Signer::Secret(encode_inverse(&modulus)).token(r#"{"alg":"HS256","kid":"rsa"}"#, GOOD),
            BadSignature,
        ),
        (
            "HS with the RSA JWK as secret",
            Signer::secret(&jwk_text).token(r#"{"alg":"HS256","kid":"rsa"}"#, GOOD),
            BadSignature,
        ),
        (
            "HS with the kid of an oct key but the shared secret",
            hs_head(r#","kid":"oct""#),
            BadSignature,
        ),
        ("RSA by a stranger", sign(&of.stranger, r#"{"alg":"RS256","kid":"rsa"}"#), BadSignature),
        (
            "RS256 said to be RS512",
            sign(&of.rsa, r#"{"alg":"RS256","kid":"rsa"}"#).replacen(
                &encode(r#"{"alg":"RS256","kid":"rsa"}"#),
                &encode(r#"{"alg":"RS512","kid":"rsa"}"#),
                1,
            ),
            BadSignature,
        ),
        (
            "ES256 with a key on P-384",
            sign(&of.p384, r#"{"alg":"ES256","kid":"p384"}"#),
            BadSignature,
        ),
        (
            "ES512 with a key on P-256",
            sign(&of.p256, r#"{"alg":"ES512","kid":"p256"}"#),
            BadSignature,
        ),
        (
            "ECDSA with r and s zero",
            format!("{}.{payload}.{}", encode(r#"{"alg":"ES256","kid":"p256"}"#), encode([0; 64])),
            BadSignature,
        ),
        (
            "EdDSA with a signature of zeros",
            format!("{}.{payload}.{}", encode(r#"{"alg":"EdDSA","kid":"ed"}"#), encode([0; 64])),
            BadSignature,
        ),
        // Keys and algorithms.
        ("alg none", unsigned(r#"{"alg":"none"}"#), none()),
        ("alg None", unsigned(r#"{"alg":"None"}"#), none()),
        ("alg none with a kid", unsigned(r#"{"alg":"none","kid":"rsa"}"#), no_signer("rsa")),
        ("alg empty", unsigned(r#"{"alg":""}"#), none()),
        ("alg missing", unsigned("{}"), none()),
        ("alg null", unsigned(r#"{"alg":null}"#), none()),
        ("alg is a list", unsigned(r#"{"alg":["HS256"]}"#), none()),
        ("alg in small letters", of.secret.token(r#"{"alg":"hs256"}"#, GOOD), none()),
        ("PS256", sign(&of.rsa, r#"{"alg":"PS256","kid":"rsa"}"#), no_signer("rsa")),
        ("ES256K", sign(&of.p256, r#"{"alg":"ES256K","kid":"p256"}"#), no_signer("p256")),
        ("Ed448", sign(&of.ed, r#"{"alg":"Ed448","kid":"ed448"}"#), no_signer("ed448")),
        (
            "EdDSA with a key on Ed448",
            sign(&of.ed, r#"{"alg":"EdDSA","kid":"ed448"}"#),
            no_signer("ed448"),
        ),
        ("RSA without kid", sign(&of.rsa, r#"{"alg":"RS256"}"#), none()),
        (
            "RSA with an unknown kid",
            sign(&of.rsa, r#"{"alg":"RS256","kid":"gone"}"#),
            no_signer("gone"),
        ),
        (
            "RSA with the kid of an EC key",
            sign(&of.rsa, r#"{"alg":"RS256","kid":"p256"}"#),
            no_signer("p256"),
        ),
        (
            "EC with the kid of an RSA key",
            sign(&of.p256, r#"{"alg":"ES256","kid":"rsa"}"#),
            no_signer("rsa"),
        ),
        (
            "RSA with the kid of an oct key",
            sign(&of.rsa, r#"{"alg":"RS256","kid":"oct"}"#),
            no_signer("oct"),
        ),
        (
            "a key in the header",
            sign(&of.stranger, &format!(r#"{{"alg":"RS256","jwk":{}}}"#, of.stranger.jwk("x"))),
            none(),
        ),
        (
            "kid is a path",
            sign(&of.rsa, r#"{"alg":"RS256","kid":"../../../../dev/null"}"#),
            no_signer("../../../../dev/null"),
        ),
        (
            "kid is SQL",
            sign(&of.rsa, r#"{"alg":"RS256","kid":"' or 1=1; --"}"#),
            no_signer("' or 1=1; --"),
        ),
        (
            "kid is an address",
            sign(&of.rsa, r#"{"alg":"RS256","kid":"https://evil.example/k"}"#),
            no_signer("https://evil.example/k"),
        ),
        (
            "kid paints the terminal",
            sign(&of.rsa, r#"{"alg":"RS256","kid":"\u001b[31m\n"}"#),
            no_signer("\\u{1b}[31m\\n"),
        ),
        (
            "kid of 4 KiB",
            sign(&of.rsa, &format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(4096))),
            no_signer(&"k".repeat(128)),
        ),
        // Times.
        ("expired", claim("exp", "1799999990"), expired(10)),
        ("expires now", claim("exp", "1800000000"), expired(0)),
        ("decimal, expired", claim("exp", "1799999999.9"), expired(1)),
        ("exp negative", claim("exp", "-1"), expired(NOW + 1)),
        ("exp far beyond all numbers, below", claim("exp", "-1e308"), expired(i64::MAX)),
        ("exp beyond all numbers", claim("exp", "1e400"), Malformed),
        ("exp is NaN", claim("exp", "NaN"), Malformed),
        ("exp is text", claim("exp", r#""1800003600""#), BadClaims),
        ("exp is true", claim("exp", "true"), BadClaims),
        ("exp is a list", claim("exp", "[1800003600]"), BadClaims),
        ("exp is null", claim("exp", "null"), MissingClaims),
        ("no exp", hs(r#"{"role":"authenticated"}"#), MissingClaims),
        ("iat is text", claim("iat", r#""1799999999""#), BadClaims),
        ("nbf in the future", claim("nbf", "1800000060"), BadClaims),
        ("nbf is text", claim("nbf", r#""0""#), BadClaims),
        // Roles.
        ("no role", hs(r#"{"exp":1800003600}"#), MissingClaims),
        ("no claims", hs("{}"), MissingClaims),
        ("role null", claim("role", "null"), MissingClaims),
        ("role is a number", claim("role", "7"), BadClaims),
        ("role is a list", claim("role", r#"["service_role"]"#), BadClaims),
        ("role is an object", claim("role", r#"{"service_role":true}"#), BadClaims),
    ];
    for name in [
        "postgres",
        "supabase_admin",
        "none",
        "public",
        "",
        "\"anon\"",
        "ANON",
        " anon",
        "anon;",
        "аnon",
    ] {
        let json = Value::from(name).to_string();
        let escaped: String = name.chars().flat_map(char::escape_debug).collect();
        table.push(("a role that is not on the list", claim("role", &json), role(&escaped)));
    }
    table.push((
        "a role of 64 bytes",
        claim("role", &format!("\"{long_role}\"")),
        role(&long_role),
    ));
    table.push(("a role with a nul", claim("role", r#""anon\u0000""#), role("anon\\0")));
    table
}

/// The bytes behind base64url.
fn encode_inverse(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()
}

#[tokio::test]
async fn no_bad_token_is_believed_and_each_is_told_why() {
    let tokens = tokens(&all_keys());
    let table = bad_tokens();
    assert!(60 <= table.len());
    for (name, token, expected) in table {
        // Twice: the second answer may come from what the first one left behind.
        for _ in 0..2 {
            assert_eq!(tokens.verify(&token, NOW).await, Err(expected.clone()), "{name}");
        }
        for text in [expected.on_connect().1, expected.on_join(), expected.on_channel()] {
            assert!(text.len() < 400 && !text.contains(char::is_control), "{name}: {text}");
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_never_believed() {
    let of = issuers();
    let tokens = tokens(&all_keys());
    for token in [hs(GOOD), of.p256.token(r#"{"alg":"ES256","kid":"p256"}"#, GOOD)] {
        assert!(tokens.verify(&token, NOW).await.is_ok());
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(tokens.verify(&changed, NOW).await.is_err(), "byte {at}");
        }
        for length in 0..token.len() {
            assert!(tokens.verify(&token[..length], NOW).await.is_err(), "cut at {length}");
        }
    }
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

#[tokio::test]
async fn no_token_makes_the_relay_call_an_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let of = issuers();
    let tokens = tokens(&all_keys());
    for header in [
        json!({ "alg": "RS256", "kid": url }),
        json!({ "alg": "RS256", "kid": "x", "jku": url, "x5u": url }),
        json!({ "alg": "ES256", "kid": "x", "jku": url, "iss": url }),
    ] {
        let signer = if header["alg"] == "RS256" { &of.stranger } else { &of.p256 };
        let payload = json!({ "role": "anon", "exp": NOW + 60, "iss": url }).to_string();
        assert!(tokens.verify(&signer.token(&header.to_string(), &payload), NOW).await.is_err());
    }
    let nobody = listener.accept().unwrap_err().kind();
    assert_eq!(nobody, std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_key_set_that_makes_no_sense_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    std::fs::write(&path, "canary").unwrap();
    for source in [
        JwksSource::Inline("canary".to_owned()),
        JwksSource::Inline(r#"{"keys":"canary"}"#.to_owned()),
        JwksSource::File(path),
        JwksSource::File(directory.path().join("missing")),
    ] {
        let error = Tokens::new(&auth(Some(source)), &Stage::new()).unwrap_err().to_string();
        assert!(error.contains("key set") && !error.contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn a_key_file_is_read_again_when_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let (old, new) = (Signer::p256(), Signer::ed25519());
    let write = |text: &str| {
        let next = directory.path().join("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(&next, &path).unwrap();
    };
    write(&json!({ "keys": [old.jwk("old")] }).to_string());
    let stage = Stage::new();
    let auth = auth(Some(JwksSource::File(path.clone())));
    let tokens = Tokens::new(&auth, &stage).unwrap();
    let by_old = old.token(r#"{"alg":"ES256","kid":"old"}"#, GOOD);
    let by_new = new.token(r#"{"alg":"EdDSA","kid":"new"}"#, GOOD);
    assert!(tokens.verify(&by_old, NOW).await.is_ok());
    write("half a file");
    write(&json!({ "keys": [new.jwk("new")] }).to_string());
    crate::support::until("the new keys to be in force", || async {
        tokens.verify(&by_new, NOW).await.ok()
    })
    .await;
    assert_eq!(tokens.verify(&by_old, NOW).await, Err(no_signer("old")));
    assert!(stage.stop(crate::support::PATIENCE).await);
}

#[tokio::test]
async fn keys_are_fetched_from_the_configured_address() {
    let signer = Signer::p384();
    let server = KeyServer::start(json!({ "keys": [signer.jwk("k")] }).to_string());
    let stage = Stage::new();
    let source = JwksSource::Url(server.url.clone());
    let tokens = Tokens::new(&auth(Some(source)), &stage).unwrap();
    let token = signer.token(r#"{"alg":"ES384","kid":"k"}"#, GOOD);
    // The first token waits for the first answer.
    assert!(tokens.verify(&token, NOW).await.is_ok());
    let stranger = issuers().rsa.token(r#"{"alg":"RS256","kid":"x"}"#, GOOD);
    for _ in 0..50 {
        assert_eq!(tokens.verify(&stranger, NOW).await, Err(no_signer("x")));
    }
    assert_eq!(server.asked(), 1);
    assert!(stage.stop(crate::support::PATIENCE).await);
}

/// Answers every request with the same body.
struct KeyServer {
    url: String,
    asked: Arc<Mutex<u32>>,
}

impl KeyServer {
    fn start(body: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                *count.lock().unwrap() += 1;
                answer(&mut stream.unwrap(), &body);
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }
}

/// Reads one request and answers 200.
fn answer(stream: &mut (impl Read + Write), body: &str) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        request.extend(byte);
    }
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

#[test]
fn keys_are_fetched_over_https_when_the_certificate_is_trusted() {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certificate.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key.unwrap())
        .unwrap();
    let (tls, signer) = (Arc::new(tls), Signer::ed25519());
    let body = json!({ "keys": [signer.jwk("k")] }).to_string();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/keys", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let session = rustls::ServerConnection::new(Arc::clone(&tls)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream.unwrap());
            answer(&mut stream, &body);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let trusted = directory.path().join("ca.pem");
    std::fs::write(&trusted, certificate.cert.pem()).unwrap();
    let other = directory.path().join("other.pem");
    let another = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&other, another.cert.pem()).unwrap();
    let payload = json!({ "role": "anon", "exp": crate::support::relay::now() + 600 }).to_string();
    let token = signer.token(r#"{"alg":"EdDSA","kid":"k"}"#, &payload);
    for (roots, is_believed) in [(&trusted, true), (&other, false)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
        command.args(["token", "verify", &token]).current_dir(directory.path()).env_clear();
        command.env("RELAY_AUTH__JWKS", &url).env("SSL_CERT_FILE", roots);
        let output = command.output().unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.success(), is_believed, "{out}{err}");
        assert!(is_believed || err.contains("JwtSignerError"), "{err}");
        assert!(!is_believed || out.contains("role     anon"), "{out}");
    }
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
