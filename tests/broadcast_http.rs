//! Broadcast by HTTP: what is passed on, and what each mistake is answered with.

use serde_json::{Value, json};

use crate::support::relay::{Answer, anon, now, sign, token};
use crate::support::{Client, Cluster, Relay};

const BATCH: &str = "/realtime/v1/api/broadcast";

async fn relay_with(environment: &[(&str, &str)]) -> Relay {
    let database = Cluster::shared().database().await.with_roles().await.with_realtime();
    Relay::start_with(&database, environment).await
}

async fn listener(relay: &Relay, version: &'static str, room: &str) -> Client {
    let mut client = Client::connect_as(relay, &anon(), version).await;
    assert_eq!(client.join(room, json!({ "config": {} })).await["status"], "ok");
    client
}

/// One in each serializer.
async fn listeners(relay: &Relay, room: &str) -> [Client; 2] {
    [listener(relay, "2.0.0", room).await, listener(relay, "1.0.0", room).await]
}

async fn heard(client: &mut Client) -> Value {
    client.expect("broadcast").await.payload
}

/// Posts with a token and a kind of content.
fn post(relay: &Relay, path: &str, kind: &str, body: &[u8]) -> Answer {
    let bearer = format!("Bearer {}", anon());
    relay.request("POST", path, &[("authorization", &bearer), ("content-type", kind)], body)
}

fn post_json(relay: &Relay, path: &str, body: &Value) -> Answer {
    post(relay, path, "application/json", body.to_string().as_bytes())
}

fn check(answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (status, body), "{answer:?}");
}

#[tokio::test]
async fn a_batch_reaches_each_topic_in_order() {
    let relay = relay_with(&[]).await;
    let id = "0f1e0000-0000-4000-8000-000000000000";
    let body = json!({ "messages": [
        { "topic": "room:1", "event": "a", "payload": { "n": 1 } },
        { "topic": "room:1", "event": "b", "payload": {}, "id": id, "private": false },
        { "topic": "realtime:room:1", "event": "c", "payload": {} },
        { "topic": "room:1", "event": "secret", "payload": {}, "private": true },
    ]});
    let mut members = listeners(&relay, "room:1").await;
    for path in [BATCH, "/api/broadcast", "/realtime/v1/api/broadcast?apikey=x&vsn=2.0.0"] {
        check(&post_json(&relay, path, &body), 202, "");
        for member in &mut members {
            let one = json!({ "type": "broadcast", "event": "a", "payload": { "n": 1 } });
            assert_eq!(heard(member).await, one);
            let two =
                json!({ "type": "broadcast", "event": "b", "payload": {}, "meta": { "id": id } });
            assert_eq!(heard(member).await, two);
            // The topic has no prefix, and what may not be said is left out.
            assert_eq!(member.flush().await.len(), 0);
        }
    }
    let withheld = relay.refused("Unauthorized");
    assert!((withheld - 3.0).abs() < f64::EPSILON, "{withheld}");
}

