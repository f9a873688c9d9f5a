//! What is offered in `Sec-WebSocket-Protocol`, and what is selected of it.

use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::json;
use tokio::process::Command;

use crate::support::relay::token;
use crate::support::{Cluster, Relay};

async fn relay() -> Relay {
    Relay::start(&Cluster::shared().database().await.with_roles().await).await
}

/// Status of a handshake, and the selected protocol.
fn offer(relay: &Relay, query: &str, offered: &[&str]) -> (u16, Option<String>) {
    let path = format!("/realtime/v1/websocket?vsn=2.0.0{query}");
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", relay.port())).unwrap();
    stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let mut head = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    for line in offered {
        head.push_str(&format!("sec-websocket-protocol: {line}\r\n"));
    }
    head.push_str("\r\n");
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
        answer.push(byte[0]);
    }
    let answer = String::from_utf8(answer).unwrap();
    let mut selected =
        answer.lines().filter_map(|line| line.strip_prefix("sec-websocket-protocol: "));
    let protocol = selected.next().map(str::to_owned);
    assert_eq!(selected.next(), None, "{answer}");
    (answer[9..12].parse().unwrap(), protocol)
}

#[tokio::test]
async fn phoenix_is_selected_wherever_it_is_offered_and_nothing_else_is() {
    let relay = relay().await;
    let key = format!("&apikey={}", token("anon", &json!({})));
    let phoenix = Some("phoenix".to_owned());
    for (offered, expected) in [
        (&[][..], None),
        (&["phoenix"][..], phoenix.clone()),
        (&["json, phoenix"][..], phoenix.clone()),
        (&["json", " phoenix "][..], phoenix.clone()),
        (&["phoenix,phoenix"][..], phoenix),
        // Supabase Realtime, too, lets these in and selects none.
        (&["json"][..], None),
        (&["Phoenix"][..], None),
        (&[""][..], None),
        (&[",,"][..], None),
    ] {
        assert_eq!(offer(&relay, &key, offered), (101, expected), "{offered:?}");
    }
}

#[tokio::test]
async fn the_token_may_be_among_what_is_offered_and_is_never_selected() {
    let relay = relay().await;
    let token = token("anon", &json!({ "name": "??>>ÿÿ" }));
    let phoenix = Some("phoenix".to_owned());
    for encoded in [STANDARD_NO_PAD.encode(&token), URL_SAFE_NO_PAD.encode(&token)] {
        let bearer = format!("base64url.bearer.phx.{encoded}");
        let both = format!("phoenix, {bearer}");
        assert_eq!(offer(&relay, "", &[&both]), (101, phoenix.clone()));
        assert_eq!(offer(&relay, "", &[&bearer, "phoenix"]), (101, phoenix.clone()));
        assert_eq!(offer(&relay, "", &[&bearer]), (101, None));
        // What is named as the key counts before it.
        assert_eq!(offer(&relay, "&apikey=nonsense", &[&both]).0, 401);
    }
    for nothing in ["base64url.bearer.phx.", "base64url.bearer.phx.!!!", "base64url.bearer.phx.YQ"]
    {
        assert_eq!(offer(&relay, "", &[nothing]).0, 401, "{nothing}");
    }
}

/// As strict as browsers are: a protocol that was offered must be selected.
const SCRIPT: &str = "
    const { default: WebSocket } = await import(process.argv[1]);
    const [url, token] = process.argv.slice(2);
    const bearer = 'base64url.bearer.phx.' + btoa(token).replace(/=/g, '');
    for (const [query, offered] of [
      ['&apikey=' + token, ['phoenix']],
      ['', ['phoenix', bearer]],
      ['&apikey=' + token, ['json']],
    ]) {
      const socket = new WebSocket(url + '?vsn=2.0.0' + query, offered);
      await new Promise((resolve) => {
        socket.onerror = (event) => { console.log('error ' + event.message); resolve(); };
        socket.onopen = () => {
          socket.onmessage = (event) => {
            console.log(socket.protocol + ' ' + event.data);
            socket.close();
            resolve();
          };
          socket.send(JSON.stringify([null, '1', 'phoenix', 'heartbeat', {}]));
        };
      });
    }";

#[tokio::test]
async fn a_strict_client_that_offers_phoenix_is_connected() {
    let relay = relay().await;
    let modules =
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/node/node_modules/ws/wrapper.mjs");
    assert!(std::path::Path::new(modules).exists(), "{modules} is missing; run `make setup`");
    let url = format!("ws://127.0.0.1:{}/realtime/v1/websocket", relay.port());
    let output = Command::new("node")
        .args(["--input-type=module", "-e", SCRIPT, modules, &url, &token("anon", &json!({}))])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let reply = r#"phoenix [null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]"#;
    let lines: Vec<&str> = printed.lines().collect();
    let expected = [reply, reply, "error Server sent no subprotocol"];
    assert_eq!(lines, expected, "{}", String::from_utf8_lossy(&output.stderr));
}
