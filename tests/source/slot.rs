//! Attaching: the slot is created, found, held by another, gone, lost; Postgres is not set up for it.

use std::path::Path;
use std::process::Command;

use relay::shutdown::Stage;
use relay::source::{Facts, Slot};

use super::{Wish, published};
use crate::support::{Cluster, Database, until};

#[tokio::test]
async fn a_missing_slot_is_created_and_found_again_after_a_restart() {
    let database = published(Cluster::shared()).await;
    let mut first = Wish::on(&database).read();
    let epoch = first.streaming().await;
    database.execute("insert into t values (1)").await;
    assert_eq!(first.ids_until(1).await.len(), 1);
    first.stop().await;
    database.execute("insert into t values (2)").await;

    let mut second = Wish::on(&database).read();
    assert_eq!(second.streaming().await, epoch, "the same slot is the same history");
    let ids: Vec<i64> = second.ids_until(2).await.into_keys().collect();
    assert_eq!(ids, [2], "what was confirmed is not sent again");
    let slot = Slot::read(database.client(), &database.slot()).await.unwrap().unwrap();
    assert_eq!(slot.plugin.as_deref(), Some("pgoutput"));
    assert_eq!(slot.holder.unwrap().application.as_deref(), Some("relay-source"));
    second.stop().await;
}

#[tokio::test]
async fn a_slot_in_use_names_who_holds_it_and_is_taken_when_free() {
    let database = published(Cluster::shared()).await;
    let mut holder = Wish::on(&database).read();
    holder.streaming().await;
    let query = "select active_pid::text from pg_replication_slots where slot_name = ";
    let pid = database.text(&format!("{query}'{}'", database.slot())).await;

    let mut other = Wish::on(&database).read();
    let reason = other.standing_by().await;
    assert!(reason.contains(&format!("is read by pid {pid} (relay-source, since 20")), "{reason}");
    assert_eq!(other.metrics.standby.get(), 1);
    holder.stop().await;
    other.streaming().await;
    assert_eq!((other.metrics.standby.get(), other.begun_by()), (0, None));
    other.stop().await;
}

#[tokio::test]
async fn a_slot_that_vanished_begins_a_new_epoch() {
    let database = published(Cluster::shared()).await;
    let mut reader = Wish::on(&database).read();
    let epoch = reader.streaming().await;
    database.execute("insert into t values (1)").await;
    reader.ids_until(1).await;
    drop_under(&database, &database.slot()).await;
    reader.streaming_anew(epoch).await;
    database.execute("insert into t values (2)").await;
    reader.ids_until(2).await;
    reader.stop().await;
}

#[tokio::test]
async fn a_slot_made_again_by_somebody_else_begins_a_new_epoch() {
    let database = published(Cluster::shared()).await;
    let mut reader = Wish::on(&database).read();
    let epoch = reader.streaming().await;
    let slot = database.slot();
    let sql = format!(
        "select pg_terminate_backend(active_pid, 10000) from pg_replication_slots where slot_name = '{slot}';
         select pg_drop_replication_slot('{slot}');
         select pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    );
    // The relay may be back before the slot could be dropped: then once more.
    until("the slot to be made again", || async {
        database.client().batch_execute(&sql).await.ok()
    })
    .await;
    reader.streaming_anew(epoch).await;
    reader.stop().await;
}

#[tokio::test]
async fn a_lost_slot_blocks_until_it_is_dropped() {
    let cluster = Cluster::start(&[("max_slot_wal_keep_size", "1MB"), ("max_wal_size", "32MB")]);
    let database = published(&cluster).await;
    let mut reader = Wish::on(&database).read();
    let epoch = reader.streaming().await;
    reader.stop().await;
    let slot = database.slot();
    lose(&database, &slot).await;

    let mut reader = Wish::on(&database).read();
    let reason = reader.blocked().await;
    assert!(reason.contains(&format!("slot \"{slot}\" is lost")), "{reason}");
    assert!(reason.contains("relay slot drop"), "{reason}");
    Slot::drop(database.client(), &slot).await.unwrap();
    assert_eq!(reader.streaming().await, epoch, "this process had no history yet");
    reader.stop().await;
}

