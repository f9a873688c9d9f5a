//! A relay that is told to stop: everybody is sent away in turn, and nobody without what was queued for it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::relay::anon;
use crate::support::{Client, Cluster, Database, Relay, until};

async fn database() -> Database {
    let columns = "id bigint primary key, body text";
    Cluster::shared().database().await.with_roles().await.with_table("notes", columns).await
}

fn notes() -> Value {
    json!([{ "event": "*", "schema": "public", "table": "notes" }])
}

/// The rows a client still gets, and the code it is closed with.
async fn rest(client: &mut Client) -> (BTreeSet<i64>, Option<u16>) {
    let mut ids = BTreeSet::new();
    let code = loop {
        match client.receive_or_close().await {
            Ok(received) if received.event == "postgres_changes" => {
                ids.insert(received.payload["data"]["record"]["id"].as_i64().unwrap());
            }
            Ok(_) => {}
            Err(code) => break code,
        }
    };
    (ids, code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_clients_leave_in_turn_with_everything_that_was_queued() {
    const CLIENTS: usize = 300;
    const ROWS: i64 = 50;
    let database = database().await;
    let mut relay = Relay::start(&database).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(&relay, &anon()).await;
        client.subscribe("room", notes()).await;
        clients.push(client);
    }
    let sql =
        format!("insert into notes select i, repeat('x', 200) from generate_series(1, {ROWS}) i");
    database.execute(&sql).await;
    let queued = (CLIENTS as f64) * (ROWS as f64);
    until("every row to be queued for everybody", || async {
        (queued <= relay.metric("relay_deliveries_total")).then_some(())
    })
    .await;
    relay.signal("TERM");
    let leaving = clients.into_iter().map(|mut client| async move {
        let (ids, code) = rest(&mut client).await;
        assert_eq!(ids.len(), usize::try_from(ROWS).unwrap());
        assert_eq!(code, Some(1012));
    });
    futures_util::future::join_all(leaving).await;
    assert_eq!(relay.terminate().await, Some(0));
}

#[tokio::test]
async fn a_client_that_lags_gets_what_was_queued_before_it_is_closed() {
    const ROWS: i64 = 600;
    let database = database().await;
    let mut relay = Relay::start_with(&database, &[("RELAY_LIMITS__OUTBOX", "64 MiB")]).await;
    let mut client = Client::connect(&relay, &anon()).await;
    client.subscribe("room", notes()).await;
    // More than the kernel holds for a client that does not read.
    let sql =
        format!("insert into notes select i, repeat('x', 20000) from generate_series(1, {ROWS}) i");
    database.execute(&sql).await;
    until("every row to be queued", || async {
        (ROWS as f64 <= relay.metric("relay_deliveries_total")).then_some(())
    })
    .await;
    relay.signal("TERM");
    until("the relay to take no more connections", || async {
        crate::support::relay::get(relay.port(), "/healthz").is_none().then_some(())
    })
    .await;
    let (ids, code) = rest(&mut client).await;
    assert_eq!((ids, code), ((1..=ROWS).collect(), Some(1012)));
    assert_eq!(relay.terminate().await, Some(0));
}

#[tokio::test]
async fn who_waits_for_its_turn_joins_nothing_more_and_still_gets_changes() {
    let database = database().await;
    // Batches are of 25, a tenth of a second apart: whoever came last has its turn later the more there are. Where it came
    // before the client could say anything, that shows nothing: then once more with more of them.
    for (id, others) in (1..).zip([400, 800, 800, 800]) {
        let mut relay = Relay::start(&database).await;
        let mut clients = Vec::new();
        for _ in 0..others {
            let mut client = Client::connect(&relay, &anon()).await;
            client.join("room", json!({ "config": {} })).await;
            clients.push(client);
        }
        let mut last = Client::connect(&relay, &anon()).await;
        last.subscribe("changes", notes()).await;
        relay.signal("TERM");
        until("the relay to take no more connections", || async {
            crate::support::relay::get(relay.port(), "/healthz").is_none().then_some(())
        })
        .await;
        let (refused, ids, code) = last_words(&mut last, &database, id).await;
        assert_eq!(relay.terminate().await, Some(0));
        if let Some(reason) = refused
            && ids == [id].into()
        {
            assert!(reason.starts_with("RealtimeRestarting"), "{reason}");
            assert_eq!(code, Some(1012));
            return;
        }
    }
    panic!("it never was refused and got a row before its turn");
}

/// What a client is refused with that joins while it waits for its turn to go, the rows that still come, and how it ends.
async fn last_words(
    client: &mut Client,
    database: &Database,
    id: i64,
) -> (Option<String>, BTreeSet<i64>, Option<u16>) {
    let payload = json!({ "config": {} });
    let join = json!("late");
    if client.try_push(&join, "realtime:late", "phx_join", payload).await.is_err() {
        return (None, BTreeSet::new(), Some(1012));
    }
    database.execute(&format!("insert into notes values ({id})")).await;
    let (mut ids, mut refused) = (BTreeSet::new(), None);
    loop {
        match client.receive_or_close().await {
            Ok(received) if received.event == "postgres_changes" => {
                ids.insert(received.payload["data"]["record"]["id"].as_i64().unwrap());
            }
            Ok(received) if received.event == "phx_reply" => {
                assert_eq!(received.payload["status"], "error", "{received:?}");
                let reason = received.payload["response"]["reason"].as_str().unwrap();
                refused = Some(reason.to_owned());
            }
            Ok(_) => {}
            Err(code) => return (refused, ids, code),
        }
    }
}
