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
mod player;
mod pool;
mod problem;
mod rest;
mod text;
mod unified;
mod wire;

use std::sync::Arc;

use axum::Router;
use tokio::sync::watch;

use self::caller::Callers;
use self::calls::Calls;
use self::pool::Pools;
use self::text::Texts;
use crate::auth::token::Tokens;
use crate::config::{Chat as Settings, Preset};
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
    tokens: Arc<Tokens>,
    source: watch::Receiver<SourceState>,
    metrics: Metrics,
    /// Unix seconds.
    clock: fn() -> i64,
    /// Random bytes for ids that clients do not choose.
    random: fn() -> [u8; 16],
}

impl Chat {
    /// The chat that the configuration describes, in the database at `target`. Connections live in `stage`.
    pub fn new(
        settings: Settings,
        target: Target,
        (tokens, source): (Arc<Tokens>, watch::Receiver<SourceState>),
        metrics: Metrics,
        (clock, random): (fn() -> i64, fn() -> [u8; 16]),
        stage: Stage,
    ) -> Arc<Self> {
        let texts = Texts::new(&settings);
        let pools = Pools::new(target, settings.pool, settings.timeout, stage);
        Arc::new(Self {
            callers: Callers::new(settings.requests_per_second),
            preset: settings.preset,
            description: rest::describe(settings.preset),
            body: settings.body,
            calls: Calls::new(settings, texts, pools),
            tokens,
            source,
            metrics,
            clock,
            random,
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
