//! One change to many subscribers.
//!
//! Latency: rows at ten per second, from just before COMMIT until each client has read its frame. Rate: a backlog that
//! every client is to receive, see `throughput`. The clients share the machine with the relay.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::crowd::Crowd;
use super::report::{NO_FLOOR, Report};
use super::samples::{Samples, rate};
use super::stand::{Stamps, Stand};
use super::throughput::{Backlog, drain};
use super::writer::{self, INSERT};
use crate::error::Error;

/// Rows per second while latency is measured: each is through before the next.
const RATE: u32 = 10;

/// Rows whose latency is measured.
const ROWS: u64 = 50;

/// Rows of the backlog.
const BACKLOG: u64 = 200;

/// Measures with `clients`.
///
/// # Errors
/// What failed to start or to be written, or a client that was closed.
pub(super) async fn run(clients: usize, is_rls: bool, report: &mut Report) -> Result<(), Error> {
    let stand = Stand::build(is_rls).await?;
    report.about(&stand.version().await?);
    let relay = stand.relay().await?;
    let rls = if is_rls { "with" } else { "without" };
    let many = u64::try_from(clients).unwrap_or(u64::MAX);
    let stamps = Arc::new(Stamps::new(1, usize::try_from(ROWS).unwrap_or(0)));
    let every = Arc::new(Mutex::new(Samples::default()));
    let last = Arc::new(Mutex::new(Samples::default()));
    let seen = {
        let arrived: Arc<Vec<AtomicU64>> =
            Arc::new((0..=ROWS).map(|_| AtomicU64::new(0)).collect());
        let (stamps, every, last) = (Arc::clone(&stamps), Arc::clone(&every), Arc::clone(&last));
        move |id: u64| {
            let Some(latency) = stamps.since(id) else { return };
            add(&every, latency);
            let place = usize::try_from(id).ok().and_then(|id| arrived.get(id));
            if place.is_some_and(|n| n.fetch_add(1, Ordering::Relaxed) + 1 == many) {
                add(&last, latency);
            }
        }
    };
    let counting =
        Crowd::join(&stand, &relay, clients, |_| None).await?.count(&stand, ROWS * many, seen);
    writer::write(&stand, &stamps, INSERT, (1, ROWS), RATE).await?;
    let missing = counting.finish().await?;
    report.row(
        &format!("one change to {clients} subscribers, {rls} row level security: every delivery"),
        &described(&every),
        NO_FLOOR,
    );
    report.row("… the last of them", &described(&last), NO_FLOOR);
    let crowd = Crowd::join(&stand, &relay, clients, |_| None).await?;
    let backlog = Backlog { first: ROWS + 1, rows: BACKLOG, rooms: 1, readers: many };
    let drained = drain(&stand, &relay, crowd, backlog).await?;
    report.row(
        &format!("deliveries/s to {clients} subscribers, {rls} row level security"),
        &rate(BACKLOG * many - drained.missing, drained.took),
        NO_FLOOR,
    );
    report.note(&format!(
        "fan-out: {} lost; {} by the relay's processor time",
        missing + drained.missing,
        rate(BACKLOG * many, drained.cpu)
    ));
    relay.stop().await;
    stand.tear_down().await;
    Ok(())
}

fn add(samples: &Mutex<Samples>, latency: std::time::Duration) {
    // A poisoned lock means that another client panicked; its figures are still figures.
    samples.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(latency);
}

fn described(samples: &Mutex<Samples>) -> String {
    samples.lock().unwrap_or_else(std::sync::PoisonError::into_inner).describe()
}
