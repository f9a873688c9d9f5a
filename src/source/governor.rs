//! How much WAL our slot may hold back, and when it is given up. Pure apart from saying so.
//!
//! A slot that is behind keeps WAL on the server's disk, and a full disk stops the database. So there is a budget. At
//! half of it and at four fifths somebody is told; over it, the slot is given up: dropped and made anew, with a gap
//! that every subscriber is told of. But only when it helps and nothing else does: the slot is ours, and it did not
//! get nearer for [`PATIENCE`]. A relay that is catching up is left alone, however far behind it is; so is one to which
//! Postgres sends a large transaction, or decodes what it knows already, of which nothing can be confirmed for a while:
//! for [`EXCUSE`], as long as the stream moves and the log takes it.
//!
//! What counts is the WAL that was not confirmed. WAL that only an open transaction holds back would not be let go with
//! the slot for long, because a new one waits for that transaction too.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

/// How long a slot over its budget may stand still or fall back before it is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may be no nearer while the stream moves.
pub(super) const EXCUSE: Duration = Duration::from_secs(300);
/// When nobody looked for this long, because the server was away, the patience starts anew.
const UNSEEN: Duration = Duration::from_secs(30);

/// How much of the budget is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    #[default]
    Little,
    Half,
    Most,
    Over,
}

/// Watches over the budget of one slot.
#[derive(Debug)]
pub(super) struct Governor {
    /// `None`: no slot is ever given up.
    budget: Option<u64>,
    used: Use,
    /// Since the slot is over its budget: the nearest it was, and when.
    nearest: Option<(Instant, u64)>,
    /// When the stream was last seen to move.
    moved_at: Option<Instant>,
    seen_at: Option<Instant>,
}

impl Governor {
    /// `budget` in bytes; zero is for no limit.
    pub(super) fn new(budget: usize) -> Self {
        let budget = u64::try_from(budget).ok().filter(|budget| *budget != 0);
        Self { budget, used: Use::default(), nearest: None, moved_at: None, seen_at: None }
    }

    /// Whether slots may be given up at all.
    pub(super) const fn may_act(&self) -> bool {
        self.budget.is_some()
    }

    /// Takes in how many bytes of WAL were not confirmed at `now`, and whether the stream moved since the last look;
    /// whether the slot must go.
    pub(super) fn see(
        &mut self,
        name: &str,
        lag_bytes: u64,
        is_moving: bool,
        now: Instant,
    ) -> bool {
        let Some(budget) = self.budget else { return false };
        let used = share(lag_bytes, budget);
        if self.used != used {
            if self.used < used || used == Use::Little {
                say(used, name, lag_bytes, budget);
            }
            self.used = used;
        }
        let before = self.seen_at.replace(now);
        if used < Use::Over || before.is_some_and(|before| UNSEEN < now.duration_since(before)) {
            self.nearest = None;
        }
        if used < Use::Over {
            return false;
        }
        let (since, nearest) = *self.nearest.get_or_insert((now, lag_bytes));
        if lag_bytes < nearest {
            self.nearest = Some((now, lag_bytes));
            return false;
        }
        if is_moving {
            self.moved_at = Some(now);
        }
        let still_since = self.moved_at.map_or(since, |moved_at| moved_at.max(since));
        PATIENCE <= now.duration_since(still_since) || EXCUSE <= now.duration_since(since)
    }

    /// Somebody else reads the slot, or it is another one now: what was seen counts no more.
    pub(super) fn forget(&mut self) {
        (self.used, self.nearest) = (Use::Little, None);
    }
}

const fn share(lag_bytes: u64, budget: u64) -> Use {
    if budget <= lag_bytes {
        Use::Over
    } else if budget / 5 * 4 <= lag_bytes {
        Use::Most
    } else if budget / 2 <= lag_bytes {
        Use::Half
    } else {
        Use::Little
    }
}

