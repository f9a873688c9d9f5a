//! From the past to the present: members that were away are shown what they missed, and then join everyone else.
//!
//! Members that come at about the same time are shown the past together, in one pass over the log, so that a thousand
//! that reconnect cost one reading. A pass stands apart from the fan-out and holds up nobody. Members that read slowly
//! are left behind by their pass, and go on together with others like them.
//!
//! A member that names a position which the fan-out has not come to waits here, before any pass: it has what is still to
//! be handed out, so it misses nothing. After a crash that is what clients saw before it was on disk; Postgres sends it
//! again soon. Overflow: above a fixed number of waiting members, they are told that the position is unknown.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::first::{self, Job};
use super::held::Held;
use super::pass::{LOOK, Pace, Passed};
use super::{Fanout, Told, pass};
use crate::changelog::{Bounds, ChangeLog, Gap, Place};
use crate::hub::{Hub, Member, Wishes};
use crate::model::{FirstRead, Position, Since};

/// Passes under way at once; further members wait for one to end.
const PASSES: usize = 4;

/// The same of those who were left behind.
const SLOW_PASSES: usize = 4;

/// How long a place past the newest change is waited for.
const RETURN: Duration = Duration::from_secs(5);

/// How long a pass waits for others to come along.
const GATHER: Duration = Duration::from_millis(10);

/// Members of one pass.
const MOST: usize = 10_000;

/// A member that is to be shown the past. Its gate is shut.
#[derive(Debug)]
pub struct Latecomer {
    /// Who.
    pub member: Arc<Member>,
    /// What it asked for.
    pub wishes: Wishes,
    /// For the wishes that continue, by the id they have in the member's eyes: after what.
    pub since: Vec<(u64, Since)>,
    /// For the wishes whose rows are read first unless they continue, by the same id: which rows.
    pub firsts: Vec<(u64, FirstRead)>,
}

/// Where the present of a member begins.
#[derive(Debug)]
pub(super) struct Beginning {
    /// Everything after this position waits at its gate.
    pub(super) at: Position,
    /// What was handed out up to there and may not be visible yet.
    pub(super) unseen: Arc<[u32]>,
}

/// Members that have been shown the past and join the present.
pub struct Arrival {
    /// Who, with what it asked for.
    pub(super) members: Vec<(Arc<Member>, Wishes)>,
    /// Told where the present begins.
    pub(super) begins: oneshot::Sender<Beginning>,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival").field("members", &self.members.len()).finish_non_exhaustive()
    }
}

impl Arrival {
    /// Lets the members in. Everything up to `done` was handed out without them.
    pub(super) fn admit(self, hub: &Hub, done: Position, told: &Told) {
        for (member, wishes) in self.members {
            hub.attach(&member, wishes);
        }
        // A pass that is gone was stopped with the relay.
        let _ = self.begins.send(Beginning { at: done, unseen: told.unseen() });
    }
}

/// Shows members the past.
#[derive(Debug)]
pub struct CatchUp<L> {
    /// What judges and delivers.
    pub fanout: Fanout,
    /// What is read.
    pub log: Arc<L>,
    /// The way to the present.
    pub arrivals: mpsc::Sender<Arrival>,
}

