//! Order, and exactly once, whatever happens to connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::relay::{QUIET, token};
use crate::support::{Client, Cluster, Database, Relay, until};

async fn database(cluster: &Cluster) -> Database {
    let columns = "id bigserial primary key, writer int, step int";
    cluster.database().await.with_roles().await.with_table("events", columns).await
}

async fn watch(relay: &Relay) -> Client {
    let mut client = Client::connect(relay, &token("anon", &json!({}))).await;
    client
        .subscribe("room", json!([{ "event": "*", "schema": "public", "table": "events" }]))
        .await;
    client
}

#[tokio::test]
async fn changes_keep_their_order_within_and_between_transactions() {
    let database = database(Cluster::shared()).await;
    let relay = Relay::start(&database).await;
    let mut client = watch(&relay).await;
    database.execute("insert into events (step) select generate_series(1, 500)").await;
    for step in 501..=600 {
        database.execute(&format!("insert into events (step) values ({step})")).await;
    }
    for step in 1..=600 {
        assert_eq!(client.change().await["record"]["step"], step);
    }
}

#[tokio::test]
async fn a_large_transaction_reaches_a_client_that_reads() {
    let database = database(Cluster::shared()).await;
    let relay = Relay::start(&database).await;
    let mut client = watch(&relay).await;
    database.execute("insert into events (step) select generate_series(0, 19999)").await;
    for step in 0..20_000 {
        assert_eq!(client.change().await["record"]["step"], step);
    }
}

#[tokio::test]
async fn an_aborted_savepoint_and_a_rolled_back_transaction_are_never_seen() {
    let database = database(Cluster::shared()).await;
    let relay = Relay::start(&database).await;
    let mut client = watch(&relay).await;
    database
        .execute(
            "begin; insert into events (step) values (1); savepoint s; insert into events (step) values (2);
             rollback to s; insert into events (step) values (3); commit;
             begin; insert into events (step) values (4); rollback;",
        )
        .await;
    database.execute("insert into events (step) values (5)").await;
    for step in [1, 3, 5] {
        assert_eq!(client.change().await["record"]["step"], step);
    }
}

#[tokio::test]
async fn everything_written_after_subscribed_arrives() {
    let database = database(Cluster::shared()).await;
    let relay = Relay::start(&database).await;
    let mut client = Client::connect(&relay, &token("anon", &json!({}))).await;
    for step in 0..200 {
        let wishes = json!([{ "event": "*", "schema": "public", "table": "events" }]);
        let room = format!("room-{step}");
        client.join(&room, json!({ "config": { "postgres_changes": wishes } })).await;
        database.execute(&format!("insert into events (step) values ({step})")).await;
        let received = client.expect("postgres_changes").await;
        assert_eq!(received.payload["data"]["record"]["step"], step);
        client.leave(&room).await;
    }
}

