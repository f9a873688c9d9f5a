//! What clients say to each other: who hears it, what it looks like, and what its sender is told.

use serde_json::{Value, json};

use crate::support::client::Received;
use crate::support::relay::token;
use crate::support::{Client, Cluster, Relay, until};

async fn relay() -> Relay {
    relay_with(&[]).await
}

async fn relay_with(environment: &[(&str, &str)]) -> Relay {
    let database = Cluster::shared().database().await.with_roles().await;
    Relay::start_with(&database, environment).await
}

const BOTH: [&str; 2] = ["2.0.0", "1.0.0"];

/// A client in `room`, with this `config.broadcast`.
async fn member(relay: &Relay, version: &'static str, room: &str, broadcast: Value) -> Client {
    let mut client = Client::connect_as(relay, &token("anon", &json!({})), version).await;
    let reply = client.join(room, json!({ "config": { "broadcast": broadcast } })).await;
    assert_eq!(reply, json!({ "status": "ok", "response": { "postgres_changes": [] } }));
    client
}

async fn listener(relay: &Relay, version: &'static str, room: &str) -> Client {
    member(relay, version, room, json!({})).await
}

/// Sends a text push without waiting for anything; its ref.
async fn say(client: &mut Client, room: &str, payload: Value) -> String {
    client.push(&json!("1"), &format!("realtime:{room}"), "broadcast", payload).await
}

async fn heard(client: &mut Client) -> Value {
    let Received { join_ref, reference, payload, .. } = client.expect("broadcast").await;
    assert_eq!((join_ref, reference), (Value::Null, Value::Null));
    payload
}

#[tokio::test]
async fn a_push_reaches_everyone_else_as_it_was_written() {
    let relay = relay().await;
    let mut listeners = Vec::new();
    for version in BOTH {
        listeners.push(listener(&relay, version, "room:1").await);
    }
    let mut elsewhere = listener(&relay, "2.0.0", "room").await;
    for version in BOTH {
        let mut speaker = listener(&relay, version, "room:1").await;
        for payload in [
            json!({ "type": "broadcast", "event": "cursor", "payload": { "x": 1 } }),
            json!({}),
            json!({ "own": [1.5, null, "é\u{1F600}\u{0}"], "payload": null }),
        ] {
            say(&mut speaker, "room:1", payload.clone()).await;
            for listener in &mut listeners {
                assert_eq!(heard(listener).await, payload, "from {version}");
            }
        }
        // Nobody asked for replies, or for their own.
        assert_eq!(speaker.flush().await.len(), 0);
        speaker.leave("room:1").await;
    }
    assert_eq!(elsewhere.flush().await.len(), 0);
}

#[tokio::test]
async fn whoever_asked_hears_itself_and_is_answered() {
    let relay = relay().await;
    for version in BOTH {
        let config = json!({ "self": "true", "ack": true });
        let mut speaker = member(&relay, version, "room", config).await;
        let said = json!({ "type": "broadcast", "event": "e", "payload": {} });
        let reference = say(&mut speaker, "room", said.clone()).await;
        let reply = speaker.reply(&reference).await;
        assert_eq!(reply.payload, json!({ "status": "ok", "response": {} }));
        assert_eq!(heard(&mut speaker).await, said);
        let mut only_self = member(&relay, version, "self", json!({ "self": true })).await;
        say(&mut only_self, "self", said.clone()).await;
        assert_eq!(heard(&mut only_self).await, said);
        assert_eq!(only_self.flush().await.len(), 0);
    }
}

#[tokio::test]
async fn the_wish_to_persist_changes_nothing() {
    let relay = relay().await;
    for version in BOTH {
        for persist in [json!(true), json!("false"), json!({ "days": 3 }), json!(null)] {
            let config = json!({ "self": true, "ack": true, "persist": persist });
            let mut speaker = member(&relay, version, "room", config).await;
            let said = json!({ "type": "broadcast", "event": "e", "payload": { "a": 1 } });
            let reference = say(&mut speaker, "room", said.clone()).await;
            let reply = speaker.reply(&reference).await;
            assert_eq!(reply.payload, json!({ "status": "ok", "response": {} }), "{persist}");
            assert_eq!(heard(&mut speaker).await, said);
            assert_eq!(speaker.flush().await.len(), 0);
        }
    }
}

