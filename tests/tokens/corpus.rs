//! The corpus of tokens that may not be believed, each with the reason it must be told.

use std::net::TcpListener;

use relay::auth::token::TokenRefusal;
use serde_json::{Value, json};

use super::{GOOD, NOW, all_keys, hs, issuers, no_signer, tokens};
use crate::support::signer::{Signer, encode};

/// The payload that is believed, with one claim replaced or added, as JSON text.
fn claim(name: &str, value: &str) -> String {
    let mut claims = vec![("role", "\"authenticated\""), ("exp", "1800003600")];
    claims.retain(|(key, _)| *key != name);
    claims.push((name, value));
    let parts: Vec<String> =
        claims.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    hs(&format!("{{{}}}", parts.join(",")))
}

fn role(role: &str) -> TokenRefusal {
    TokenRefusal::RoleNotAllowed { role: role.to_owned() }
}

/// What may not be believed, and why it is not.
fn bad_tokens() -> Vec<(&'static str, String, TokenRefusal)> {
    use TokenRefusal::{BadClaims, BadSignature, Malformed, MissingClaims, TooLong};
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
        ("16 KiB and a byte", "a".repeat(16_385), TooLong),
        (
            "1 MB",
            hs(&format!(
                r#"{{"role":"authenticated","exp":1800003600,"x":"{}"}}"#,
                "x".repeat(1_000_000)
            )),
            TooLong,
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
