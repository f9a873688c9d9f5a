//! A socket whose client named itself with a `resume` id: where its channels continue, and the pings that prove how far
//! they are.
//!
//! A ping is written after the changes it asks about, and the client's own WebSocket answers it with the same payload,
//! so an answer proves that they were received. A gateway that answers pings itself proves nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::desk::Desk;
use crate::changelog::Place;
use crate::hub::resumes::{Found, Key};
use crate::hub::{Frame, Member, Notice, Outbox, Proof, Wishes};
use crate::model::{FirstRead, Position, Since};

/// Longer ids are refused: they are hashed for every join.
pub(super) const MAX_ID: usize = 128;

/// Deliveries are unproven, and so repeated after a break, for about this long.
const EVERY: Duration = Duration::from_secs(1);

/// What a channel is told that continues nowhere.
const NEW: &str = "No place is kept for this resume id: changes come from now on";

/// The resumable channels of one socket.
#[derive(Debug)]
pub(super) struct Resuming {
    id: Box<str>,
    channels: Vec<(Key, Arc<Member>)>,
    /// What the ping says that is under way.
    asked: Option<Bytes>,
    pings: u64,
    /// Channels that are to be told that no place was kept for them.
    newcomers: Vec<Arc<Member>>,
    look_at: Instant,
}

impl Resuming {
    /// A socket of the client with this id.
    pub(super) fn new(id: &str) -> Self {
        let look_at = Instant::now() + EVERY;
        Self {
            id: id.into(),
            channels: Vec::new(),
            asked: None,
            pings: 0,
            newcomers: Vec::new(),
            look_at,
        }
    }

    /// A channel has its wishes: after what they continue, when it was here before and does not say so itself. One that
    /// was refused has none yet, and continues when it has.
    pub(super) fn subscribe(
        &mut self,
        desk: &Desk,
        member: &Arc<Member>,
        wishes: &Wishes,
        mut since: Vec<(u64, Since)>,
        firsts: &[(u64, FirstRead)],
    ) -> Vec<(u64, Since)> {
        let Some(room) = member.room().filter(|_| !wishes.is_empty()) else { return since };
        if self.channels.iter().any(|(_, known)| known.id == member.id) {
            return since;
        }
        let key = Key::new(&member.principal(), &self.id, room);
        let resumes = desk.hub.resumes();
        let before = resumes.find(key);
        let continues = before.is_some() || firsts.is_empty();
        let says = |id: u64| since.iter().any(|(said, _)| *said == id);
        let others: Vec<u64> = wishes.iter().map(|(id, _)| *id).filter(|id| !says(*id)).collect();
        let reads = |id: &u64| firsts.iter().any(|(read, _)| read == id);
        let is_new = match before {
            Some(found) => found.is_new,
            None => !others.iter().all(reads),
        };
        if let Some(Found { position, .. }) = before {
            since.extend(others.into_iter().map(|id| (id, Since::After(position))));
        }
        let settled = resumes.settled();
        let is_waiting = !(since.is_empty() && firsts.is_empty());
        let start = first_of(&since, settled);
        // What is read first is read again until it is proven whole.
        let floor = continues.then(|| start.map(Place::from).unwrap_or_default());
        let proof = Proof::new(start.map(|start| start.epoch), floor, is_waiting);
        if is_new {
            member.prove(proof.of_newcomer());
            self.newcomers.push(Arc::clone(member));
        } else {
            member.prove(proof);
        }
        resumes.open(key, member, desk.minute());
        self.channels.push((key, Arc::clone(member)));
        since
    }

    /// A channel ended.
    pub(super) fn unsubscribe(&mut self, desk: &Desk, member: &Member) {
        let place = self.channels.iter().position(|(_, known)| known.id == member.id);
        if let Some(place) = place {
            let (key, member) = self.channels.swap_remove(place);
            desk.hub.resumes().close(key, &member, desk.minute());
        }
    }

    /// When to look whether something is unproven.
    pub(super) const fn look_at(&self) -> Instant {
        self.look_at
    }

    /// Tells who is new, after their subscriptions; queues a ping if it is time and something was delivered since the last.
    pub(super) fn look(&mut self, desk: &Desk, outbox: &Arc<Outbox>) {
        for member in self.newcomers.drain(..) {
            // A member that cannot be told is being closed, and learns by reconnecting.
            let _ = member.notify(&Notice::of_newcomer(NEW.to_owned()));
        }
        let now = Instant::now();
        if now < self.look_at {
            return;
        }
        self.look_at = now + EVERY;
        let proofs = || self.channels.iter().filter_map(|(_, member)| member.proof());
        if let Some(settled) = desk.hub.resumes().settled() {
            proofs().for_each(|proof| proof.settle(settled));
        }
        if self.asked.is_some() || !proofs().any(Proof::wants_ping) {
            return;
        }
        proofs().for_each(Proof::ask);
        self.pings += 1;
        let said = Bytes::from(self.pings.to_string());
        self.asked = Some(said.clone());
        // An outbox that takes nothing is of a socket that ends.
        let _ = outbox.offer(Frame::Ping(said));
    }

    /// The client's WebSocket answered a ping.
    pub(super) fn answered(&mut self, desk: &Desk, said: &Bytes) {
        if self.asked.as_ref() == Some(said) {
            self.asked = None;
            desk.metrics.proofs.inc();
            for (_, member) in &self.channels {
                if let Some(proof) = member.proof() {
                    proof.answered();
                }
            }
        }
    }
}

/// Where a channel begins: the first place that it continues after, else where everybody is. A place of another history
/// comes before all: what is missing after it is told.
fn first_of(since: &[(u64, Since)], settled: Option<Position>) -> Option<Position> {
    let starts = || since.iter().filter_map(|(_, since)| since.position());
    let foreign = starts().find(|start| settled.is_some_and(|now| now.epoch != start.epoch));
    foreign.or_else(|| starts().min_by_key(|start| Place::from(*start))).or(settled)
}
