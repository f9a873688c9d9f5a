//! Who is in a topic, and giving something to all of them.
//!
//! A room is there while somebody is in it. It is written for once per dialect, however many are in it; giving never
//! waits for anybody. Messages of one room reach everyone in one order. Deliberately not here: who may enter, speak
//! or listen; whoever enters a member says what it receives.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use super::{Broadcast, Dialect, Frame, Member};
use crate::metrics::Metrics;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Public and private topics of one name have nothing in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// Anybody may enter.
    Public,
    /// Policies say who may enter.
    Private,
}

/// The name of a room.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomName {
    /// Whose rules hold.
    pub namespace: Namespace,
    /// The topic without any dialect's prefix.
    pub topic: Arc<str>,
}

/// What a member receives in its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receives {
    /// Broadcasts of others.
    pub broadcast: bool,
    /// Its own broadcasts, too.
    pub own: bool,
    /// Who comes and goes.
    pub presence: bool,
}

/// All rooms.
#[derive(Debug)]
pub struct Rooms {
    rooms: RwLock<Map<RoomName, Arc<Room>>>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Room(Mutex<Occupants>);

#[derive(Debug, Default)]
struct Occupants {
    /// Members for whom one frame serves.
    groups: Vec<Group>,
    /// The last one left: nobody enters this room any more, but a new one of the same name.
    is_over: bool,
}

#[derive(Debug)]
struct Group {
    dialect: &'static dyn Dialect,
    topic: Arc<str>,
    members: Map<u64, (Arc<Member>, Receives)>,
}

impl Rooms {
    /// No rooms yet.
    pub fn new(metrics: Metrics) -> Self {
        Self { rooms: RwLock::default(), metrics }
    }

    /// Lets a member in; from the return on it is given what is said. A member enters one room in its life; entering
    /// it again changes what it receives.
    pub fn enter(&self, name: &RoomName, member: &Arc<Member>, receives: Receives) {
        let name = member.enter(name);
        loop {
            let room = self.find(name).unwrap_or_else(|| self.open(name));
            let mut occupants = room.lock();
            if !occupants.is_over {
                return occupants.insert(member, receives);
            }
            drop(occupants);
            self.forget(name, &room);
        }
    }

    /// Takes a member out of its room, if it entered one.
    pub fn leave(&self, member: &Member) {
        let Some(name) = member.room() else { return };
        let Some(room) = self.find(name) else { return };
        let mut occupants = room.lock();
        occupants.remove(member);
        occupants.is_over = occupants.groups.is_empty();
        if occupants.is_over {
            drop(occupants);
            self.forget(name, &room);
        }
    }

    /// Gives a broadcast to everyone in the room who receives broadcasts; to the `sender` only if it receives its
    /// own. How many frames were queued.
    pub fn broadcast(&self, name: &RoomName, sender: Option<u64>, broadcast: &Broadcast) -> u64 {
        let is_for = |member: &Member, receives: Receives| {
            receives.broadcast && (receives.own || sender != Some(member.id))
        };
        self.give(name, is_for, |dialect, topic| dialect.broadcast(topic, broadcast))
    }

    /// Gives a frame to everyone in the room whom it is for. `write` is called at most once per dialect and topic;
    /// nothing is given where it has no frame. A member whose queue is full is closed by its own socket and no
    /// concern of the others. How many frames were queued.
    pub fn give(
        &self,
        name: &RoomName,
        is_for: impl Fn(&Member, Receives) -> bool,
        write: impl Fn(&dyn Dialect, &str) -> Option<Frame>,
    ) -> u64 {
        let Some(room) = self.find(name) else { return 0 };
        let mut given = 0;
        for group in &room.lock().groups {
            let mut written = None;
            for (member, receives) in group.members.values() {
                if !is_for(member, *receives) {
                    continue;
                }
                let frame = written.get_or_insert_with(|| write(group.dialect, &group.topic));
                let Some(frame) = frame else { break };
                given += u64::from(member.offer(frame.clone()).is_ok());
            }
        }
        self.metrics.deliveries.inc_by(given);
        given
    }

