//! How far everything was handed out to everybody: where a client that has nothing unproven continues.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::lane::Lanes;
use crate::changelog::{NO_EPOCH, Place};
use crate::hub::Hub;
use crate::model::Position;

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
    pub(super) fn look(&mut self, hub: &Hub, lanes: &Lanes, done: Position) {
        let now = Instant::now();
        let waiting = self.looked_at.is_some_and(|at| now < at + EVERY);
        self.is_due = waiting;
        if waiting || done.epoch == NO_EPOCH {
            return;
        }
        self.looked_at = Some(now);
        hub.resumes().settle(before(lanes.waiting_from(done.epoch), done));
    }

    /// Returns when what was put off is due.
    pub(super) async fn later(&self) {
        match self.looked_at {
            Some(at) if self.is_due => sleep_until(at + EVERY).await,
            _ => std::future::pending().await,
        }
    }
}

/// The last position before what waits, if something does. Positions of an earlier history are before all of this one.
fn before(waiting: Option<Position>, done: Position) -> Position {
    let Some(Position { epoch, commit_lsn, .. }) = waiting else { return done };
    let place = Place::before(commit_lsn);
    if epoch == done.epoch { place.min(done.into()).of(epoch) } else { place.of(epoch) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Lsn};

    #[test]
    fn what_waits_of_an_earlier_history_is_not_settled_in_the_present_one() {
        let at =
            |epoch, commit| Place { commit_lsn: Lsn::new(commit), index: 3 }.of(Epoch::new(epoch));
        let behind = |epoch, commit| Place::before(Lsn::new(commit)).of(Epoch::new(epoch));
        assert_eq!(before(None, at(2, 50)), at(2, 50));
        assert_eq!(before(Some(at(2, 40)), at(2, 50)), behind(2, 40));
        assert_eq!(before(Some(at(1, 900)), at(2, 50)), behind(1, 900));
        assert_eq!(before(Some(at(1, 20)), at(2, 50)), behind(1, 20));
    }
}
