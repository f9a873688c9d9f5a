//! From the past to the present: members that were away are shown what they missed, and then join everyone else.
//!
//! Members that come at about the same time are shown the past together, in one pass over the log, so that a thousand
//! that reconnect cost one reading. A pass stands apart from the fan-out and holds up nobody.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};

use super::{Fanout, pass};
use crate::changelog::{ChangeLog, Place};
use crate::hub::{Hub, Member, Wishes};
use crate::model::Since;

/// Passes under way at once; further members wait for one to end.
const PASSES: usize = 4;

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
}

/// Members that have been shown the past and join the present.
pub struct Arrival {
    /// Who, with what it asked for.
    pub(super) members: Vec<(Arc<Member>, Wishes)>,
    /// Told where the present begins: everything after this place waits at their gates.
    pub(super) begins: oneshot::Sender<Place>,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival").field("members", &self.members.len()).finish_non_exhaustive()
    }
}

impl Arrival {
    /// Lets the members in. Everything up to `done` was handed out without them.
    pub(super) fn admit(self, hub: &Hub, done: Place) {
        for (member, wishes) in self.members {
            hub.attach(&member, wishes);
        }
        // A pass that is gone was stopped with the relay.
        let _ = self.begins.send(done);
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
        let mut passes = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(first) = requests.recv(), if passes.len() < PASSES => {
                    let mut group = vec![first];
                    let deadline = tokio::time::sleep(GATHER);
                    tokio::pin!(deadline);
                    loop {
                        tokio::select! {
                            () = &mut deadline => break,
                            Some(next) = requests.recv(), if group.len() < MOST => group.push(next),
                            Some(()) = passes.next() => {}
                        }
                    }
                    passes.push(pass::run(&self, group));
                }
                Some(()) = passes.next() => {}
                else => std::future::pending().await,
            }
        }
    }
}
