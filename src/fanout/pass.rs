//! One pass over the past, for members that come along together.
//!
//! Promises: each member is given every change after its place that it asked for and may see now, in commit order,
//! then what is live, without a hole and without a repetition; where that cannot be, it is told what is missing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::audience::{Audience, LateOnes, Way};
use super::catchup::{Arrival, CatchUp, Latecomer};
use super::lane::Lanes;
use super::{BATCH_BYTES, Layouts, STRIDE, index, message};
use crate::changelog::{ChangeLog, Gap, Place, Reader};
use crate::hub::{Hole, Member, Notice};
use crate::metrics::reason;
use crate::model::{Epoch, Position, Since, Transaction};

/// A pass is close enough to the present when a look at all that is new takes no longer than this.
const CLOSE: Duration = Duration::from_millis(100);

/// Looks at what is new; then the present is entered however far away it is.
const LOOKS: usize = 10;

/// Bytes that may wait in the outbox of a member before the pass waits for it.
const AHEAD: usize = 256 * 1024;

/// How long a pass waits for one member altogether.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a member that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// How long a place past the newest change is waited for: after a crash Postgres sends again what was not on disk.
const RETURN: Duration = Duration::from_secs(5);

/// Shows a group of members the past, and lets them into the present.
pub(super) async fn run<L: ChangeLog>(desk: &CatchUp<L>, group: Vec<Latecomer>) {
    let metrics = &desk.fanout.metrics;
    let count = i64::try_from(group.len()).unwrap_or(i64::MAX);
    metrics.catching_up.inc_by(count);
    let mut pass = Pass {
        desk,
        late: LateOnes::default(),
        layouts: HashMap::new(),
        lanes: Lanes::new(desk.fanout.clone(), Way::Late),
        at: Place::default(),
        epoch: Epoch::new(0),
        waited: HashMap::new(),
    };
    wait_for_return(&*desk.log, &group).await;
    let mut reader = pass.enter(&group);
    if let Some(reader) = &mut reader {
        for _ in 0..LOOKS {
            let began = Instant::now();
            pass.read_until(reader, desk.log.bounds().newest).await;
            if began.elapsed() < CLOSE {
                break;
            }
        }
    }
    let members = group.iter().map(|one| (Arc::clone(&one.member), one.wishes.clone())).collect();
    let (begins, begun) = oneshot::channel();
    if desk.arrivals.send(Arrival { members, begins }).await.is_ok()
        && let (Ok(until), Some(reader)) = (begun.await, &mut reader)
    {
        pass.read_until(reader, until).await;
    }
    pass.lanes.finish().await;
    for Latecomer { member, .. } in &group {
        if !member.open(None) {
            pass.tell_hole(member, None, "catch_up_behind", "too much happened meanwhile");
        }
    }
    metrics.catching_up.dec_by(count);
    metrics.caught_up.inc_by(count.unsigned_abs());
}

/// Waits a moment for places that the log has not reached yet.
async fn wait_for_return<L: ChangeLog>(log: &L, group: &[Latecomer]) {
    let deadline = Instant::now() + RETURN;
    let is_ahead = |since: &Since| match since {
        Since::After(position) => matches!(log.bounds().check(*position), Err(Gap::Ahead { .. })),
        Since::Unreadable => false,
    };
    let all = || group.iter().flat_map(|one| &one.since);
    while all().any(|(_, since)| is_ahead(since)) && Instant::now() < deadline {
        sleep(LOOK).await;
    }
}

/// A pass under way.
struct Pass<'a, L> {
    desk: &'a CatchUp<L>,
    late: LateOnes,
    layouts: Layouts,
    lanes: Lanes,
    /// Everything up to here was handed out.
    at: Place,
    epoch: Epoch,
    /// For how long each member was waited for.
    waited: HashMap<u64, Duration>,
}

