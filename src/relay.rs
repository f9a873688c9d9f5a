//! The only place where things are built and joined.
//!
//! Start: what may be wrong in the configuration first, then the listener, then the middle, then the source; so a
//! port that is taken is said at once, and `/readyz` answers while Postgres is still awaited. Stop: clients first,
//! then the middle, then the source with its last confirmation, then the connections they used, then the log. A relay
//! that stands by has no clients: who was here when another took the slot over is sent there. While another process uses
//! `log.dir`, only what needs no log is there.

mod forgetting;
mod keeping;
mod listening;
mod places;
mod reading;
mod reload;

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use tokio::sync::{mpsc, watch};

use self::keeping::{Keeping, standing_by};
use self::listening::Listeners;
use self::reading::Reading;
use self::reload::Reload;
use crate::auth::api::ApiKeys;
use crate::auth::policy::Policies;
use crate::auth::token::Tokens;
use crate::auth::visibility::Visibility;
use crate::catalog::Catalog;
use crate::changelog::MemoryLog;
use crate::changelog::disk::Settings;
use crate::config::{Config, Live, Realtime};
use crate::egress::chat::{self, Chat};
use crate::egress::phoenix::{Desk, Rules, Services};
use crate::egress::seats::Seats;
use crate::error::{Error, ErrorKind};
use crate::fanout::Fanout;
use crate::fanout::published::Published;
use crate::hub::Hub;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::model::time::PgTime;
use crate::postgres::Target;
use crate::server::{self, Acceptor, Tenant, TrustedProxies, admin};
use crate::shutdown::Stage;
use crate::source::SourceState;

pub use self::reload::Connection;

/// Channels that wait to be shown what they missed; more are told that it is missing.
const LATECOMERS: usize = 10_000;

/// How often the partitions of messages are looked after. Three days are made ahead.
const PARTITIONS_EVERY: Duration = Duration::from_secs(3600);

/// How much longer than planned the clients' leaving may take: those who read slowly get what is theirs.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How often a relay that stands by looks whether somebody came in at the last moment.
const STRAGGLERS_EVERY: Duration = Duration::from_secs(1);