#[tokio::test]
async fn a_binary_push_arrives_bit_by_bit_or_as_an_object() {
    let relay = relay().await;
    let room = "räume/é:1";
    let mut new = listener(&relay, "2.0.0", room).await;
    let mut old = listener(&relay, "1.0.0", room).await;
    let mut speaker = member(&relay, "2.0.0", room, json!({ "ack": true })).await;
    let all: Vec<u8> = (0..=255).collect();
    for bytes in [&all[..], &[]] {
        let reference = speaker.push_binary(room, "bytes", 0, bytes).await;
        assert_eq!(speaker.reply(&reference).await.payload["status"], "ok");
        let expected =
            json!({ "type": "broadcast", "event": "bytes", "payload": { "bytes": bytes } });
        assert_eq!(heard(&mut new).await, expected);
    }
    for text in [r#"{"a": [1,2.50] }"#, "null", "[]", r#""text""#] {
        let reference = speaker.push_binary(room, "evé", 1, text.as_bytes()).await;
        assert_eq!(speaker.reply(&reference).await.payload["status"], "ok");
        let payload: Value = serde_json::from_str(text).unwrap();
        let expected = json!({ "type": "broadcast", "event": "evé", "payload": payload });
        assert_eq!(heard(&mut new).await, expected);
        // It never saw the bytes.
        assert_eq!(heard(&mut old).await, expected);
    }
    assert_eq!(old.flush().await.len(), 0);
}

#[tokio::test]
async fn what_is_no_json_reaches_nobody_and_its_sender_is_told() {
    let relay = relay().await;
    let mut listeners =
        [listener(&relay, "2.0.0", "room").await, listener(&relay, "1.0.0", "room").await];
    let mut speaker = member(&relay, "2.0.0", "room", json!({ "ack": true })).await;
    let deep = "[".repeat(100_000);
    let deep = format!("{deep}{}", deep.replace('[', "]"));
    let spliced = br#"{}},"ref":null}{"topic":"realtime:room""#;
    for payload in [&b""[..], b"{", b"{}}", spliced, b"\"\xff\"", b"undefined", deep.as_bytes()] {
        let reference = speaker.push_binary("room", "e", 1, payload).await;
        let reply = speaker.reply(&reference).await.payload;
        let reason = json!({ "reason": "Broadcast payload must be valid JSON" });
        assert_eq!(reply, json!({ "status": "error", "response": reason }));
    }
    for payload in [
        json!(null),
        json!([1]),
        json!("text"),
        json!(7),
        json!({ "event": 7 }),
        json!({ "event": "e", "ids": [] }),
    ] {
        let reference = say(&mut speaker, "room", payload).await;
        let reply = speaker.reply(&reference).await.payload;
        let reason = json!({ "reason": "Broadcast payload must be a map, its event a string, and have no ids" });
        assert_eq!(reply, json!({ "status": "error", "response": reason }));
    }
    let refused = relay.refused("MalformedBroadcast");
    assert!((refused - 13.0).abs() < f64::EPSILON, "{refused}");
    speaker.push_binary("room", "last", 1, b"{}").await;
    for listener in &mut listeners {
        assert_eq!(heard(listener).await["event"], "last");
        assert_eq!(listener.flush().await.len(), 0);
    }
}