impl<L: ChangeLog> Pass<'_, L> {
    /// Enters whoever can continue where it was, tells the others, and opens a reader at the earliest place.
    fn enter(&mut self, group: &[Latecomer]) -> Option<Reader> {
        let mut first: Option<Position> = None;
        for Latecomer { member, wishes, since } in group {
            let mut is_told = false;
            for (id, since) in since {
                let (from, why) = match since {
                    Since::Unreadable => (None, UNREADABLE),
                    Since::After(position) => match self.desk.log.bounds().check(*position) {
                        Ok(()) => {
                            let place = Place::from(*position);
                            self.late.starts.insert((member.id, *id), place);
                            if first.is_none_or(|first| place < Place::from(first)) {
                                first = Some(*position);
                            }
                            continue;
                        }
                        Err(gap) => (Some(*position), words(gap)),
                    },
                };
                if !is_told {
                    self.tell_hole(member, from, why.0, why.1);
                    is_told = true;
                }
            }
            let continued =
                wishes.iter().filter(|(id, _)| self.late.starts.contains_key(&(member.id, *id)));
            let continued: Vec<_> = continued.cloned().collect();
            self.late.membership.subscribe(member, &continued);
        }
        let first = first?;
        (self.at, self.epoch) = (first.into(), first.epoch);
        match self.desk.log.read_from(first) {
            Ok(reader) => Some(reader),
            Err(gap) => {
                self.tell_all(words(gap));
                None
            }
        }
    }

    /// Hands out what the log has up to `end`.
    async fn read_until(&mut self, reader: &mut Reader, end: Place) {
        // Where another history began meanwhile, places of the one before may be out of reach.
        while self.at < end.min(self.desk.log.bounds().newest) {
            let batch = self.desk.log.read(reader, BATCH_BYTES);
            match self.lanes.meanwhile(batch).await {
                Ok(batch) => {
                    for piece in &batch {
                        self.hand_out(piece).await;
                    }
                }
                Err(gap) => {
                    self.lanes.finish().await;
                    self.tell_all(words(gap));
                    match gap {
                        Gap::Forgotten { oldest } => self.at = self.at.max(oldest),
                        Gap::OtherEpoch | Gap::Ahead { .. } => self.at = end,
                    }
                }
            }
            self.lanes.finish().await;
            self.wait_for_readers().await;
        }
    }

    async fn hand_out(&mut self, piece: &Transaction) {
        if piece.oversized {
            self.lanes.finish().await;
            self.tell_all(TOO_LARGE);
        }
        for (place, change) in piece.changes.iter().enumerate() {
            // What the database said in a channel has its own way to the past.
            if !message::is_messages(&change.relation) {
                let (epoch, commit_lsn) = (self.epoch, piece.commit_lsn);
                let id = Position { epoch, commit_lsn, index: index(piece, place) };
                let audience = Audience::Late(&self.late);
                self.desk
                    .fanout
                    .match_change(piece, id, change, audience, &mut self.layouts, &mut self.lanes)
                    .await;
            }
            if place % STRIDE == STRIDE - 1 {
                self.lanes.pump();
                self.lanes.meanwhile(tokio::task::yield_now()).await;
            }
        }
        self.at = Place::last_of(piece);
    }

    /// Waits for members that have much to read: nothing they asked for may push them out.
    async fn wait_for_readers(&mut self) {
        let members: Vec<_> = self.late.membership.everyone().cloned().collect();
        for member in members {
            let waited = self.waited.entry(member.id).or_default();
            while AHEAD < member.outbox.bytes() && !member.is_gone() && *waited < PATIENCE {
                sleep(LOOK).await;
                *waited += LOOK;
            }
        }
    }

    fn tell_all(&self, why: (&'static str, &'static str)) {
        for member in self.late.membership.everyone() {
            let at = Position {
                epoch: self.epoch,
                commit_lsn: self.at.commit_lsn,
                index: self.at.index,
            };
            self.tell_hole(member, Some(at), why.0, why.1);
        }
    }

    /// Tells a member that changes after `from` are missing.
    fn tell_hole(
        &self,
        member: &Arc<Member>,
        from: Option<Position>,
        why: &'static str,
        words: &str,
    ) {
        let bounds = self.desk.log.bounds();
        self.desk.fanout.metrics.gaps.get_or_create(&reason(why)).inc();
        let to = bounds.epoch.map(|epoch| {
            let Place { commit_lsn, index } = bounds.newest;
            Position { epoch, commit_lsn, index }.to_string().into()
        });
        let from = from.map(|from| from.to_string().into());
        let message = format!("Changes may be missing: {words}. Please read the table again.");
        Way::Late.tell(member, &Notice::of_hole(message, Hole { from, to, reason: why }));
    }
}

const UNREADABLE: (&str, &str) = ("unknown_position", "`since` is not the id of a change");
const TOO_LARGE: (&str, &str) = ("transaction_too_large", "a transaction was too large to hold");

/// The word for metrics and programs, and those for people.
const fn words(gap: Gap) -> (&'static str, &'static str) {
    match gap {
        Gap::Forgotten { .. } => ("retention", "the log no longer goes back so far"),
        Gap::OtherEpoch => ("history_lost", "the position is of another history"),
        Gap::Ahead { .. } => ("unknown_position", "the position is past the newest change"),
    }
}
