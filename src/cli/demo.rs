//! `relay demo`: a throwaway Postgres, the shipped SQL, the relay with its chat API on it, and the chat's pages.
//!
//! It builds nothing: pages that are there are served. Without them, or when asked, two people talk who are made up.
//!
//! Ctrl-C, SIGTERM and a closed terminal stop it in order; a killed demo is cleaned up after by its cluster. In every
//! case nothing is left behind.

mod identity;
mod page;
mod server;
pub(crate) mod state;
mod talk;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use identity::Identity;
use state::{Announced, Demo};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::client::token::mint;
use super::cluster::{Cluster, SUPERUSER, migrate, set_password};
use super::{Globals, environment, print, random};
use crate::config;
use crate::error::{Error, ErrorKind};
use crate::postgres::{Sql, Target, connect};
use crate::relay::Relay;
use crate::secret::Secret;
use crate::shutdown::Stage;

/// The slot of a demo on a database that was there before: never one that a relay in use has.
const SLOT: &str = "relay_demo";

/// Longer than anybody looks at a demo.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Digits of an access code.
const CODE: usize = 8;

/// How long clients get to hear that the demo ends.
const DRAIN: Duration = Duration::from_secs(1);

/// What `relay demo` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It looks for initdb on the PATH and in the usual places; PGBIN names another directory.
While it runs, `relay tail chat_messages` in a second terminal shows each message as it is committed.")]
pub(crate) struct Args {
    /// Where the relay listens
    #[arg(long, default_value = "127.0.0.1:4000", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// The chat's built pages [default: frontend/dist, or `pages` beside the program, if there]
    #[arg(long, value_name = "DIR")]
    pub(crate) pages: Option<PathBuf>,
    /// What agents must know to sign in [default: made up]
    #[arg(long, value_name = "CODE")]
    pub(crate) code: Option<String>,
    /// How long tokens live that the pages get
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = parse_time)]
    pub(crate) token_lifetime: Duration,
    /// A database to use instead of a throwaway one, as its superuser. The chat's tables are made in it and stay, as does
    /// what is written; RELAY_… settings of the environment apply, and the slot is `relay_demo` if they name none
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,
    /// Let two people talk who are made up [default: only when there are no pages]
    #[arg(long)]
    pub(crate) talk: bool,
    /// Print nothing but errors
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Stop after one conversation
    #[arg(long)]
    pub(crate) once: bool,
    /// Seconds between one message and the next
    #[arg(long, default_value_t = 1.5, value_name = "SECONDS")]
    pub(crate) pace: f32,
}

/// Everything that runs. Fields stop in this order when dropped.
struct Running {
    _announced: Announced,
    relay: Relay,
    sql: Sql,
    stage: Stage,
    base: Base,
    people: talk::People,
    talks: bool,
}

/// The database below.
enum Base {
    /// Ours, and gone afterwards.
    Throwaway(Cluster),
    /// Somebody's.
    Theirs {
        /// How to reach it.
        target: Target,
        /// The slot the demo reads.
        slot: String,
        /// Whether somebody else made the slot, and has it back.
        is_slot_theirs: bool,
    },
}

/// The signals that end a demo.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// Does it.
///
/// # Errors
/// `Misconfigured` when Postgres is not installed or the address is taken; else what failed to start.
pub(crate) async fn run(args: Args, _globals: &Globals) -> Result<(), Error> {
    let mut stop = Stop::listen()?;
    let mut running = tokio::select! {
        () = stop.asked() => return Ok(()),
        started = Box::pin(start(&args)) => started?,
    };
    let pace = Duration::try_from_secs_f32(args.pace).unwrap_or_default();
    let talking = async {
        if running.talks {
            talk::run(&running.sql, &running.people, pace, args.quiet, args.once).await
        } else {
            std::future::pending().await
        }
    };
    let ended = tokio::select! {
        () = stop.asked() => Ok(()),
        error = running.relay.failed() => Err(error),
        ended = talking => ended,
    };
    running.stop().await;
    if !args.quiet {
        print::line("stopped; nothing is left behind")?;
    }
    ended
}

