//! The relay is killed, frozen, stopped.

use std::time::{Duration, Instant};

use super::arena::{Arena, Plan, Resync, size};
use crate::support::until;

/// Middle and worst of some times, for people.
pub fn figures(what: &str, mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let (Some(middle), Some(worst)) = (times.get(times.len() / 2), times.last()) else {
        return format!("{what}: none");
    };
    format!(
        "{what} p50 {} ms, worst {} ms of {}",
        middle.as_millis(),
        worst.as_millis(),
        times.len()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_again_and_again_loses_nothing() {
    let plan = Plan::new((8, 100), (49, 500)).with_sdk();
    let mut arena = Arena::start("relay killed", plan).await;
    let (mut ready, mut reached) = (Vec::new(), Vec::new());
    for round in 0..size(3, 100) {
        tokio::time::sleep(arena.dice.millis(size(100, 1000), size(1500, 5000))).await;
        arena.relay.kill();
        let start = Instant::now();
        arena.relay.launch();
        arena.relay.ready().await;
        ready.push(start.elapsed());
        // The SDK's own schedule is slower than the others'.
        if round % 10 == 0
            && let Some(took) = arena.reach_since(start).await
        {
            reached.push(took);
        }
    }
    arena.figures.push(figures("streaming again", ready));
    arena.figures.push(figures("a new row at every client, from its launch", reached));
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_stopped_and_started_loses_nothing() {
    let plan = Plan::new((8, 100), (50, 500)).with_sdk().relay("RELAY_HTTP__DRAIN", "3s");
    let mut arena = Arena::start("relay drained", plan).await;
    let mut stops = Vec::new();
    for _ in 0..size(1, 10) {
        arena.work(500, 3000).await;
        let start = Instant::now();
        assert_eq!(arena.relay.terminate().await, Some(0));
        stops.push(start.elapsed());
        arena.relay.launch();
        arena.relay.ready().await;
    }
    arena.figures.push(figures("stopping", stops));
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_frozen_goes_on_where_it_was() {
    let plan = Plan::new((6, 100), (50, 300)).relay("RELAY_POSTGRES__WAL_SENDER_TIMEOUT", "2s");
    let mut arena = Arena::start("relay frozen", plan).await;
    arena.work(300, 1000).await;
    arena.relay.signal("STOP");
    tokio::time::sleep(Duration::from_secs(size(1, 90))).await;
    until("Postgres to let go of it", || async { arena.sender().await.is_none().then_some(()) })
        .await;
    arena.relay.signal("CONT");
    arena.note_recovery(Instant::now()).await;
    arena.work(300, 1000).await;
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_relay_does_not_hold_up_a_shutdown_of_postgres() {
    let mut arena =
        Arena::start("postgres stopped under a frozen relay", Plan::new((4, 50), (20, 300))).await;
    arena.work(300, 1000).await;
    arena.relay.signal("STOP");
    let start = Instant::now();
    arena.cluster.stop("fast");
    arena.figures.push(format!("stopping took {} ms", start.elapsed().as_millis()));
    arena.cluster.start_again();
    arena.relay.signal("CONT");
    arena.note_recovery(Instant::now()).await;
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_open_across_a_kill_comes_whole() {
    let mut arena = Arena::start("open transaction", Plan::new((6, 100), (50, 500))).await;
    let open = arena.sql().await;
    let rows = "insert into ledger select 'open-' || n from generate_series(1, 1000) n; select pg_sleep(0.1)";
    open.batch_execute(&format!("begin; {rows}")).await.unwrap();
    let table =
        "insert into marks (key, ver, owner) select 900, n, 0 from generate_series(1, 500) n";
    open.batch_execute(table).await.unwrap();
    for _ in 0..size(1, 10) {
        arena.work(300, 3000).await;
        arena.relay.restart().await;
    }
    open.batch_execute("commit").await.unwrap();
    arena.committed((1..=500).map(|ver| (900, ver)));
    arena.work(200, 1000).await;
    arena.verdict(Resync::None).await;
}
