//! Another history begins: what everybody who is subscribed is told.

use std::time::Duration;

use super::Fanout;
use super::lane::Lanes;
use crate::changelog::NO_EPOCH;
use crate::model::Epoch;
use crate::source::SourceState;

/// How long the reason is waited for. The source says it right after the log has the new history, unless it failed again
/// in that moment.
const REASON: Duration = Duration::from_secs(1);

impl Fanout {
    /// The history of `before` ended, and that of `now` begins. Where there was one before, everybody is told, behind
    /// what still waits for them of it.
    pub(super) async fn begin(&self, lanes: &mut Lanes, before: Epoch, now: Epoch) {
        let mut source = self.source.clone();
        let mut reason = None;
        let waiting = source.wait_for(|state| match state {
            SourceState::Streaming { epoch, begun_by, .. } if *epoch == now => {
                reason = *begun_by;
                true
            }
            _ => false,
        });
        let waited = lanes.meanwhile(tokio::time::timeout(REASON, waiting)).await;
        let is_known = matches!(waited, Ok(Ok(_)));
        drop(waited);
        match reason {
            Some(why) => self.announce_gap(lanes, why.word(), why.words()),
            None if is_known || before == NO_EPOCH => {}
            None => self.announce_gap(lanes, "history_lost", "another history began"),
        }
    }
}
