//! What happens between relay and clients: networks that break, readers that sleep, everybody coming back at once.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::arena::{Arena, Plan, Resync, size};
use super::proxy::Weather;
use super::relay_dies::figures;

#[tokio::test(flavor = "multi_thread")]
async fn networks_that_break_on_both_sides_lose_nothing() {
    let plan = Plan::new((6, 100), (50, 300))
        .networked()
        .relay("RELAY_POSTGRES__WAL_SENDER_TIMEOUT", "3s");
    let mut arena = Arena::start("networks break", plan).await;
    for _ in 0..size(8, 200) {
        let (is_front, what) = (arena.dice.chance(50), arena.dice.below(5));
        let (pause, slice) = (arena.dice.millis(50, size(300, 3000)), arena.dice.below(2000));
        let (front, behind) = arena.networks.as_ref().unwrap();
        let proxy = if is_front { front } else { behind };
        match what {
            0 => proxy.reset(),
            1 => proxy.turn(|weather| weather.silent = true),
            2 => proxy.turn(|weather| weather.latency = Duration::from_millis(30)),
            3 => proxy.turn(|weather| weather.slice = 1 + usize::try_from(slice).unwrap()),
            _ => proxy.turn(|weather| weather.bandwidth = 200_000),
        }
        tokio::time::sleep(pause).await;
        // Who was left in silence is cut off, as by a machine that comes back.
        if what == 1 {
            proxy.reset();
        }
        proxy.turn(|weather| {
            let Weather { latency, slice, bandwidth, silent, shut, .. } = Weather::FAIR;
            (weather.latency, weather.slice, weather.bandwidth) = (latency, slice, bandwidth);
            (weather.silent, weather.shut) = (silent, shut);
        });
    }
    arena.note_recovery(Instant::now()).await;
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_sleeps_harms_only_itself_and_gets_everything_later() {
    let mut plan = Plan::new((8, 50), (200, 100)).relay("RELAY_LIMITS__OUTBOX", "64 KiB");
    plan.sleepy = 1;
    let mut arena = Arena::start("sleeping reader", plan).await;
    arena.work(200, 1000).await;
    arena.crowd.asleep.send_replace(true);
    let rows = size(2000, 10_000);
    arena
        .execute(&format!(
            "insert into marks (key, ver, owner, pad) select 903, n, 0, repeat('x', 5000) from generate_series(1, {rows}) n"
        ))
        .await;
    arena.committed((1..=rows).map(|ver| (903, ver)));
    tokio::time::sleep(Duration::from_secs(size(4, 20))).await;
    let closed = arena.relay.metric("relay_closed_total{reason=\"slow");
    arena.figures.push(format!("closed as slow: {closed}"));
    arena.crowd.asleep.send_replace(false);
    arena.note_recovery(Instant::now()).await;
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_coming_back_at_once_is_live_soon() {
    let mut plan = Plan::new((40, 50), (1000, 10)).networked();
    (plan.since, plan.resume) = (plan.since + plan.resume, 0);
    let mut arena = Arena::start("everybody comes back", plan).await;
    arena.work(200, 2000).await;
    let away = Duration::from_secs(size(2, 60));
    let front = |change: fn(&mut Weather)| arena.networks.as_ref().unwrap().0.turn(change);
    front(|weather| weather.shut = true);
    arena.networks.as_ref().unwrap().0.reset();
    tokio::time::sleep(away).await;
    front(|weather| weather.shut = false);
    arena.figures.push(format!("{} clients, {} s away", arena.crowd.lives.len(), away.as_secs()));
    arena.note_recovery(Instant::now()).await;
    let sql = "select count(*) from pg_stat_activity where application_name in ('relay-check', 'relay-catalog')";
    let backends: i64 = arena.sql().await.query_one(sql, &[]).await.unwrap().get(0);
    arena.figures.push(format!("{backends} connections to Postgres"));
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_without_file_descriptors_serves_who_is_there() {
    let mut arena = Arena::start("no file descriptors", Plan::new((6, 100), (30, 300))).await;
    let pid = arena.relay.pid().to_string();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = format!("--nofile={}:", open + 10);
    assert!(
        std::process::Command::new("prlimit")
            .args(["--pid", &pid, &limit])
            .status()
            .unwrap()
            .success()
    );
    let mut more = Vec::new();
    for _ in 0..size(60, 400) {
        more.push(TcpStream::connect(("127.0.0.1", arena.relay.port())).await.unwrap());
    }
    let reached = arena.reach().await;
    arena
        .figures
        .push(figures("meanwhile a new row at every client after", reached.into_iter().collect()));
    drop(more);
    arena.work(200, 2000).await;
    arena.verdict(Resync::None).await;
}
