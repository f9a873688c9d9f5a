//! A table that leaves the publication while somebody is subscribed to it: its subscribers are told, and told again
//! when it is back.

use serde_json::{Value, json};

use crate::support::relay::token;
use crate::support::{Client, Cluster, Database, Relay};

async fn scene() -> (Database, Relay) {
    let database = Cluster::shared().database().await.with_roles().await;
    let sql = "create table notes (id bigint primary key);
               create table other (id bigint primary key);
               alter publication supabase_realtime add table notes, other;";
    database.execute(sql).await;
    let relay = Relay::start(&database).await;
    (database, relay)
}

async fn watch(relay: &Relay, table: &str) -> Client {
    let mut client = Client::connect(relay, &token("anon", &json!({}))).await;
    let wishes = json!([{ "event": "*", "schema": "public", "table": table }]);
    client.subscribe("room", wishes).await;
    client
}

/// The next `system` message: extension, status and text.
async fn told(client: &mut Client) -> (Value, Value, String) {
    let mut payload = client.expect("system").await.payload;
    let text = payload["message"].as_str().unwrap().to_owned();
    (payload["extension"].take(), payload["status"].take(), text)
}

#[tokio::test]
async fn subscribers_are_told_when_their_table_leaves_and_when_it_is_back() {
    let (database, relay) = scene().await;
    let (mut one, mut all) = (watch(&relay, "notes").await, watch(&relay, "*").await);
    let mut bystander = watch(&relay, "other").await;
    // Wildcards are compared with what was there before.
    database.execute("insert into notes values (1)").await;
    all.change().await;
    until_watched(&relay).await;
    database.execute("alter publication supabase_realtime drop table notes").await;
    for client in [&mut one, &mut all] {
        let (extension, status, text) = told(client).await;
        assert_eq!((extension, status), (json!("postgres_changes"), json!("error")));
        assert!(text.starts_with("Changes of public.notes are not delivered any more"), "{text}");
        assert!(text.contains("\"supabase_realtime\""), "{text}");
    }
    assert!((relay.metric("relay_gaps_total{reason=\"unpublished\"}") - 1.0).abs() < f64::EPSILON);
    database.execute("insert into notes values (2)").await;
    database.execute("alter publication supabase_realtime add table notes").await;
    for client in [&mut one, &mut all] {
        let (extension, status, text) = told(client).await;
        assert_eq!((extension, status), (json!("postgres_changes"), json!("ok")));
        assert!(text.starts_with("Changes of public.notes are delivered again"), "{text}");
    }
    database.execute("insert into notes values (3)").await;
    assert_eq!(one.change().await["record"]["id"], 1);
    assert_eq!(one.change().await["record"]["id"], 3);
    assert!(bystander.flush().await.iter().all(|received| received.event != "system"));
}

#[tokio::test]
async fn subscribers_of_a_table_that_is_dropped_are_told() {
    let (database, relay) = scene().await;
    let mut client = watch(&relay, "notes").await;
    database.execute("drop table notes").await;
    let (_, status, text) = told(&mut client).await;
    assert_eq!(status, json!("error"), "{text}");
    let sql = "create table notes (id bigint primary key);
               alter publication supabase_realtime add table notes";
    database.execute(sql).await;
    let (_, status, text) = told(&mut client).await;
    assert_eq!(status, json!("ok"), "{text}");
}

/// Waits until the relay has looked at what is published since somebody asked for everything.
async fn until_watched(relay: &Relay) {
    let looks = || relay.log_text().matches("looked at the published tables").count();
    let before = looks();
    crate::support::until("a look at the published tables", || async {
        (before + 2 <= looks()).then_some(())
    })
    .await;
}
