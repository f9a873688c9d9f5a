//! The gate of a member that is shown the past first: what happens meanwhile waits behind it, in order.
//!
//! A gate is shut when its member is made, lets what is live through in order once it is opened, and is never shut
//! again. What waits is bounded, at each gate and at all of them together ([`Gates`]); what does not fit is let go, and
//! the member is told of the gap when the gate opens.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Frame;
use crate::changelog::Place;
use crate::model::{Lsn, Snapshot, Subscription};

/// Wishes with the id each has in the client's eyes.
pub type Wishes = Vec<(u64, Arc<Subscription>)>;

/// The change that something live is, and of which transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Where it stands.
    pub place: Place,
    /// The transaction's id in the WAL.
    pub xid: u32,
    /// It is for wishes that are shown a first read, so it may have been seen there.
    pub is_covered: bool,
}

/// What a member that comes out of a gate has seen already.
#[derive(Debug)]
pub struct Seen {
    /// Changes of transactions that committed at or after this are news.
    pub until: Lsn,
    /// Changes of earlier ones were seen as far as this snapshot sees them.
    pub snapshot: Snapshot,
}

/// What waits at all gates together.
#[derive(Debug)]
pub struct Gates {
    limit_bytes: usize,
    bytes: AtomicUsize,
}

impl Gates {
    /// Nothing waits yet; above `limit_bytes`, whatever gate something more comes to lets everything go.
    pub const fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, bytes: AtomicUsize::new(0) }
    }

    /// Bytes that wait now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Gate(Mutex<State>);

#[derive(Debug)]
struct State {
    limit_bytes: usize,
    bytes: usize,
    /// Where the bytes count as well.
    together: Option<Arc<Gates>>,
    waiting: Vec<(Option<Commit>, Frame)>,
    has_let_go: bool,
    is_attached: bool,
    is_open: bool,
    /// Wishes that came in place of those it was made with.
    newer: Option<Wishes>,
    /// The wishes that are shown a first read, by their ids.
    covered: Box<[u64]>,
    seen: Option<Seen>,
}

/// What a gate does with something live.
#[derive(Debug)]
pub(super) enum Passage {
    /// It goes on.
    Free(Frame),
    /// It waits, or was let go.
    Kept,
}

impl Gate {
    /// A shut gate, behind which up to `limit_bytes` may wait.
    pub fn new(limit_bytes: usize) -> Self {
        Self(Mutex::new(State {
            limit_bytes,
            bytes: 0,
            together: None,
            waiting: Vec::new(),
            has_let_go: false,
            is_attached: false,
            is_open: false,
            newer: None,
            covered: Box::default(),
            seen: None,
        }))
    }

    /// Something live arrives; `commit` is `None` for what is no change.
    pub(super) fn pass(&self, commit: Option<Commit>, frame: Frame) -> Passage {
        let mut state = self.lock();
        if state.is_open {
            return if state.is_known(commit) { Passage::Kept } else { Passage::Free(frame) };
        }
        if state.has_let_go || !state.hold(frame.len() + size_of::<(Option<Commit>, Frame)>()) {
            state.has_let_go = true;
            state.empty();
        } else {
            state.waiting.push((commit, frame));
        }
        Passage::Kept
    }

    /// What waits here counts towards what may wait `together`. Before anything does.
    pub fn count(&self, together: Arc<Gates>) {
        self.lock().together = Some(together);
    }

    /// Opens: `give` gets what waited and was not seen, in order, before anything that comes later. False when
    /// something had been let go.
    pub(super) fn open(&self, seen: Option<Seen>, give: impl Fn(Option<Commit>, Frame)) -> bool {
        let mut state = self.lock();
        state.seen = seen;
        for (commit, frame) in state.empty() {
            if !state.is_known(commit) {
                give(commit, frame);
            }
        }
        state.is_open = true;
        !state.has_let_go
    }

    /// What [`Seen`] will speak of: these wishes only. Before it is attached.
    pub fn cover(&self, wishes: impl IntoIterator<Item = u64>) {
        self.lock().covered = wishes.into_iter().collect();
    }

    /// Whether a change for this wish may have been seen.
    pub(super) fn covers(&self, wish: u64) -> bool {
        let state = self.lock();
        (!state.is_open || state.seen.is_some()) && state.covered.contains(&wish)
    }

    /// Keeps wishes for the moment it is attached; gives them back when it is already.
    pub(super) fn keep(&self, wishes: Wishes) -> Option<Wishes> {
        let mut state = self.lock();
        if state.is_attached {
            return Some(wishes);
        }
        state.newer = Some(wishes);
        None
    }

