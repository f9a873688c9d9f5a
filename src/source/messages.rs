//! The second publication: messages that the database broadcasts, streamed through the same slot when it is there.
//!
//! A slot reads the catalog as it was when each change was made, and breaks on a publication that did not exist then. So
//! after such a refusal the stream goes on without it until everything older was read.

use crate::model::Lsn;

/// What Supabase Realtime calls it, and `relay migrate` too.
pub(super) const PUBLICATION: &str = "supabase_realtime_messages_publication";

/// Whether the stream may name the publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Messages {
    /// Whenever it exists.
    #[default]
    Wanted,
    /// The slot is older than the publication, or it is gone.
    Refused,
    /// It existed here; from here on it may be named.
    After(Lsn),
}

impl Messages {
    /// Whether a stream that starts at `confirmed` names it. `server` is where the WAL ended just before `exists` was
    /// asked for.
    pub(super) fn decide(&mut self, exists: bool, server: Lsn, confirmed: Lsn) -> bool {
        match *self {
            Self::Wanted => exists,
            // It may have been made after `server` was read, but then a later attempt is refused and asks again.
            Self::Refused => {
                if exists {
                    *self = Self::After(server);
                }
                false
            }
            Self::After(safe) => {
                let may = exists && safe <= confirmed;
                if may || !exists {
                    *self = Self::Wanted;
                }
                may
            }
        }
    }

    /// Whether a stream without it could have it now, given how far the slot is `confirmed`.
    pub(super) fn are_due(self, exists: bool, confirmed: Option<Lsn>) -> bool {
        exists
            && match self {
                Self::Wanted => true,
                Self::Refused => false,
                Self::After(safe) => confirmed.is_some_and(|confirmed| safe <= confirmed),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_named_when_it_exists_and_after_a_refusal_only_past_its_making() {
        let lsn = Lsn::new;
        let mut messages = Messages::default();
        assert!(!messages.decide(false, lsn(1), lsn(1)));
        assert!(messages.decide(true, lsn(1), lsn(1)));
        messages = Messages::Refused;
        assert!(!messages.decide(false, lsn(5), lsn(9)));
        assert!(!messages.decide(true, lsn(10), lsn(9)));
        assert!(!messages.decide(true, lsn(20), lsn(9)));
        assert!(messages.decide(true, lsn(30), lsn(10)));
        assert_eq!(messages, Messages::Wanted);
    }
}