#[tokio::test]
async fn a_batch_with_a_fault_is_refused_whole_and_says_where() {
    let relay = relay_with(&[("RELAY_LIMITS__BROADCAST_PAYLOAD", "1 KiB")]).await;
    let mut member = listener(&relay, "2.0.0", "r").await;
    let good = json!({ "topic": "r", "event": "e", "payload": {} });
    let large = json!({ "topic": "r", "event": "e", "payload": { "x": "x".repeat(1024) } });
    let blank = r#"{"errors":{"messages":["can't be blank"]}}"#;
    for (body, expected) in [
        (json!({}), blank),
        (json!({ "messages": [] }), blank),
        (
            json!({ "messages": [{ "topic": "r" }, good] }),
            r#"{"errors":{"messages":[{"event":["can't be blank"],"payload":["can't be blank"]},{}]}}"#,
        ),
        (
            json!({ "messages": [good, { "topic": "r", "event": "e", "payload": "text" }] }),
            r#"{"errors":{"messages":[{},{"payload":["is invalid"]}]}}"#,
        ),
        (
            json!({ "messages": [good, large] }),
            r#"{"errors":{"messages":[{},{"payload":["Payload size exceeds tenant limit"]}]}}"#,
        ),
    ] {
        check(&post_json(&relay, BATCH, &body), 422, expected);
    }
    check(&post(&relay, BATCH, "application/json", b"{"), 400, r#"{"message":"Bad Request"}"#);
    let huge = vec![b' '; 8_000_001];
    let too_large = r#"{"message":"Request Entity Too Large"}"#;
    check(&post(&relay, BATCH, "application/json", &huge), 413, too_large);
    assert_eq!(member.flush().await.len(), 0);
}

#[tokio::test]
async fn a_single_message_is_json_or_bytes_and_its_path_is_decoded() {
    let relay = relay_with(&[]).await;
    let [mut new, mut old] = listeners(&relay, "room:1/é").await;
    for prefix in ["/realtime/v1", ""] {
        let path = format!("{prefix}/api/broadcast/room%3A1%2F%C3%A9/events/ev%2F1?private=false");
        let said =
            |payload: Value| json!({ "type": "broadcast", "event": "ev/1", "payload": payload });
        for (body, payload) in [
            (r#"{"a": 1}"#, json!({ "a": 1 })),
            ("[1]", json!({ "_json": [1] })),
            ("null", json!({ "_json": null })),
            ("", json!({})),
        ] {
            check(
                &post(&relay, &path, "application/json; charset=utf-8", body.as_bytes()),
                202,
                "",
            );
            for member in [&mut new, &mut old] {
                assert_eq!(heard(member).await, said(payload.clone()));
            }
        }
        for bytes in [&[0, 255, 34][..], &[]] {
            check(&post(&relay, &path, "application/octet-stream", bytes), 202, "");
            assert_eq!(heard(&mut new).await, said(json!({ "bytes": bytes })));
        }
        let bearer = format!("bearer {}", anon());
        check(&relay.request("POST", &path, &[("authorization", &bearer)], b"ignored"), 202, "");
        for member in [&mut new, &mut old] {
            assert_eq!(heard(member).await, said(json!({})));
        }
    }
    assert_eq!(old.flush().await.len(), 0);
}

#[tokio::test]
async fn a_single_message_with_a_fault_is_refused() {
    let relay = relay_with(&[("RELAY_LIMITS__BROADCAST_PAYLOAD", "1 KiB")]).await;
    let mut member = listener(&relay, "2.0.0", "r").await;
    let path = "/api/broadcast/r/events/e";
    let json = "application/json";
    check(
        &post(&relay, path, "text/plain", b"{}"),
        415,
        r#"{"error":"Unsupported Media Type. Use application/json or application/octet-stream"}"#,
    );
    let private = format!("{path}?apikey=x&private=true");
    check(&post(&relay, &private, json, b"{}"), 403, r#"{"message":"Unauthorized"}"#);
    check(
        &post(&relay, path, "application/octet-stream", &[0; 1025]),
        422,
        r#"{"errors":{"payload":["Payload size exceeds tenant limit"]}}"#,
    );
    check(&post(&relay, path, json, b"{"), 400, r#"{"message":"Bad Request"}"#);
    check(
        &post(&relay, "/api/broadcast/%FF/events/e", json, b""),
        400,
        r#"{"message":"Bad Request"}"#,
    );
    let long = "x".repeat(1016);
    check(
        &post(&relay, &format!("/api/broadcast/r/events/{long}"), json, b"{}"),
        422,
        r#"{"errors":{"event":["should be at most 255 byte(s)"]}}"#,
    );
    check(
        &post(&relay, &format!("/api/broadcast/{long}/events/e"), json, b"{}"),
        422,
        r#"{"errors":{"topic":["should be at most 1015 byte(s)"]}}"#,
    );
    assert_eq!(post(&relay, "/api/broadcast/r/events", json, b"{}").status, 404);
    assert_eq!(relay.get(path).0, 405);
    assert_eq!(member.flush().await.len(), 0);
}

#[tokio::test]
async fn the_token_is_judged_as_on_a_socket() {
    let relay = relay_with(&[]).await;
    let mut member = listener(&relay, "2.0.0", "r").await;
    let (good, expired) = (anon(), sign(&json!({ "role": "anon", "exp": now() - 10 })));
    let unauthorized = r#"{"message":"Unauthorized"}"#;
    let body = br#"{"messages":[{"topic":"r","event":"e","payload":{}}]}"#;
    for path in [BATCH, "/api/broadcast/r/events/e"] {
        for (name, value) in [
            ("x-nothing", "x".to_owned()),
            ("authorization", format!("Bearer {expired}")),
            ("authorization", "Bearer garbage".to_owned()),
            ("authorization", format!("Basic {good}")),
            ("authorization", good.clone()),
            ("authorization", format!("Bearer {}", token("nobody", &json!({})))),
            ("apikey", format!("{good}x")),
        ] {
            let answer = relay.request("POST", path, &[(name, &value)], body);
            check(&answer, 401, unauthorized);
            assert_eq!(answer.headers["access-control-allow-origin"], "*");
        }
        assert_eq!(member.flush().await.len(), 0);
        for (name, value) in [
            ("apikey", good.clone()),
            ("authorization", format!("Bearer {good}")),
            ("authorization", format!("BEARER  {good}")),
        ] {
            check(&relay.request("POST", path, &[(name, &value)], body), 202, "");
            heard(&mut member).await;
        }
        // The SDK sends both, and an empty one when it has no token.
        let both = [("authorization", ""), ("apikey", &*good), ("accept", "*/*")];
        check(&relay.request("POST", path, &both, body), 202, "");
        let html = [("apikey", &*good), ("accept", "text/html")];
        check(&relay.request("POST", path, &html, body), 406, r#"{"message":"Not Acceptable"}"#);
        heard(&mut member).await;
    }
    let log = relay.log_text();
    assert!(!log.contains(&good) && !log.contains(&expired), "{log}");
}

#[tokio::test]
async fn a_browser_may_ask_before_it_posts() {
    let relay = relay_with(&[]).await;
    for path in [
        BATCH,
        "/api/broadcast",
        "/realtime/v1/api/broadcast/r/events/e",
        "/api/broadcast/r/events/e",
    ] {
        let asked = [
            ("origin", "https://example.org"),
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "apikey,authorization,content-type,x-client-info,x-team",
            ),
        ];
        let answer = relay.request("OPTIONS", path, &asked, b"");
        check(&answer, 204, "");
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        assert!(answer.headers["access-control-allow-methods"].contains("POST"));
        let allowed = &answer.headers["access-control-allow-headers"];
        for header in ["apikey", "authorization", "content-type", "x-client-info", "x-team"] {
            assert!(allowed.contains(header), "{allowed}");
        }
        assert_eq!(answer.headers["vary"], "access-control-request-headers");
        let answer = relay.request("OPTIONS", path, &asked[..1], b"");
        assert!(answer.headers["access-control-allow-headers"].contains("authorization"));
    }
}

#[tokio::test]
async fn senders_over_the_rate_are_told_and_nothing_of_theirs_is_passed_on() {
    let relay = relay_with(&[("RELAY_LIMITS__HTTP_MESSAGES_PER_SECOND", "1")]).await;
    let mut member = listener(&relay, "2.0.0", "r").await;
    let message = json!({ "topic": "r", "event": "e", "payload": {} });
    let many = json!({ "messages": vec![message.clone(); 6] });
    let reduce = r#"{"message":"Too many messages to broadcast, please reduce the batch size"}"#;
    check(&post_json(&relay, BATCH, &many), 429, reduce);
    let four = json!({ "messages": vec![message.clone(); 4] });
    let answer = post_json(&relay, BATCH, &four);
    check(&answer, 202, "");
    assert_eq!(rate(&answer), [0, 1, 1]);
    let exposed = &answer.headers["access-control-expose-headers"];
    assert_eq!(exposed, "x-rate-rolling, x-rate-limit, x-rate-limit-remaining");
    let mut refused = None;
    for _ in 0..20 {
        let answer = post(&relay, "/api/broadcast/r/events/e", "application/json", b"{}");
        if answer.status != 202 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.unwrap();
    check(&refused, 429, r#"{"message":"Too many requests"}"#);
    // By the time the answer is written a fifth of a second's worth may have come back.
    assert!([[1, 1, 0], [0, 1, 1]].contains(&rate(&refused)), "{refused:?}");
    assert!(member.flush().await.len() >= 4);
}

#[tokio::test]
async fn the_public_key_uses_up_the_rate_of_no_server_and_of_no_other_address() {
    let relay = relay_with(&[
        ("RELAY_LIMITS__HTTP_MESSAGES_PER_SECOND", "6"),
        ("RELAY_LIMITS__SUBJECT_HTTP_MESSAGES_PER_SECOND", "1"),
    ])
    .await;
    let post = |from: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", &*bearer),
            ("content-type", "application/json"),
            ("x-forwarded-for", from),
        ];
        relay.request("POST", "/api/broadcast/r/events/e", &headers, b"{}")
    };
    let (anon, server) = (anon(), token("service_role", &json!({})));
    let refused = loop {
        let answer = post("198.51.100.1", &anon);
        if answer.status != 202 {
            break answer;
        }
    };
    check(&refused, 429, r#"{"message":"Too many requests"}"#);
    assert_eq!(refused.headers["x-rate-limit"], "1");
    // Somebody elsewhere with the same key, and a server at the very same address.
    for _ in 0..5 {
        check(&post("198.51.100.2", &anon), 202, "");
    }
    for _ in 0..25 {
        check(&post("198.51.100.1", &server), 202, "");
    }
    let whole = post("198.51.100.3", &server);
    assert_eq!(whole.headers["x-rate-limit"], "6");
    assert_eq!(post("198.51.100.3", &anon).status, 202);
}

/// The average of late, the limit, what remains.
#[tokio::test]
async fn private_is_true_or_false_and_nothing_is_public_by_mistake() {
    let relay = relay_with(&[]).await;
    let mut public = listener(&relay, "2.0.0", "r").await;
    let single = "/realtime/v1/api/broadcast/r/events";
    let body = r#"{"errors":{"private":["must be true or false"]}}"#;
    for query in [
        "private=True",
        "private=TRUE",
        "private=1",
        "private=yes",
        "private=0",
        "private=False",
        "private=",
        "private",
        "private=null",
        "private=true%20",
        "private=%20true",
        "private=+true",
        "private=true,",
        "private=%ff",
        "Private=true",
        "PRIVATE=true",
        "private[]=true",
        "private=true&private=false",
        "private=false&private=true",
        "x=1&private=t",
    ] {
        let answer = post(&relay, &format!("{single}/secret?{query}"), "application/json", b"{}");
        assert_eq!((answer.status, answer.body.as_str()), (400, body), "{query}");
    }
    for (query, status) in [
        ("", 202),
        ("?private=false", 202),
        ("?privates=true", 202),
        ("?private=%66alse&apikey=x", 202),
        ("?private=false&private=false", 202),
        // Nobody may send there.
        ("?private=true", 403),
        ("?%70rivate=%74rue", 403),
    ] {
        let answer = post(&relay, &format!("{single}/e{query}"), "application/json", b"{}");
        assert_eq!(answer.status, status, "{query}: {answer:?}");
        if status == 202 {
            assert_eq!(heard(&mut public).await["event"], "e", "{query}");
        }
    }
    assert_eq!(public.flush().await.len(), 0);
}

fn rate(answer: &Answer) -> [u64; 3] {
    ["x-rate-rolling", "x-rate-limit", "x-rate-limit-remaining"]
        .map(|name| answer.headers[name].parse().unwrap())
}

#[tokio::test]
async fn each_mistake_has_its_code_on_both_routes() {
    let relay = relay_with(&[]).await;
    let mut member = listener(&relay, "2.0.0", "r").await;
    let single = "/realtime/v1/api/broadcast/r/events/e";
    let (json, text) = ("application/json", "text/plain");
    // The largest body that is read is over the largest payload.
    let (most, over) = (vec![b' '; 8_000_000], vec![b' '; 8_000_001]);
    for (path, kind, accept, body, status) in [
        (BATCH, json, "application/json", &b"{"[..], 400),
        (single, json, "application/json", b"{", 400),
        (BATCH, json, "application/json", b"\xff", 400),
        (single, json, "application/json", b"\xff", 400),
        (BATCH, json, "text/html", b"{}", 406),
        (single, json, "text/html", b"{}", 406),
        (BATCH, json, "*/*", &over, 413),
        (single, json, "*/*", &over, 413),
        (BATCH, json, "*/*", &most, 422),
        (single, json, "*/*", &most, 422),
        (single, text, "*/*", b"{}", 415),
        // The type is not looked at before the token is believed, nor the body.
        (BATCH, text, "*/*", b"{}", 422),
    ] {
        let bearer = format!("Bearer {}", anon());
        let headers = [("authorization", &*bearer), ("content-type", kind), ("accept", accept)];
        let answer = relay.request("POST", path, &headers, body);
        assert_eq!(
            answer.status,
            status,
            "{path} {kind} {accept} {} bytes: {answer:?}",
            body.len()
        );
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        assert_eq!(answer.headers["content-type"], "application/json; charset=utf-8");
    }
    for method in ["GET", "PUT", "DELETE"] {
        assert_eq!(relay.request(method, BATCH, &[], b"").status, 405, "{method}");
    }
    assert_eq!(member.flush().await.len(), 0);
}
