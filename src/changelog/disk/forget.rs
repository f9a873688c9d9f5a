//! Removing what came before now, because somebody asks for it: a row that was deleted for good must not be served, to
//! whoever was away, from a log that still has it.
//!
//! It is retention with another bound: a segment is begun behind everything that was committed when it was asked for, the
//! ones before it are removed, and whoever names an older position is told of a gap. The fan-out is waited for, so
//! nobody who is connected misses anything. Not here: overwriting. What a disk keeps of removed files, and copies of the
//! directory, are the matter of whoever keeps them.

use std::io;
use std::time::Duration;

use super::writer::Writer;
use super::{DiskLog, State};

/// How soon it is looked again whether the fan-out has come so far.
pub(super) const LOOK: Duration = Duration::from_millis(20);

impl DiskLog {
    /// Completes when nothing that was committed before the call is kept any more, on disk or for readers.
    pub async fn forget(&self) {
        let mut done = self.shared.forgotten.subscribe();
        {
            let mut state = self.shared.state();
            if state.tail.epoch().is_none() {
                return;
            }
            // What is under way counts as well: its beginning may be on disk.
            let now = state.tail.next();
            state.forget = Some(state.forget.map_or(now, |before| before.max(now)));
        }
        self.shared.work.notify_all();
        // The sender is as old as the log.
        let _ = done.changed().await;
    }
}

impl Writer {
    /// Whether no transaction is half on disk.
    pub(super) fn is_whole(&self) -> bool {
        self.whole == self.synced.number
    }

    /// Begins a segment behind what is on disk and removes all before it: nothing of it can be asked for any more.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        self.begin_segment()?;
        let doomed = {
            let mut shelf = self.shared.shelf();
            shelf.forget(self.synced);
            shelf.doomed()
        };
        self.remove(doomed)?;
        self.shared.state().forget = None;
        self.shared.forgotten.send_modify(|times| *times += 1);
        Ok(())
    }
}

impl State {
    /// Whether what is to be forgotten is on disk and read by the fan-out, with nothing half behind it.
    pub(super) fn may_forget(&self) -> bool {
        let synced = self.synced;
        self.forget.is_some_and(|end| {
            end <= synced && synced <= self.tail.live() && synced <= self.tail.visible()
        })
    }
}
