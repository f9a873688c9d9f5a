//! Sustained changes per second to one subscriber, of a backlog and live.
//!
//! Backlog: the process that sends to the relay is halted while single-row transactions are written, then let go;
//! measured until the client has read the last of them. The floor reads the very same transactions afterwards.
//! Live: one connection writes as fast as it can while the client listens; then once more at a pace.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::crowd::Crowd;
use super::report::Report;
use super::samples::rate;
use super::stand::{Commit, PUBLICATION, Stand};
use crate::cli::process::Process;
use crate::error::Error;

/// Measures with `rows` transactions.
///
/// # Errors
/// What failed to start or to be written, or a client that was closed.
pub(super) async fn run(rows: u64, is_rls: bool, report: &mut Report) -> Result<(), Error> {
    let stand = Stand::build(is_rls).await?;
    report.about(&stand.version().await?);
    stand.prepare_floor().await?;
    let relay = stand.relay().await?;
    let rls = if is_rls { "with" } else { "without" };
    let crowd = Crowd::join(&stand, &relay, 1, |_| None).await?;
    let backlog = Backlog { first: 1, rows, rooms: 1, readers: 1 };
    let drained = drain(&stand, &relay, crowd, backlog).await?;
    let floor = floor(&stand, rows).await?;
    report.row(
        &format!("single-row transactions/s to one subscriber, backlog of {rows}, {rls} row level security"),
        &rate(rows - drained.missing, drained.took),
        &rate(rows, floor),
    );
    report.note(&format!(
        "backlog: {} lost; {} by the relay's processor time",
        drained.missing,
        rate(rows, drained.cpu)
    ));
    live(&stand, &relay, rows, rls, report).await?;
    paced(&stand, &relay, 2 * rows, rls, report).await?;
    relay.stop().await;
    stand.tear_down().await;
    Ok(())
}

/// What emptying a backlog took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drained {
    /// From the sender's release until the last row was read.
    pub(super) took: std::time::Duration,
    /// The relay's processor time meanwhile.
    pub(super) cpu: std::time::Duration,
    /// Rows that never came.
    pub(super) missing: u64,
}

/// A backlog: rows in transactions of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backlog {
    /// The first row's id.
    pub(super) first: u64,
    /// How many.
    pub(super) rows: u64,
    /// Rooms they are spread over.
    pub(super) rooms: usize,
    /// Clients that each row is for.
    pub(super) readers: u64,
}

/// Writes `backlog` while the sender is halted, and lets `crowd` read it.
///
/// # Errors
/// What could not be written, or a client that was closed.
pub(super) async fn drain(
    stand: &Stand,
    relay: &Process,
    crowd: Crowd,
    backlog: Backlog,
) -> Result<Drained, Error> {
    let Backlog { first, rows, rooms, readers } = backlog;
    stand.signal_sender("STOP").await?;
    let filled = stand.fill(first, first + rows - 1, rooms, Commit::Unflushed).await;
    let counting = crowd.count(stand, rows * readers, |_| {});
    let cpu = relay.cpu().unwrap_or_default();
    let start = Instant::now();
    // Also after a failure, or the sender could not be stopped with its cluster.
    stand.signal_sender("CONT").await?;
    filled?;
    let missing = counting.finish().await?;
    let took = start.elapsed();
    let cpu = relay.cpu().unwrap_or_default().saturating_sub(cpu);
    Ok(Drained { took, cpu, missing })
}

/// Reads `rows` transactions without doing anything with them.
async fn floor(stand: &Stand, rows: u64) -> Result<std::time::Duration, Error> {
    let mut floor = stand.floor(PUBLICATION).await?;
    let start = Instant::now();
    let mut commits = 0;
    while commits < rows {
        if floor.next().await?.first() == Some(&b'C') {
            commits += 1;
        }
    }
    let took = start.elapsed();
    drop(floor);
    stand.drop_floor().await?;
    Ok(took)
}

async fn live(
    stand: &Stand,
    relay: &Process,
    rows: u64,
    rls: &str,
    report: &mut Report,
) -> Result<(), Error> {
    let counting = Crowd::join(stand, relay, 1, |_| None).await?.count(stand, rows, |_| {});
    let start = Instant::now();
    stand.fill(rows + 1, rows * 2, 1, Commit::Flushed).await?;
    let written = start.elapsed();
    let meanwhile = counting.received();
    let missing = counting.finish().await?;
    let took = start.elapsed();
    report.row(
        &format!("the same live, one connection writing {rows} as fast as it can, {rls} row level security"),
        &format!("{} delivered meanwhile", rate(meanwhile, written)),
        &format!("{} written", rate(rows, written)),
    );
    report.note(&format!(
        "live: {missing} lost; {} behind when the writing ended, caught up {:.2} s later",
        rows.saturating_sub(meanwhile),
        took.saturating_sub(written).as_secs_f64()
    ));
    Ok(())
}

/// The pace, in transactions per second, and for how long.
const PACE: u32 = 40_000;
const PACED_SECONDS: u32 = 5;

/// Rows written together before the writer waits for its time.
const PACED_BATCH: u32 = 400;

/// Writes single-row transactions after `before` at [`PACE`] and tells how far behind the client was at the end.
async fn paced(
    stand: &Stand,
    relay: &Process,
    before: u64,
    rls: &str,
    report: &mut Report,
) -> Result<(), Error> {
    let rows = u64::from(PACE * PACED_SECONDS);
    let counting = Crowd::join(stand, relay, 1, |_| None).await?.count(stand, rows, |_| {});
    let start = Instant::now();
    let mut due = start;
    let batch = u64::from(PACED_BATCH);
    for first in (before + 1..=before + rows).step_by(usize::try_from(batch).unwrap_or(1)) {
        sleep_until(due).await;
        stand.fill(first, first + batch - 1, 1, Commit::Flushed).await?;
        due += Duration::from_secs(1) * PACED_BATCH / PACE;
    }
    let written = start.elapsed();
    let behind = rows.saturating_sub(counting.received());
    let missing = counting.finish().await?;
    report.row(
        &format!("behind after {PACED_SECONDS} s of single-row transactions at a pace of {PACE}/s, {rls} row level security"),
        &format!("{behind} transactions"),
        &format!("{} written", rate(rows, written)),
    );
    report.note(&format!("paced: {missing} lost"));
    Ok(())
}
