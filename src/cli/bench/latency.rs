//! From COMMIT to the client, at a steady rate.
//!
//! Measured from just before the writer sends COMMIT until the client has read the frame, both in this process and on
//! one clock: Postgres' own commit is part of it. The floor is the same rows, until their `CopyData` has been read.

use std::sync::Arc;
use std::time::Duration;

use super::floor::inserted_id;
use super::report::Report;
use super::samples::{Samples, rate};
use super::stand::{PUBLICATION, Stamps, Stand, row_id};
use super::writer::{self, INSERT};
use crate::error::Error;

/// Rows of each run that are not counted: caches and plans are cold.
const WARM_UP: u64 = 200;

/// How long the last row may take after the last write.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Rows per second.
    pub(super) rate: u32,
    /// For how long.
    pub(super) seconds: u32,
    /// Whether the table has row level security.
    pub(super) is_rls: bool,
    /// Whether the relay goes without a log on disk.
    pub(super) is_ephemeral: bool,
}

/// Measures.
///
/// # Errors
/// What failed to start or to be written.
pub(super) async fn run(load: Load, report: &mut Report) -> Result<(), Error> {
    let stand = Stand::build(load.is_rls).await?;
    report.about(&stand.version().await?);
    let count = u64::from(load.rate) * u64::from(load.seconds) + WARM_UP;
    let (mut floor, _) = below(&stand, load.rate, count).await?;
    let flags: &[&str] = if load.is_ephemeral { &["--ephemeral"] } else { &[] };
    let relay = stand.relay_with(flags).await?;
    let before = relay.cpu();
    let (mut through, took) = through(&stand, &relay, load.rate, count).await?;
    let cpu = relay.cpu().zip(before).map(|(after, before)| after.saturating_sub(before));
    let rls = if load.is_rls { "with" } else { "without" };
    let lost = count - WARM_UP - u64::try_from(through.count()).unwrap_or(0);
    let log = if load.is_ephemeral { ", in memory only" } else { "" };
    report.row(
        &format!("commit → client at {} changes/s, {rls} row level security{log}", load.rate),
        &through.describe(),
        &floor.describe(),
    );
    report.note(&format!(
        "{} written at {}; {lost} lost; relay's processor time {:.1} % of one core",
        count,
        rate(count, took),
        cpu.unwrap_or_default().as_secs_f64() / took.as_secs_f64() * 100.0
    ));
    relay.stop().await;
    stand.tear_down().await;
    Ok(())
}

/// The floor: COMMIT until the row's `CopyData` is read.
async fn below(stand: &Stand, rate: u32, count: u64) -> Result<(Samples, Duration), Error> {
    stand.prepare_floor().await?;
    let mut floor = stand.floor(PUBLICATION).await?;
    let stamps = Arc::new(Stamps::new(1, usize::try_from(count).unwrap_or(0)));
    let marks = Arc::clone(&stamps);
    let reading = stand.stage.spawn(async move {
        let mut samples = Samples::default();
        let mut seen = 0;
        while seen < count {
            let Some(id) = inserted_id(floor.next().await?) else { continue };
            seen += 1;
            if let Some(latency) = marks.since(id).filter(|_| id > WARM_UP) {
                samples.add(latency);
            }
        }
        Ok::<_, Error>(samples)
    });
    let took = writer::write(stand, &stamps, INSERT, (1, count), rate).await?;
    let samples = joined(reading).await?;
    stand.drop_floor().await?;
    Ok((samples, took))
}

/// Through the relay: COMMIT until the client has read the frame.
async fn through(
    stand: &Stand,
    relay: &crate::cli::process::Process,
    rate: u32,
    count: u64,
) -> Result<(Samples, Duration), Error> {
    let first = count + 1;
    let mut client = stand.join(relay, None).await?;
    let stamps = Arc::new(Stamps::new(first, usize::try_from(count).unwrap_or(0)));
    let marks = Arc::clone(&stamps);
    let reading = stand.stage.spawn(async move {
        let mut samples = Samples::default();
        let mut seen = 0;
        while seen < count {
            let frame = client.hear_text().await?;
            let Some(id) = row_id(&frame) else { continue };
            seen += 1;
            if let Some(latency) = marks.since(id).filter(|_| id >= first + WARM_UP) {
                samples.add(latency);
            }
        }
        Ok::<_, Error>(samples)
    });
    let took = writer::write(stand, &stamps, INSERT, (first, count), rate).await?;
    Ok((joined(reading).await?, took))
}

/// The result of a reading task, which has until the patience ends.
///
/// # Errors
/// The task's, or that the patience ended.
pub(super) async fn joined<T>(task: tokio::task::JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    use crate::error::ErrorKind::{Bug, PeerUnreachable};
    let ended = tokio::time::timeout(PATIENCE, task)
        .await
        .map_err(|_| Error::new(PeerUnreachable, "not every row arrived in time"))?;
    ended.map_err(|error| Error::new(Bug, "the reader failed").because(error))?
}
