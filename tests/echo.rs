//! Whatever a client wrote comes back, to itself or to others, as JSON that every reader accepts.

use serde_json::{Value, json};

use crate::support::relay::token_of;
use crate::support::{Client, Cluster, Relay};

async fn relay() -> Relay {
    Relay::start(&Cluster::shared().database().await.with_roles().await).await
}

/// Halves of a pair, alone, in every place where they look different.
const HALVES: [&str; 8] = [
    r"\ud800",
    r"\udc00",
    r"\uDBFF",
    r"a\udfff b",
    r"\ud800\ud800",
    r"\udc00\ud800",
    r"\ud83d\u0041",
    r"\\\ud800",
];

#[tokio::test]
async fn half_a_surrogate_pair_is_no_json_in_any_part_of_a_frame() {
    let relay = relay().await;
    let mut sent = 0;
    for version in ["2.0.0", "1.0.0"] {
        let mut client = Client::connect_as(&relay, &token_of("ann"), version).await;
        let config = json!({ "config": { "broadcast": { "self": true, "ack": true } } });
        assert_eq!(client.join("room", config).await["status"], "ok");
        let frame = |parts: [&str; 5]| {
            let [join_ref, reference, topic, event, payload] = parts;
            if version == "2.0.0" {
                format!(r#"[{join_ref},{reference},"{topic}","{event}",{payload}]"#)
            } else {
                format!(
                    r#"{{"join_ref":{join_ref},"ref":{reference},"topic":"{topic}","event":"{event}","payload":{payload}}}"#
                )
            }
        };
        for half in HALVES {
            let quoted = format!(r#""{half}""#);
            let wish = format!(
                r#"{{"config":{{"postgres_changes":[{{"event":"*","schema":"public","table":{quoted}}}]}}}}"#
            );
            let key = format!(r#"{{"config":{{"presence":{{"enabled":true,"key":{quoted}}}}}}}"#);
            let unknown = format!(r#"{{"config":{{}},"else":{{{quoted}:1}}}}"#);
            let said =
                format!(r#"{{"type":"broadcast","event":{quoted},"payload":{{"a":{quoted}}}}}"#);
            let track = format!(r#"{{"event":"track","payload":{{"a":{quoted}}}}}"#);
            let topic = format!("realtime:{half}");
            for text in [
                frame(["\"1\"", "\"9\"", "realtime:wish", "phx_join", &wish]),
                frame(["\"1\"", "\"9\"", "realtime:key", "phx_join", &key]),
                frame(["\"1\"", "\"9\"", "realtime:unknown", "phx_join", &unknown]),
                frame([&quoted, "\"9\"", "realtime:refs", "phx_join", "{}"]),
                frame(["\"1\"", &quoted, "phoenix", "heartbeat", "{}"]),
                frame(["\"1\"", "\"9\"", &topic, "phx_join", "{}"]),
                frame(["\"1\"", "\"9\"", "realtime:room", half, "{}"]),
                frame(["\"1\"", "\"9\"", "realtime:room", "broadcast", &said]),
                frame(["\"1\"", "\"9\"", "realtime:room", "presence", &track]),
            ] {
                client.send_text(&text).await;
                sent += 1;
            }
            // The client here reads with a parser that accepts no half.
            assert_eq!(client.flush().await.len(), 0, "{half}");
        }
    }
    let refused = relay.refused("MalformedMessage");
    assert!((refused - f64::from(sent)).abs() < f64::EPSILON, "{refused} of {sent}");
}

#[tokio::test]
async fn nor_in_a_payload_that_others_would_read() {
    let relay = relay().await;
    let mut client = Client::connect(&relay, &token_of("ann")).await;
    let config = json!({ "config": { "broadcast": { "self": true, "ack": true } } });
    assert_eq!(client.join("room", config).await["status"], "ok");
    let bearer = format!("Bearer {}", token_of("ann"));
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    for half in HALVES {
        for payload in [format!(r#"{{"a":"{half}"}}"#), format!(r#"{{"{half}":1}}"#)] {
            let reference = client.push_binary("room", "e", 1, payload.as_bytes()).await;
            let reply = client.reply(&reference).await.payload;
            let reason = json!({ "reason": "Broadcast payload must be valid JSON" });
            assert_eq!(reply["response"], reason, "{payload}");
            let single =
                relay.request("POST", "/api/broadcast/room/events/e", &headers, payload.as_bytes());
            assert_eq!(single.status, 400, "{payload}");
            let batch =
                format!(r#"{{"messages":[{{"topic":"room","event":"e","payload":{payload}}}]}}"#);
            let batch = relay.request("POST", "/api/broadcast", &headers, batch.as_bytes());
            assert_eq!(batch.status, 400, "{payload}");
        }
    }
    assert_eq!(client.flush().await.len(), 0);
    // Whole pairs, and what only looks like half a one.
    for (text, value) in [
        (r#"{"a":"\ud83d\uDE00"}"#, json!({ "a": "\u{1F600}" })),
        (r#"{"a":"\\ud800"}"#, json!({ "a": "\\ud800" })),
        (r#"{"a":"\u0000\uffff\ue000\ud7ff"}"#, json!({ "a": "\0\u{ffff}\u{e000}\u{d7ff}" })),
    ] {
        client.push_binary("room", "e", 1, text.as_bytes()).await;
        assert_eq!(heard(&mut client).await, value);
        client
            .send_text(&format!(
                r#"["1","50","realtime:room","broadcast",{{"event":"e","payload":{text}}}]"#
            ))
            .await;
        assert_eq!(heard(&mut client).await, value);
        let single =
            relay.request("POST", "/api/broadcast/room/events/e", &headers, text.as_bytes());
        assert_eq!(single.status, 202);
        assert_eq!(heard(&mut client).await, value);
    }
}

async fn heard(client: &mut Client) -> Value {
    client.expect("broadcast").await.payload["payload"].take()
}
