//! Where keys come from: a set, a file that changes, an address.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

use relay::auth::token::Tokens;
use relay::config::JwksSource;
use relay::shutdown::Stage;
use serde_json::json;

use super::{GOOD, NOW, auth, issuers, no_signer};
use crate::support::signer::Signer;

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
