//! How far everything was handed out to everybody: where a client that has nothing unproven continues.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::lane::Lanes;
use crate::changelog::Place;
use crate::hub::Hub;
use crate::model::{Epoch, Position};

/// Looking costs a glance at every lane with work, so it is not done at each turn.
const EVERY: Duration = Duration::from_millis(20);

/// Tells the hub now and then.
#[derive(Debug)]
pub(super) struct Settled {
    looked_at: Option<Instant>,
    /// Something may have changed since it was looked.
    is_due: bool,
}

impl Settled {
    pub(super) const fn new() -> Self {
        Self { looked_at: None, is_due: false }
    }

    /// Tells the hub, unless it was told a moment ago. Everything up to `done` was put into lanes.
    pub(super) fn look(&mut self, hub: &Hub, epoch: Option<Epoch>, lanes: &Lanes, done: Place) {
        let now = Instant::now();
        let waiting = self.looked_at.is_some_and(|at| now < at + EVERY);
        self.is_due = waiting;
        let Some(epoch) = epoch.filter(|_| !waiting) else { return };
        self.looked_at = Some(now);
        let Place { commit_lsn, index } =
            lanes.waiting_from().map_or(done, |lsn| Place::before(lsn).min(done));
        hub.resumes().settle(Position { epoch, commit_lsn, index });
    }

    /// Returns when what was put off is due.
    pub(super) async fn later(&self) {
        match self.looked_at {
            Some(at) if self.is_due => sleep_until(at + EVERY).await,
            _ => std::future::pending().await,
        }
    }
}
