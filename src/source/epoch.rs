//! Is this still the history we were reading? Pure.
//!
//! An [`Epoch`] is made of the system identifier, the timeline it began on, the database, the slot's name and the slot's
//! generation. Postgres keeps no birth mark of a slot, so the generation is what was seen: 0 for the slot that was
//! found or made first, and a position for one that turned out to be another. What tells is where a slot stands: one
//! that is ahead of everything we ever confirmed was made again, or read by somebody else. The log on disk remembers
//! both, the generation and how far was confirmed at most; without one, a slot made again while no relay runs goes
//! unnoticed.

use aws_lc_rs::digest;

use super::connection::Identity;
use crate::changelog::Origin;
use crate::model::{Epoch, Lsn};

/// A history: who wrote it, and through which slot we read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct History {
    /// The server as it was when we last attached.
    pub(super) identity: Identity,
    /// The timeline on which the history began. It goes on over a promotion that loses nothing.
    pub(super) born_on: Box<str>,
    pub(super) database: u32,
    pub(super) generation: u64,
}

impl History {
    /// Its epoch, the same in every process.
    pub(super) fn epoch(&self, slot: &str) -> Epoch {
        let text = format!(
            "{}\n{}\n{}\n{slot}\n{}",
            self.identity.system, self.born_on, self.database, self.generation
        );
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let bytes = hash.as_ref().first_chunk().copied().unwrap_or_default();
        Epoch::new(u64::from_be_bytes(bytes))
    }

    /// The same for the log to keep.
    pub(super) fn origin(&self, slot: &str, database: &str) -> Origin {
        Origin {
            epoch: self.epoch(slot),
            system: self.identity.system.to_string(),
            timeline: self.born_on.to_string(),
            database_oid: self.database,
            database: database.to_owned(),
            slot: slot.to_owned(),
            generation: self.generation,
        }
    }
}

/// The slot as it was found on attaching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// How far it is confirmed.
    pub(super) confirmed: Lsn,
    /// It has just been created, because of this.
    pub(super) made: Option<Break>,
}

/// What was read before, by this process or by one whose log is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before<'a> {
    /// Whose history it is.
    pub(super) history: &'a History,
    /// Nothing beyond this was ever confirmed.
    pub(super) durable: Lsn,
    /// How far the server's WAL is known to have been.
    pub(super) received: Lsn,
}

/// Why what comes next does not continue what was read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Another server answers.
    Server,
    /// A standby was promoted, or a backup restored.
    Timeline,
    /// The database was dropped and made again.
    Database,
    /// The slot was not there.
    SlotDropped,
    /// The slot stands where we never were.
    SlotMoved,
    /// The server's WAL ends before what was read.
    Rewound,
    /// Postgres had taken WAL from the slot, or invalidated it otherwise.
    SlotLost,
    /// The relay gave the slot up: it held back more WAL than `postgres.max_slot_lag`.
    SlotGivenUp,
}

impl Break {
    /// All of them.
    const ALL: [Self; 8] = [
        Self::Server,
        Self::Timeline,
        Self::Database,
        Self::SlotDropped,
        Self::SlotMoved,
        Self::Rewound,
        Self::SlotLost,
        Self::SlotGivenUp,
    ];

    /// Whether `word` names one of them.
    pub fn is_named(word: &str) -> bool {
        Self::ALL.iter().any(|why| why.word() == word)
    }

    /// A fixed word, for metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Server => "server_changed",
            Self::Timeline => "timeline_changed",
            Self::Database => "database_recreated",
            Self::SlotDropped => "slot_dropped",
            Self::SlotMoved => "slot_moved",
            Self::Rewound => "wal_rewound",
            Self::SlotLost => "slot_lost",
            Self::SlotGivenUp => "slot_given_up",
        }
    }

    /// What happened, for subscribers and operators.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Server => "another server answers",
            Self::Timeline => {
                "the server is on another timeline (a standby was promoted, or a backup restored)"
            }
            Self::Database => "the database was dropped and made again",
            Self::SlotDropped => "the replication slot was dropped",
            Self::SlotMoved => {
                "the replication slot is ahead of what was confirmed (made again, or moved by another reader)"
            }
            Self::Rewound => "the server's WAL ends before what was read (a backup was restored)",
            Self::SlotLost => "the replication slot lost WAL that it needed",
            Self::SlotGivenUp => {
                "the replication slot was given up, because it held back more WAL than it may"
            }
        }
    }
}

/// Where `timeline` ended, in the history file of one that goes on from it: lines of timeline, position and reason.
pub(super) fn end_of(timeline: &str, file: &str) -> Option<Lsn> {
    let mut lines = file.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next()? == timeline).then(|| words.next()?.parse().ok())?)
}

