//! Postgres is restarted, crashes, loses processes, stands still.

use std::process::Command;
use std::time::{Duration, Instant};

use super::arena::{Arena, Plan, Resync, size};
use super::relay_dies::figures;

/// Sends a signal to processes.
fn signal(name: &str, pids: &[String]) {
    // Some may have ended by themselves.
    let _ = Command::new("kill").args(["-s", name]).args(pids).output();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_postgres_loses_nothing_and_repeats_nothing() {
    let mut arena =
        Arena::start("postgres crashed", Plan::new((6, 100), (49, 500)).with_sdk()).await;
    let mut recoveries = Vec::new();
    for _ in 0..size(2, 20) {
        arena.work(300, 3000).await;
        arena.cluster.stop("immediate");
        arena.cluster.start_again();
        recoveries.extend(arena.reach_since(Instant::now()).await);
    }
    arena.figures.push(figures("a new row at every client, from its start", recoveries));
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_postgres_loses_nothing() {
    let mut arena = Arena::start("postgres restarted", Plan::new((6, 100), (50, 500))).await;
    let (mut stops, mut recoveries) = (Vec::new(), Vec::new());
    for _ in 0..size(1, 10) {
        arena.work(300, 2000).await;
        let start = Instant::now();
        arena.cluster.stop("fast");
        stops.push(start.elapsed());
        arena.cluster.start_again();
        recoveries.extend(arena.reach_since(Instant::now()).await);
    }
    arena.figures.push(figures("stopping", stops));
    arena.figures.push(figures("a new row at every client, from its start", recoveries));
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_that_sends_the_wal_may_be_killed_all_the_time() {
    let mut arena = Arena::start("walsender killed", Plan::new((6, 100), (50, 500))).await;
    let end = Instant::now() + Duration::from_secs(size(2, 60));
    while Instant::now() < end {
        if let Some(pid) = arena.sender().await {
            arena.execute(&format!("select pg_terminate_backend({pid})")).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    arena.note_recovery(Instant::now()).await;
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_judge_rows_may_be_killed_all_the_time() {
    let mut arena = Arena::start("row checks killed", Plan::new((6, 100), (50, 500))).await;
    let end = Instant::now() + Duration::from_secs(size(2, 60));
    let mut killed = 0;
    while Instant::now() < end {
        let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                   where application_name in ('relay-check', 'relay-catalog')";
        if let Ok(row) = arena.sql().await.query_one(sql, &[]).await {
            killed += row.get::<_, i64>(0);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(killed > 0, "nothing was killed");
    arena.figures.push(format!("{killed} connections killed"));
    arena.note_recovery(Instant::now()).await;
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_of_wal_that_stands_still_is_waited_for_or_left() {
    let mut arena = Arena::start("walsender frozen", Plan::new((6, 100), (50, 500))).await;
    arena.work(200, 1000).await;
    let pid = [arena.sender().await.unwrap().to_string()];
    signal("STOP", &pid);
    tokio::time::sleep(Duration::from_secs(size(3, 30))).await;
    signal("CONT", &pid);
    arena.note_recovery(Instant::now()).await;
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_stands_still_is_waited_for() {
    let mut arena = Arena::start("postgres frozen", Plan::new((6, 100), (50, 500))).await;
    arena.work(200, 1000).await;
    let file = std::fs::read_to_string(arena.cluster.data().join("postmaster.pid")).unwrap();
    let postmaster = file.lines().next().unwrap().to_owned();
    let children = Command::new("ps").args(["-o", "pid=", "--ppid", &postmaster]).output().unwrap();
    let children = String::from_utf8(children.stdout).unwrap();
    let mut pids: Vec<String> = children.split_whitespace().map(str::to_owned).collect();
    pids.insert(0, postmaster);
    signal("STOP", &pids);
    tokio::time::sleep(Duration::from_secs(size(2, 20))).await;
    signal("CONT", &pids);
    arena.note_recovery(Instant::now()).await;
    arena.verdict(Resync::None).await;
}
