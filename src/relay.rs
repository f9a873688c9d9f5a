//! The only place where things are built and joined.
//!
//! Start: what may be wrong in the configuration first, then the listener, then the middle, then the source; so a
//! port that is taken is said at once, and `/readyz` answers while Postgres is still awaited. Stop: clients first,
//! then the middle, then the source with its last confirmation, then the connections they used.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::auth::api::ApiKeys;
use crate::auth::policy::Policies;
use crate::auth::token::Tokens;
use crate::auth::visibility::Visibility;
use crate::catalog::Catalog;
use crate::changelog::MemoryLog;
use crate::config::Config;
use crate::egress::chat::Chat;
use crate::egress::phoenix::{Desk, Services};
use crate::error::{Error, ErrorKind};
use crate::fanout::Fanout;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::model::time::PgTime;
use crate::postgres::Target;
use crate::server::{self, Tenant};
use crate::shutdown::Stage;
use crate::source::{self, SourceState};

/// How often the partitions of messages are looked after. Three days are made ahead.
const PARTITIONS_EVERY: Duration = Duration::from_secs(3600);

/// How long each stage after the clients may take to stop.
const STAGE_PATIENCE: Duration = Duration::from_secs(5);

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    drain: Duration,
    state: watch::Receiver<SourceState>,
    failures: mpsc::Receiver<Error>,
    clients: Stage,
    middle: Stage,
    source: Stage,
    connections: Stage,
}

impl Relay {
    /// Starts everything; returns once clients can connect. Whether Postgres streams is [`Relay::state`]'s to say.
    ///
    /// # Errors
    /// The configuration cannot be meant, or the address cannot be listened on.
    pub async fn start(config: Config) -> Result<Self, Error> {
        Self::start_with(config, Router::new()).await
    }