async fn start(args: &Args) -> Result<Running, Error> {
    check_free(args.listen)?;
    let pages = args.pages.clone().or_else(page::usual_place);
    let say = |text: &str| if args.quiet { Ok(()) } else { print::line(text) };
    let stage = Stage::new();
    let found = match &args.database {
        Some(url) => theirs(url, &stage).await?,
        None => {
            say("starting a throwaway Postgres …")?;
            throwaway(&stage).await?
        }
    };
    let Found { base, sql, target, url, relay_url } = found;
    let people = talk::People::new();
    let talks = args.talk || args.once || pages.is_none();
    if talks {
        people.introduce(&sql).await?;
    }
    say("starting the relay …")?;
    let is_open = args.database.is_some();
    let given = is_open.then(|| environment("RELAY_AUTH__JWT_SECRET")).flatten();
    let secret = given.unwrap_or_else(|| random::hex(32));
    let code = args.code.clone().unwrap_or_else(|| digits(CODE));
    let key = Secret::new(secret.clone());
    let identity = Identity {
        secret: key.clone(),
        code: Secret::new(code.clone()),
        lifetime: args.token_lifetime,
        target,
        stage: stage.clone(),
        wrong: Mutex::new(None),
    };
    let told = server::Told {
        listen: args.listen,
        url: &relay_url,
        secret: &secret,
        pages: pages.as_deref(),
        slot: base.slot(),
        is_open,
    };
    let relay = server::start(told, identity.routes()).await?;
    let mint = |role: &str, sub: Option<&str>| mint(&key, role, sub, TOKEN_LIFETIME);
    let tokens = page::Tokens {
        anon: mint("anon", None)?,
        visitor: mint("authenticated", Some(&people.visitor))?,
        agent: mint("authenticated", Some(&people.agent))?,
    };
    let demo = Demo {
        address: format!("ws://{}", args.listen),
        jwt_secret: secret,
        token: mint("service_role", None)?,
        database_url: url,
    };
    let announced = demo.announce()?;
    let open = pages.is_some().then(|| address_of(args.listen, &code));
    let dir = match &base {
        Base::Throwaway(cluster) => Some(cluster.dir()),
        Base::Theirs { .. } => None,
    };
    let facts = page::Facts {
        demo: &demo,
        dir,
        people: &people,
        tokens: &tokens,
        open: open.as_deref(),
        talks,
    };
    page::lines(&facts).iter().try_for_each(|line| say(line))?;
    Ok(Running { _announced: announced, relay, sql, stage, base, people, talks })
}

/// A database that is ready for a relay.
struct Found {
    base: Base,
    sql: Sql,
    /// How to reach it as somebody who may name agents.
    target: Target,
    /// The same for other programs.
    url: String,
    relay_url: String,
}

async fn throwaway(stage: &Stage) -> Result<Found, Error> {
    let cluster = Cluster::start("demo", &[]).await?;
    let target = Target::parse(&cluster.local_url(SUPERUSER))?;
    let sql = prepare(&target, stage).await?;
    let (relay_password, password) = (random::hex(16), random::hex(16));
    set_password(&sql, "relay", &relay_password).await?;
    set_password(&sql, SUPERUSER, &password).await?;
    let url = cluster.tcp_url(SUPERUSER, &password);
    let relay_url = cluster.tcp_url("relay", &relay_password);
    Ok(Found { base: Base::Throwaway(cluster), sql, target, url, relay_url })
}

