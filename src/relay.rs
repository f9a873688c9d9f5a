//! The only place where things are built and joined.
//!
//! Start: what may be wrong in the configuration first, then the listener, then the middle, then the source; so a
//! port that is taken is said at once, and `/readyz` answers while Postgres is still awaited. Stop: clients first,
//! then the middle, then the source with its last confirmation, then the connections they used, then the log.

mod places;

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use self::places::Places;
use crate::auth::api::ApiKeys;
use crate::auth::policy::Policies;
use crate::auth::token::Tokens;
use crate::auth::visibility::Visibility;
use crate::catalog::Catalog;
use crate::changelog::disk::Settings;
use crate::changelog::{ChangeLog, DiskLog, MemoryLog};
use crate::config::{Config, Realtime};
use crate::egress::chat::{self, Chat};
use crate::egress::phoenix::{Desk, Rules, Services};
use crate::error::{Error, ErrorKind};
use crate::fanout::{CatchUp, Fanout};
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::model::time::PgTime;
use crate::postgres::Target;
use crate::server::{self, Tenant};
use crate::shutdown::Stage;
use crate::source::{self, SourceState};

/// Channels that wait to be shown what they missed; more are told that it is missing.
const LATECOMERS: usize = 10_000;

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
    log: Option<Arc<DiskLog>>,
    places: Option<Arc<Places>>,
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
        let metrics = Metrics::new();
        if config.log.is_ephemeral {
            let (memory, largest) = (config.postgres.max_backlog, config.postgres.max_transaction);
            let log = Arc::new(MemoryLog::new(memory, largest));
            return Box::pin(Self::start_on(log, None, config, own, metrics)).await;
        }
        let settings = Settings {
            dir: config.log.dir.clone(),
            retain_bytes: config.log.retain_bytes as u64,
            retain_age: config.log.retain_age,
            memory: config.postgres.max_backlog,
        };
        let log = Arc::new(DiskLog::open(&settings, metrics.clone())?);
        let dir = Some(settings.dir);
        let relay = Box::pin(Self::start_on(Arc::clone(&log), dir, config, own, metrics)).await?;
        Ok(Self { log: Some(log), ..relay })
    }

    async fn start_on<L: ChangeLog>(
        log: Arc<L>,
        dir: Option<PathBuf>,
        config: Config,
        own: Router,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let stages = [(); 4].map(|()| Stage::new());
        let [clients, middle, source, connections] = stages;
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
        let places = dir.map(|dir| Places::open(&dir, Arc::clone(&hub), now, metrics.clone()));
        let places = places.transpose()?;
        let (reporter, state) = watch::channel(SourceState::Connecting { reason: None });

        let (latecomers, latecomer) = mpsc::channel(LATECOMERS);
        let (arrivals, arrival) = mpsc::channel(1);
        let listener = listen(config.http.listen).await?;
        let address = listener.local_addr().unwrap_or(config.http.listen);
        let clock = || now().unix_micros().div_euclid(1_000_000);
        let chat = config.chat.map(|settings| {
            let services = chat::Services {
                tokens: Arc::clone(&tokens),
                source: state.clone(),
                hub: Arc::clone(&hub),
                catalog: Arc::clone(&catalog),
                limits: config.limits.clone(),
                metrics: metrics.clone(),
                clients: clients.clone(),
                connections: connections.clone(),
                clock,
                random,
            };
            Chat::new(settings, target.clone(), services).routes()
        });
        let services = Services {
            tokens,
            catalog: Arc::clone(&catalog),
            policies: Arc::clone(&policies),
            source: state.clone(),
            hub: Arc::clone(&hub),
            latecomers,
        };
        let Realtime { private_only, presence_always, hold, .. } = config.realtime;
        let rules = Rules { private_only, presence_always };
        let desk = Arc::new(Desk::new(
            services,
            (config.limits.clone(), rules),
            metrics.clone(),
            clock,
            clients.clone(),
        ));
        let tenant = Tenant::new(Arc::clone(&desk), api_keys, target.database(), address);
        let further = (own.merge(chat.unwrap_or_default()), config.http.pages);
        let routes = server::routes(&desk, tenant, log.trouble(), further);
        clients.spawn(server::run(listener, routes, clients.clone()));

        connections.spawn(name_missing_roles(
            Arc::clone(&catalog),
            state.clone(),
            connections.clone(),
        ));
        let streamed = policies.streamed();
        connections.spawn(keep_partitions(policies, state.clone(), connections.clone()));
        let (failed, failures) = mpsc::channel(4);
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
            hold,
            record_limit: config.limits.record,
            broadcast_limit: config.limits.broadcast_payload,
            now,
            metrics: metrics.clone(),
        };
        let (reader, stopping) = (Arc::clone(&log), middle.clone());
        let catch_up = CatchUp { fanout: fanout.clone(), log: Arc::clone(&log), arrivals };
        guard(&middle, failed.clone(), "the fan-out", async move {
            tokio::select! {
                never = fanout.run(reader, arrival) => match never {},
                () = stopping.stopping() => Ok(()),
            }
        });
        let stopping = middle.clone();
        guard(&middle, failed.clone(), "catching up", async move {
            tokio::select! {
                never = catch_up.run(latecomer) => match never {},
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
        if let Some(places) = &places {
            connections.spawn(Arc::clone(places).run(connections.clone()));
        }
        let (drain, log) = (config.http.drain, None);
        Ok(Self {
            address,
            drain,
            state,
            failures,
            clients,
            middle,
            source,
            connections,
            log,
            places,
        })
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
        if let Some(log) = self.log {
            let (closed, closing) = tokio::sync::oneshot::channel();
            let places = self.places;
            // A thread of its own: a disk that hangs must not hold up the end of the process.
            std::thread::spawn(move || {
                if let Some(places) = places {
                    places.save();
                }
                log.close();
                let _ = closed.send(());
            });
            let _ = tokio::time::timeout(STAGE_PATIENCE, closing).await;
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
