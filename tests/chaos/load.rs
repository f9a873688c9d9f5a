//! Much at once: many writers, transactions of every kind, one of enormous size.

use std::time::Instant;

use super::arena::{Arena, Plan, Resync, size};
use super::relay_dies::figures;

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_the_log_shows_before_queries_do_are_not_lost() {
    let mut plan = Plan::new((6, 800), (6, 4000));
    plan.load.sessions = 8;
    let mut arena = Arena::start("commit before visible", plan).await;
    while arena.written() < size(2000, 100_000) {
        arena.work(100, 100).await;
    }
    let waits = arena.relay.metric("relay_check_waits_total");
    arena.figures.push(format!("{waits} times a commit was not visible yet"));
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_commits_in_two_phases_comes_once_and_what_is_taken_back_never() {
    let mut arena = Arena::start("two phases", Plan::new((6, 200), (20, 500)).two_phase()).await;
    while arena.written() < size(500, 15_000) {
        arena.work(50, 500).await;
        if arena.dice.chance(5) {
            arena.relay.restart().await;
        }
    }
    arena.verdict(Resync::None).await;
}

fn enormous() -> Plan {
    Plan::new((10, 50), (200, 50))
        .relay("RELAY_LOG__RETAIN_BYTES", "16 GiB")
        .postgres("max_wal_size", "4GB")
}

/// One transaction of that many rows of a table that nobody asked for.
async fn bulk(arena: &Arena) {
    let rows = size(30_000, 5_000_000);
    let writer = arena.sql().await;
    let sql = format!(
        "insert into bulk select n, 'row ' || n from generate_series((select coalesce(max(id), 0) from bulk) + 1,
           (select coalesce(max(id), 0) from bulk) + {rows}) n"
    );
    writer.batch_execute(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_enormous_size_harms_nobody() {
    let mut arena = Arena::start("enormous transaction", enormous()).await;
    arena.work(200, 2000).await;
    bulk(&arena).await;
    let start = Instant::now();
    arena.note_recovery(start).await;
    let mut after = Vec::new();
    for _ in 0..size(5, 100) {
        after.extend(arena.reach().await);
    }
    arena.figures.push(figures("then a new row at every client after", after));
    arena.figures.push(format!("relay at most {} MiB", arena.relay_memory()));
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_in_an_enormous_transaction_begins_it_anew() {
    let mut arena = Arena::start("killed in an enormous transaction", enormous()).await;
    for _ in 0..size(1, 3) {
        bulk(&arena).await;
        arena.work(20, 4000).await;
        arena.relay.restart().await;
    }
    arena.note_recovery(Instant::now()).await;
    arena.figures.push(format!("relay at most {} MiB", arena.relay_memory()));
    arena.verdict(Resync::None).await;
}
