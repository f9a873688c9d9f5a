//! Whom the socket of the guest relations chat lets in, and when it sends them away.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use super::gre::{Socket, database};
use super::{ANN, MALLORY, VERA, relay};
use crate::support::relay::{token, token_of};
use crate::support::{Client, Relay, until};

/// The status a socket was refused with.
async fn refused(relay: &Relay) -> u16 {
    match Socket::try_open(relay).await {
        Err(Error::Http(answer)) => {
            assert_eq!(answer.headers()["retry-after"], "1");
            answer.status().as_u16()
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn authenticate(sub: &str) -> Value {
    json!({ "type": "authenticate", "token": token_of(sub) })
}

#[tokio::test]
async fn a_relay_that_stands_by_sends_sockets_away_and_lets_none_in() {
    let database = database().await;
    let preset = [("RELAY_CHAT__PRESET", "gre")];
    let first = Relay::start_with(&database, &preset).await;
    let mut second = Relay::prepare(&database, &preset);
    second.launch();
    let mut vera = Socket::authenticated(&first, &token_of(VERA), "player").await;
    vera.expect("chat_history").await;
    first.signal("STOP");
    second.ready().await;
    first.signal("CONT");
    assert_eq!(vera.next().await.unwrap_err(), "the server is going away");
    assert_eq!(refused(&first).await, 503);
    assert!(first.refused("Standby") >= 1.0);
    Socket::authenticated(&second, &token_of(VERA), "player").await.expect("chat_history").await;
}

#[tokio::test]
async fn sockets_connect_again_when_somebody_who_may_asks_for_it() {
    let database = database().await;
    let relay = relay(&database, "gre", &[]).await;
    let mut vera = Socket::authenticated(&relay, &token_of(VERA), "player").await;
    vera.expect("chat_history").await;
    let bearer = format!("Bearer {}", token("service_role", &json!({})));
    let headers = [("authorization", &*bearer)];
    assert_eq!(relay.request("POST", "/api/tenants/a/reload", &headers, b"").status, 204);
    assert_eq!(vera.next().await.unwrap_err(), "the server is going away");
    let mut again = Socket::authenticated(&relay, &token_of(VERA), "player").await;
    again.expect("chat_history").await;
    again.say(json!({ "type": "ping" })).await;
    again.expect("pong").await;
}

#[tokio::test]
async fn saying_who_one_is_is_a_request_like_any_other() {
    let database = database().await;
    let relay = relay(&database, "gre", &[("RELAY_CHAT__REQUESTS_PER_SECOND", "1")]).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let mut socket = Socket::open(&relay).await;
        socket.say(authenticate(VERA)).await;
        statuses.push(socket.next().await.unwrap()["status"].as_u64());
    }
    assert_eq!(statuses[0], None);
    assert!(statuses.contains(&Some(429)), "{statuses:?}");
    let mut other = Socket::authenticated(&relay, &token_of(MALLORY), "player").await;
    other.expect("chat_history").await;
}

#[tokio::test]
async fn silent_sockets_of_one_address_keep_no_newcomer_out() {
    let database = database().await;
    let relay = relay(&database, "gre", &[]).await;
    let mut silent = Vec::new();
    let refused = loop {
        match Socket::try_open_from(&relay, "127.0.0.2").await {
            Ok(socket) => silent.push(socket),
            Err(Error::Http(answer)) => break answer.status().as_u16(),
            Err(error) => panic!("{error}"),
        }
        assert!(silent.len() < 1000, "never refused");
    };
    assert_eq!((refused, silent.len()), (429, 128));
    assert!(relay.refused("AddressChatStrangersLimitReached") > 0.5);
    let mut vera = Socket::authenticated(&relay, &token_of(VERA), "player").await;
    vera.expect("chat_history").await;
    // A flood of what means nothing, or of pings, ends its socket only.
    let mut flood = Socket::open(&relay).await;
    for _ in 0..6_000 {
        if !flood.try_say(json!({ "type": "ping" })).await {
            break;
        }
    }
    until("the flood to be closed", || async {
        (relay.metric("relay_closed_total{reason=\"flood\"}") > 0.5).then_some(())
    })
    .await;
    vera.say(json!({ "type": "ping" })).await;
    vera.expect("pong").await;
}

#[tokio::test]
async fn strangers_take_no_seats_and_the_seats_are_everybodys() {
    let database = database().await;
    let settings = [("RELAY_LIMITS__CONNECTIONS", "3"), ("RELAY_LIMITS__SUBJECT_CONNECTIONS", "1")];
    let relay = relay(&database, "gre", &settings).await;
    let mut strangers = Vec::new();
    // All of them have 16, and one address a few.
    for number in 0..16 {
        let address = format!("127.0.0.{}", 2 + number / 4);
        strangers.push(Socket::open_from(&relay, &address).await);
    }
    assert_eq!(refused(&relay).await, 429);
    assert!(relay.metric("relay_connections").abs() < f64::EPSILON);
    let connect = async |sub: &str| {
        let query = format!("apikey={}&vsn=2.0.0", token_of(sub));
        Client::try_connect(&relay, &query, "2.0.0").await
    };
    let _mallory = connect(MALLORY).await.unwrap();
    // Who said who they are makes room for another stranger.
    let mut vera = strangers.pop().unwrap();
    vera.say(authenticate(VERA)).await;
    vera.expect("authenticated").await;
    vera.expect("chat_history").await;
    strangers.push(Socket::open(&relay).await);
    // A subject has its seats at every door.
    assert!(connect(VERA).await.is_err());
    let mut late = strangers.pop().unwrap();
    for (sub, kind) in [(VERA, "error"), (MALLORY, "error"), (ANN, "authenticated")] {
        late.say(authenticate(sub)).await;
        late.expect(kind).await;
    }
    // All seats are taken.
    let mut last = strangers.pop().unwrap();
    last.say(json!({ "type": "authenticate", "token": token("anon", &json!({})), "as": "gre" }))
        .await;
    assert_eq!(last.expect("error").await["status"], 429);
    drop((vera, late));
    until("their seats to be free", || async {
        (relay.metric("relay_connections") < 1.5).then_some(())
    })
    .await;
    connect(VERA).await.unwrap();
}
