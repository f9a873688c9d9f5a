//! Many at once, and far too much of everything: nobody but the sender notices.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::relay::{anon, token, token_of};
use crate::support::{Client, Cluster, Database, Relay, until};

async fn database() -> Database {
    let columns = "id int primary key, body text";
    Cluster::shared().database().await.with_roles().await.with_table("notes", columns).await
}

/// Somebody who listens to everything, and somebody who says a little.
struct Bystanders {
    listener: Client,
    speaker: Client,
    said: u32,
}

impl Bystanders {
    async fn join(relay: &Relay) -> Self {
        let mut listener = Client::connect(relay, &anon()).await;
        let config = json!({ "config": {
            "postgres_changes": [{ "event": "*", "schema": "public", "table": "notes" }],
            "presence": { "enabled": true, "key": "listener" },
        } });
        assert_eq!(listener.join("room", config).await["status"], "ok");
        listener.expect("presence_state").await;
        listener.expect("system").await;
        let mut speaker = Client::connect(relay, &anon()).await;
        let config = json!({ "config": { "broadcast": { "ack": true } } });
        assert_eq!(speaker.join("room", config).await["status"], "ok");
        Self { listener, speaker, said: 0 }
    }

    /// What is said and written now is heard, and nothing was told to the listener but broadcasts and presence.
    async fn are_well(&mut self, database: &Database, after: &str) {
        self.said += 1;
        let said = self.said;
        let payload = json!({ "type": "broadcast", "event": "calm", "payload": { "said": said } });
        let reference = self.speaker.push(&json!("1"), "realtime:room", "broadcast", payload).await;
        assert_eq!(self.speaker.reply(&reference).await.payload["status"], "ok", "{after}");
        database.execute(&format!("insert into notes values ({said})")).await;
        assert_eq!(self.listener.change().await["record"]["id"], said, "{after}");
        let calm =
            self.listener.find("the calm speaker", |heard| heard.payload["event"] == "calm").await;
        assert_eq!(calm.payload["payload"]["said"], said, "{after}");
        for received in self.listener.flush().await {
            let is_usual = ["broadcast", "presence_diff"].contains(&&*received.event);
            assert!(is_usual, "{after}: {received:?}");
        }
        assert_eq!(
            self.speaker.flush().await.iter().filter(|seen| seen.event == "system").count(),
            0
        );
    }
}

/// A socket in the same room that is about to misbehave.
async fn flooder(relay: &Relay) -> Client {
    let mut client = Client::connect(relay, &token_of("flooder")).await;
    assert_eq!(client.join("room", json!({ "config": {} })).await["status"], "ok");
    client
}

