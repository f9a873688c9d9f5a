//! `limits.memory` must let one caller send what it may.

use super::check::Check;
use super::units::Size;
use super::written;
use crate::memory::Kind;

impl Check<'_> {
    /// Bytes that clients together may make the relay hold.
    pub(super) fn memory(&mut self, written: &written::Limits) -> usize {
        let least = Kind::Messages.total_for_a_caller(written.frame.0);
        if written.memory.0 < least {
            let (memory, frame) = (written.memory, written.frame);
            let reason = format!(
                "{memory} leaves a client less than one message of limits.frame ({frame}); use at least {}, or smaller \
                 frames",
                Size(least.next_multiple_of(1 << 20))
            );
            self.say("limits.memory", reason);
        }
        written.memory.0
    }
}
