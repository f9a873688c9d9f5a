//! The slot is taken, lost, made anew; history is rewritten; the slot must not hold what nobody needs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::arena::{Arena, Plan, Resync, size};
use crate::support::cluster::{bin_dir, command};
use crate::support::relay::get;
use crate::support::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_dropped_under_the_relay_is_a_gap_that_everybody_is_told_of() {
    let mut arena = Arena::start("slot dropped", Plan::new((6, 100), (50, 300))).await;
    arena.work(300, 2000).await;
    let slot = arena.database.slot();
    let sql = format!(
        "select pg_terminate_backend(active_pid, 10000) from pg_replication_slots where slot_name = '{slot}';
         select pg_drop_replication_slot('{slot}')"
    );
    arena.execute(&sql).await;
    arena.note_recovery(Instant::now()).await;
    arena.work(300, 2000).await;
    arena.everybody_was_told();
    arena.verdict(Resync::Once).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_made_anew_while_the_relay_was_away_is_told() {
    let mut arena = Arena::start("slot made anew", Plan::new((6, 100), (50, 300))).await;
    arena.work(300, 2000).await;
    arena.relay.kill();
    let slot = arena.database.slot();
    let drop = format!("select pg_drop_replication_slot('{slot}')");
    arena.execute(&drop).await;
    arena.work(300, 1000).await;
    arena
        .execute(&format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')"))
        .await;
    arena.work(300, 1000).await;
    arena.relay.launch();
    arena.relay.ready().await;
    arena.note_recovery(Instant::now()).await;
    arena.everybody_was_told();
    arena.verdict(Resync::Once).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_in_use_is_waited_for() {
    let mut arena = Arena::start("slot busy", Plan::new((6, 50), (50, 300))).await;
    arena.work(200, 1000).await;
    arena.relay.kill();
    let mut holder = command(bin_dir().join("pg_recvlogical"))
        .args([
            "--start",
            "--no-loop",
            "-o",
            "proto_version=1",
            "-o",
            "publication_names=supabase_realtime",
            "-f",
            "/dev/null",
        ])
        // It confirms nothing while it lives.
        .args(["--slot", &arena.database.slot(), "--status-interval=0", "--fsync-interval=0"])
        .args(["-d", &arena.database.url])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    until("the slot to be taken", || async { arena.sender().await }).await;
    arena.relay.launch();
    until("the relay to say who has the slot", || async {
        get(arena.relay.port(), "/readyz")
            .filter(|(status, body)| *status == 503 && body.contains("is read by pid"))
    })
    .await;
    // It must not confirm anything when it ends either.
    holder.kill().unwrap();
    holder.wait().unwrap();
    let start = Instant::now();
    arena.relay.ready().await;
    arena.figures.push(format!("taken over after {} ms", start.elapsed().as_millis()));
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_wal_is_not_retained() {
    let plan = Plan::new((4, 20), (10, 20)).postgres("max_wal_size", "1GB");
    let mut arena = Arena::start("foreign WAL", plan).await;
    if let Some(writer) = arena.writer.take() {
        arena.work(300, 2000).await;
        writer.stop().await;
    }
    let writer = arena.sql().await;
    let begin: i64 = lsn(&writer, "pg_current_wal_lsn()").await;
    let goal = size(40, 2048) << 20;
    let mut most = 0;
    // As fast as a busy server writes for minutes; at full speed it would be measured how fast Postgres decodes.
    let pace = 7 << 20;
    let start = Instant::now();
    loop {
        let rows = "insert into foreign_rows (pad) select repeat(md5(n::text), 60) from generate_series(1, 4000) n";
        writer.batch_execute(rows).await.unwrap();
        let slot = arena.database.slot();
        let retained = format!(
            "(select pg_current_wal_lsn() - confirmed_flush_lsn + '0/0'::pg_lsn from pg_replication_slots
              where slot_name = '{slot}')"
        );
        most = most.max(lsn(&writer, &retained).await);
        let written = lsn(&writer, "pg_current_wal_lsn()").await - begin;
        if goal < written {
            break;
        }
        let due = Duration::from_secs_f64(written as f64 / f64::from(pace));
        tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
    }
    arena.figures.push(format!(
        "{} MiB written, at most {:.1} MiB unconfirmed",
        goal >> 20,
        most as f64 / 1048576.0
    ));
    assert!(most < 64 << 20, "{most} bytes were unconfirmed");
    arena.verdict(Resync::None).await;
}

async fn lsn(client: &tokio_postgres::Client, what: &str) -> i64 {
    let row = client.query_one(&format!("select ({what} - '0/0')::int8"), &[]).await.unwrap();
    row.get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_another_history() {
    let mut arena = Arena::start("backup restored", Plan::new((6, 50), (50, 300))).await;
    arena.work(200, 1000).await;
    let (data, backup) = (arena.cluster.data(), arena.cluster.dir().join("backup"));
    if let Some(writer) = arena.writer.take() {
        writer.stop().await;
    }
    arena.reach().await.unwrap();
    arena.cluster.stop("fast");
    copy(&data, &backup);
    arena.cluster.start_again();
    arena
        .execute(
            "insert into marks (key, ver, owner) select 901, n, 0 from generate_series(1, 100) n",
        )
        .await;
    arena.committed((1..=100).map(|ver| (901, ver)));
    arena.reach().await.unwrap();
    arena.cluster.stop("fast");
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    arena.cluster.start_again();
    arena.note_recovery(Instant::now()).await;
    arena
        .execute(
            "insert into marks (key, ver, owner) select 902, n, 0 from generate_series(1, 100) n",
        )
        .await;
    arena.committed((1..=100).map(|ver| (902, ver)));
    arena.everybody_was_told();
    arena.verdict(Resync::Rewritten).await;
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_relay_takes_over_when_the_first_dies() {
    // Far longer than the first one is frozen below: after that the other would take over, as it should.
    let plan = Plan::new((4, 50), (50, 300)).relay("RELAY_POSTGRES__WAL_SENDER_TIMEOUT", "60s");
    let mut arena = Arena::start("second relay", plan).await;
    arena.work(200, 1000).await;
    let mut second = crate::support::Relay::prepare(&arena.database, &[]);
    second.launch();
    until("the second relay to wait", || async {
        get(second.port(), "/readyz").filter(|(status, _)| *status == 503)
    })
    .await;
    arena.work(300, 5000).await;
    // It has a log of its own and has seen nothing: only that it streams is asked here.
    arena.relay.signal("STOP");
    tokio::time::sleep(Duration::from_millis(size(500, 2500))).await;
    let start = Instant::now();
    arena.relay.signal("CONT");
    arena.note_recovery(start).await;
    assert_eq!(get(second.port(), "/readyz").unwrap().0, 503, "two relays stream from one slot");
    second.kill();
    arena.verdict(Resync::None).await;
}
