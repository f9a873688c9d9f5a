//! What clients make the relay hold: each kind has a limit for one caller and for all, whoever is over it is told and
//! counted, and a canary at another address is served all the while.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::relay::anon;
use crate::support::{Client, Cluster, Database, PATIENCE, Relay, until};

/// The address of the clients that take too much; the others are at 127.0.0.1.
const ELSEWHERE: &str = "127.0.0.2";

/// The pause between two writes of a client that writes slowly: the clients stay within their rate of messages.
const WRITE_INTERVAL: Duration = Duration::from_millis(20);

async fn database() -> Database {
    let columns = "id int primary key, body text";
    Cluster::shared().database().await.with_roles().await.with_table("notes", columns).await
}

/// A relay whose clients may hold 16 MiB.
async fn relay(database: &Database) -> Relay {
    Relay::start_with(
        database,
        &[
            ("RELAY_LIMITS__MEMORY", "16 MiB"),
            ("RELAY_LIMITS__FRAME", "600 KiB"),
            ("RELAY_LIMITS__BROADCAST_PAYLOAD", "550 KiB"),
        ],
    )
    .await
}

fn held(relay: &Relay, kind: &str) -> f64 {
    relay.metric(&format!("relay_memory_bytes{{kind=\"{kind}\"}}"))
}

/// Waits until something was refused with this code more often than so many times.
async fn refused_more_often(relay: &Relay, code: &str, times: f64) {
    until(&format!("more than {times} refusals with {code}"), || {
        std::future::ready((relay.refused(code) > times).then_some(()))
    })
    .await;
}

/// Asserts that no more bytes of a kind are held than this.
#[track_caller]
fn assert_held_within(relay: &Relay, kind: &str, bytes: u32) {
    let held = held(relay, kind);
    assert!(held <= f64::from(bytes), "{held}");
}

/// Waits until nothing of a kind is held any more.
async fn given_back(relay: &Relay, kind: &str) {
    until("what was held to be given back", || {
        std::future::ready((held(relay, kind) < 0.5).then_some(()))
    })
    .await;
}