    /// The same with routes of the caller's own.
    ///
    /// # Errors
    /// As [`Relay::start`].
    pub async fn start_with(config: Config, own: Router) -> Result<Self, Error> {
        let stages = [(); 4].map(|()| Stage::new());
        let [clients, middle, source, connections] = stages;
        let metrics = Metrics::new();
        let target = Target::parse(config.postgres.url.reveal())?;
        let tokens = Tokens::new(&config.auth, &connections)?;
        let api_keys = ApiKeys::new(&config.auth, Arc::clone(&tokens));
        let catalog = Catalog::new(
            target.clone(),
            &config.postgres.publication,
            &config.auth.roles,
            connections.clone(),
        );
        let visibility =
            Visibility::new(target.clone(), &config.postgres, metrics.clone(), connections.clone());
        let policies = Policies::new(target.clone(), &config.postgres, connections.clone());
        let hub = Arc::new(Hub::new(
            config.realtime.presence_grace,
            RandomState::new().hash_one(()),
            metrics.clone(),
        ));
        let (reporter, state) = watch::channel(SourceState::Connecting { reason: None });
        let log = Arc::new(MemoryLog::new(config.postgres.max_backlog));

        let listener = listen(config.http.listen).await?;
        let address = listener.local_addr().unwrap_or(config.http.listen);
        let clock = || now().unix_micros().div_euclid(1_000_000);
        let chat = config.chat.map(|settings| {
            let (asked, metrics) = ((Arc::clone(&tokens), state.clone()), metrics.clone());
            let chances: (fn() -> i64, fn() -> [u8; 16]) = (clock, random);
            let stage = connections.clone();
            Chat::new(settings, target.clone(), asked, metrics, chances, stage).routes()
        });
        let further = own.merge(chat.unwrap_or_default());
        let services = Services {
            tokens,
            catalog: Arc::clone(&catalog),
            policies: Arc::clone(&policies),
            source: state.clone(),
            hub: Arc::clone(&hub),
        };
        let desk = Arc::new(Desk::new(
            services,
            (config.limits.clone(), config.realtime.private_only),
            metrics.clone(),
            clock,
            clients.clone(),
        ));
        let tenant = Tenant::new(Arc::clone(&desk), api_keys, target.database(), address);
        let routes = server::routes(&desk, tenant, further, config.http.pages);
        clients.spawn(server::run(listener, routes, clients.clone()));

        connections.spawn(name_missing_roles(
            Arc::clone(&catalog),
            state.clone(),
            connections.clone(),
        ));
        let streamed = policies.streamed();
        connections.spawn(keep_partitions(policies, state.clone(), connections.clone()));
        let (failed, failures) = mpsc::channel(3);
        let (told, stopping) = (Arc::clone(&hub), middle.clone());
        guard(&middle, failed.clone(), "presence", async move {
            told.presences().run(stopping).await;
            Ok(())
        });
        let fanout = Fanout {
            hub,
            catalog,
            visibility,
            streamed,
            source: state.clone(),
            deletes: config.realtime.deletes,
            record_limit: config.limits.record,
            broadcast_limit: config.limits.broadcast_payload,
            now,
            metrics: metrics.clone(),
        };
        let (reader, stopping) = (Arc::clone(&log), middle.clone());
        guard(&middle, failed.clone(), "the fan-out", async move {
            tokio::select! {
                never = fanout.run(reader) => match never {},
                () = stopping.stopping() => Ok(()),
            }
        });
        guard(
            &source,
            failed,
            "the source",
            source::run(target, config.postgres, log, reporter, metrics, source.clone()),
        );
        tracing::info!(%address, "listening");
        let drain = config.http.drain;
        Ok(Self { address, drain, state, failures, clients, middle, source, connections })
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the source is doing.
    pub fn state(&self) -> watch::Receiver<SourceState> {
        self.state.clone()
    }

    /// Completes when a part that must run ended; pending otherwise.
    pub async fn failed(&mut self) -> Error {
        match self.failures.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Stops everything, clients first.
    pub async fn stop(self) {
        if !self.clients.stop(self.drain).await {
            tracing::warn!(patience_s = self.drain.as_secs(), "some clients did not leave in time");
        }
        for stage in [self.middle, self.source, self.connections] {
            stage.stop(STAGE_PATIENCE).await;
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|cause| {
        let text = format!("could not listen on {address}; choose another http.listen");
        Error::new(ErrorKind::Misconfigured, text).because(cause)
    })
}

/// Keeps the partitions of messages, now and every hour, once the source streams.
async fn keep_partitions(
    policies: Arc<Policies>,
    mut state: watch::Receiver<SourceState>,
    stage: Stage,
) {
    loop {
        let keeping = async {
            let streaming = state.wait_for(|state| matches!(state, SourceState::Streaming { .. }));
            if streaming.await.is_ok()
                && let Err(denial) = policies.keep_partitions().await
            {
                tracing::warn!(?denial, "the partitions of realtime.messages could not be kept");
            }
            tokio::time::sleep(PARTITIONS_EVERY).await;
        };
        tokio::select! {
            () = stage.stopping() => return,
            () = keeping => {}
        }
    }
}

/// Says, each time the source streams again, which roles of `auth.roles` Postgres does not have: nothing else would,
/// until somebody joins with such a token.
async fn name_missing_roles(
    catalog: Arc<Catalog>,
    mut state: watch::Receiver<SourceState>,
    stage: Stage,
) {
    let mut named = None;
    loop {
        let streaming = state.wait_for(|state| matches!(state, SourceState::Streaming { .. }));
        tokio::select! {
            () = stage.stopping() => return,
            streaming = streaming => if streaming.is_err() { return },
        }
        let asked = tokio::select! {
            () = stage.stopping() => return,
            asked = catalog.missing_roles() => asked,
        };
        // Not reaching Postgres is told by others, and it is asked again when it is back.
        if let Ok(missing) = asked
            && named.as_ref() != Some(&missing)
        {
            for role in &*missing {
                tracing::warn!(
                    role,
                    "a role of auth.roles does not exist in Postgres, so its tokens see nothing; create it \
                     (sql/SUPABASE_COMPAT.sql has the usual ones), or take it out of auth.roles"
                );
            }
            named = Some(missing);
        }
        tokio::select! {
            () = stage.stopping() => return,
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}

/// Runs a part whose end, or panic, must end the process: silence would be worse.
fn guard<F>(stage: &Stage, failed: mpsc::Sender<Error>, part: &'static str, task: F)
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let inner = stage.spawn(task);
    stage.spawn(async move {
        let error = match inner.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => Error::new(ErrorKind::Bug, format!("{part} panicked")),
        };
        // The receiver is gone only when the relay is stopping anyway.
        let _ = failed.send(error).await;
    });
}

/// Bytes nobody can guess.
#[allow(clippy::expect_used, reason = "without randomness no id may be made")]
fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source answers");
    bytes
}

/// The wall clock, here at the outermost edge.
#[allow(clippy::disallowed_methods, reason = "the one place where the relay reads the wall clock")]
fn now() -> PgTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    PgTime::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
