//! The chat API: what a chat asks and writes over HTTP, done in Postgres as the caller.
//!
//! Promises: a message is acknowledged when it is committed; the tables' policies decide what a caller may do; sending
//! twice stores once. What was written is told to others by the stream, never from here, so it is told exactly when it is
//! stored.
//!
//! `calls` is what can be asked, `text` how it is asked in a database whose names are configured, `rest` the routes.

mod caller;
mod calls;
mod gre;
mod link;
mod live;
mod player;
mod pool;
mod problem;
mod rest;
mod shown;
mod socket;
mod text;
mod told;
mod unified;
mod wire;

use std::sync::Arc;

use axum::Router;
use tokio::sync::{Semaphore, watch};

use self::caller::Callers;
use self::calls::Calls;
use self::live::Names;
use self::pool::Pools;
use self::text::Texts;
use crate::auth::token::Tokens;
use crate::catalog::Catalog;
use crate::config::{Chat as Settings, Limits, Live, Preset};
use crate::egress::network_permits::NetworkPermits;
use crate::egress::seats::Seats;
use crate::hub::{Backlog, Hub};
use crate::metrics::{Metrics, reason};
use crate::postgres::Target;
use crate::shutdown::Stage;
use crate::source::SourceState;

/// What the routes need.
#[derive(Debug)]
pub struct Chat {
    calls: Calls,
    callers: Callers,
    preset: Preset,
    /// What the routes are, in JSON.
    description: String,
    /// Bytes of a body.
    body: usize,
    names: Names,
    limits: Live<Limits>,
    /// What waits for sockets.
    backlog: Arc<Backlog>,
    seats: Arc<Seats>,
    /// Places of sockets that did not say yet who they are.
    strangers: Arc<Semaphore>,
    /// How many of them each network has.
    strangers_of: Arc<NetworkPermits>,
    tokens: Arc<Tokens>,
    source: watch::Receiver<SourceState>,
    hub: Arc<Hub>,
    catalog: Arc<Catalog>,
    metrics: Metrics,
    stage: Stage,
    clock: fn() -> i64,
    random: fn() -> [u8; 16],
}

/// Whom a chat asks.
#[derive(Debug)]
pub struct Services {
    /// Believes tokens or not.
    pub tokens: Arc<Tokens>,
    /// What the source is doing.
    pub source: watch::Receiver<SourceState>,
    /// Knows who is subscribed to what.
    pub hub: Arc<Hub>,
    /// Knows the tables.
    pub catalog: Arc<Catalog>,
    /// Who may be here, and for how long.
    pub seats: Arc<Seats>,
    /// What one socket may use.
    pub limits: Live<Limits>,
    /// What is counted.
    pub metrics: Metrics,
    /// Where sockets run.
    pub clients: Stage,
    /// Where connections to Postgres run.
    pub connections: Stage,
    /// Unix seconds.
    pub clock: fn() -> i64,
    /// Random bytes for ids that clients do not choose.
    pub random: fn() -> [u8; 16],
}

impl Chat {
    /// The chat that the configuration describes, in the database at `target`.
    pub fn new(settings: Settings, target: Target, services: Services) -> Arc<Self> {
        let (size, limit) = (settings.pool, settings.timeout);
        let pools = Arc::new(Pools::new(target, size, limit, services.connections));
        let texts = Texts::new(&settings);
        Arc::new(Self {
            callers: Callers::new(settings.requests_per_second),
            preset: settings.preset,
            description: rest::describe(settings.preset),
            body: settings.body,
            names: Names::new(&settings),
            calls: Calls::new(settings, texts, pools),
            backlog: Arc::new(Backlog::new(services.limits.outboxes)),
            strangers: Arc::new(Semaphore::new(socket::strangers(&services.limits))),
            strangers_of: Arc::default(),
            seats: services.seats,
            limits: services.limits,
            tokens: services.tokens,
            source: services.source,
            hub: services.hub,
            catalog: services.catalog,
            metrics: services.metrics,
            stage: services.clients,
            clock: services.clock,
            random: services.random,
        })
    }

    /// The routes.
    pub fn routes(self: &Arc<Self>) -> Router {
        let router = Router::new().nest("/chat/v1", rest::routes(self));
        match self.preset {
            Preset::Support => router,
            Preset::Gre => router.merge(gre::routes(self)),
            Preset::Unified => router.merge(unified::routes(self)),
        }
    }

    fn refused(&self, code: &'static str) {
        self.metrics.refused.get_or_create(&reason(code)).inc();
    }

    /// A new id (UUID version 4).
    fn new_id(&self) -> String {
        let mut bytes = (self.random)();
        let [.., seventh, _, ninth, _, _, _, _, _, _, _] = &mut bytes;
        *seventh = *seventh & 0x0f | 0x40;
        *ninth = *ninth & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
    }
}

/// Reads a body as each request of the API, and as a frame of the socket: which of them it is. For `tests/fuzz`, which
/// sees nothing else of how bodies are read.
#[doc(hidden)]
pub fn readings(body: &[u8]) -> [bool; 6] {
    use serde_json::from_slice as read;
    [
        read::<rest::NewSession>(body).is_ok(),
        read::<rest::NewMessage>(body).is_ok(),
        read::<rest::NewRating>(body).is_ok(),
        read::<player::Telling>(body).is_ok(),
        read::<socket::Said>(body).is_ok(),
        std::str::from_utf8(body).is_ok_and(|body| rest::said(body).is_ok()),
    ]
}