/// Why what comes next does not continue what was there `before`. `fork` is where the timeline that was read before
/// ended, if the present one goes on from it.
pub(super) fn break_between(
    before: Before<'_>,
    now: &Identity,
    fork: Option<Lsn>,
    database: u32,
    slot: Found,
) -> Option<Break> {
    let known = &before.history.identity;
    if now.system != known.system {
        return Some(Break::Server);
    }
    let lost_nothing = || fork.is_some_and(|end| before.received <= end);
    if now.timeline != known.timeline && (slot.made.is_some() || !lost_nothing()) {
        return Some(Break::Timeline);
    }
    if database != before.history.database {
        return Some(Break::Database);
    }
    if slot.made.is_some() {
        return slot.made;
    }
    if before.durable < slot.confirmed {
        return Some(Break::SlotMoved);
    }
    if now.position < before.received {
        return Some(Break::Rewound);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { system: "7".into(), timeline: "1".into(), position: Lsn::new(500) }
    }

    fn history() -> History {
        History { identity: identity(), born_on: "1".into(), database: 5, generation: 0 }
    }

    fn check(now: &Identity, database: u32, confirmed: u64, made: Option<Break>) -> Option<Break> {
        check_from(now, None, database, confirmed, made)
    }

    fn check_from(
        now: &Identity,
        fork: Option<u64>,
        database: u32,
        confirmed: u64,
        made: Option<Break>,
    ) -> Option<Break> {
        let slot = Found { confirmed: Lsn::new(confirmed), made };
        let (durable, received) = (Lsn::new(400), Lsn::new(450));
        let before = Before { history: &history(), durable, received };
        break_between(before, now, fork.map(Lsn::new), database, slot)
    }

    #[test]
    fn a_promotion_that_lost_nothing_continues() {
        let promoted = Identity { timeline: "2".into(), ..identity() };
        assert_eq!(check_from(&promoted, Some(450), 5, 400, None), None);
        assert_eq!(check_from(&promoted, Some(449), 5, 400, None), Some(Break::Timeline));
        assert_eq!(check_from(&promoted, Some(450), 5, 401, None), Some(Break::SlotMoved));
        let made = Some(Break::SlotDropped);
        assert_eq!(check_from(&promoted, Some(450), 5, 400, made), Some(Break::Timeline));
    }

    #[test]
    fn a_history_file_tells_where_a_timeline_ended() {
        let file = "1\t0/3000148\tno recovery target specified\n\n2\tA/1\tbefore 2000-01-01\n";
        assert_eq!(end_of("1", file), Some(Lsn::new(0x0300_0148)));
        assert_eq!(end_of("2", file), Some(Lsn::new(0xA_0000_0001)));
        assert_eq!((end_of("3", file), end_of("1", "1"), end_of("1", "1 x")), (None, None, None));
    }

    #[test]
    fn a_slot_at_or_before_what_was_confirmed_continues() {
        assert_eq!(check(&identity(), 5, 400, None), None);
        // After a crash Postgres may have forgotten confirmations.
        assert_eq!(check(&identity(), 5, 300, None), None);
    }

    #[test]
    fn everything_else_is_a_new_history() {
        let at = |position| Identity { position: Lsn::new(position), ..identity() };
        let other = Identity { system: "8".into(), ..identity() };
        let promoted = Identity { timeline: "2".into(), ..identity() };
        assert_eq!(check(&other, 5, 400, None), Some(Break::Server));
        assert_eq!(check(&promoted, 5, 400, None), Some(Break::Timeline));
        assert_eq!(check(&identity(), 6, 400, None), Some(Break::Database));
        let made = Some(Break::SlotGivenUp);
        assert_eq!(check(&identity(), 5, 400, made), made);
        assert_eq!(check(&identity(), 5, 401, None), Some(Break::SlotMoved));
        assert_eq!(check(&at(449), 5, 400, None), Some(Break::Rewound));
    }

    #[test]
    fn an_epoch_depends_on_everything_but_the_position() {
        let epoch = history().epoch("relay");
        let later = Identity { position: Lsn::new(900), ..identity() };
        assert_eq!(History { identity: later, ..history() }.epoch("relay"), epoch);
        let promoted = Identity { timeline: "2".into(), ..identity() };
        assert_eq!(History { identity: promoted, ..history() }.epoch("relay"), epoch);
        for other in [
            History { born_on: "2".into(), ..history() }.epoch("relay"),
            History { database: 6, ..history() }.epoch("relay"),
            History { generation: 1, ..history() }.epoch("relay"),
            history().epoch("other"),
        ] {
            assert_ne!(other, epoch);
        }
    }
}