#[tokio::test]
async fn a_slot_lost_while_reading_blocks_until_it_is_dropped_and_begins_a_new_epoch() {
    let cluster = Cluster::start(&[("max_slot_wal_keep_size", "1MB"), ("max_wal_size", "32MB")]);
    let database = published(&cluster).await;
    // A log with room for one: the slot stays behind.
    let mut reader = Wish { log_bytes: 1, ..Wish::on(&database) }.read();
    let epoch = reader.streaming().await;
    for id in 1..=3 {
        database.execute(&format!("insert into t values ({id})")).await;
    }
    let slot = database.slot();
    lose(&database, &slot).await;
    reader.blocked_by(&format!("slot \"{slot}\" is lost")).await;
    Slot::drop(database.client(), &slot).await.unwrap();
    reader.streaming_anew(epoch).await;
    database.execute("insert into t values (4)").await;
    assert!(reader.ids_until(4).await.values().all(|times| *times == 1));
    reader.stop().await;
}

#[tokio::test]
async fn a_restored_backup_begins_a_new_epoch_and_loses_nothing_after_it() {
    let cluster = Cluster::start(&[]);
    let database = published(&cluster).await;
    let mut reader = Wish::on(&database).read();
    let epoch = reader.streaming().await;
    let (data, backup) = (cluster.data(), cluster.dir().join("backup"));
    cluster.stop("fast");
    copy(&data, &backup);
    cluster.start_again();
    let writer = database.connect().await;
    writer.batch_execute("insert into t select generate_series(1, 1000)").await.unwrap();
    assert_eq!(reader.ids_until(1000).await, super::each_once(1000));
    cluster.stop("fast");
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    cluster.start_again();
    reader.streaming_anew(epoch).await;
    let writer = database.connect().await;
    writer.batch_execute("insert into t values (1)").await.unwrap();
    assert_eq!(reader.ids_until(1).await, super::each_once(1));
    reader.stop().await;
}

#[tokio::test]
async fn a_slot_of_another_plugin_or_database_is_refused() {
    let cluster = Cluster::shared();
    let (database, other) = (published(cluster).await, published(cluster).await);
    let slot = database.slot();
    database
        .execute(&format!("select pg_create_logical_replication_slot('{slot}', 'test_decoding')"))
        .await;
    let mut reader = Wish::on(&database).read();
    let reason = reader.blocked().await;
    assert!(reason.contains("uses test_decoding, not pgoutput"), "{reason}");
    reader.stop().await;

    let mut elsewhere = Wish { slot: slot.clone(), ..Wish::on(&other) }.read();
    Slot::drop(database.client(), &slot).await.unwrap();
    elsewhere.streaming().await;
    let mut reader = Wish::on(&database).read();
    let reason = reader.blocked().await;
    assert!(reason.contains(&format!("belongs to database {:?}", other.name)), "{reason}");
    reader.stop().await;
    elsewhere.stop().await;
}

#[tokio::test]
async fn a_missing_publication_is_named_with_its_statement() {
    let database = Cluster::shared().database().await;
    let mut reader = Wish::on(&database).read();
    let reason = reader.blocked().await;
    assert!(reason.contains("create publication \"supabase_realtime\""), "{reason}");
    let slots =
        "select count(*)::text from pg_replication_slots where database = current_database()";
    assert_eq!(database.text(slots).await, "0", "no slot before there is something to read");
    database.execute("create publication supabase_realtime for all tables").await;
    reader.streaming().await;
    reader.stop().await;
}

#[tokio::test]
async fn a_publication_that_is_dropped_is_missed_and_asked_for() {
    let database = published(Cluster::shared()).await;
    let mut reader = Wish::on(&database).read();
    reader.streaming().await;
    database.execute("drop publication supabase_realtime").await;
    database.execute("insert into t values (1)").await;
    reader.blocked_by("create publication \"supabase_realtime\"").await;
    database.execute("create publication supabase_realtime for table t").await;
    // From 18 on, Postgres itself passes over the time without the publication.
    if database.text("select current_setting('server_version_num')").await.as_str() < "180000" {
        reader.blocked_by("the slot is older than the publication").await;
        drop_under(&database, &database.slot()).await;
    }
    reader.streaming().await;
    reader.stop().await;
}