/// Writers that commit one row per transaction until the fault is over, which is told how many there are by now; each
/// answers how many it committed.
async fn write_while(
    database: &Database,
    writers: usize,
    fault: impl AsyncFnOnce(&AtomicUsize),
) -> Vec<usize> {
    let (stop, _) = tokio::sync::watch::channel(false);
    let written = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for writer in 0..writers {
        let client = database.connect().await;
        let (stopped, written) = (stop.subscribe(), Arc::clone(&written));
        tasks.push(tokio::spawn(async move {
            let mut step = 0;
            while !*stopped.borrow() {
                let sql = format!("insert into events (writer, step) values ({writer}, {step})");
                client.batch_execute(&sql).await.unwrap();
                step += 1;
                written.fetch_add(1, Ordering::Relaxed);
                // A pace that an unoptimised client keeps up with: slow readers are another test's subject.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            step
        }));
    }
    fault(&written).await;
    stop.send(true).unwrap();
    let mut counts = Vec::new();
    for task in tasks {
        counts.push(task.await.unwrap());
    }
    counts
}

/// Collects the changes that arrive until `until` is over and everything on its way has arrived.
async fn collect<F: Future<Output = Vec<usize>>>(
    client: &mut Client,
    until: F,
) -> (Vec<Value>, Vec<usize>) {
    tokio::pin!(until);
    let mut changes = Vec::new();
    let counts = loop {
        tokio::select! {
            counts = &mut until => break counts,
            received = client.receive() => changes.push(received.expect("the socket stays open")),
        }
    };
    let mut data: Vec<_> =
        changes.into_iter().map(|mut received| received.payload["data"].take()).collect();
    while data.len() < counts.iter().sum() {
        data.push(client.change().await);
    }
    tokio::time::sleep(QUIET).await;
    assert!(client.flush().await.is_empty(), "more arrived than was written");
    (data, counts)
}

/// Asserts that these are every writer's rows, each once, in order.
fn assert_exactly(changes: &[Value], counts: &[usize]) {
    let mut next = vec![0; counts.len()];
    let mut ids = std::collections::HashSet::new();
    for data in changes {
        let writer = usize::try_from(data["record"]["writer"].as_u64().unwrap()).unwrap();
        assert_eq!(data["record"]["step"], next[writer], "writer {writer}");
        assert!(ids.insert(data["id"].as_str().unwrap()), "an id came twice");
        next[writer] += 1;
    }
    assert_eq!(next, counts);
}

#[tokio::test]
async fn killing_the_walsender_every_half_second_loses_and_repeats_nothing() {
    let database = database(Cluster::shared()).await;
    let relay = Relay::start(&database).await;
    let mut client = watch(&relay).await;
    let slot = database.slot();
    let admin = database.connect().await;
    // Until enough was killed and written: how long that takes is the machine's affair.
    let kill = async |written: &AtomicUsize| {
        let mut kills = 0;
        while kills < 20 || written.load(Ordering::Relaxed) < 1000 {
            let sql = "select count(pg_terminate_backend(active_pid)) from pg_replication_slots
                       where slot_name = $1 and active_pid is not null";
            kills += admin.query_one(sql, &[&slot]).await.unwrap().get::<_, i64>(0);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let (changes, counts) = collect(&mut client, write_while(&database, 2, kill)).await;
    assert_exactly(&changes, &counts);
}

#[tokio::test]
async fn a_restart_of_postgres_loses_and_repeats_nothing() {
    let cluster = Cluster::start(&[]);
    let first = database(&cluster).await;
    let relay = Relay::start(&first).await;
    let mut client = watch(&relay).await;
    let mut step = 0;
    for mode in ["fast", "immediate", "fast"] {
        let writer = first.connect().await;
        for _ in 0..20 {
            writer
                .batch_execute(&format!("insert into events (step) values ({step})"))
                .await
                .unwrap();
            step += 1;
        }
        drop(writer);
        cluster.restart(mode);
    }
    let writer = first.connect().await;
    writer.batch_execute(&format!("insert into events (step) values ({step})")).await.unwrap();
    for expected in 0..=step {
        assert_eq!(client.change().await["record"]["step"], expected);
    }
    tokio::time::sleep(QUIET).await;
    assert!(client.flush().await.is_empty());
    let log = relay.log_text();
    let told = log.lines().find(|line| line.contains("source interrupted; trying again"));
    assert!(
        told.is_some_and(|line| line.contains("WARN") && line.contains("postgres.url")),
        "{log}"
    );
}

#[tokio::test]
async fn a_relay_started_before_postgres_waits_for_it() {
    let cluster = Cluster::start(&[]);
    let database = database(&cluster).await;
    cluster.stop("fast");
    let mut relay = Relay::prepare(&database, &[]);
    relay.launch();
    let (status, body) = until("the relay to say that it could not connect", || async {
        let answer = crate::support::relay::get(relay.port(), "/readyz");
        answer.filter(|(_, body)| body.contains("could not connect"))
    })
    .await;
    assert_eq!(status, 503, "{body}");
    let address = format!("127.0.0.1:{}", cluster.port());
    for word in [&*address, "it is tried again", "postgres.url"] {
        assert!(body.contains(word), "{word}: {body}");
    }
    until("the log to say it as well", || async {
        relay.log_text().contains(&address).then_some(())
    })
    .await;
    cluster.start_again();
    relay.ready().await;
    let mut client = watch(&relay).await;
    let writer = database.connect().await;
    writer.batch_execute("insert into events (step) values (1)").await.unwrap();
    assert_eq!(client.change().await["record"]["step"], 1);
}
