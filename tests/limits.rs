//! What one client may use, and that nobody else notices when it uses more.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::relay::{anon, token, token_of};
use crate::support::{Client, Cluster, Database, Relay, until};

async fn database() -> Database {
    let columns = "id int primary key, body text";
    Cluster::shared().database().await.with_roles().await.with_table("notes", columns).await
}

fn notes() -> Value {
    json!([{ "event": "INSERT", "schema": "public", "table": "notes" }])
}

#[tokio::test]
async fn a_frame_over_the_limit_closes_its_socket_and_no_other() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut other = Client::connect(&relay, &anon()).await;
    other.subscribe("room", notes()).await;

    let mut fits = Client::connect(&relay, &anon()).await;
    fits.send(Message::Text("x".repeat(5_000_000).into())).await;
    assert_eq!(fits.flush().await.len(), 0);

    let mut large = Client::connect(&relay, &anon()).await;
    large.send(Message::Text("x".repeat(5_000_001).into())).await;
    assert_eq!(large.closed().await, Some(1009));

    database.execute("insert into notes values (1)").await;
    assert_eq!(other.change().await["record"]["id"], 1);
}

#[tokio::test]
async fn a_socket_has_a_hundred_channels() {
    let relay = Relay::start(&database().await).await;
    let mut client = Client::connect(&relay, &anon()).await;
    for number in 0..100 {
        let reply = client.join(&format!("room:{number}"), json!({ "config": {} })).await;
        assert_eq!(reply["status"], "ok", "{number}");
    }
    let reply = client.join("one:more", json!({ "config": {} })).await;
    let reason = "ChannelRateLimitReached: Too many channels";
    assert_eq!(reply, json!({ "status": "error", "response": { "reason": reason } }));
    client.push(&json!("1"), "realtime:room:0", "phx_leave", json!({})).await;
    client.expect("phx_close").await;
    assert_eq!(client.join("one:more", json!({ "config": {} })).await["status"], "ok");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_the_others_miss_nothing() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut slow = Client::connect(&relay, &anon()).await;
    slow.subscribe("room", notes()).await;
    let mut reader = Client::connect(&relay, &anon()).await;
    reader.subscribe("room", notes()).await;
    let closed = "relay_closed_total{reason=\"slow\"}";
    let mut id = 0;
    // The kernel holds megabytes for a client that does not read; the relay's queue fills after that.
    while relay.metric(closed) < 1.0 {
        id += 1;
        assert!(id < 1000, "the slow client is never closed");
        database.execute(&format!("insert into notes values ({id}, repeat('x', 200000))")).await;
        assert_eq!(reader.change().await["record"]["id"], id);
    }
    until("the slow client's socket to be gone", || {
        std::future::ready((relay.metric("relay_connections") < 1.5).then_some(()))
    })
    .await;
    database.execute("insert into notes values (0)").await;
    assert_eq!(reader.change().await["record"]["id"], 0);
    assert_eq!(reader.flush().await.len(), 0);
}

#[tokio::test]
async fn a_silent_client_is_closed_and_one_with_heartbeats_is_not() {
    const LONGEST: Duration = Duration::from_millis(2500);
    let database = database().await;
    let relay = Relay::start_with(&database, &[("RELAY_LIMITS__IDLE", "5s")]).await;
    // A machine that is too busy for a heartbeat in all that time keeps nobody alive, and is tried again.
    for _ in 0..20 {
        let mut silent = Client::connect(&relay, &anon()).await;
        let mut alive = Client::connect(&relay, &anon()).await;
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        let closed = silent.closed();
        tokio::pin!(closed);
        let code = loop {
            let pause = tokio::time::sleep(Duration::from_millis(100));
            tokio::select! {
                code = &mut closed => break code,
                () = pause => {
                    longest = longest.max(last.elapsed());
                    if LONGEST < longest {
                        break None;
                    }
                    last = Instant::now();
                    assert_eq!(alive.flush().await.len(), 0);
                }
            }
        };
        if code.is_some() && last.elapsed() < LONGEST {
            assert_eq!(code, Some(1000));
            assert_eq!(alive.flush().await.len(), 0);
            return;
        }
    }
    panic!("this machine does nothing for seconds");
}