#[tokio::test]
async fn what_is_too_large_reaches_nobody_and_is_answered_if_asked() {
    let relay = relay_with(&[("RELAY_LIMITS__BROADCAST_PAYLOAD", "2 KiB")]).await;
    let mut listener = listener(&relay, "2.0.0", "room").await;
    let mut asks = member(&relay, "2.0.0", "room", json!({ "ack": true })).await;
    let mut silent = member(&relay, "1.0.0", "room", json!({})).await;
    let large = json!({ "event": "large", "payload": "x".repeat(2048) });
    let exceeded = json!({ "status": "error", "response": "payload_size_exceeded" });
    let reference = say(&mut asks, "room", large.clone()).await;
    assert_eq!(asks.reply(&reference).await.payload, exceeded);
    let reference = asks.push_binary("room", "large", 0, &[0; 2049]).await;
    assert_eq!(asks.reply(&reference).await.payload, exceeded);
    let reference = asks.push_binary("room", "fits", 0, &[0; 2048]).await;
    assert_eq!(asks.reply(&reference).await.payload["status"], "ok");
    say(&mut silent, "room", large).await;
    assert_eq!(silent.flush().await.len(), 0);
    assert_eq!(heard(&mut listener).await["event"], "fits");
    assert_eq!(listener.flush().await.len(), 0);
}

#[tokio::test]
async fn a_sender_over_its_rate_is_told_and_its_listeners_stay() {
    let relay = relay_with(&[("RELAY_LIMITS__MESSAGES_PER_SECOND", "1")]).await;
    let mut listener = listener(&relay, "2.0.0", "room").await;
    let mut speaker = member(&relay, "2.0.0", "room", json!({ "ack": true })).await;
    let mut refused = 0;
    for _ in 0..50 {
        let reference = say(&mut speaker, "room", json!({ "event": "much" })).await;
        let reply = speaker.reply(&reference).await.payload;
        if reply["status"] == "error" {
            assert_eq!(reply["response"], json!({ "reason": "Too many messages per second" }));
            refused += 1;
        }
    }
    assert!(refused > 0);
    let told = speaker.expect("system").await;
    assert_eq!((&told.payload["status"], &told.join_ref), (&json!("error"), &json!("1")));
    assert_eq!(told.payload["message"], "Too many messages per second");
    assert_eq!(speaker.flush().await.len(), 0, "told once");
    let heard = listener.flush().await;
    assert_eq!(heard.len(), 50 - refused);
    assert!(heard.iter().all(|heard| heard.event == "broadcast"));
    // Others have a rate of their own.
    let mut other = member(&relay, "2.0.0", "room", json!({ "ack": true })).await;
    let reference = say(&mut other, "room", json!({})).await;
    assert_eq!(other.reply(&reference).await.payload["status"], "ok");
}

#[tokio::test]
async fn nobody_hears_before_the_join_is_answered_or_after_leaving() {
    let relay = relay().await;
    let mut speaker = member(&relay, "2.0.0", "room", json!({ "ack": true })).await;
    let mut witness = listener(&relay, "2.0.0", "room").await;
    for round in 0..20 {
        let mut client = Client::connect(&relay, &token("anon", &json!({}))).await;
        client.push(&json!("1"), "realtime:room", "phx_join", json!({ "config": {} })).await;
        // While the join is on its way.
        let said = say(&mut speaker, "room", json!({ "round": round })).await;
        let first = client.receive().await.unwrap();
        assert_eq!(first.event, "phx_reply");
        speaker.reply(&said).await;
        // Joining again does not double what is heard.
        client.push(&json!("2"), "realtime:room", "phx_join", json!({ "config": {} })).await;
        client.reply("2").await;
        client.expect("phx_close").await;
        client.flush().await;
        say(&mut speaker, "room", json!({ "again": round })).await;
        assert_eq!(heard(&mut client).await, json!({ "again": round }));
        let leave = client.push(&json!("2"), "realtime:room", "phx_leave", json!({})).await;
        client.reply(&leave).await;
        client.expect("phx_close").await;
        let said = say(&mut speaker, "room", json!({ "late": round })).await;
        speaker.reply(&said).await;
        for expected in ["round", "again", "late"] {
            assert_eq!(heard(&mut witness).await, json!({ expected: round }));
        }
        assert_eq!(client.flush().await.len(), 0);
    }
    drop((speaker, witness));
    until("the room to be empty", || async { (relay.metric("relay_topics") < 0.5).then_some(()) })
        .await;
}
