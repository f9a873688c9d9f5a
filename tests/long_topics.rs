//! Topics of every length: what can be joined is heard, whoever speaks and in whichever serializer.

use serde_json::{Value, json};

use crate::support::relay::{Answer, token_of};
use crate::support::{Client, Cluster, Database, Relay};

/// Around what one byte can count, with the protocol's prefix and without, and the longest.
const LENGTHS: [usize; 8] = [1, 245, 246, 247, 255, 256, 257, 1015];

async fn start() -> (Database, Relay) {
    let database = Cluster::shared().database().await.with_roles().await.with_realtime();
    database
        .execute(
            "create policy p on realtime.messages to authenticated using (true) with check (true)",
        )
        .await;
    let relay = Relay::start(&database).await;
    (database, relay)
}

async fn member(relay: &Relay, version: &'static str, topic: &str, is_private: bool) -> Client {
    let mut client = Client::connect_as(relay, &token_of("ann"), version).await;
    let config = json!({
        "private": is_private, "broadcast": { "ack": true }, "presence": { "enabled": true, "key": version }
    });
    let reply = client.join(topic, json!({ "config": config })).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    client.expect("presence_state").await;
    client
}

fn post(relay: &Relay, path: &str, kind: &str, body: &[u8]) -> Answer {
    let bearer = format!("Bearer {}", token_of("ann"));
    relay.request("POST", path, &[("authorization", &bearer), ("content-type", kind)], body)
}

/// Everybody hears this.
async fn all_hear(clients: &mut [Client], topic: &str, event: &str, payload: &Value) {
    for client in clients {
        let received = client.expect("broadcast").await;
        assert_eq!(received.topic, format!("realtime:{topic}"));
        assert_eq!(received.payload["event"], event);
        assert_eq!(&received.payload["payload"], payload, "{}", topic.len());
    }
}

#[tokio::test]
async fn whatever_is_said_in_a_topic_that_can_be_joined_is_heard() {
    let (database, relay) = start().await;
    for length in LENGTHS {
        let topic = "t".repeat(length);
        for is_private in [false, true] {
            let mut clients = [
                member(&relay, "2.0.0", &topic, is_private).await,
                member(&relay, "1.0.0", &topic, is_private).await,
            ];
            for version in ["2.0.0", "1.0.0"] {
                let mut speaker = member(&relay, version, &topic, is_private).await;
                let name = format!("realtime:{topic}");
                let message =
                    json!({ "type": "broadcast", "event": "text", "payload": { "a": 1 } });
                let reference = speaker.push(&json!("1"), &name, "broadcast", message).await;
                assert_eq!(speaker.reply(&reference).await.payload["status"], "ok", "{length}");
                all_hear(&mut clients, &topic, "text", &json!({ "a": 1 })).await;
                if version == "2.0.0" && length <= 246 {
                    speaker.push_binary(&topic, "own", 1, b"{\"b\":2}").await;
                    all_hear(&mut clients, &topic, "own", &json!({ "b": 2 })).await;
                }
                let track = json!({ "event": "track", "payload": { "n": version } });
                let reference = speaker.push(&json!("1"), &name, "presence", track).await;
                assert_eq!(speaker.reply(&reference).await.payload["status"], "ok");
                for client in &mut clients {
                    let is_here =
                        |payload: &Value| payload["joins"][version]["metas"][0]["n"] == version;
                    client
                        .find("the diff", |it| it.event == "presence_diff" && is_here(&it.payload))
                        .await;
                }
            }
            let single = format!("/api/broadcast/{topic}/events/single?private={is_private}");
            assert_eq!(post(&relay, &single, "application/json", b"{\"c\":3}").status, 202);
            all_hear(&mut clients, &topic, "single", &json!({ "c": 3 })).await;
            let batch = json!({ "messages": [
                { "topic": topic, "event": "batch", "payload": { "d": 4 }, "private": is_private }
            ] });
            let answer =
                post(&relay, "/api/broadcast", "application/json", batch.to_string().as_bytes());
            assert_eq!(answer.status, 202, "{answer:?}");
            all_hear(&mut clients, &topic, "batch", &json!({ "d": 4 })).await;
            let send =
                format!("select realtime.send('{{\"id\":5}}', 'sent', '{topic}', {is_private})");
            database.execute(&send).await;
            all_hear(&mut clients, &topic, "sent", &json!({ "id": 5 })).await;
        }
    }
}

#[tokio::test]
async fn bytes_need_a_topic_that_a_binary_frame_can_name_and_their_sender_is_told() {
    let (database, relay) = start().await;
    for (topic_length, event_length, fits) in [(246, 255, true), (247, 1, false), (1, 256, false)] {
        let (topic, event) = ("b".repeat(topic_length), "e".repeat(event_length));
        let mut client = member(&relay, "2.0.0", &topic, true).await;
        let path = format!("/api/broadcast/{topic}/events/{event}?private=true");
        let answer = post(&relay, &path, "application/octet-stream", &[1]);
        assert_eq!(answer.status, if fits { 202 } else { 422 }, "{answer:?}");
        if topic_length == 247 {
            let expected = r#"{"errors":{"topic":["should be at most 246 byte(s) when the payload is bytes"]}}"#;
            assert_eq!(answer.body, expected);
        }
        database
            .execute(&format!("select realtime.send_binary('\\x02', '{event}', '{topic}')"))
            .await;
        let stored =
            format!("select count(*)::text from realtime.messages where topic = '{topic}'");
        assert_eq!(database.text(&stored).await, if fits { "1" } else { "0" });
        if fits {
            for byte in [1, 2] {
                let received = client.expect("broadcast").await.payload;
                assert_eq!(received["payload"], json!({ "bytes": [byte] }));
            }
        }
    }
}

#[tokio::test]
async fn the_database_s_messages_with_long_events_are_heard_in_both_serializers() {
    let (database, relay) = start().await;
    let mut clients =
        [member(&relay, "2.0.0", "room", true).await, member(&relay, "1.0.0", "room", true).await];
    for length in [255, 256, 5000] {
        let event = "e".repeat(length);
        database.execute(&format!("select realtime.send('{{\"id\":5}}', '{event}', 'room')")).await;
        all_hear(&mut clients, "room", &event, &json!({ "id": 5 })).await;
    }
}

#[tokio::test]
async fn a_longer_topic_is_refused_when_it_is_named() {
    let (_database, relay) = start().await;
    let topic = "t".repeat(1016);
    let mut client = Client::connect(&relay, &token_of("ann")).await;
    let reply = client.join(&topic, json!({ "config": {} })).await;
    let reason = "TopicNameTooLong: A topic name may have 1024 bytes";
    assert_eq!(reply, json!({ "status": "error", "response": { "reason": reason } }));
    let path = format!("/api/broadcast/{topic}/events/e");
    let answer = post(&relay, &path, "application/json", b"{}");
    let body = r#"{"errors":{"topic":["should be at most 1015 byte(s)"]}}"#;
    assert_eq!((answer.status, answer.body.as_str()), (422, body));
}
