//! What was committed against what was received. Pure; its own tests show that it finds each kind of fault.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use relay::model::Position;

/// Rows for everybody.
pub const ALL: i32 = 0;

/// Rows for nobody.
pub const NOBODY: i32 = 99;

/// One change, named so that no two have the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    /// First letters of the table and the operation.
    pub kind: (u8, u8),
    /// Which row, or row of rows; its changes have rising versions.
    pub key: i32,
    pub ver: i64,
}

/// A change that is known to have been committed, and who may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub change: Change,
    pub owner: i32,
}

/// A change as a client received it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub id: Position,
    pub change: Change,
    /// Which of the client's connections brought it.
    pub connection: u32,
}

/// All that happened to one client.
#[derive(Clone, Debug, Default)]
pub struct Story {
    pub name: String,
    /// Whose rows it may read, besides everybody's.
    pub seat: i32,
    pub seen: Vec<Seen>,
    /// Notices of gaps, as they came.
    pub gaps: Vec<String>,
    /// Other errors it was told.
    pub told: Vec<String>,
    pub connections: u32,
    /// Whether the first changes of a connection may be ones it has already.
    pub may_repeat: bool,
}

/// The counts, and the first examples of what is wrong.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub committed: usize,
    pub due: usize,
    pub received: usize,
    pub repeated: usize,
    pub connections: u32,
    pub lost: usize,
    pub duplicate: usize,
    pub unstable: usize,
    pub reordered: usize,
    pub leaked: usize,
    pub resync: usize,
    /// Clients that lost something and were told nothing.
    pub silent: usize,
    pub examples: Vec<String>,
}

impl Verdict {
    pub fn of(committed: &[Committed], stories: &[Story]) -> Self {
        let mut verdict = Self { committed: committed.len(), ..Self::default() };
        let mut owners: HashMap<Change, i32> = HashMap::with_capacity(committed.len());
        owners.extend(committed.iter().map(|one| (one.change, one.owner)));
        let mut ids: HashMap<Change, Position> = HashMap::new();
        for story in stories {
            verdict.judge(story, &owners, &mut ids);
        }
        verdict
    }

    fn judge(
        &mut self,
        story: &Story,
        owners: &HashMap<Change, i32>,
        ids: &mut HashMap<Change, Position>,
    ) {
        self.connections += story.connections;
        self.resync += story.gaps.len();
        let mut had: HashMap<Change, Position> = HashMap::new();
        let mut known: HashSet<Position> = HashSet::new();
        let mut before: Option<Seen> = None;
        let mut highest: BTreeMap<(u8, i32), i64> = BTreeMap::new();
        for seen in &story.seen {
            let Seen { id, change, connection } = *seen;
            let follows = before.filter(|before| before.connection == connection);
            if let Some(before) = follows
                && before.id.epoch == id.epoch
                && (id.commit_lsn, id.index) <= (before.id.commit_lsn, before.id.index)
            {
                let is_same = id == before.id;
                let count = if is_same { &mut self.duplicate } else { &mut self.reordered };
                *count += 1;
                self.note(&format!("{id} after {} on connection {connection}", before.id), story);
            }
            before = Some(*seen);
            if !known.insert(id) {
                self.repeated += 1;
                if !story.may_repeat {
                    self.duplicate += 1;
                    self.note(&format!("{id} came again"), story);
                }
                continue;
            }
            self.received += 1;
            if let Some(first) = had.insert(change, id) {
                self.duplicate += 1;
                self.note(&format!("{change:?} as {first} and as {id}"), story);
            }
            if ids.entry(change).or_insert(id) != &id {
                self.unstable += 1;
                self.note(&format!("{change:?} as {id}, elsewhere as {}", ids[&change]), story);
            }
            let top = highest.entry((change.kind.0, change.key)).or_insert(i64::MIN);
            if change.ver < *top {
                self.reordered += 1;
                let top = *top;
                self.note(&format!("{change:?} after version {top}"), story);
            } else {
                *top = change.ver;
            }
            if !owners.get(&change).is_some_and(|owner| may_read(story.seat, *owner)) {
                self.leaked += 1;
                let why =
                    if owners.contains_key(&change) { "another's" } else { "never committed" };
                self.note(&format!("{change:?} is {why}"), story);
            }
        }
        let before = self.lost;
        for (change, owner) in owners {
            if may_read(story.seat, *owner) {
                self.due += 1;
                if !had.contains_key(change) {
                    self.lost += 1;
                    self.note(&format!("{change:?} did not come"), story);
                }
            }
        }
        self.silent += usize::from(before < self.lost && story.gaps.is_empty());
    }