    /// From now on what is live arrives. The wishes kept last, if there are any.
    pub(super) fn attach(&self) -> Option<Wishes> {
        let mut state = self.lock();
        state.is_attached = true;
        state.newer.take()
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.lock().is_open
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts so many bytes more, if they may wait.
    fn hold(&mut self, bytes: usize) -> bool {
        if self.limit_bytes < self.bytes + bytes {
            return false;
        }
        if let Some(together) = &self.together {
            let before = together.bytes.fetch_add(bytes, Ordering::Relaxed);
            if together.limit_bytes < before + bytes {
                together.bytes.fetch_sub(bytes, Ordering::Relaxed);
                return false;
            }
        }
        self.bytes += bytes;
        true
    }

    /// Takes what waits.
    fn empty(&mut self) -> Vec<(Option<Commit>, Frame)> {
        let bytes = std::mem::take(&mut self.bytes);
        if let Some(together) = &self.together {
            together.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        std::mem::take(&mut self.waiting)
    }

    fn is_known(&mut self, commit: Option<Commit>) -> bool {
        let (Some(seen), Some(commit)) = (&self.seen, commit) else { return false };
        if seen.until <= commit.place.commit_lsn {
            // Commits come in order: nothing that was seen follows.
            self.seen = None;
            return false;
        }
        commit.is_covered && seen.snapshot.sees(commit.xid)
    }
}

impl Drop for State {
    /// A member may leave before its gate opens.
    fn drop(&mut self) {
        self.empty();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn frame(text: &str) -> Frame {
        Frame::Text(text.into())
    }

    fn from(commit: u64, xid: u32) -> Option<Commit> {
        let place = Place { commit_lsn: Lsn::new(commit), index: 0 };
        Some(Commit { place, xid, is_covered: true })
    }

    fn opened(gate: &Gate, seen: Option<Seen>) -> (bool, Vec<Frame>) {
        let given = RefCell::new(Vec::new());
        let is_whole = gate.open(seen, |_, frame| given.borrow_mut().push(frame));
        (is_whole, given.into_inner())
    }

    #[test]
    fn what_waits_comes_in_order_before_what_follows() {
        let gate = Gate::new(1000);
        assert!(matches!(gate.pass(from(1, 1), frame("a")), Passage::Kept));
        assert!(matches!(gate.pass(None, frame("b")), Passage::Kept));
        assert!(!gate.is_open());
        assert_eq!(opened(&gate, None), (true, vec![frame("a"), frame("b")]));
        assert!(matches!(gate.pass(from(2, 2), frame("c")), Passage::Free(_)));
    }

    #[test]
    fn what_does_not_fit_is_let_go_whole_and_told() {
        let gate = Gate::new(200);
        for _ in 0..10 {
            gate.pass(from(1, 1), frame("0123456789"));
        }
        assert_eq!(opened(&gate, None), (false, Vec::new()));
        assert!(matches!(gate.pass(None, frame("later")), Passage::Free(_)));
    }

    #[test]
    fn all_gates_together_have_a_bound_and_those_that_let_go_say_so() {
        let together = Arc::new(Gates::new(1000));
        let gate = || {
            let gate = Gate::new(700);
            gate.count(Arc::clone(&together));
            gate
        };
        let (one, other, third) = (gate(), gate(), gate());
        let text = "x".repeat(400);
        one.pass(from(1, 1), frame(&text));
        other.pass(from(1, 1), frame(&text));
        assert!((800..=1000).contains(&together.bytes()), "{}", together.bytes());
        third.pass(from(1, 1), frame(&text));
        assert_eq!(opened(&third, None), (false, Vec::new()), "there was no room");
        assert_eq!(opened(&one, None), (true, vec![frame(&text)]));
        assert!((400..=500).contains(&together.bytes()), "{}", together.bytes());
        drop(other);
        assert_eq!(together.bytes(), 0);
    }

    #[test]
    fn what_was_seen_is_not_given_again_until_nothing_seen_can_follow() {
        let gate = Gate::new(1000);
        let seen = Seen { until: Lsn::new(10), snapshot: "5:5:".parse().unwrap() };
        gate.pass(from(1, 4), frame("seen"));
        gate.pass(from(2, 6), frame("unseen"));
        gate.pass(None, frame("notice"));
        assert_eq!(opened(&gate, Some(seen)), (true, vec![frame("unseen"), frame("notice")]));
        assert!(matches!(gate.pass(from(9, 3), frame("seen")), Passage::Kept));
        assert!(matches!(gate.pass(from(10, 3), frame("another")), Passage::Free(_)));
        assert!(matches!(gate.pass(from(11, 3), frame("another")), Passage::Free(_)));
    }

    #[test]
    fn what_was_seen_for_one_wish_is_given_for_another() {
        let gate = Gate::new(1000);
        gate.cover([7]);
        assert!(gate.covers(7) && !gate.covers(8));
        let uncovered = from(1, 4).map(|commit| Commit { is_covered: false, ..commit });
        gate.pass(uncovered, frame("another wish"));
        let seen = Seen { until: Lsn::new(10), snapshot: "5:5:".parse().unwrap() };
        assert_eq!(opened(&gate, Some(seen)), (true, vec![frame("another wish")]));
        assert!(gate.covers(7), "what was seen may still come");
        assert!(matches!(gate.pass(uncovered, frame("another wish")), Passage::Free(_)));
        assert!(matches!(gate.pass(from(10, 9), frame("news")), Passage::Free(_)));
        assert!(!gate.covers(7));
    }

    #[test]
    fn wishes_are_kept_until_it_is_attached() {
        let gate = Gate::new(1000);
        assert!(gate.keep(Vec::new()).is_none());
        assert!(gate.attach().is_some());
        assert!(gate.keep(Vec::new()).is_some());
        assert!(gate.attach().is_none());
    }
}
