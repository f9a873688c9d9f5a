//! Standing by: another connection reads the slot, and this relay takes over when it stops.
//!
//! The slot is the lock: Postgres lets one connection read it, and lets go of one that died at once, of one that is
//! frozen after its `wal_sender_timeout`. So nothing else has to be agreed on, and two relays never read at once.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::answer::within;
use super::slot::{self, Holder, Slot};
use super::{Ended, Source, SourceState};
use crate::changelog::ChangeLog;
use crate::error::Error;
use crate::postgres::Sql;

/// How often the slot is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How often, when the one before us is our own and is about to end.
const LOOK_SOON: Duration = Duration::from_millis(20);
/// A server that does not answer for this long is asked over a new connection.
const ANSWER: Duration = Duration::from_secs(5);

impl<L: ChangeLog> Source<L> {
    /// Waits until nobody reads the slot.
    ///
    /// A connection of our own that Postgres still believes in is ended: it is known to be of no use any more.
    pub(super) async fn stand_by(&mut self, sql: Box<Sql>, holder: Holder) -> Result<Ended, Error> {
        let name = self.settings.slot.clone();
        let mut holder = holder;
        let own = self.walsender.clone();
        let is_own = |holder: &Holder| {
            own.as_ref().is_some_and(|(pid, since)| {
                *pid == holder.pid && holder.since.as_ref() == Some(since)
            })
        };
        if is_own(&holder) {
            slot::end_own(&sql.client, &name, holder.pid).await?;
        } else {
            info!(slot = name, %holder, "another connection reads the slot; standing by");
            self.tell_standby(&holder);
        }
        loop {
            tokio::select! {
                () = self.stage.stopping() => return Ok(Ended::Stopping),
                () = sleep(if is_own(&holder) { LOOK_SOON } else { LOOK_AGAIN }) => {}
            }
            let looked = within(ANSWER, Slot::read(&sql.client, &name)).await;
            let Some(slot) = looked? else { return Ok(Ended::ToAttach) };
            self.health.measure(&slot, Instant::now());
            match slot.holder {
                None => {
                    info!(slot = name, "nobody reads the slot any more; taking over");
                    return Ok(Ended::ToAttach);
                }
                Some(now) if now.pid != holder.pid => {
                    holder = now;
                    self.tell_standby(&holder);
                }
                Some(_) => {}
            }
        }
    }

    /// Postgres said that the slot is taken, after it looked free.
    pub(super) fn overtaken(&mut self, error: &Error) {
        warn!(%error, "another connection was faster; standing by");
        self.health.stand_by();
        self.state.send_replace(SourceState::Standby { reason: error.to_string() });
    }

    fn tell_standby(&mut self, holder: &Holder) {
        self.health.stand_by();
        self.metrics.standby.set(1);
        let reason = format!(
            "slot {:?} is read by {holder}; this relay takes over when that one stops",
            self.settings.slot
        );
        self.state.send_replace(SourceState::Standby { reason });
    }
}
