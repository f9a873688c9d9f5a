//! Resident memory of the relay's process per idle client that has joined one channel with one binding.

use std::time::Duration;

use super::crowd::Crowd;
use super::report::{NO_FLOOR, Report};
use super::samples::{rate, thousands};
use super::stand::Stand;
use crate::error::Error;

/// How long the relay has to come to rest before it is looked at.
const REST: Duration = Duration::from_secs(3);

/// Measures for each of `counts`, each on a relay of its own.
///
/// # Errors
/// What failed to start, or a client that could not join.
pub(super) async fn run(counts: &[usize], report: &mut Report) -> Result<(), Error> {
    let stand = Stand::build(false).await?;
    report.about(&stand.version().await?);
    for &count in counts {
        let relay = stand.relay().await?;
        // The first client pays for what is made once.
        let first = Crowd::join(&stand, &relay, 1, |_| None).await?.idle(&stand);
        tokio::time::sleep(REST).await;
        let before = relay.memory_bytes().unwrap_or_default();
        let crowd = Crowd::join(&stand, &relay, count, |_| None).await?;
        let took = crowd.took;
        let crowd = crowd.idle(&stand);
        tokio::time::sleep(REST).await;
        let after = relay.memory_bytes().unwrap_or_default();
        let each = after.saturating_sub(before) / u64::try_from(count.max(1)).unwrap_or(1);
        report.row(
            &format!("memory per idle joined client, of {count}"),
            &format!("{} bytes", thousands(f64::from(u32::try_from(each).unwrap_or(u32::MAX)))),
            NO_FLOOR,
        );
        report.note(&format!(
            "{count} clients: joined at {}; resident {} MiB before, {} MiB after",
            rate(u64::try_from(count).unwrap_or(0), took),
            before >> 20,
            after >> 20
        ));
        crowd.stop();
        first.stop();
        relay.stop().await;
    }
    stand.tear_down().await;
    Ok(())
}