fn say(used: Use, name: &str, lag_bytes: u64, max_slot_lag: u64) {
    match used {
        Use::Little => {
            info!(slot = name, lag_bytes, "the slot is within postgres.max_slot_lag again");
        }
        Use::Half => warn!(
            slot = name,
            lag_bytes,
            max_slot_lag,
            "the slot holds back half of postgres.max_slot_lag; see why the relay is behind (`relay check`)"
        ),
        Use::Most => error!(
            slot = name,
            lag_bytes,
            max_slot_lag,
            "the slot holds back four fifths of postgres.max_slot_lag; at all of it the relay gives the slot up, and \
             subscribers miss changes; mend what holds it, or raise postgres.max_slot_lag"
        ),
        Use::Over => error!(
            slot = name,
            lag_bytes,
            max_slot_lag,
            patience_s = PATIENCE.as_secs(),
            "the slot holds back all of postgres.max_slot_lag; it is given up unless it gets nearer"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_slot_that_stands_still_over_its_budget_goes_after_a_while() {
        let mut governor = Governor::new(100);
        let start = Instant::now();
        assert!(!governor.see("relay", 99, false, start));
        assert!(!governor.see("relay", 100, false, start + SECOND));
        assert!(!governor.see("relay", 150, false, start + PATIENCE));
        assert!(governor.see("relay", 100, false, start + PATIENCE + SECOND));
    }

    #[test]
    fn a_slot_that_gets_nearer_is_waited_for() {
        let mut governor = Governor::new(100);
        let start = Instant::now();
        for step in 0..50 {
            assert!(!governor.see(
                "relay",
                1000 - u64::from(step),
                false,
                start + PATIENCE / 2 * step
            ));
        }
        // Ups and downs above the nearest point are no progress.
        let since = start + PATIENCE / 2 * 49;
        assert!(!governor.see("relay", 960, false, since + PATIENCE / 2));
        assert!(governor.see("relay", 955, false, since + PATIENCE));
    }

    #[test]
    fn time_within_the_budget_starts_the_patience_anew() {
        let mut governor = Governor::new(100);
        let start = Instant::now();
        assert!(!governor.see("relay", 200, false, start));
        assert!(!governor.see("relay", 99, false, start + SECOND));
        assert!(!governor.see("relay", 200, false, start + PATIENCE));
        governor.forget();
        assert!(!governor.see("relay", 200, false, start + PATIENCE * 3));
    }

    #[test]
    fn a_stream_that_moves_excuses_it_for_a_while() {
        let mut governor = Governor::new(100);
        let start = Instant::now();
        assert!(!governor.see("relay", 200, false, start));
        for step in 1..=30 {
            assert!(!governor.see("relay", 300, true, start + PATIENCE * step - SECOND), "{step}");
        }
        assert!(governor.see("relay", 300, true, start + EXCUSE));

        governor.forget();
        assert!(!governor.see("relay", 200, true, start));
        assert!(!governor.see("relay", 200, true, start + PATIENCE));
        assert!(governor.see("relay", 200, false, start + PATIENCE * 2));
    }

    #[test]
    fn a_server_that_was_away_begins_the_patience_anew() {
        let mut governor = Governor::new(100);
        let start = Instant::now();
        assert!(!governor.see("relay", 200, false, start));
        let back = start + UNSEEN + SECOND;
        assert!(!governor.see("relay", 201, false, back));
        assert!(governor.see("relay", 201, false, back + PATIENCE));
    }

    #[test]
    fn without_a_budget_nothing_goes() {
        let mut governor = Governor::new(0);
        let start = Instant::now();
        assert!(!governor.see("relay", u64::MAX, false, start));
        assert!(
            !governor.see("relay", u64::MAX, false, start + PATIENCE * 9) && !governor.may_act()
        );
    }

    #[test]
    fn each_share_has_its_word() {
        let shares = [49, 50, 79, 80, 99, 100].map(|lag| share(lag, 100));
        assert_eq!(shares, [Use::Little, Use::Half, Use::Half, Use::Most, Use::Most, Use::Over]);
    }
}