/// How long each stage after the clients may take to stop.
const STAGE_PATIENCE: Duration = Duration::from_secs(5);

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    drain: Duration,
    seats: Arc<Seats>,
    state: watch::Receiver<SourceState>,
    reload: Reload,
    failures: mpsc::Receiver<Error>,
    /// In the order in which they stop.
    stages: [Stage; 5],
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
    #[expect(clippy::unused_async, reason = "what it spawns needs the runtime it is awaited on")]
    pub async fn start_with(config: Config, own: Router) -> Result<Self, Error> {
        let metrics = Metrics::new();
        let stages = [(); 5].map(|()| Stage::new());
        let [clients, middle, source, connections, keeping] = stages;
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
            Memory::new(config.limits.memory, &metrics),
            metrics.clone(),
        ));
        let kept = keeping_of(&config, &hub, &metrics);
        let kept = kept.map(|keeping| Ok((keeping.open()?, keeping))).transpose()?;
        let (reporter, state) = watch::channel(match &kept {
            Some((Err(taken), _)) => standing_by(taken),
            _ => SourceState::Connecting { reason: None },
        });
        let (trouble, troubles) = watch::channel(None);
        let (latecomers, latecomer) = mpsc::channel(LATECOMERS);
        let listeners = listening::listen(&config.http)?;
        let address = listeners.clients.local_addr().unwrap_or(config.http.listen);
        let clock = || now().unix_micros().div_euclid(1_000_000);
        let limits = Live::new(config.limits);
        let seats = Arc::new(Seats::new(limits.clone(), metrics.clone()));
        let chat = config.chat.map(|settings| {
            let services = chat::Services {
                tokens: Arc::clone(&tokens),
                source: state.clone(),
                hub: Arc::clone(&hub),
                catalog: Arc::clone(&catalog),
                seats: Arc::clone(&seats),
                limits: limits.clone(),
                metrics: metrics.clone(),
                clients: clients.clone(),
                connections: connections.clone(),
                clock,
                random,
            };
            Chat::new(settings, target.clone(), services).routes()
        });
        let services = Services {
            tokens: Arc::clone(&tokens),
            catalog: Arc::clone(&catalog),
            policies: Arc::clone(&policies),
            source: state.clone(),
            hub: Arc::clone(&hub),
            seats: Arc::clone(&seats),
            latecomers,
        };
        let Realtime { private_only, presence_always, hold, .. } = config.realtime;
        let rules = Rules { private_only, presence_always };
        let desk = Arc::new(Desk::new(
            services,
            (limits.clone(), rules),
            metrics.clone(),
            clock,
            clients.clone(),
        ));
        let reload = Reload {
            tokens,
            api_keys: Arc::clone(&api_keys),
            target: target.clone(),
            limits: limits.clone(),
            desk: Arc::clone(&desk),
            metrics: metrics.clone(),
            roles: config.auth.roles,
        };
        metrics.config_reload_successful.set(1);
        reload::stamp(&metrics);
        let tenant = Tenant::new(Arc::clone(&desk), api_keys, target.database(), address);
        let further = (own.merge(chat.unwrap_or_default()), config.http.pages);
        let status = admin::Status {
            source: state.clone(),
            log: troubles,
            seats: Arc::clone(&seats),
            metrics: metrics.clone(),
        };
        let Listeners { clients: listener, admin: own_listener, figures } = listeners;
        if let Some(listener) = own_listener {
            // With the last stage, so that a relay that stops is seen to.
            keeping.spawn(admin::run(listener, admin::alone(status.clone()), keeping.clone()));
        }
        let probes = admin::beside_clients(status, figures);
        let routes = server::routes(&desk, tenant, probes, further);
        let proxies = TrustedProxies::new(&config.http.trusted_proxies);
        let acceptor = Acceptor::new(limits.address_connections, proxies, metrics.clone());
        clients.spawn(server::run(listener, Arc::new(acceptor), routes, clients.clone()));

        let drain = config.http.drain;
        clients.spawn(follow_the_slot(Arc::clone(&seats), state.clone(), drain, clients.clone()));
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
        let published = Published::new(Arc::clone(&hub), Arc::clone(&catalog), metrics.clone());
        let stopping = middle.clone();
        guard(&middle, failed.clone(), "the watch over published tables", async move {
            tokio::select! {
                never = published.run() => match never {},
                () = stopping.stopping() => Ok(()),
            }
        });
        let fanout = Fanout {
            hub,
            catalog,
            visibility,
            streamed,
            told: Arc::default(),
            source: state.clone(),
            deletes: config.realtime.deletes,
            hold,
            record_limit: limits.record,
            broadcast_limit: limits.broadcast_payload,
            now,
            metrics,
        };
        let (memory, largest) = (config.postgres.max_backlog, config.postgres.max_transaction);
        let reading = Reading {
            fanout,
            latecomers: latecomer,
            target,
            settings: config.postgres,
            state: reporter,
            trouble,
            failed: failed.clone(),
            middle: middle.clone(),
            source: source.clone(),
        };
        match kept {
            None => reading.begin(Arc::new(MemoryLog::new(memory, largest))),
            Some((Ok(kept), _)) => {
                reading.begin(Arc::clone(&kept.log));
                keeping.spawn(kept.keep(keeping.clone()));
            }
            Some((Err(taken), directory)) => {
                let (stopping, keeping) = (source.clone(), keeping.clone());
                guard(&source, failed, "the wait for the change log", async move {
                    let waited = directory.wait(taken, &reading.state, &stopping).await?;
                    if let Some(kept) = waited {
                        reading.begin(Arc::clone(&kept.log));
                        keeping.spawn(kept.keep(keeping.clone()));
                    }
                    Ok(())
                });
            }
        }
        tracing::info!(%address, "listening");
        let stages = [clients, middle, source, connections, keeping];
        Ok(Self { address, drain, seats, state, reload, failures, stages })
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the source is doing.
    pub fn state(&self) -> watch::Receiver<SourceState> {
        self.state.clone()
    }

    /// Puts a configuration in force that was read again, as far as that needs no restart; see [`Changes`].
    ///
    /// # Errors
    /// Why it could not be read, or cannot be meant. Nothing was changed.
    ///
    /// [`Changes`]: crate::config::Changes
    pub fn reload(&self, config: Result<Config, Error>) -> Result<Connection, Error> {
        let done = config.and_then(|config| self.reload.apply(config));
        self.reload.count(done.is_ok());
        done
    }

    /// Completes when a part that must run ended; pending otherwise.
    pub async fn failed(&mut self) -> Error {
        match self.failures.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Stops everything, clients first: nobody new comes in, and those who are here leave by and by.
    pub async fn stop(self) {
        self.seats.departure.begin();
        let [clients, ..] = &self.stages;
        clients.ask();
        let leaving = self.seats.send_away(self.drain);
        if tokio::time::timeout(self.drain + LAST_WORDS, leaving).await.is_err() {
            tracing::warn!(patience_s = self.drain.as_secs(), "some clients did not leave in time");
        }
        for stage in self.stages {
            stage.stop(STAGE_PATIENCE).await;
        }
    }
}

/// How to open `log.dir`; `None` when nothing is to be kept there.
fn keeping_of(config: &Config, hub: &Arc<Hub>, metrics: &Metrics) -> Option<Keeping> {
    let settings = Settings {
        dir: config.log.dir.clone(),
        retain_bytes: config.log.retain_bytes as u64,
        retain_age: config.log.retain_age,
        memory: config.postgres.max_backlog,
    };
    let (hub, metrics) = (Arc::clone(hub), metrics.clone());
    (!config.log.is_ephemeral).then_some(Keeping { settings, hub, now, metrics })
}

/// Sends the clients away for as long as another relay reads the slot: they get nothing here.
async fn follow_the_slot(
    seats: Arc<Seats>,
    mut state: watch::Receiver<SourceState>,
    drain: Duration,
    stage: Stage,
) {
    let stands_by = |state: &SourceState| matches!(state, SourceState::Standby { .. });
    let mut watching = state.clone();
    let following = async {
        while watching.wait_for(stands_by).await.is_ok() {
            let clearing = async {
                loop {
                    seats.send_away(drain).await;
                    tokio::time::sleep(STRAGGLERS_EVERY).await;
                }
            };
            tokio::select! {
                never = clearing => match never {},
                over = state.wait_for(|state| !stands_by(state)) => if over.is_err() { return },
            }
            seats.departure.end();
        }
    };
    tokio::select! {
        () = stage.stopping() => {}
        () = following => {}
    }
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
