//! What was received, what the log has, and what Postgres may therefore be told. Pure.
//!
//! ```text
//! confirmed ≤ logged ≤ handed over ≤ received
//! ```
//!
//! What is handed over is a transaction, or how far an idle server's WAL goes: the log makes both durable in order. So
//! nothing is ever confirmed that the log does not know of, and after a crash the log can tell whether somebody else
//! moved the slot.
//!
//! A position is confirmed exactly: a transaction's end, or where the WAL ended when nothing was under way. One byte
//! more would be the first byte of the next commit record, and Postgres would never send that transaction. It never
//! goes back.

use crate::model::Lsn;

/// The positions of one history. A new history starts a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    received: Lsn,
    handed: Lsn,
    logged: Lsn,
    confirmed: Lsn,
    server: Lsn,
}

impl Progress {
    /// A history whose slot stands at `confirmed`.
    pub(super) const fn new(confirmed: Lsn) -> Self {
        Self {
            received: confirmed,
            handed: Lsn::ZERO,
            logged: Lsn::ZERO,
            confirmed,
            server: confirmed,
        }
    }

    /// Attached again, to the same history. What was under way will be sent again.
    pub(super) fn attach(&mut self) {
        self.handed = Lsn::ZERO;
    }

    /// A whole transaction that ends at `end` was received and goes to the log.
    pub(super) fn hand(&mut self, end: Lsn) {
        self.handed = self.handed.max(end);
        self.receive(end);
    }

    /// The log has every transaction up to `end`.
    pub(super) fn log(&mut self, end: Lsn) {
        self.logged = end;
        self.confirmed = self.confirmed.max(self.logged.min(self.handed));
    }

    /// The server's WAL ends at `end`, and everything before it was sent to us. True when the log is to be told; while
    /// a transaction is under way, it says nothing about what we have.
    pub(super) fn keepalive(&mut self, end: Lsn, in_transaction: bool) -> bool {
        self.receive(end);
        if !in_transaction {
            self.handed = self.handed.max(end);
        }
        !in_transaction && self.confirmed < end
    }

    /// Whether something handed over is not in the log yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.logged < self.handed
    }

    /// How far the log has everything, when it has less than it was given.
    pub(super) fn unlogged(&self) -> Option<Lsn> {
        self.is_waiting().then_some(self.logged)
    }

    /// The end of what was read from Postgres.
    pub(super) const fn received(&self) -> Lsn {
        self.received
    }

    /// What Postgres may forget.
    pub(super) const fn confirmed(&self) -> Lsn {
        self.confirmed
    }

    /// Bytes of WAL that the server is known to have and that were not confirmed.
    pub(super) const fn lag_bytes(&self) -> u64 {
        self.server.bytes_since(self.confirmed)
    }

    fn receive(&mut self, end: Lsn) {
        self.received = self.received.max(end);
        self.server = self.server.max(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lsn: u64) -> Lsn {
        Lsn::new(lsn)
    }

    fn started() -> Progress {
        Progress::new(at(100))
    }

    #[test]
    fn a_transaction_is_confirmed_at_its_end_once_the_log_has_it() {
        let mut progress = started();
        progress.hand(at(150));
        assert_eq!((progress.received(), progress.confirmed()), (at(150), at(100)));
        progress.log(at(120));
        assert_eq!(progress.confirmed(), at(120));
        progress.log(at(150));
        assert_eq!(progress.confirmed(), at(150));
    }

    #[test]
    fn an_idle_keepalive_is_confirmed_exactly() {
        let mut progress = started();
        assert!(progress.keepalive(at(170), false));
        assert_eq!((progress.confirmed(), progress.is_waiting()), (at(100), true));
        progress.log(at(170));
        assert_eq!((progress.confirmed(), progress.is_waiting()), (at(170), false));
        assert!(!progress.keepalive(at(170), false), "it is known");
        assert_eq!(progress.lag_bytes(), 0);
    }

    #[test]
    fn a_keepalive_in_a_transaction_or_before_the_log_moves_nothing() {
        let mut progress = started();
        assert!(!progress.keepalive(at(170), true));
        assert_eq!((progress.received(), progress.confirmed()), (at(170), at(100)));
        assert_eq!(progress.lag_bytes(), 70);
        progress.hand(at(180));
        assert!(progress.keepalive(at(200), false));
        assert_eq!(progress.confirmed(), at(100));
        progress.log(at(180));
        assert_eq!(progress.confirmed(), at(180));
        progress.log(at(200));
        assert_eq!(progress.confirmed(), at(200));
    }

    #[test]
    fn it_never_goes_back() {
        let mut progress = started();
        progress.hand(at(150));
        progress.log(at(150));
        progress.keepalive(at(160), false);
        progress.log(at(160));
        progress.attach();
        progress.hand(at(120));
        progress.log(at(150));
        progress.keepalive(at(130), false);
        assert_eq!(progress.confirmed(), at(160));
    }

    #[test]
    fn a_log_that_is_ahead_confirms_only_what_was_received_again() {
        let mut progress = started();
        progress.log(at(900));
        assert_eq!(progress.confirmed(), at(100));
        progress.hand(at(150));
        assert!(!progress.is_waiting());
        progress.log(at(900));
        assert_eq!(progress.confirmed(), at(150));
    }
}
