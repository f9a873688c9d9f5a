//! pgoutput: bytes of the WAL → committed transactions. Pure, total, zero-copy.
//!
//! Promises: no input can panic; only committed transactions come out, whole, their changes in decode order; a cell
//! is a slice of the bytes it arrived in and is valid UTF-8. A database without an encoding (`SQL_ASCII`) can hold
//! text that is not UTF-8: such text is replaced (U+FFFD) and counted, because one odd byte must not stop the stream.
//!
//! Spoken: protocol version 1, text format. Not here: sockets, slots, and what to confirm when.

mod assembler;
#[cfg(test)]
mod golden;
mod message;
mod reader;
#[cfg(test)]
mod totality;
mod wal;

use std::error::Error;
use std::fmt;

pub use assembler::Assembler;
pub use message::emitted;
pub use wal::{Envelope, status_update};

/// Bytes that are not what the protocol says, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The field being read.
    pub field: &'static str,
    /// What was wrong with it, without its contents.
    pub problem: &'static str,
    /// The tag that was not expected, when it was a tag. Tags are the protocol's letters, never a value's.
    pub tag: Option<u8>,
}

impl Malformed {
    pub(crate) const fn new(field: &'static str, problem: &'static str) -> Self {
        Self { field, problem, tag: None }
    }

    pub(crate) const fn tag(field: &'static str, problem: &'static str, tag: u8) -> Self {
        Self { field, problem, tag: Some(tag) }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.problem)?;
        match self.tag {
            Some(tag) => write!(f, " '{}'", tag.escape_ascii()),
            None => Ok(()),
        }
    }
}

impl Error for Malformed {}