#[tokio::test]
async fn the_wrong_wal_level_is_named_with_its_statement() {
    let cluster = Cluster::start(&[("wal_level", "replica")]);
    let database = published(&cluster).await;
    let mut reader = Wish::on(&database).read();
    let reason = reader.blocked().await;
    assert!(reason.contains("wal_level is replica"), "{reason}");
    assert!(reason.contains("alter system set wal_level = logical"), "{reason}");
    database.execute("alter system set wal_level = logical").await;
    cluster.restart("fast");
    reader.streaming().await;
    reader.stop().await;
}

#[tokio::test]
async fn running_out_of_slots_is_named_with_its_statement() {
    let cluster = Cluster::start(&[("max_replication_slots", "1")]);
    let database = published(&cluster).await;
    database.execute("select pg_create_physical_replication_slot('other')").await;
    let mut reader = Wish::on(&database).read();
    let reason = reader.blocked().await;
    assert!(reason.contains("all 1 replication slots are taken"), "{reason}");
    database.execute("select pg_drop_replication_slot('other')").await;
    reader.streaming().await;
    reader.stop().await;
}

#[tokio::test]
async fn a_role_without_replication_is_told_what_it_lacks() {
    let cluster = Cluster::start(&[]);
    let database = published(&cluster).await;
    database.execute("create role plain login").await;
    let url = database.url_as("plain");
    let mut reader = Wish { url, ..Wish::on(&database) }.read();
    let reason = reader.blocked().await;
    assert!(reason.contains("alter role … replication"), "{reason}");
    let facts =
        Facts::read(&database.connect_as("plain").await, "supabase_realtime").await.unwrap();
    assert!(!facts.may_replicate);
    database.execute("alter role plain replication").await;
    reader.streaming().await;
    reader.stop().await;
}

#[tokio::test]
async fn facts_and_slots_can_be_asked_without_reading() {
    let database = published(Cluster::shared()).await;
    let stage = Stage::new();
    let target = relay::postgres::Target::parse(&database.url).unwrap();
    let sql = relay::postgres::connect(&target, "relay-check", &[], &stage).await.unwrap();
    let facts = Facts::read(&sql.client, "supabase_realtime").await.unwrap();
    assert!(facts.check("supabase_realtime", true).is_ok());
    assert!(facts.has_publication && facts.may_replicate && !facts.is_standby);
    assert_eq!(Slot::read(&sql.client, "nowhere").await.unwrap(), None);
    let error = Slot::drop(&sql.client, "nowhere").await.unwrap_err().to_string();
    assert!(error.contains("\"nowhere\" does not exist"), "{error}");
    assert!(stage.stop(crate::support::PATIENCE).await, "the connection outlives its stage");
}

/// Throws out the slot's reader and drops the slot before it is back.
async fn drop_under(database: &Database, slot: &str) {
    let sql = format!(
        "select pg_terminate_backend(active_pid, 10000) from pg_replication_slots where slot_name = '{slot}';
         select pg_drop_replication_slot('{slot}')"
    );
    until("the slot to be dropped", || async { database.client().batch_execute(&sql).await.ok() })
        .await;
}

/// Writes more WAL than the slot may keep.
pub async fn lose(database: &Database, slot: &str) {
    until("the slot to be lost", || async {
        let wal = "select pg_logical_emit_message(false, 'x', repeat('x', 1000000)) from generate_series(1, 40)";
        database.execute(wal).await;
        database.execute("checkpoint").await;
        let found = Slot::read(database.client(), slot).await.unwrap().unwrap();
        found.is_lost().then_some(())
    })
    .await;
}

/// Copies a data directory, owner and all.
pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}