/// A database that was there before. The relay's own role needs a password, which is not ours to set.
async fn theirs(url: &str, stage: &Stage) -> Result<Found, Error> {
    let target = Target::parse(url)?;
    let sql = prepare(&target, stage).await?;
    let relay_url = environment("RELAY_POSTGRES__URL").unwrap_or_else(|| url.to_owned());
    let named = environment("RELAY_POSTGRES__SLOT");
    let slot = named.unwrap_or_else(|| SLOT.to_owned());
    let text = include_str!("../../sql/queries/demo_slot_exists.sql");
    let exists = sql.client.query_one(text, &[&slot]).await.map_err(talk::failed)?;
    // One of the demo's own name is what a demo left that was killed.
    let is_slot_theirs = slot != SLOT && exists.try_get(0).map_err(talk::failed)?;
    let base = Base::Theirs { target: target.clone(), slot, is_slot_theirs };
    Ok(Found { base, sql, target, url: url.to_owned(), relay_url })
}

async fn prepare(target: &Target, stage: &Stage) -> Result<Sql, Error> {
    let sql = connect(target, "relay-demo", &[], stage).await?;
    migrate(&sql, include_str!("../../sql/SUPABASE_COMPAT.sql")).await?;
    migrate(&sql, include_str!("../../sql/ENABLE_REALTIME_CHAT.sql")).await?;
    migrate(&sql, include_str!("../../sql/RELAY_ROLE.sql")).await?;
    Ok(sql)
}

/// The one address to open.
fn address_of(listen: SocketAddr, code: &str) -> String {
    let mut reached = listen;
    if reached.ip().is_unspecified() {
        reached.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let mut fragment = String::new();
    for byte in code.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            fragment.push(char::from(byte));
        } else {
            fragment.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("http://{reached}/#code={fragment}")
}

/// So many random digits.
fn digits(count: usize) -> String {
    let number = random::number().to_string();
    format!("{number:0>count$}").chars().rev().take(count).collect()
}

/// A length of time as the configuration writes it, of a second at least.
fn parse_time(text: &str) -> Result<Duration, String> {
    let time = config::parse_time(text).map_err(|expected| format!("expected {expected}"))?;
    if time < Duration::from_secs(1) { Err("use 1s at least".to_owned()) } else { Ok(time) }
}

/// Says early, and in words, that the address is taken.
fn check_free(listen: SocketAddr) -> Result<(), Error> {
    TcpListener::bind(listen).map(drop).map_err(|error| {
        let other = SocketAddr::new(listen.ip(), listen.port().wrapping_add(1));
        let context = format!(
            "could not listen on {listen}; if something else does, choose another address: relay demo --listen {other}"
        );
        Error::new(ErrorKind::Misconfigured, context).because(error)
    })
}

impl Base {
    fn slot(&self) -> &str {
        match self {
            Self::Throwaway(_) => SLOT,
            Self::Theirs { slot, .. } => slot,
        }
    }
}

impl Running {
    async fn stop(self) {
        let Self { _announced, relay, sql, stage, base, .. } = self;
        drop(_announced);
        relay.stop().await;
        drop(sql);
        if let Base::Theirs { target, slot, is_slot_theirs: false } = &base {
            let_go(target, slot, &stage).await;
        }
        stage.stop(DRAIN).await;
        if let Base::Throwaway(cluster) = base {
            cluster.stop();
        }
    }
}

/// Drops the slot, so that a database that stays keeps no WAL for a demo that is over.
async fn let_go(target: &Target, slot: &str, stage: &Stage) {
    let dropping = async {
        let sql = connect(target, "relay-demo", &[], stage).await?;
        let text = include_str!("../../sql/queries/demo_slot_drop.sql");
        sql.client.execute(text, &[&slot]).await.map_err(talk::failed)
    };
    if let Err(error) = dropping.await {
        tracing::warn!(%error, slot, "the slot could not be dropped; `relay slot drop` does it");
    }
}

impl Stop {
    fn listen() -> Result<Self, Error> {
        let open = |kind: SignalKind| {
            signal(kind).map_err(|error| {
                Error::new(ErrorKind::Bug, "could not listen for signals").because(error)
            })
        };
        Ok(Self {
            interrupt: open(SignalKind::interrupt())?,
            terminate: open(SignalKind::terminate())?,
            hang_up: open(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
