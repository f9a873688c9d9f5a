//! Reading the slot: connect, attach, decode, append, confirm; again after every failure.

use std::sync::Arc;

use tokio::sync::watch;

use crate::changelog::ChangeLog;
use crate::config::Postgres;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::model::Epoch;
use crate::postgres::Target;
use crate::shutdown::Stage;

/// What the source is doing, for `/readyz` and `relay check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Not connected yet, or connecting again after a failure that heals by itself.
    Connecting {
        /// The last failure, when there was one.
        reason: Option<String>,
    },
    /// Attached to the slot.
    Streaming {
        /// The life of this history: system identifier, timeline and slot.
        epoch: Epoch,
    },
    /// A person must act; attempts continue slowly.
    Blocked {
        /// What is wrong and what to do.
        reason: String,
    },
}

/// Reads the slot into `log` until the stage stops, reporting through `state`.
///
/// # Errors
/// Only for errors whose remedy is to exit.
pub async fn run<L: ChangeLog>(
    _target: Target,
    _settings: Postgres,
    _log: Arc<L>,
    _state: watch::Sender<SourceState>,
    _metrics: Metrics,
    _stage: Stage,
) -> Result<(), Error> {
    todo!()
}
