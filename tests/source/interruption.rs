//! Connections break, servers restart: every committed row arrives exactly once.

use std::time::Duration;

use super::{Wish, each_once, published};
use crate::support::{Cluster, Database, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_walsender_every_half_second_loses_and_repeats_nothing() {
    let database = published(Cluster::shared()).await;
    let mut reader = Wish::on(&database).read();
    reader.streaming().await;
    let killer = database.connect().await;
    let kill = format!(
        "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '{}' and active",
        database.slot()
    );
    let killed = async {
        let mut kills = 0;
        while kills < 8 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            kills += killer.query(&kill, &[]).await.unwrap().len();
        }
    };
    let written = async {
        let mut last = 0;
        tokio::pin!(killed);
        loop {
            tokio::select! {
                biased;
                () = &mut killed => break,
                () = write(&database, last + 1, last + 3) => last += 3,
            }
        }
        // The one that was cut off may or may not have committed.
        last = database.text("select coalesce(max(id), 0)::text from t").await.parse().unwrap();
        write(&database, last + 1, last + 1).await;
        last + 1
    };
    let last = written.await;
    let ids = reader.ids_until(last).await;
    assert_eq!(ids, each_once(last));
    assert!(reader.metrics.source_connects.get() >= 8);
    reader.stop().await;
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_waited_for() {
    let cluster = Cluster::start(&[]);
    let database = published(&cluster).await;
    cluster.stop("fast");
    let mut reader = Wish::on(&database).read();
    let reason = reader.connecting().await;
    assert!(reason.contains(&format!("127.0.0.1:{}", cluster.port())), "{reason}");
    cluster.start_again();
    reader.streaming().await;
    reader.stop().await;
}

#[tokio::test]
async fn a_fast_restart_loses_and_repeats_nothing() {
    restarted("fast").await;
}

#[tokio::test]
async fn a_crash_loses_and_repeats_nothing() {
    restarted("immediate").await;
}

async fn restarted(mode: &str) {
    let cluster = Cluster::start(&[]);
    let database = published(&cluster).await;
    let mut reader = Wish::on(&database).read();
    let epoch = reader.streaming().await;
    for round in 0..3 {
        let first = round * 20 + 1;
        let writer = database.connect().await;
        for id in first..first + 20 {
            writer.execute("insert into t values ($1)", &[&i64::from(id)]).await.unwrap();
        }
        cluster.restart(mode);
    }
    database.connect().await.execute("insert into t values (61)", &[]).await.unwrap();
    assert_eq!(reader.ids_until(61).await, each_once(61));
    assert_eq!(reader.streaming().await, epoch, "a restart is not a new history");
    reader.stop().await;
}

#[tokio::test]
async fn a_transaction_open_while_the_connection_breaks_arrives_whole() {
    let database = published(Cluster::shared()).await;
    let mut reader = Wish::on(&database).read();
    reader.streaming().await;
    let writer = database.connect().await;
    writer.batch_execute("begin; insert into t select generate_series(1, 500)").await.unwrap();
    for _ in 0..3 {
        let connects = reader.metrics.source_connects.get();
        database
            .execute(&format!(
                "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '{}'",
                database.slot()
            ))
            .await;
        until("the source to be back", || async {
            (reader.metrics.source_connects.get() > connects).then_some(())
        })
        .await;
        reader.streaming().await;
    }
    writer.batch_execute("commit").await.unwrap();
    let transactions = reader.next().await;
    assert_eq!(transactions.len(), 1);
    assert_eq!(super::inserted(&transactions[0]), (1..=500).collect::<Vec<_>>());
    reader.stop().await;
}

async fn write(database: &Database, first: i64, last: i64) {
    let sql = format!("insert into t select id, 'body' from generate_series({first}, {last}) id");
    database.execute(&sql).await;
}
