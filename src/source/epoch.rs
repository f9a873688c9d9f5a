//! Is this still the history we were reading? Pure.
//!
//! An [`Epoch`] is made of the system identifier, the timeline, the database, the slot's name and the slot's
//! generation. Postgres keeps no birth mark of a slot, so the generation is what was seen: 0 for the slot that was found or
//! made first, and a position for one that turned out to be another. The log on disk remembers it, and how far was
//! confirmed at most; without one, a slot that is dropped and made again while no relay runs goes unnoticed.

use aws_lc_rs::digest;

use super::connection::Identity;
use crate::changelog::Origin;
use crate::model::{Epoch, Lsn};

/// A history: who wrote it, and through which slot we read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct History {
    pub(super) identity: Identity,
    pub(super) database: u32,
    pub(super) generation: u64,
}

impl History {
    /// Its epoch, the same in every process.
    pub(super) fn epoch(&self, slot: &str) -> Epoch {
        let text = format!(
            "{}\n{}\n{}\n{slot}\n{}",
            self.identity.system, self.identity.timeline, self.database, self.generation
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
            timeline: self.identity.timeline.to_string(),
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
    /// It was missing and has just been created.
    pub(super) is_new: bool,
}

/// Why what comes next does not continue what we had.
pub(super) fn break_between(
    before: &History,
    confirmed: Lsn,
    received: Lsn,
    now: &Identity,
    database: u32,
    slot: Found,
) -> Option<&'static str> {
    if now.system != before.identity.system {
        return Some("another server answers");
    }
    if now.timeline != before.identity.timeline {
        return Some(
            "the server is on another timeline (a standby was promoted, or a backup restored)",
        );
    }
    if database != before.database {
        return Some("the database was dropped and made again");
    }
    if slot.is_new {
        return Some("the slot was dropped");
    }
    if slot.confirmed > confirmed {
        return Some(
            "the slot is ahead of what was confirmed (made again, or moved by another reader)",
        );
    }
    if now.position < received {
        return Some("the server's WAL ends before what was read (a backup was restored)");
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
        History { identity: identity(), database: 5, generation: 0 }
    }

    fn check(now: &Identity, database: u32, confirmed: u64, is_new: bool) -> Option<&'static str> {
        let slot = Found { confirmed: Lsn::new(confirmed), is_new };
        break_between(&history(), Lsn::new(400), Lsn::new(450), now, database, slot)
    }

    #[test]
    fn a_slot_at_or_before_what_was_confirmed_continues() {
        assert_eq!(check(&identity(), 5, 400, false), None);
        // After a crash Postgres may have forgotten confirmations.
        assert_eq!(check(&identity(), 5, 300, false), None);
    }

    #[test]
    fn everything_else_is_a_new_history() {
        let at = |position| Identity { position: Lsn::new(position), ..identity() };
        let other = Identity { system: "8".into(), ..identity() };
        let promoted = Identity { timeline: "2".into(), ..identity() };
        assert!(check(&other, 5, 400, false).is_some_and(|why| why.contains("server")));
        assert!(check(&promoted, 5, 400, false).is_some_and(|why| why.contains("timeline")));
        assert!(check(&identity(), 6, 400, false).is_some_and(|why| why.contains("database")));
        assert!(check(&identity(), 5, 400, true).is_some_and(|why| why.contains("dropped")));
        assert!(check(&identity(), 5, 401, false).is_some_and(|why| why.contains("ahead")));
        assert!(check(&at(449), 5, 400, false).is_some_and(|why| why.contains("ends before")));
    }

    #[test]
    fn an_epoch_depends_on_everything_but_the_position() {
        let epoch = history().epoch("relay");
        let later = Identity { position: Lsn::new(900), ..identity() };
        assert_eq!(History { identity: later, ..history() }.epoch("relay"), epoch);
        let promoted = Identity { timeline: "2".into(), ..identity() };
        for other in [
            History { identity: promoted, ..history() }.epoch("relay"),
            History { database: 6, ..history() }.epoch("relay"),
            History { generation: 1, ..history() }.epoch("relay"),
            history().epoch("other"),
        ] {
            assert_ne!(other, epoch);
        }
    }
}
