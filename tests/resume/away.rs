//! What is handed out while Postgres cannot be reached.

use serde_json::Value;

use super::{anon, insert, prepare_on, until_row, wishes};
use crate::support::{Client, Cluster, Relay, until};

/// What waits in the relay is handed out a second later.
const HELD: (&str, &str) = ("RELAY_REALTIME__HOLD", "1s");

#[tokio::test(flavor = "multi_thread")]
async fn ids_stay_what_they_are_while_postgres_cannot_be_reached() {
    let cluster = Cluster::start(&[]);
    let database = prepare_on(&cluster).await;
    let mut relay = Relay::start_with(&database, &[HELD]).await;
    let mut client = Client::connect(&relay, &anon()).await;
    client.subscribe("room", wishes(&Value::Null)).await;
    insert(&database, 1..=1).await;
    let first = until_row(&mut client, 1).await[0]["id"].clone();
    let epoch = |id: &Value| id.as_str().unwrap().split(':').next().unwrap().to_owned();
    // A row that was handed out before the source was away shows nothing: then another.
    for id in 2..20 {
        let received = relay.metric("relay_changes_total");
        database.execute("alter role relay nologin").await;
        insert(&database, id..=id).await;
        until("the change to be received", || async {
            (received < relay.metric("relay_changes_total")).then_some(())
        })
        .await;
        database.execute("select pg_terminate_backend(active_pid) from pg_replication_slots").await;
        until("the source to be away", || async { (relay.get("/readyz").0 == 503).then_some(()) })
            .await;
        let came_before = client.flush().await;
        if !came_before.is_empty() {
            database.execute("alter role relay login").await;
            relay.ready().await;
            continue;
        }
        let last = i64::from(id);
        let second = until_row(&mut client, last).await[0]["id"].clone();
        assert_eq!(relay.get("/readyz").0, 503, "the test is about a source that is away");
        database.execute("alter role relay login").await;
        assert_eq!(epoch(&first), epoch(&second));
        let mut again = Client::connect(&relay, &anon()).await;
        again.subscribe("room", wishes(&first)).await;
        let rows = until_row(&mut again, last).await;
        assert_eq!(rows.last().unwrap()["id"], second, "and it is the same for everybody");
        return;
    }
    panic!("no row came while the source was away");
}
