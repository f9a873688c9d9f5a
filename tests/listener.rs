//! The listener as an attacker meets it: silent connections, addresses that are claimed, requests that are none.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;
use tokio_tungstenite::tungstenite::Error;

use crate::support::relay::{anon, get};
use crate::support::{Client, Cluster, Database, PATIENCE, Relay, until};

async fn database() -> Database {
    Cluster::shared().database().await.with_roles().await
}

/// The status of the answer to bytes as they are; none when the connection is closed instead.
fn status(relay: &Relay, request: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", relay.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok()?;
    std::str::from_utf8(&answer).unwrap().get(9..12)?.parse().ok()
}

#[tokio::test]
async fn silent_connections_of_one_address_keep_nobody_out() {
    let settings = [
        ("RELAY_HTTP__TRUSTED_PROXIES", "192.0.2.1"),
        ("RELAY_LIMITS__ADDRESS_CONNECTIONS", "100"),
    ];
    let relay = Relay::start_with(&database().await, &settings).await;
    let mut canary = Client::connect(&relay, &anon()).await;
    let mut silent = Vec::new();
    for _ in 0..1000 {
        let mut stream = relay.dial_from("127.0.0.2");
        // Some say nothing, and some only begin; those over the limit are closed already.
        if silent.len() % 2 == 0 {
            let _ = stream.write_all(b"GET /healthz HT");
        }
        silent.push(stream);
    }
    until("those over the limit to be closed", || {
        let count = relay.refused("AddressConnectionLimitReached");
        std::future::ready((count > 899.5).then_some(()))
    })
    .await;
    for _ in 0..15 {
        assert_eq!(get(relay.port(), "/healthz").unwrap().0, 200);
    }
    assert_eq!(canary.join("room", json!({ "config": {} })).await["status"], "ok");
    let mut newcomer = Client::connect(&relay, &anon()).await;
    assert_eq!(newcomer.join("room", json!({ "config": {} })).await["status"], "ok");
    // A connection that became a WebSocket no longer counts towards the limit of its address.
    drop(silent);
    let mut sockets = Vec::new();
    for _ in 0..150 {
        let connected = until("a connection to be taken", || async {
            Client::try_connect_from(&relay, "127.0.0.3", &anon()).await.ok()
        });
        sockets.push(connected.await);
    }
    sockets.pop().unwrap().flush().await;
}

/// A socket whose request says for whom it is forwarded; the status when it is refused.
async fn connect_for(relay: &Relay, forwarded: &str) -> Result<Client, u16> {
    let headers = [("x-forwarded-for", forwarded)];
    match Client::try_connect_from_with(relay, "127.0.0.1", &anon(), &headers).await {
        Ok(client) => Ok(client),
        Err(Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_client_behind_a_trusted_proxy_is_who_the_proxy_says_and_cannot_say_otherwise() {
    let settings = [("RELAY_LIMITS__SUBJECT_CONNECTIONS", "1")];
    let relay = Relay::start_with(&database().await, &settings).await;
    let _one = connect_for(&relay, "198.51.100.1").await.unwrap();
    let _other = connect_for(&relay, "198.51.100.2").await.unwrap();
    // What stands left of what the proxy added is the client's word.
    for claimed in ["203.0.113.7, 198.51.100.1", "198.51.100.2, 198.51.100.1", "x, 198.51.100.1"] {
        assert_eq!(connect_for(&relay, claimed).await.unwrap_err(), 429, "{claimed}");
    }
    // One IPv6 network is one client.
    let _network = connect_for(&relay, "2001:db8:1:2::1").await.unwrap();
    assert_eq!(connect_for(&relay, "2001:db8:1:2:ffff::2").await.unwrap_err(), 429);
    let _elsewhere = connect_for(&relay, "2001:db8:1:3::1").await.unwrap();
    assert!(relay.refused("SubjectConnectionRateLimitReached") > 3.5);
}

#[tokio::test]
async fn nobody_else_is_believed_about_where_it_comes_from_and_the_log_says_so_once() {
    let settings =
        [("RELAY_HTTP__TRUSTED_PROXIES", "192.0.2.1"), ("RELAY_LIMITS__SUBJECT_CONNECTIONS", "1")];
    let relay = Relay::start_with(&database().await, &settings).await;
    let _one = connect_for(&relay, "198.51.100.1").await.unwrap();
    assert_eq!(connect_for(&relay, "198.51.100.2").await.unwrap_err(), 429);
    let text = "name it in http.trusted_proxies";
    assert_eq!(relay.log_text().matches(text).count(), 1);
}

#[tokio::test]
async fn requests_that_are_not_http_1_1_and_handshakes_that_are_none_are_refused() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let handshake = |line: &str, host: &str| {
        let line = line.replace("PATH", &format!("/socket/websocket?apikey={}", anon()));
        format!(
            "{line}\r\n{host}connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    let host = "host: relay\r\n";
    for (request, expected) in [
        (handshake("GET PATH HTTP/1.1", host), 101),
        (handshake("HEAD PATH HTTP/1.1", host), 400),
        (handshake("POST PATH HTTP/1.1", host), 400),
        (handshake("GET PATH HTTP/1.0", host), 400),
        (handshake("GET PATH HTTP/1.1", ""), 400),
        (handshake("GET PATH HTTP/1.1", "host: relay\r\nhost: relay\r\n"), 400),
        ("GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n".to_owned(), 200),
        ("GET /healthz HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /healthz HTTP/1.1\r\nhost: relay\r\nhost: other\r\n\r\n".to_owned(), 400),
        ("GET /healthz HTTP/1.0\r\n\r\n".to_owned(), 200),
        ("POST /api/broadcast HTTP/1.1\r\ncontent-length: 0\r\n\r\n".to_owned(), 400),
    ] {
        assert_eq!(status(&relay, &request), Some(expected), "{request}");
    }
}

#[tokio::test]
async fn no_answer_is_taken_for_something_else() {
    let relay = Relay::start(&database().await).await;
    for (method, path, expected) in [
        ("GET", "/", 200),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/elsewhere", 404),
        ("GET", "/socket/websocket", 401),
        ("GET", "/realtime/v1/api/openapi", 200),
        ("GET", "/api/tenants", 403),
        ("POST", "/api/broadcast", 401),
        ("OPTIONS", "/api/broadcast", 204),
    ] {
        let answer = relay.request(method, path, &[], b"");
        let sniffing = answer.headers.get("x-content-type-options").map(String::as_str);
        assert_eq!((answer.status, sniffing), (expected, Some("nosniff")), "{method} {path}");
    }
}
