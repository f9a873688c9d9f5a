//! pgoutput: bytes of the WAL → committed transactions. Pure, total, zero-copy.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::time::PgTime;
use crate::model::{Lsn, Transaction};

/// Bytes that are not what the protocol says, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The field being read.
    pub field: &'static str,
    /// What was wrong with it, without its contents.
    pub problem: &'static str,
}

/// The payload of one CopyData on a replication connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// A piece of the logical stream. Its own positions are not trustworthy (0/0 before a Relation).
    Data(Bytes),
    /// The server is alive.
    Keepalive {
        /// End of WAL on the server.
        wal_end: Lsn,
        /// It wants a status update now.
        reply_requested: bool,
    },
}

impl Envelope {
    /// Decodes `w` and `k`.
    ///
    /// # Errors
    /// Names the field that does not fit.
    pub fn decode(_payload: Bytes) -> Result<Self, Malformed> {
        todo!()
    }
}

/// Encodes a standby status update (`r`), the payload of one CopyData.
pub fn status_update(_received: Lsn, _flushed: Lsn, _applied: Lsn, _now: PgTime) -> Bytes {
    todo!()
}

/// Begin … Commit → [`Transaction`]; remembers relations for one session.
#[derive(Debug)]
pub struct Assembler {}

impl Assembler {
    /// `max_transaction_bytes` bounds the values held for one transaction; above it the transaction comes out
    /// empty and marked oversized. `generation` continues the count of relation descriptions over sessions.
    pub fn new(_max_transaction_bytes: usize, _generation: u64) -> Self {
        todo!()
    }

    /// Takes one logical message; a transaction comes out at its Commit.
    ///
    /// # Errors
    /// Names the field that does not fit, or a message out of order.
    pub fn push(&mut self, _message: Bytes) -> Result<Option<Arc<Transaction>>, Malformed> {
        todo!()
    }

    /// Whether a transaction is open (an idle keepalive may not be confirmed then).
    pub fn in_transaction(&self) -> bool {
        todo!()
    }

    /// The count of relation descriptions so far, for the next session.
    pub fn generation(&self) -> u64 {
        todo!()
    }
}
