//! A slot that holds back too much, or was lost, is replaced, and the new history says why.

use relay::source::{Break, Slot};

use super::{Reader, Wish, published};
use crate::support::{Cluster, Database, until};

const BUDGET: usize = 16 << 20;

#[tokio::test]
async fn a_slot_over_its_budget_that_does_not_get_nearer_is_given_up() {
    let database = published(Cluster::shared()).await;
    // A log with room for one: the slot stays behind.
    let wish = Wish { log_bytes: 1, max_slot_lag: BUDGET, ..Wish::on(&database) };
    let mut reader = wish.read();
    let epoch = reader.streaming().await;
    for id in 1..=3 {
        database.execute(&format!("insert into t values ({id})")).await;
    }
    write_wal(&database, 40).await;
    reader.streaming_anew(epoch).await;
    assert_eq!(reader.begun_by(), Some(Break::SlotGivenUp));
    let slot = Slot::read(database.client(), &database.slot()).await.unwrap().unwrap();
    assert!(slot.retained_bytes.unwrap() < BUDGET as i64, "{slot:?}");
    database.execute("insert into t values (4)").await;
    assert!(reader.ids_until(4).await.values().all(|times| *times == 1));
    reader.stop().await;
}

#[tokio::test]
async fn a_backlog_over_the_budget_is_read_and_not_given_up() {
    let database = published(Cluster::shared()).await;
    let mut reader = Wish::on(&database).read();
    let epoch = reader.streaming().await;
    reader.stop().await;
    database.execute("insert into t select generate_series(1, 10)").await;
    write_wal(&database, 40).await;
    database.execute("insert into t values (11)").await;

    let mut reader = Wish { max_slot_lag: BUDGET, ..Wish::on(&database) }.read();
    assert_eq!(reader.streaming().await, epoch);
    assert_eq!(reader.ids_until(11).await, super::each_once(11));
    reader.stop().await;
}

#[tokio::test]
async fn a_slot_nobody_could_read_is_given_up_before_the_disk_is_full() {
    let database = published(Cluster::shared()).await;
    let mut reader = Wish { max_slot_lag: BUDGET, ..Wish::on(&database) }.read();
    let epoch = reader.streaming().await;
    database.execute("drop publication supabase_realtime").await;
    reader.blocked().await;
    write_wal(&database, 40).await;
    let slot = database.slot();
    until("the slot to be dropped", || async {
        Slot::read(database.client(), &slot).await.unwrap().is_none().then_some(())
    })
    .await;
    database.execute("create publication supabase_realtime for table t").await;
    reader.streaming_anew(epoch).await;
    assert_eq!(reader.begun_by(), Some(Break::SlotGivenUp));
    reader.stop().await;
}

#[tokio::test]
async fn a_lost_slot_is_replaced_when_slots_may_be_given_up() {
    let cluster = Cluster::start(&[("max_slot_wal_keep_size", "1MB"), ("max_wal_size", "32MB")]);
    let database = published(&cluster).await;
    let begin = || Wish { max_slot_lag: BUDGET, ..Wish::on(&database) }.read();
    let mut reader = begin();
    let epoch = reader.streaming().await;
    reader.stop().await;
    let slot = database.slot();
    super::slot::lose(&database, &slot).await;

    let mut reader: Reader = begin();
    let anew = reader.streaming().await;
    assert_ne!(anew, epoch, "what the process before this one read does not continue");
    assert_eq!(reader.begun_by(), Some(Break::SlotLost));
    database.execute("insert into t values (1)").await;
    assert_eq!(reader.ids_until(1).await, super::each_once(1));
    reader.stop().await;
}

#[tokio::test]
async fn a_slot_is_made_to_follow_a_failover_where_postgres_can() {
    let database = published(Cluster::shared()).await;
    let mut reader = Wish::on(&database).read();
    reader.streaming().await;
    let follows = format!(
        "select coalesce(to_jsonb(s) ->> 'failover', 'unknown') from pg_replication_slots s
         where slot_name = '{}'",
        database.slot()
    );
    let version: u32 =
        database.text("select current_setting('server_version_num')").await.parse().unwrap();
    let expected = if version < 170_000 { "unknown" } else { "true" };
    assert_eq!(database.text(&follows).await, expected);
    reader.stop().await;
}

/// Writes WAL that nobody publishes.
async fn write_wal(database: &Database, megabytes: u32) {
    let wal = format!(
        "select pg_logical_emit_message(false, 'x', repeat('x', 1000000)) from generate_series(1, {megabytes})"
    );
    database.execute(&wal).await;
}
