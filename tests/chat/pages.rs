//! The built pages, and the demo that serves them.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{ANN, VERA, read, support_database};
use crate::cli::{demo, left_behind, place, signal};
use crate::support::relay::{SECRET, get};
use crate::support::{Relay, free_port, until};

/// The `sub` of a token.
fn subject(token: &str) -> String {
    let claims = token.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims["sub"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn built_pages_are_served_and_nothing_else_of_the_disk_is() {
    let place = tempfile::tempdir().unwrap();
    let pages = place.path().join("dist");
    std::fs::create_dir_all(pages.join("assets")).unwrap();
    std::fs::write(pages.join("index.html"), "<!doctype html>the chat").unwrap();
    std::fs::write(pages.join("assets/a-1.js"), "1").unwrap();
    std::fs::write(place.path().join("secret"), "secret").unwrap();
    let database = support_database().await;
    let pages = pages.display().to_string();
    let relay = Relay::start_with(&database, &[("RELAY_HTTP__PAGES", &pages)]).await;
    for path in ["/", "/visitor", "/agent", "/inspector?x=1", "/index.html"] {
        let answer = relay.request("GET", path, &[], b"");
        assert_eq!((answer.status, &*answer.body), (200, "<!doctype html>the chat"), "{path}");
        assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        let policy = &answer.headers["content-security-policy"];
        assert!(policy.contains("script-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'self'"), "{policy}");
    }
    let head = relay.request("HEAD", "/agent", &[], b"");
    assert_eq!((head.status, &*head.body, &*head.headers["content-length"]), (200, "", "23"));
    let script = relay.request("GET", "/assets/a-1.js", &[], b"");
    assert_eq!(script.headers["content-type"], "text/javascript; charset=utf-8");
    assert!(script.headers["cache-control"].contains("immutable"));
    assert_eq!(relay.request("POST", "/agent", &[], b"").status, 405);
    for path in [
        "/../secret",
        "/..%2fsecret",
        "/%2e%2e/secret",
        "/assets/../../secret",
        "//secret",
        "/assets",
        "/.",
        "/agent/x",
        "/demo/token",
    ] {
        let answer = relay.request("GET", path, &[], b"");
        assert!(answer.status == 404 && !answer.body.contains("secret\n"), "{path}: {answer:?}");
        assert_ne!(answer.body, "secret");
    }
    // What was there before is still there.
    assert_eq!(relay.get("/healthz").0, 200);
    let token = json!({ "role": "visitor", "session": VERA }).to_string();
    let headers = [("content-type", "application/json")];
    assert_eq!(relay.request("POST", "/demo/token", &headers, token.as_bytes()).status, 404);
}

/// A POST without a token.
fn post(port: u16, path: &str, kind: &str, body: &Value) -> (u16, Value) {
    let answer = crate::support::relay::request(
        port,
        "POST",
        path,
        &[("content-type", kind)],
        body.to_string().as_bytes(),
    );
    (answer.status, serde_json::from_str(&answer.body).unwrap_or_default())
}

#[tokio::test]
async fn a_demo_is_one_address_with_pages_tokens_and_a_chat() {
    let (place, port) = (place(), free_port());
    let pages = place.path().join("dist");
    std::fs::create_dir_all(&pages).unwrap();
    std::fs::write(pages.join("index.html"), "the chat").unwrap();
    let pages = pages.display().to_string();
    let mut running = demo(place.path(), port, &["--pages", &pages, "--code", "open sesame"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap());
    let mut told = String::new();
    while !told.contains("Ctrl-C") {
        assert!(
            lines.read_line(&mut told).unwrap() > 0,
            "the demo ended before it started: {told}"
        );
    }
    assert!(told.contains(&format!("http://127.0.0.1:{port}/#code=open%20sesame\n")), "{told}");
    assert_eq!(told.matches("http://").count(), 1, "{told}");
    assert_eq!(get(port, "/agent"), Some((200, "the chat".to_owned())));

    let json = "application/json";
    let (path, visitor) = ("/demo/token", json!({ "role": "visitor", "session": VERA }));
    let agent =
        |code: &str| json!({ "role": "agent", "session": ANN, "code": code, "name": "Ann" });
    for (kind, body, status) in [
        (json, agent("guess"), 401),
        (json, json!({ "role": "agent", "session": ANN }), 401),
        (json, json!({ "role": "visitor", "session": "me" }), 422),
        (json, json!({ "role": "service_role", "session": VERA }), 422),
        ("text/plain", visitor.clone(), 415),
    ] {
        assert_eq!(post(port, path, kind, &body).0, status, "{body}");
    }
    let token = |body: &Value| {
        let (status, granted) = post(port, path, json, body);
        assert_eq!((status, &granted["expires_in"]), (200, &json!(3600)), "{granted}");
        assert!(granted["anon_key"].is_string());
        granted["token"].as_str().unwrap().to_owned()
    };
    let (vera, ann) = (token(&visitor), token(&agent("open sesame")));
    let ask = |token: &str, method: &str, path: &str, body: &Value| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", &*bearer), ("content-type", json)];
        crate::support::relay::request(port, method, path, &headers, body.to_string().as_bytes())
    };
    // Whoever saw an agent's id cannot ask for it.
    let id = subject(&ann);
    assert_ne!(id, subject(&token(&json!({ "role": "visitor", "session": id }))));
    read(&ask(&vera, "POST", "/chat/v1/sessions", &json!({ "name": "Vera" })), 201);
    let listed = read(&ask(&ann, "GET", "/chat/v1/sessions", &json!({})), 200);
    assert_eq!(listed[0]["visitor_name"], "Vera");
    let agents = read(&ask(&ann, "GET", "/chat/v1/agents", &json!({})), 200);
    assert_eq!(agents[0]["display_name"], "Ann");

    signal(&running, "INT");
    assert_eq!(running.wait().unwrap().code(), Some(0));
    lines.read_to_string(&mut told).unwrap();
    assert!(told.contains("nothing is left behind"), "{told}");
    assert_eq!(left_behind(place.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_demo_on_a_database_of_ones_own_leaves_it_as_it_was() {
    let database = support_database().await;
    database
        .execute(&format!(
            "insert into live_chat_sessions (id, visitor_id, status, closed_at)
             values ('{VERA}', '{VERA}', 'closed', now() - interval '1 day')"
        ))
        .await;
    let slots = format!(
        "select count(*)::text from pg_replication_slots where slot_name = '{}'",
        database.slot()
    );
    for was_there in ["0", "1"] {
        let (place, port) = (place(), free_port());
        let options = ["--database", &database.url, "--quiet", "--talk", "--pace", "0.01"];
        let mut running = demo(place.path(), port, &options)
            .env("RELAY_POSTGRES__URL", database.url_as("relay"))
            .env("RELAY_POSTGRES__SLOT", database.slot())
            .env("RELAY_AUTH__JWT_SECRET", SECRET)
            .spawn()
            .unwrap();
        until("the demo to stream", || async {
            get(port, "/readyz").filter(|(status, _)| *status == 200)
        })
        .await;
        assert_eq!(database.text(&slots).await, "1");
        // Old chats of its own are forgotten between two conversations.
        let talked = "select count(*)::text from live_chat_sessions";
        let before: u32 = database.text(talked).await.parse().unwrap();
        until("two conversations", || async {
            (before + 2 < database.text(talked).await.parse::<u32>().unwrap()).then_some(())
        })
        .await;
        signal(&running, "TERM");
        assert_eq!(running.wait().unwrap().code(), Some(0));
        let closed = format!("select count(*)::text from live_chat_sessions where id = '{VERA}'");
        assert_eq!(database.text(&closed).await, "1");
        assert_eq!(database.text(&slots).await, was_there);
        let make = format!(
            "select pg_create_logical_replication_slot('{}', 'pgoutput')
             where not exists (select from pg_replication_slots where slot_name = '{0}')",
            database.slot()
        );
        database.execute(&make).await;
    }
}