    fn find(&self, name: &RoomName) -> Option<Arc<Room>> {
        self.rooms.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    fn open(&self, name: &RoomName) -> Arc<Room> {
        match self.write().entry(name.clone()) {
            Entry::Occupied(room) => Arc::clone(room.get()),
            Entry::Vacant(place) => {
                self.metrics.topics.inc();
                Arc::clone(place.insert(Arc::default()))
            }
        }
    }

    /// Forgets a room that is over, unless somebody did, and perhaps opened another since.
    fn forget(&self, name: &RoomName, over: &Arc<Room>) {
        let mut rooms = self.write();
        if rooms.get(name).is_some_and(|room| Arc::ptr_eq(room, over)) {
            rooms.remove(name);
            self.metrics.topics.dec();
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Map<RoomName, Arc<Room>>> {
        self.rooms.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Occupants> {
        // A panic while holding the lock leaves at worst a frame unsent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Occupants {
    fn insert(&mut self, member: &Arc<Member>, receives: Receives) {
        let place = self.groups.iter().position(|group| group.is_for(member));
        let entry = (Arc::clone(member), receives);
        if let Some(group) = place.and_then(|place| self.groups.get_mut(place)) {
            group.members.insert(member.id, entry);
            return;
        }
        let members = Map::from_iter([(member.id, entry)]);
        let (dialect, topic) = (member.dialect, Arc::clone(&member.topic));
        self.groups.push(Group { dialect, topic, members });
    }

    fn remove(&mut self, member: &Member) {
        if let Some(group) = self.groups.iter_mut().find(|group| group.is_for(member)) {
            group.members.remove(&member.id);
        }
        self.groups.retain(|group| !group.members.is_empty());
    }
}

impl Group {
    fn is_for(&self, member: &Member) -> bool {
        self.dialect.name() == member.dialect.name() && self.topic == member.topic
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::hub::{Content, Notice, Outbox};
    use crate::model::Principal;

    /// Writes the topic and the event, and counts how often.
    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    impl Dialect for Counting {
        fn name(&self) -> &'static str {
            "counting"
        }
        fn change(&self, _topic: &str, _ids: &[u64], _data: &str) -> Frame {
            Frame::Text("change".into())
        }
        fn notice(&self, _topic: &str, _join_ref: &str, _notice: &Notice) -> Frame {
            Frame::Text("notice".into())
        }
        fn presence_state(&self, _topic: &str, _join_ref: &str, state: &str) -> Frame {
            Frame::Text(state.into())
        }
        fn presence_diff(&self, _topic: &str, diff: &str) -> Frame {
            Frame::Text(diff.into())
        }
        fn broadcast(&self, topic: &str, broadcast: &Broadcast) -> Option<Frame> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let is_text = !matches!(broadcast.content, Content::Binary(_));
            is_text.then(|| Frame::Text(format!("{topic} {}", broadcast.event).into()))
        }
    }

    const LISTENS: Receives = Receives { broadcast: true, own: false, presence: false };

    fn room(namespace: Namespace, topic: &str) -> RoomName {
        RoomName { namespace, topic: topic.into() }
    }

    fn member(id: u64, dialect: &'static Counting) -> Arc<Member> {
        let principal = Arc::new(Principal::new("anon", "{}"));
        let outbox = Arc::new(Outbox::new(1 << 30, Arc::new(crate::hub::Backlog::new(1 << 30))));
        Arc::new(Member::new(id, "x:t".into(), "null".into(), dialect, outbox, principal))
    }

    fn received(member: &Member) -> usize {
        let mut frames = Vec::new();
        member.outbox.take(&mut frames);
        frames.len()
    }

    #[test]
    fn a_broadcast_is_written_once_and_reaches_all_but_its_sender() {
        let dialect: &'static Counting = Box::leak(Box::default());
        let rooms = Rooms::new(Metrics::new());
        let name = room(Namespace::Public, "t");
        let members: Vec<_> = (0..4).map(|id| member(id, dialect)).collect();
        for member in &members {
            rooms.enter(&name, member, LISTENS);
        }
        rooms.enter(&name, &members[1], Receives { own: true, ..LISTENS });
        rooms.enter(&name, &members[3], Receives { broadcast: false, ..LISTENS });
        let hello = Broadcast::json("hello", "{}");
        assert_eq!(rooms.broadcast(&name, Some(0), &hello), 2);
        assert_eq!(rooms.broadcast(&name, Some(1), &hello), 3);
        assert_eq!(rooms.broadcast(&name, None, &hello), 3);
        assert_eq!(members.iter().map(|member| received(member)).collect::<Vec<_>>(), [2, 3, 3, 0]);
        assert_eq!(dialect.0.load(Ordering::Relaxed), 3);
        assert_eq!(rooms.broadcast(&name, None, &Broadcast::binary("b", vec![1])), 0);
        assert_eq!(rooms.metrics.deliveries.get(), 8);
    }

    #[test]
    fn namespaces_and_topics_do_not_meet() {
        let dialect: &'static Counting = Box::leak(Box::default());
        let rooms = Rooms::new(Metrics::new());
        let (public, private) = (member(1, dialect), member(2, dialect));
        rooms.enter(&room(Namespace::Public, "t"), &public, LISTENS);
        rooms.enter(&room(Namespace::Private, "t"), &private, LISTENS);
        let hello = Broadcast::whole("{}");
        assert_eq!(rooms.broadcast(&room(Namespace::Public, "t"), None, &hello), 1);
        assert_eq!(rooms.broadcast(&room(Namespace::Public, "u"), None, &hello), 0);
        assert_eq!((received(&public), received(&private)), (1, 0));
    }

    #[test]
    fn a_room_ends_with_its_last_member_and_may_begin_again() {
        let dialect: &'static Counting = Box::leak(Box::default());
        let rooms = Rooms::new(Metrics::new());
        let name = room(Namespace::Public, "t");
        let (one, two) = (member(1, dialect), member(2, dialect));
        for _ in 0..3 {
            rooms.enter(&name, &one, LISTENS);
            rooms.enter(&name, &two, LISTENS);
            assert_eq!(rooms.metrics.topics.get(), 1);
            rooms.leave(&one);
            assert_eq!(rooms.broadcast(&name, None, &Broadcast::whole("{}")), 1);
            rooms.leave(&two);
            rooms.leave(&two);
            assert_eq!(rooms.metrics.topics.get(), 0);
            assert_eq!(rooms.broadcast(&name, None, &Broadcast::whole("{}")), 0);
        }
        assert_eq!((received(&one), received(&two)), (0, 3));
    }

    #[test]
    fn members_that_come_and_go_at_once_are_not_lost() {
        let dialect: &'static Counting = Box::leak(Box::default());
        let rooms = Rooms::new(Metrics::new());
        let name = room(Namespace::Public, "t");
        std::thread::scope(|scope| {
            for id in 0..4 {
                let (rooms, name) = (&rooms, &name);
                scope.spawn(move || {
                    let member = member(id, dialect);
                    for round in 0..2000 {
                        rooms.enter(name, &member, Receives { own: true, ..LISTENS });
                        assert!(
                            rooms.broadcast(name, None, &Broadcast::whole("{}")) >= 1,
                            "{round}"
                        );
                        member.outbox.take(&mut Vec::new());
                        rooms.leave(&member);
                    }
                });
            }
        });
        assert_eq!(rooms.metrics.topics.get(), 0);
    }
}