impl<L: ChangeLog> CatchUp<L> {
    /// Serves whoever comes, for ever.
    pub async fn run(self, mut requests: mpsc::Receiver<Latecomer>) -> Infallible {
        let held = Held::nothing();
        let mut early = Early::default();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Each member is here once: in a group, in a pass, or left behind by one.
        let (mut group, mut starts_at) = (Vec::new(), Instant::now());
        let mut slow = Vec::new();
        let (mut passes, mut slow_passes) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut reads = FuturesUnordered::new();
        let mut told = Box::pin(self.keep_told());
        loop {
            let is_free = passes.len() < PASSES;
            let mut came: Vec<Latecomer> = Vec::new();
            let passed = tokio::select! {
                Some(next) = requests.recv(), if is_free && group.len() < MOST => {
                    came.extend(early.hold(next, self.reach()));
                    None
                }
                () = sleep_until(starts_at), if is_free && !group.is_empty() => {
                    passes.push(pass::run(&self, std::mem::take(&mut group), Pace::Together));
                    None
                }
                _ = look.tick(), if !early.is_empty() => {
                    came = early.release(self.reach());
                    None
                }
                passed = passes.next(), if !passes.is_empty() => passed,
                passed = slow_passes.next(), if !slow_passes.is_empty() => passed,
                Some(()) = reads.next() => None,
                never = &mut told => match never {},
            };
            if group.is_empty() {
                starts_at = Instant::now() + GATHER;
            }
            group.append(&mut came);
            if let Some(Passed { jobs, slow: mut left }) = passed {
                reads.extend(self.show(&held, jobs));
                slow.append(&mut left);
            }
            if !slow.is_empty() && slow_passes.len() < SLOW_PASSES {
                slow_passes.push(pass::run(&self, std::mem::take(&mut slow), Pace::Slow));
            }
        }
    }

    /// How far the log and the fan-out are.
    pub(super) fn reach(&self) -> Reach {
        Reach { told: self.fanout.told.position(), bounds: self.log.bounds() }
    }

    /// The reads of a pass.
    fn show<'a>(
        &'a self,
        held: &'a Held,
        jobs: Vec<Job>,
    ) -> impl Iterator<Item = impl Future<Output = ()> + use<'a, L>> + use<'a, L> {
        jobs.into_iter().map(move |job| first::show(&self.fanout, held, job))
    }

    /// Keeps little in mind of what was told, for ever.
    async fn keep_told(&self) -> Infallible {
        loop {
            self.fanout.told.is_due().await;
            match self.fanout.catalog.snapshot().await {
                Ok(Some(snapshot)) => self.fanout.told.seen(&snapshot),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "what queries see could not be asked"),
            }
        }
    }
}

/// How far the log and the fan-out are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    told: Option<Position>,
    bounds: Bounds,
}

impl Reach {
    /// Whether everything up to `after` was handed out, and what follows is there.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, after: Position) -> Result<(), Gap> {
        self.bounds.check(after)?;
        let told = self.told.filter(|told| told.epoch == after.epoch).map(Place::from);
        // Nothing is between what was handed out and the newest change when they are the same.
        let needed = Place::from(after).min(self.bounds.newest);
        match told.is_some_and(|told| needed <= told) {
            true => Ok(()),
            false => Err(Gap::Ahead { newest: told.unwrap_or_default() }),
        }
    }

    /// Whether a member is to wait that waited so long already: in vain for a place that the log does not come to, as
    /// long as it takes for one that the fan-out comes to.
    fn is_early(&self, one: &Latecomer, waited: Duration) -> bool {
        let is_ahead = |gap: Result<(), Gap>| matches!(gap, Err(Gap::Ahead { .. }));
        one.since.iter().filter_map(|(_, since)| since.position()).any(|after| {
            let is_in_log = !is_ahead(self.bounds.check(after));
            is_ahead(self.check(after)) && (is_in_log || waited < RETURN)
        })
    }
}

/// Members that wait for the fan-out to come to where they are.
#[derive(Debug, Default)]
struct Early(Vec<(Latecomer, Instant)>);

impl Early {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps a member that is early if there is room; gives it back otherwise.
    fn hold(&mut self, one: Latecomer, reach: Reach) -> Option<Latecomer> {
        if MOST <= self.0.len() || !reach.is_early(&one, Duration::ZERO) {
            return Some(one);
        }
        self.0.push((one, Instant::now()));
        None
    }

    /// Gives back those that are early no more, and forgets those that left.
    fn release(&mut self, reach: Reach) -> Vec<Latecomer> {
        self.0.retain(|(one, _)| !one.member.is_gone());
        let released = self.0.extract_if(.., |(one, since)| !reach.is_early(one, since.elapsed()));
        released.map(|(one, _)| one).collect()
    }
}