#[tokio::test]
async fn a_flood_of_anything_harms_nobody_but_its_sender() {
    let database = database().await;
    let relay = Relay::start_with(
        &database,
        &[
            ("RELAY_LIMITS__CHANNELS", "20"),
            ("RELAY_LIMITS__CONNECTION_JOINS_PER_SECOND", "1"),
            ("RELAY_LIMITS__MESSAGES_PER_SECOND", "10"),
            ("RELAY_LIMITS__PRESENCE_MESSAGES_PER_SECOND", "1"),
            ("RELAY_LIMITS__PRESENCE_CALLS", "1000"),
        ],
    )
    .await;
    let mut bystanders = Bystanders::join(&relay).await;
    bystanders.are_well(&database, "nothing").await;
    let (join_ref, room) = (json!("1"), "realtime:room");

    let mut client = flooder(&relay).await;
    for number in 0..2_000 {
        let payload = json!({ "event": "noise", "payload": number });
        client.push(&join_ref, room, "broadcast", payload).await;
    }
    let told = client.expect("system").await.payload;
    assert_eq!(told["message"], "Too many messages per second");
    client.flush().await;
    bystanders.are_well(&database, "broadcasts").await;
    assert!(relay.refused("MessageRateLimitReached") > 1_000.0);

    let mut client = flooder(&relay).await;
    for _ in 0..2_000 {
        client.push_binary("room", "e", 1, b"{\"no\":json").await;
        client.push(&join_ref, room, "broadcast", Value::Null).await;
    }
    client.flush().await;
    bystanders.are_well(&database, "broadcasts that are no JSON").await;

    let mut client = flooder(&relay).await;
    for _ in 0..500 {
        for kind in [0, 1, 2, 4, 5] {
            let frame = [&[kind, 1, 1, 13, 5][..], b"12realtime:roomevent{}"].concat();
            client.send(Message::Binary(frame.into())).await;
        }
        client.send_text("[null,null").await;
        client.send_text(r#"["1","2","realtime:room",7,{}]"#).await;
    }
    client.flush().await;
    bystanders.are_well(&database, "frames that mean nothing").await;
    assert!(relay.refused("MalformedMessage") >= 3_000.0, "{}", relay.refused("MalformedMessage"));

    let mut client = flooder(&relay).await;
    let long = format!("realtime:{}", "é".repeat(128));
    for number in 0..500 {
        for topic in [&*long, &format!("realtime:{number}")] {
            client.push(&join_ref, topic, "phx_join", json!({ "config": {} })).await;
            client.push(&join_ref, topic, "broadcast", json!({})).await;
            client.push(&join_ref, topic, "phx_leave", json!({})).await;
        }
    }
    client.flush().await;
    bystanders.are_well(&database, "joins").await;
    assert!(relay.refused("ConnectionJoinRateLimitReached") > 900.0);

    let mut client = flooder(&relay).await;
    for number in 0..500 {
        let new = token("authenticated", &json!({ "sub": "flooder", "number": number }));
        client.push(&join_ref, room, "access_token", json!({ "access_token": new })).await;
    }
    client.expect("phx_close").await;
    client.flush().await;
    bystanders.are_well(&database, "tokens").await;

    let mut client = flooder(&relay).await;
    for number in 0..500 {
        let payload = json!({ "event": "track", "payload": { "number": number } });
        client.push(&join_ref, room, "presence", payload).await;
        client.push(&join_ref, room, "presence", json!({ "event": "track", "payload": [] })).await;
    }
    let told = client.expect("system").await.payload;
    assert_eq!(told["message"], "Too many presence messages per second");
    client.flush().await;
    bystanders.are_well(&database, "presence messages").await;
}

#[tokio::test]
async fn a_thousand_channels_on_ten_sockets_keep_their_heartbeats_under_load() {
    const SAID: usize = 3_000;
    let rate = [("RELAY_LIMITS__MESSAGES_PER_SECOND", "100000")];
    let relay = Relay::start_with(&database().await, &rate).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = Client::connect(&relay, &token_of("ann")).await;
        for number in 0..100 {
            let reply = client.join(&format!("room:{number}"), json!({ "config": {} })).await;
            assert_eq!(reply["status"], "ok", "{number}");
        }
        clients.push(client);
    }
    assert!((relay.metric("relay_channels") - 1_000.0).abs() < f64::EPSILON);
    let mut speaker = Client::connect(&relay, &anon()).await;
    for number in 0..100 {
        speaker.join(&format!("room:{number}"), json!({ "config": {} })).await;
    }
    let speaking = tokio::spawn(async move {
        for said in 0..SAID {
            let topic = format!("realtime:room:{}", said % 100);
            let payload = json!({ "event": "load", "payload": { "said": said } });
            speaker.push(&json!("1"), &topic, "broadcast", payload).await;
            if said % 100 == 0 {
                speaker.flush().await;
            }
        }
        speaker.flush().await;
    });
    let listening = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            let (mut heard, mut beats) = (Vec::new(), 0);
            while heard.len() < SAID {
                // Returns when the heartbeat is answered, with what came meanwhile.
                let came = client.flush().await;
                heard.extend(came.iter().map(|came| came.payload["payload"]["said"].clone()));
                beats += 1;
            }
            (heard, beats)
        })
    });
    for listening in listening.collect::<Vec<_>>() {
        let (heard, beats) = listening.await.unwrap();
        assert!(beats > 1);
        assert_eq!(heard, (0..SAID).map(|said| json!(said)).collect::<Vec<_>>());
    }
    speaking.await.unwrap();
}

#[tokio::test]
async fn frames_that_say_nothing_end_the_socket_of_whoever_sends_too_many() {
    let database = database().await;
    let relay = Relay::start_with(&database, &[("RELAY_LIMITS__FRAMES_PER_SECOND", "50")]).await;
    let mut bystanders = Bystanders::join(&relay).await;
    let (join_ref, room) = (json!("1"), "realtime:room");
    for kind in ["heartbeats", "unknown events", "no messages", "pings"] {
        let mut client = flooder(&relay).await;
        let closed = relay.metric("relay_closed_total{reason=\"flood\"}");
        for _ in 0..20_000 {
            let sent = match kind {
                "heartbeats" => {
                    client.try_push(&Value::Null, "phoenix", "heartbeat", json!({})).await.is_ok()
                }
                "unknown events" => {
                    client.try_push(&join_ref, room, "nonsense", json!({})).await.is_ok()
                }
                "no messages" => client.try_send(Message::Text("[".into())).await,
                _ => client.try_send(Message::Ping(Vec::new().into())).await,
            };
            if !sent {
                break;
            }
        }
        until("the flood to be closed", || {
            let now = relay.metric("relay_closed_total{reason=\"flood\"}");
            std::future::ready((now > closed + 0.5).then_some(()))
        })
        .await;
        bystanders.are_well(&database, kind).await;
    }
    assert!(relay.refused("FrameRateLimitReached") > 3.5);
}

#[tokio::test]
async fn sockets_that_flood_together_are_closed_and_a_quiet_one_of_the_same_caller_is_not() {
    let rates = [("RELAY_LIMITS__SUBJECT_FRAMES_PER_SECOND", "100")];
    let relay = Relay::start_with(&database().await, &rates).await;
    let mut quiet = flooder(&relay).await;
    let mut loud = Vec::new();
    for _ in 0..4 {
        loud.push(flooder(&relay).await);
    }
    let closed = || relay.metric("relay_closed_total{reason=\"flood\"}");
    for _ in 0..1_000 {
        for client in &mut loud {
            let _ = client.try_push(&Value::Null, "phoenix", "heartbeat", json!({})).await;
        }
    }
    until("the flooding sockets to be closed", || {
        std::future::ready((closed() > 3.5).then_some(()))
    })
    .await;
    assert!(relay.refused("SubjectFrameRateLimitReached") > 3.5);
    for _ in 0..10 {
        quiet.flush().await;
    }
    assert!(closed() < 4.5);
}
