//! Who is subscribed to what, right now.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use super::{Member, Presences, Resumes, Rooms, Wishes};
use crate::memory::{Kind, Memory, MemoryReservation};
use crate::metrics::{Metrics, reason};
use crate::model::{CallerIdentity, Subscription};
use crate::router::{BindingId, CallerKey, Router};

/// The members of every binding. A change of membership is in force when the call returns.
#[derive(Debug)]
pub struct Hub {
    state: RwLock<Membership>,
    rooms: Arc<Rooms>,
    presences: Presences,
    resumes: Resumes,
    next_id: AtomicU64,
    memory: Memory,
    metrics: Metrics,
}

/// Wishes, and whose they are. By default patterns are compiled without being counted.
#[derive(Debug, Default)]
pub struct Membership {
    router: Router,
    members: HashMap<BindingId, Vec<(Arc<Member>, u64)>, foldhash::fast::RandomState>,
    subscribed: HashMap<u64, Subscribed, foldhash::fast::RandomState>,
    /// Makes numbers of callers that nobody outside can compute.
    hasher: RandomState,
    /// What compiled patterns take, of the member that was the first to want each.
    patterns: HashMap<BindingId, MemoryReservation, foldhash::fast::RandomState>,
    memory: Option<(Memory, Metrics)>,
}

/// What a member is subscribed to.
#[derive(Debug)]
struct Subscribed {
    bindings: Box<[BindingId]>,
    digest: u64,
}

impl Hub {
    /// Nobody is here yet. A member whose socket broke stays present for `grace`; `seed` makes this life of the relay
    /// differ from others.
    pub fn new(grace: Duration, seed: u64, memory: Memory, metrics: Metrics) -> Self {
        let rooms = Arc::new(Rooms::new(metrics.clone()));
        let presences = Presences::new(Arc::clone(&rooms), grace, seed, metrics.clone());
        let state = RwLock::new(Membership::counted(memory.clone(), metrics.clone()));
        let next_id = AtomicU64::new(1);
        let resumes = Resumes::new(metrics.places_evicted.clone());
        Self { state, rooms, presences, resumes, next_id, memory, metrics }
    }

    /// What clients may make the relay hold.
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Nobody's wishes, whose patterns are counted with everybody's.
    pub fn nobody(&self) -> Membership {
        Membership::counted(self.memory.clone(), self.metrics.clone())
    }

    /// Who is in which topic.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Who is present where.
    pub const fn presences(&self) -> &Presences {
        &self.presences
    }

    /// Where clients continue.
    pub const fn resumes(&self) -> &Resumes {
        &self.resumes
    }

    /// A number for a new member.
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Replaces what a member is subscribed to: `wishes` with the id each has in the client's eyes. Every change
    /// that commits after this returns is matched against them.
    ///
    /// A member that is shown the past first gets them when it is attached.
    pub fn subscribe(&self, member: &Arc<Member>, wishes: Wishes) {
        let mut state = self.write();
        let wishes = match member.gate() {
            Some(gate) => gate.keep(wishes),
            None => Some(wishes),
        };
        if let Some(wishes) = wishes {
            state.subscribe(member, &wishes);
            self.count(&state);
        }
    }

    /// Lets a member that is shown the past arrive in the present: what commits from now on waits at its gate. `wishes`
    /// are those it was made with.
    pub fn attach(&self, member: &Arc<Member>, wishes: Wishes) {
        let mut state = self.write();
        // Whoever left before does not come back; whoever leaves after this finds what to remove.
        if member.is_gone() {
            return;
        }
        let newer = member.gate().and_then(super::Gate::attach);
        state.subscribe(member, &newer.unwrap_or(wishes));
        self.count(&state);
    }

    /// Ends all subscriptions of a member and takes it out of its room. What is already on its way is not sent any more.
    pub fn unsubscribe(&self, member: &Member) {
        member.leave();
        self.rooms.leave(member);
        let mut state = self.write();
        state.remove(member.id);
        self.count(&state);
    }

    fn count(&self, state: &Membership) {
        self.metrics.bindings.set(i64::try_from(state.members.len()).unwrap_or(i64::MAX));
    }

    /// The router and the members of its bindings, for matching.
    pub fn read(&self) -> RwLockReadGuard<'_, Membership> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Membership> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Membership {
    fn counted(memory: Memory, metrics: Metrics) -> Self {
        Self { memory: Some((memory, metrics)), ..Self::default() }
    }

    /// The index of wishes.
    pub const fn router(&self) -> &Router {
        &self.router
    }

    /// The members of a binding, each with the id the binding has in its eyes.
    pub fn members(&self, binding: BindingId) -> &[(Arc<Member>, u64)] {
        self.members.get(&binding).map_or(&[], Vec::as_slice)
    }

    /// A number that is the same for members that are subscribed to the same, and for hardly any others.
    pub fn digest(&self, member: u64) -> u64 {
        self.subscribed.get(&member).map_or(0, |subscribed| subscribed.digest)
    }

    /// What is asked for, each wish once, with the members that ask for it.
    pub fn wishes(&self) -> impl Iterator<Item = (&Arc<Subscription>, &[(Arc<Member>, u64)])> {
        self.members.iter().filter_map(|(binding, members)| {
            Some((self.router.subscription(*binding)?, members.as_slice()))
        })
    }