    fn note(&mut self, what: &str, story: &Story) {
        if self.examples.len() < 20 {
            self.examples.push(format!("{}: {what}", story.name));
        }
    }

    /// Whether everything came, once, in order, to whom it may.
    pub const fn is_clean(&self) -> bool {
        self.lost + self.duplicate + self.unstable + self.reordered + self.leaked == 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { committed, due, received, repeated, connections, .. } = self;
        let Self { lost, duplicate, unstable, reordered, leaked, resync, .. } = self;
        write!(
            f,
            "committed {committed}, due {due}, received {received} (+{repeated} again) on {connections} connections; \
             lost {lost}, duplicate {duplicate}, unstable {unstable}, reordered {reordered}, leaked {leaked}, \
             resync {resync}"
        )
    }
}

const fn may_read(seat: i32, owner: i32) -> bool {
    owner == ALL || owner == seat
}

#[test]
fn the_oracle_sees_each_kind_of_fault() {
    let change = |ver| Change { kind: (b'm', b'I'), key: 1, ver };
    let committed =
        (1..=4).map(|ver| Committed { change: change(ver), owner: if ver == 3 { 2 } else { 1 } });
    let committed: Vec<_> = committed.collect();
    let seen = |commit: u64, ver, connection| Seen {
        id: format!("1:{commit:x}:0").parse().unwrap(),
        change: change(ver),
        connection,
    };
    let verdict = |seen: Vec<Vec<Seen>>, may_repeat| {
        let story = |seen| Story { seat: 1, seen, may_repeat, ..Story::default() };
        let stories: Vec<_> = seen.into_iter().map(story).collect();
        let Verdict { lost, duplicate, unstable, reordered, leaked, .. } =
            Verdict::of(&committed, &stories);
        [lost, duplicate, unstable, reordered, leaked]
    };
    let (a, b, d) = (seen(1, 1, 1), seen(2, 2, 1), seen(4, 4, 1));
    assert_eq!(verdict(vec![vec![a, b, d]], false), [0; 5]);
    assert_eq!(verdict(vec![vec![a, d]], false), [1, 0, 0, 0, 0]);
    assert_eq!(verdict(vec![vec![a, b, b, d]], true), [0, 1, 0, 0, 0]);
    assert_eq!(verdict(vec![vec![a, b, seen(2, 2, 2), seen(4, 4, 2)]], true), [0; 5]);
    assert_eq!(verdict(vec![vec![a, b, seen(2, 2, 2), seen(4, 4, 2)]], false), [0, 1, 0, 0, 0]);
    assert_eq!(verdict(vec![vec![a, b, seen(3, 2, 1), d]], true), [0, 1, 1, 0, 0]);
    assert_eq!(verdict(vec![vec![a, b, d], vec![a, b, seen(5, 4, 1)]], true), [0, 0, 1, 0, 0]);
    assert_eq!(verdict(vec![vec![b, a, d]], true), [0, 0, 0, 2, 0]);
    assert_eq!(verdict(vec![vec![a, b, seen(3, 3, 1), d]], true), [0, 0, 0, 0, 1]);
    assert_eq!(verdict(vec![vec![a, b, seen(3, 9, 2), seen(4, 4, 3)]], true), [0, 0, 0, 1, 1]);
}