/// The head of a client's frame, masked with zeroes.
fn head(opcode: u8, length: u64) -> Vec<u8> {
    [&[opcode, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat()
}

/// Somebody who joins, says something large and hears it.
async fn canary(relay: &Relay) -> Client {
    let mut client = Client::connect(relay, &anon()).await;
    let config = json!({ "config": { "broadcast": { "self": true, "ack": true } } });
    assert_eq!(client.join("room", config).await["status"], "ok");
    client
}

async fn is_served(client: &mut Client, bytes: usize) {
    let said = json!({ "event": "e", "payload": { "text": "x".repeat(bytes) } });
    let reference = client.push(&json!("1"), "realtime:room", "broadcast", said).await;
    let heard = client.find("its own words", |heard| heard.event == "broadcast").await;
    assert_eq!(heard.payload["payload"]["text"].as_str().unwrap().len(), bytes);
    assert_eq!(client.reply(&reference).await.payload["status"], "ok");
}

#[tokio::test]
async fn unfinished_messages_of_one_address_are_bounded_together_and_nobody_else_notices() {
    // A caller may hold a quarter of 3 MiB.
    let relay = relay(&database().await).await;
    let mut canary = canary(&relay).await;
    let mut sockets = Vec::new();
    for opcode in [0x81, 0x01].into_iter().cycle().take(20) {
        let mut socket = Client::connect_from(&relay, ELSEWHERE, &anon()).await;
        // A text, and a fragment of one: both announce more than comes.
        socket.write_raw(&head(opcode, 600_000)).await;
        // Whoever is over the limit is closed while it still writes.
        socket.write_raw(&vec![b'x'; 300 << 10]).await;
        sockets.push(socket);
    }
    refused_more_often(&relay, "SubjectMessageMemoryReached", 17.5).await;
    assert_held_within(&relay, "messages", 768 << 10);
    is_served(&mut canary, 500_000).await;
    let mut last = Client::connect_from(&relay, ELSEWHERE, &anon()).await;
    last.write_raw(&head(0x81, 600_000)).await;
    last.write_raw(&vec![b'x'; 300 << 10]).await;
    assert_eq!(last.closed().await, Some(1008));
    assert!(relay.metric("relay_closed_total{reason=\"unfinished\"}") > 17.5);
    drop(sockets);
    given_back(&relay, "messages").await;
}

#[tokio::test]
async fn a_message_that_trickles_ends_its_socket_whatever_comes_between_its_parts() {
    let relay = Relay::start_with(&database().await, &[("RELAY_LIMITS__FRAME_TIME", "2s")]).await;
    let mut canary = canary(&relay).await;
    let mut trickling = Client::connect(&relay, &anon()).await;
    assert!(trickling.write_raw(&head(0x81, 1000)).await);
    let mut fragments = Client::connect(&relay, &anon()).await;
    assert!(fragments.write_raw(&head(0x01, 1)).await && fragments.write_raw(b"x").await);
    // Signs of life, and a further part of one byte, do not count.
    while fragments.write_raw(&[0x89, 0x80, 0, 0, 0, 0]).await
        && fragments.write_raw(&head(0x00, 1)).await
        && fragments.write_raw(b"x").await
        && trickling.write_raw(b"x").await
        && relay.metric("relay_closed_total{reason=\"unfinished\"}") < 1.5
    {
        tokio::time::sleep(WRITE_INTERVAL).await;
        assert_eq!(canary.flush().await.len(), 0);
    }
    until("both to be closed", || {
        let closed = relay.metric("relay_closed_total{reason=\"unfinished\"}");
        std::future::ready((closed > 1.5).then_some(()))
    })
    .await;
    is_served(&mut canary, 100_000).await;
    assert_eq!(canary.flush().await.len(), 0);
}

#[tokio::test]
async fn bodies_that_stand_still_take_the_share_of_their_sender_only() {
    let relay = relay(&database().await).await;
    let mut listener = canary(&relay).await;
    let path = "/api/broadcast/room/events/e";
    let mut standing = Vec::new();
    for _ in 0..10 {
        let mut stream = relay.dial_from(ELSEWHERE);
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {}\r\n\
             content-type: application/octet-stream\r\ncontent-length: 2000000\r\n\r\n",
            anon()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // Whoever is over the limit is answered while it still writes.
        let _ = stream.write_all(&vec![0; 200 << 10]);
        standing.push(stream);
    }
    refused_more_often(&relay, "SubjectBodyMemoryReached", 6.5).await;
    assert_held_within(&relay, "bodies", 768 << 10);
    let bearer = format!("Bearer {}", anon());
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    let body = json!({ "text": "x".repeat(500_000) }).to_string();
    let answer = relay.request("POST", path, &headers, body.as_bytes());
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(listener.expect("broadcast").await.payload["event"], "e");
    // Which of them are refused is for the relay to say.
    let is_told = |stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let mut answer = [0; 12];
        stream.peek(&mut answer).is_ok_and(|read| answer[..read] == *b"HTTP/1.1 503")
    };
    until("those that are refused to be told", || {
        let told = standing.iter().filter(|stream| is_told(stream)).count();
        std::future::ready((told > 6).then_some(()))
    })
    .await;
    drop(standing);
    given_back(&relay, "bodies").await;
}

#[tokio::test]
async fn channels_and_subscriptions_of_one_caller_are_bounded_and_refused_by_name() {
    // A caller may hold a quarter of 4 MiB.
    let relay = relay(&database().await).await;
    let mut canary = Client::connect(&relay, &anon()).await;
    let wish = |body: usize| {
        let filter = format!("body=eq.{}", "x".repeat(body));
        json!([{ "event": "INSERT", "schema": "public", "table": "notes", "filter": filter }])
    };
    let mut socket = Client::connect_from(&relay, ELSEWHERE, &anon()).await;
    for number in 0..4 {
        socket.subscribe(&number.to_string(), wish(60_000)).await;
    }
    let config = json!({ "config": { "postgres_changes": wish(60_000) } });
    let reply = socket.join("more", config).await;
    let reason = "MemoryLimitReached: Too much is subscribed to; leave other channels first";
    assert_eq!(reply, json!({ "status": "error", "response": { "reason": reason } }));
    // Empty channels count as well, on whatever socket they are.
    let mut other = Client::connect_from(&relay, ELSEWHERE, &anon()).await;
    let mut joined = 0;
    let refusal = loop {
        let reply = other.join(&format!("room:{joined}"), json!({ "config": {} })).await;
        if reply["status"] != "ok" {
            break reply;
        }
        joined += 1;
    };
    assert_eq!(refusal["response"]["reason"], reason);
    assert!((10..90).contains(&joined), "{joined}");
    assert!(relay.refused("SubjectSubscriptionMemoryReached") > 1.5);
    canary.subscribe("room", wish(60_000)).await;
    drop((socket, other, canary));
    given_back(&relay, "subscriptions").await;
}

#[tokio::test]
async fn patterns_without_memory_are_left_to_postgres_and_decide_the_same() {
    let database = database().await;
    // A caller may hold a quarter of 1 MiB.
    let relay = relay(&database).await;
    let wishes = |prefix: &str| -> Value {
        let wish = |number: usize| {
            let filter = format!("body=match.^{prefix}{number}$");
            json!({ "event": "INSERT", "schema": "public", "table": "notes", "filter": filter })
        };
        (0..40).map(wish).collect()
    };
    let mut many = Client::connect_from(&relay, ELSEWHERE, &anon()).await;
    many.subscribe("room", wishes("many")).await;
    assert_held_within(&relay, "patterns", 256 << 10);
    assert!(relay.refused("SubjectPatternMemoryReached") > 20.5);
    let mut few = Client::connect(&relay, &anon()).await;
    few.subscribe("room", json!([wishes("few")[7]])).await;
    assert!(held(&relay, "patterns") > f64::from(128 << 10));
    database
        .execute(
            "insert into notes select number, 'many' || number from generate_series(0, 50) number;
             insert into notes values (100, 'few7')",
        )
        .await;
    for number in 0..40 {
        assert_eq!(many.change().await["record"]["id"], number);
    }
    assert_eq!(few.change().await["record"]["id"], 100);
    drop((many, few));
    given_back(&relay, "patterns").await;
}

#[tokio::test]
async fn presences_of_one_caller_are_bounded_on_all_its_channels_and_others_are_present() {
    // A caller may hold a quarter of 2 MiB.
    let relay = relay(&database().await).await;
    let mut socket = Client::connect_from(&relay, ELSEWHERE, &anon()).await;
    let track = async |client: &mut Client, room: &str, bytes: usize| {
        let payload = json!({ "event": "track", "payload": { "text": "x".repeat(bytes) } });
        let reference =
            client.push(&json!("1"), &format!("realtime:{room}"), "presence", payload).await;
        client.reply(&reference).await.payload
    };
    let mut refusal = Value::Null;
    for number in 0..10 {
        let room = format!("room:{number}");
        socket.join(&room, json!({ "config": {} })).await;
        refusal = track(&mut socket, &room, 60_000).await;
    }
    let reason = json!({ "reason": "Too much is tracked" });
    assert_eq!(refusal, json!({ "status": "error", "response": reason }));
    assert!(relay.refused("SubjectPresenceMemoryReached") > 4.5);
    assert_held_within(&relay, "presences", 512 << 10);
    let mut canary = Client::connect(&relay, &anon()).await;
    canary.join("room:9", json!({ "config": { "presence": { "key": "canary" } } })).await;
    assert_eq!(track(&mut canary, "room:9", 60_000).await["status"], "ok");
    let present = canary.find("itself", |heard| heard.event == "presence_diff").await;
    assert!(present.payload["joins"]["canary"].is_object());
    // What is tracked no more is given back: there is room again.
    socket.push(&json!("1"), "realtime:room:0", "phx_leave", json!({})).await;
    socket.expect("phx_close").await;
    until("there to be room", || async {
        let held = held(&relay, "presences");
        (held < f64::from(500 << 10)).then_some(())
    })
    .await;
    drop((socket, canary));
    given_back(&relay, "presences").await;
}

#[tokio::test]
async fn headers_that_sockets_keep_are_bounded_and_one_socket_more_is_refused() {
    // A caller may hold a quarter of 2 MiB.
    let relay = relay(&database().await).await;
    let large = "x".repeat(40_000);
    let mut sockets = Vec::new();
    let refusal = loop {
        let headers = [("x-large", &*large)];
        match Client::try_connect_from_with(&relay, ELSEWHERE, &anon(), &headers).await {
            Ok(socket) => sockets.push(socket),
            Err(Error::Http(refused)) => break refused,
            Err(error) => panic!("{error}"),
        }
        assert!(sockets.len() < 20, "never refused");
    };
    assert_eq!(refusal.status(), 429);
    assert!(relay.refused("SubjectSocketMemoryReached") > 0.5);
    let mut canary = canary(&relay).await;
    is_served(&mut canary, 10).await;
    for socket in &mut sockets {
        socket.send(Message::Ping(Vec::new().into())).await;
    }
    drop((sockets, canary));
    given_back(&relay, "sockets").await;
}

#[tokio::test]
async fn what_comes_before_the_handshake_is_answered_is_no_way_around_the_limits() {
    let relay = relay(&database().await).await;
    let mut canary = canary(&relay).await;
    let mut stream = TcpStream::connect(("127.0.0.1", relay.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head_of_request = format!(
        "GET /socket/websocket?apikey={} HTTP/1.1\r\nhost: relay\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nx-large: {}\r\n\r\n",
        anon(),
        "x".repeat(30_000)
    );
    // A long head makes room for much behind it.
    let early = [head_of_request.as_bytes(), &head(0x81, 400_000), &vec![b'x'; 20_000]].concat();
    stream.write_all(&early).unwrap();
    refused_more_often(&relay, "DataBeforeHandshake", 0.5).await;
    // Reset or ended: nothing more comes.
    let _ = stream.read_to_end(&mut Vec::new());
    is_served(&mut canary, 10).await;
}