#[tokio::test]
async fn one_socket_more_than_the_limit_is_refused() {
    let database = database().await;
    let relay = Relay::start_with(&database, &[("RELAY_LIMITS__CONNECTIONS", "1")]).await;
    let first = Client::connect(&relay, &anon()).await;
    let query = format!("apikey={}", anon());
    let Err(Error::Http(refused)) = Client::try_connect(&relay, &query, "1.0.0").await else {
        panic!("connected");
    };
    assert_eq!(refused.status(), 429);
    let body = refused.into_body().unwrap();
    assert_eq!(String::from_utf8(body).unwrap(), r#"{"error":"Too many connected users"}"#);
    drop(first);
    until("a seat to be free", || async {
        Client::try_connect(&relay, &query, "1.0.0").await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_client_that_left_costs_nothing_more() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut stays = Client::connect(&relay, &anon()).await;
    stays.subscribe("room", notes()).await;
    let mut leaves = Client::connect(&relay, &anon()).await;
    for id in 0..10 {
        let filter = format!("id=eq.{id}");
        let wish =
            json!([{ "event": "*", "schema": "public", "table": "notes", "filter": filter }]);
        leaves.subscribe(&filter, wish).await;
    }
    let bindings = || relay.metric("relay_bindings");
    assert!((bindings() - 11.0).abs() < f64::EPSILON, "{}", bindings());
    drop(leaves);
    until("its bindings to be gone", || async { (bindings() < 2.0).then_some(()) }).await;
    database.execute("insert into notes values (1)").await;
    assert_eq!(stays.change().await["record"]["id"], 1);
    let left = [relay.metric("relay_connections"), relay.metric("relay_channels"), bindings()];
    assert!(left.iter().all(|left| (left - 1.0).abs() < f64::EPSILON), "{left:?}");
}

#[tokio::test]
async fn joins_over_the_rate_are_refused_and_close_the_socket() {
    let database = database().await;
    let relay = Relay::start_with(&database, &[("RELAY_LIMITS__JOINS_PER_SECOND", "1")]).await;
    let mut client = Client::connect(&relay, &anon()).await;
    let mut refused = Value::Null;
    for number in 0..50 {
        let reply = client.join(&format!("room:{number}"), json!({ "config": {} })).await;
        if reply["status"] == "error" {
            refused = reply["response"]["reason"].clone();
            break;
        }
    }
    assert_eq!(refused, "ClientJoinRateLimitReached: Too many joins per second");
    assert_eq!(client.closed().await, Some(1001));
}

/// A relay with this much for each subject, and a database behind it.
async fn relay_with(settings: &[(&str, &str)]) -> Relay {
    Relay::start_with(&database().await, settings).await
}

/// A socket that was opened for nobody in particular, from an address of its own, and has joined for `sub`; with the
/// reply.
async fn joined_for(relay: &Relay, sub: &str, room: &str) -> (Client, Value) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let address = format!("127.1.{}.{}", next / 250, next % 250 + 1);
    let mut client = Client::connect_from(relay, &address, &anon()).await;
    let config = json!({ "broadcast": { "ack": true }, "presence": { "enabled": true } });
    let payload = json!({ "config": config, "access_token": token_of(sub) });
    let reply = client.join(room, payload).await;
    (client, reply)
}

#[tokio::test]
async fn a_subject_has_so_many_sockets_whether_they_connect_or_join_for_it() {
    let relay = relay_with(&[("RELAY_LIMITS__SUBJECT_CONNECTIONS", "2")]).await;
    let connected = Client::connect(&relay, &token_of("ann")).await;
    let (joined, reply) = joined_for(&relay, "ann", "room").await;
    assert_eq!(reply["status"], "ok");
    let query = format!("apikey={}", token_of("ann"));
    let Err(Error::Http(refused)) = Client::try_connect(&relay, &query, "1.0.0").await else {
        panic!("connected");
    };
    assert_eq!(refused.status(), 429);
    let body = refused.into_body().unwrap();
    assert_eq!(String::from_utf8(body).unwrap(), r#"{"error":"Too many connected users"}"#);
    let (mut third, reply) = joined_for(&relay, "ann", "room").await;
    let reason = "ConnectionRateLimitReached: Too many connected users";
    assert_eq!(reply, json!({ "status": "error", "response": { "reason": reason } }));
    assert!(relay.refused("SubjectConnectionRateLimitReached") >= 2.0);
    // Others have places of their own, on the same socket, too.
    let payload = json!({ "config": {}, "access_token": token_of("bob") });
    assert_eq!(third.join("room", payload).await["status"], "ok");
    for _ in 0..5 {
        assert_eq!(third.join("more", json!({ "config": {} })).await["status"], "ok");
    }
    drop((connected, joined));
    until("a place to be free", || async {
        let (_, reply) = joined_for(&relay, "ann", "room").await;
        (reply["status"] == "ok").then_some(())
    })
    .await;
}

#[tokio::test]
async fn joins_of_a_subject_over_its_rate_are_refused_and_close_nothing() {
    let relay = relay_with(&[("RELAY_LIMITS__SUBJECT_JOINS_PER_SECOND", "1")]).await;
    let mut sockets =
        [joined_for(&relay, "ann", "room").await.0, joined_for(&relay, "ann", "room").await.0];
    let mut refused = Value::Null;
    for number in 0..50 {
        let payload = json!({ "config": {}, "access_token": token_of("ann") });
        let reply = sockets[number % 2].join(&format!("room:{number}"), payload).await;
        if reply["status"] == "error" {
            refused = reply["response"]["reason"].clone();
            break;
        }
    }
    assert_eq!(refused, "ClientJoinRateLimitReached: Too many joins per second");
    assert!(relay.refused("SubjectJoinRateLimitReached") >= 1.0);
    for socket in &mut sockets {
        socket.flush().await;
        assert_eq!(socket.join("anonymous", json!({ "config": {} })).await["status"], "ok");
    }
    assert_eq!(joined_for(&relay, "bob", "room").await.1["status"], "ok");
}

#[tokio::test]
async fn a_subject_over_its_rate_is_refused_on_every_socket_and_by_http_and_others_are_not() {
    let relay = relay_with(&[("RELAY_LIMITS__SUBJECT_MESSAGES_PER_SECOND", "1")]).await;
    let mut listener = Client::connect(&relay, &anon()).await;
    listener.join("room", json!({ "config": {} })).await;
    let mut ann =
        [joined_for(&relay, "ann", "room").await.0, joined_for(&relay, "ann", "room").await.0];
    let (mut bob, _) = joined_for(&relay, "bob", "room").await;
    let say = async |client: &mut Client| {
        let payload = json!({ "event": "e", "payload": {} });
        let reference = client.push(&json!("1"), "realtime:room", "broadcast", payload).await;
        client.reply(&reference).await.payload
    };
    let mut accepted = 0;
    let refused = loop {
        let reply = say(&mut ann[accepted % 2]).await;
        if reply["status"] == "error" {
            break reply;
        }
        accepted += 1;
        assert!(accepted < 1_000, "never refused");
    };
    assert_eq!(refused["response"], json!({ "reason": "Too many messages per second" }));
    let post = |sub: &str| {
        let bearer = format!("Bearer {}", token_of(sub));
        let headers = [("authorization", &*bearer), ("content-type", "application/json")];
        // As much as five seconds allow at once, so that what came back meanwhile does not matter.
        let message = json!({ "topic": "room", "event": "e", "payload": {} });
        let body = json!({ "messages": vec![message; 5] }).to_string();
        relay.request("POST", "/api/broadcast", &headers, body.as_bytes())
    };
    let single = || {
        let bearer = format!("Bearer {}", token_of("ann"));
        let headers = [("authorization", &*bearer), ("content-type", "application/json")];
        relay.request("POST", "/api/broadcast/room/events/e", &headers, b"{}")
    };
    let answer = loop {
        let answer = single();
        if answer.status != 202 {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 1_000, "never refused");
    };
    let text = r#"{"message":"You have exceeded your rate limit"}"#;
    assert_eq!((answer.status, &*answer.body), (429, text));
    let answer = post("ann");
    let text = r#"{"message":"Too many messages to broadcast, please reduce the batch size"}"#;
    assert_eq!((answer.status, &*answer.body), (429, text));
    assert!(relay.refused("SubjectMessageRateLimitReached") >= 3.0);
    assert_eq!(say(&mut bob).await["status"], "ok");
    assert_eq!(post("carol").status, 202);
    let heard = listener.flush().await;
    assert_eq!(heard.len(), accepted + 1 + 5);
    assert!(heard.iter().all(|heard| heard.event == "broadcast"));
}

#[tokio::test]
async fn presence_messages_over_the_rate_are_answered_with_an_error_and_close_nothing() {
    let relay = relay_with(&[
        ("RELAY_LIMITS__CHANNELS", "2"),
        ("RELAY_LIMITS__PRESENCE_CALLS", "1000"),
        ("RELAY_LIMITS__PRESENCE_MESSAGES_PER_SECOND", "1"),
        ("RELAY_LIMITS__SUBJECT_PRESENCE_MESSAGES_PER_SECOND", "1"),
    ])
    .await;
    let (mut first, _) = joined_for(&relay, "ann", "room").await;
    let (mut second, _) = joined_for(&relay, "ann", "room").await;
    let (mut other, _) = joined_for(&relay, "bob", "room").await;
    let track = async |client: &mut Client, number: usize| {
        let payload = json!({ "event": "track", "payload": { "number": number } });
        let reference = client.push(&json!("1"), "realtime:room", "presence", payload).await;
        client.reply(&reference).await.payload
    };
    let text = "Too many presence messages per second";
    let mut number = 0;
    loop {
        let reply = track(&mut first, number).await;
        if reply["status"] == "error" {
            assert_eq!(reply["response"], json!({ "reason": text }));
            break;
        }
        number += 1;
        assert!(number < 1_000, "never refused");
    }
    let told = first.expect("system").await.payload;
    let expected =
        json!({ "extension": "system", "status": "error", "message": text, "channel": "room" });
    assert_eq!(told, expected);
    assert!(relay.refused("PresenceRateLimitReached") >= 1.0);
    // Its other socket spends what is left of the subject.
    while track(&mut second, number).await["status"] == "ok" {
        number += 1;
        assert!(number < 1_000, "never refused");
    }
    assert!(relay.refused("SubjectPresenceRateLimitReached") >= 1.0);
    assert_eq!(track(&mut other, 0).await["status"], "ok");
    for client in [&mut first, &mut second, &mut other] {
        assert!(client.flush().await.iter().all(|received| received.event != "phx_close"));
    }
}

#[tokio::test]
async fn tokens_without_a_subject_share_a_limit_where_they_share_an_address_and_a_role() {
    let relay = relay_with(&[
        ("RELAY_LIMITS__SUBJECT_CONNECTIONS", "1"),
        ("RELAY_LIMITS__SUBJECT_MESSAGES_PER_SECOND", "1"),
    ])
    .await;
    let service = token("service_role", &json!({}));
    let mut clients = Vec::new();
    for (address, token) in [
        ("127.0.0.1", anon()),
        ("127.0.0.2", anon()),
        ("127.0.0.1", service),
        ("127.0.0.3", anon()),
    ] {
        let mut client = Client::connect_from(&relay, address, &token).await;
        let config = json!({ "config": { "broadcast": { "ack": true } } });
        assert_eq!(client.join("room", config).await["status"], "ok", "{address}");
        // As many as a caller may say at once.
        for said in 0..5 {
            let reference = client.push(&json!("1"), "realtime:room", "broadcast", json!({})).await;
            assert_eq!(client.reply(&reference).await.payload["status"], "ok", "{address} {said}");
        }
        clients.push(client);
    }
    let Err(Error::Http(refused)) = Client::try_connect_from(&relay, "127.0.0.2", &anon()).await
    else {
        panic!("connected");
    };
    assert_eq!(refused.status(), 429);
}

#[tokio::test]
async fn joins_of_one_caller_on_many_sockets_use_up_its_own_and_not_everybodys() {
    let relay = relay_with(&[
        ("RELAY_LIMITS__JOINS_PER_SECOND", "20"),
        ("RELAY_LIMITS__SUBJECT_JOINS_PER_SECOND", "2"),
    ])
    .await;
    for _ in 0..10 {
        let mut flooding = Client::connect_from(&relay, "127.0.0.2", &anon()).await;
        for number in 0..30 {
            let topic = format!("realtime:room:{number}");
            flooding.push(&json!("1"), &topic, "phx_join", json!({ "config": {} })).await;
        }
        flooding.flush().await;
    }
    assert!(relay.refused("SubjectJoinRateLimitReached") >= 200.0);
    let mut canary = Client::connect(&relay, &anon()).await;
    for number in 0..5 {
        let reply = canary.join(&format!("room:{number}"), json!({ "config": {} })).await;
        assert_eq!(reply["status"], "ok", "{number}");
    }
    assert!(relay.refused("ClientJoinRateLimitReached") < 0.5);
}

#[tokio::test]
async fn a_relay_without_joins_left_takes_no_socket() {
    let relay = relay_with(&[("RELAY_LIMITS__JOINS_PER_SECOND", "1")]).await;
    let query = format!("apikey={}", anon());
    let mut clients = Vec::new();
    // Each takes a join, until there is none for the next to begin with.
    let refused = loop {
        match Client::try_connect(&relay, &query, "1.0.0").await {
            Ok(mut client) => {
                client
                    .push(&json!("1"), "realtime:room", "phx_join", json!({ "config": {} }))
                    .await;
                client.reply("1").await;
                clients.push(client);
            }
            Err(Error::Http(refused)) => break refused,
            Err(error) => panic!("{error}"),
        }
        assert!(clients.len() < 1_000, "never refused");
    };
    assert_eq!(refused.status(), 429);
    let body = refused.into_body().unwrap();
    assert_eq!(String::from_utf8(body).unwrap(), r#"{"error":"Too many joins per second"}"#);
}
