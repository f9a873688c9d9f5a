//! What one client may use, and that nobody else notices when it uses more.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::relay::token;
use crate::support::{Client, Cluster, Database, Relay, until};

async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database
        .execute(
            "create table notes (id int primary key, body text);
             alter publication supabase_realtime add table notes;",
        )
        .await;
    database
}

fn anon() -> String {
    token("anon", &json!({}))
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
    let database = database().await;
    let relay = Relay::start_with(&database, &[("RELAY_LIMITS__IDLE", "1s")]).await;
    let mut silent = Client::connect(&relay, &anon()).await;
    let mut alive = Client::connect(&relay, &anon()).await;
    let code = {
        let closed = silent.closed();
        tokio::pin!(closed);
        loop {
            let pause = tokio::time::sleep(std::time::Duration::from_millis(200));
            tokio::select! {
                code = &mut closed => break code,
                () = pause => assert_eq!(alive.flush().await.len(), 0),
            }
        }
    };
    assert_eq!(code, Some(1000));
    assert_eq!(alive.flush().await.len(), 0);
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
