//! What the tests of the fan-out work with.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::Fanout;
use crate::auth::visibility::Visibility;
use crate::catalog::Catalog;
use crate::config::{Deletes, Postgres};
use crate::hub::{Broadcast, Dialect, Frame, Hub, Notice};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::postgres::Target as Address;
use crate::secret::Secret;
use crate::shutdown::Stage;
use crate::source::SourceState;

/// Writes changes as `change` and notices as their text.
#[derive(Debug)]
pub(super) struct Plain;

impl Dialect for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }
    fn change(&self, _topic: &str, _ids: &[u64], _data: &str) -> Frame {
        Frame::Binary(Bytes::from_static(b"change"))
    }
    fn notice(&self, _topic: &str, _join_ref: &str, notice: &Notice) -> Frame {
        Frame::Binary(Bytes::from(notice.message.clone()))
    }
    fn presence_state(&self, _topic: &str, _join_ref: &str, state: &str) -> Frame {
        Frame::Text(state.into())
    }
    fn presence_diff(&self, _topic: &str, diff: &str) -> Frame {
        Frame::Text(diff.into())
    }
    fn broadcast(&self, _topic: &str, _broadcast: &Broadcast) -> Option<Frame> {
        None
    }
}

/// A fan-out whose Postgres never answers.
pub(super) fn fanout() -> Fanout {
    let url = "postgres://relay@127.0.0.1:1/none";
    let settings = Postgres {
        max_slot_lag: 0,
        heartbeat: Duration::ZERO,
        url: Secret::new(url.to_owned()),
        publication: "none".to_owned(),
        slot: "none".to_owned(),
        pool: 1,
        check_timeout: Duration::from_secs(1),
        wal_sender_timeout: Duration::from_secs(1),
        max_transaction: 1 << 20,
        max_backlog: 1 << 20,
    };
    let (address, stage, metrics) = (Address::parse(url).unwrap(), Stage::new(), Metrics::new());
    let (_, source) = watch::channel(SourceState::Connecting { reason: None });
    Fanout {
        told: Default::default(),
        hub: Arc::new(Hub::new(Duration::ZERO, 0, Memory::new(1 << 30, &metrics), metrics.clone())),
        catalog: Catalog::new(address.clone(), "none", &[], stage.clone()),
        visibility: Visibility::new(address, &settings, metrics.clone(), stage),
        streamed: Arc::default(),
        source,
        deletes: Deletes::Strict,
        hold: Duration::ZERO,
        record_limit: 1 << 20,
        broadcast_limit: 1 << 20,
        now: Default::default,
        metrics,
    }
}
