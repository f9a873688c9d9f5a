//! What begins once the log is open: the source that fills it, and those who read it.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::guard;
use crate::changelog::{ChangeLog, Trouble};
use crate::config::Postgres;
use crate::error::Error;
use crate::fanout::{CatchUp, Fanout, Latecomer};
use crate::postgres::Target;
use crate::shutdown::Stage;
use crate::source::{self, SourceState};

/// All that it takes but the log.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) fanout: Fanout,
    pub(super) latecomers: mpsc::Receiver<Latecomer>,
    pub(super) target: Target,
    pub(super) settings: Postgres,
    pub(super) state: watch::Sender<SourceState>,
    pub(super) trouble: watch::Sender<Trouble>,
    pub(super) failed: mpsc::Sender<Error>,
    pub(super) middle: Stage,
    pub(super) source: Stage,
}

impl Reading {
    /// Begins to read the slot into `log`, and to deliver from it.
    pub(super) fn begin<L: ChangeLog>(self, log: Arc<L>) {
        let Self { fanout, latecomers, target, settings, state, failed, middle, source, .. } = self;
        let (arrivals, arrival) = mpsc::channel(1);
        let metrics = fanout.metrics.clone();
        let catch_up = CatchUp { fanout: fanout.clone(), log: Arc::clone(&log), arrivals };
        let (reader, stopping) = (Arc::clone(&log), middle.clone());
        guard(&middle, failed.clone(), "the fan-out", async move {
            tokio::select! {
                never = fanout.run(reader, arrival) => match never {},
                () = stopping.stopping() => Ok(()),
            }
        });
        let stopping = middle.clone();
        guard(&middle, failed.clone(), "catching up", async move {
            tokio::select! {
                never = catch_up.run(latecomers) => match never {},
                () = stopping.stopping() => Ok(()),
            }
        });
        middle.spawn(pass_on(log.trouble(), self.trouble, middle.clone()));
        let reading = source::run(target, settings, log, state, metrics, source.clone());
        guard(&source, failed, "the source", reading);
    }
}

/// Tells what the log says of its disk to those who were there before it was open.
async fn pass_on(mut from: watch::Receiver<Trouble>, to: watch::Sender<Trouble>, stage: Stage) {
    loop {
        to.send_replace(from.borrow_and_update().clone());
        tokio::select! {
            () = stage.stopping() => return,
            changed = from.changed() => if changed.is_err() { return },
        }
    }
}