    /// Every member with at least one subscription.
    pub fn everyone(&self) -> impl Iterator<Item = &Arc<Member>> {
        let mut seen = std::collections::HashSet::new();
        let all = self.members.values().flatten().map(|(member, _)| member);
        all.filter(move |member| seen.insert(member.id))
    }

    /// Replaces what a member is subscribed to.
    pub fn subscribe(&mut self, member: &Arc<Member>, wishes: &[(u64, Arc<Subscription>)]) {
        self.remove(member.id);
        if wishes.is_empty() {
            return;
        }
        let caller = member.caller();
        let key = CallerKey(self.hasher.hash_one(&caller));
        let mut bindings = Vec::with_capacity(wishes.len());
        for (id, wish) in wishes {
            let binding = self.router.insert(wish, key);
            self.count_patterns(binding, &caller);
            self.members.entry(binding).or_default().push((Arc::clone(member), *id));
            bindings.push(binding);
        }
        let mut sorted = bindings.clone();
        sorted.sort_unstable();
        let digest = self.hasher.hash_one(sorted);
        self.subscribed.insert(member.id, Subscribed { bindings: bindings.into(), digest });
    }

    /// Counts the patterns of a binding that is new. Where there is no memory for them, Postgres decides instead.
    fn count_patterns(&mut self, binding: BindingId, caller: &CallerIdentity) {
        let Some((memory, metrics)) = &self.memory else { return };
        let bytes = self.router.pattern_bytes(binding);
        if bytes == 0 || self.members.contains_key(&binding) {
            return;
        }
        match memory.reserve(Kind::Patterns, caller, bytes) {
            Ok(held) => drop(self.patterns.insert(binding, held)),
            Err(full) => {
                self.router.drop_patterns(binding);
                metrics.refused.get_or_create(&reason(full.code)).inc();
            }
        }
    }

    /// Forgets a member.
    pub fn remove(&mut self, member: u64) {
        let Some(subscribed) = self.subscribed.remove(&member) else { return };
        for binding in subscribed.bindings {
            self.router.remove(binding);
            if let Some(members) = self.members.get_mut(&binding) {
                if let Some(place) = members.iter().position(|(held, _)| held.id == member) {
                    members.swap_remove(place);
                }
                if members.is_empty() {
                    self.members.remove(&binding);
                    self.patterns.remove(&binding);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Backlog, Broadcast, Dialect, Frame, Notice, Outbox};
    use crate::model::{Principal, Target};

    #[derive(Debug)]
    struct Silent;

    impl Dialect for Silent {
        fn name(&self) -> &'static str {
            "silent"
        }
        fn change(&self, _topic: &str, _ids: &[u64], _data: &str) -> Frame {
            Frame::Binary(bytes::Bytes::new())
        }
        fn notice(&self, _topic: &str, _join_ref: &str, _notice: &Notice) -> Frame {
            Frame::Binary(bytes::Bytes::new())
        }
        fn presence_state(&self, _topic: &str, _join_ref: &str, state: &str) -> Frame {
            Frame::Text(state.into())
        }
        fn presence_diff(&self, _topic: &str, diff: &str) -> Frame {
            Frame::Text(diff.into())
        }
        fn broadcast(&self, _topic: &str, _broadcast: &Broadcast) -> Option<Frame> {
            None
        }
    }

    fn hub() -> Hub {
        let metrics = Metrics::new();
        Hub::new(Duration::ZERO, 0, Memory::new(1 << 20, &metrics), metrics)
    }

    fn member(hub: &Hub) -> Arc<Member> {
        let principal = Arc::new(Principal::new("anon", "{}"));
        let outbox = Arc::new(Outbox::new(1000, Arc::new(Backlog::new(1000))));
        Arc::new(Member::new(hub.next_id(), "t".into(), "null".into(), &Silent, outbox, principal))
    }

    fn wish(table: &str) -> Arc<Subscription> {
        let target = Target::Table { schema: "public".into(), table: table.into() };
        Arc::new(Subscription { target, event: None, filter: Arc::from([]), select: None })
    }

    #[test]
    fn equal_wishes_share_a_binding_until_the_last_member_left() {
        let hub = hub();
        let (one, two) = (member(&hub), member(&hub));
        hub.subscribe(&one, vec![(1, wish("a")), (2, wish("b"))]);
        hub.subscribe(&two, vec![(1, wish("a"))]);
        assert_eq!(hub.metrics.bindings.get(), 2);
        assert_eq!(hub.read().everyone().count(), 2);
        hub.unsubscribe(&one);
        assert!(one.is_gone() && hub.read().router().wants("public", "a"));
        assert!(!hub.read().router().wants("public", "b"));
        hub.unsubscribe(&two);
        assert_eq!((hub.metrics.bindings.get(), hub.read().everyone().count()), (0, 0));
    }

    #[test]
    fn subscribing_again_replaces_what_was_asked_for() {
        let hub = hub();
        let one = member(&hub);
        hub.subscribe(&one, vec![(1, wish("a"))]);
        hub.subscribe(&one, vec![(1, wish("b"))]);
        assert!(!hub.read().router().wants("public", "a"));
        assert!(hub.read().router().wants("public", "b"));
    }
}
