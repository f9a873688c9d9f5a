//! `relay demo`: a throwaway Postgres, the shipped SQL, the relay on it, and a conversation to watch.
//!
//! Ctrl-C, SIGTERM and a closed terminal stop it in order; a killed demo is cleaned up after by its cluster. In every
//! case nothing is left behind.

mod page;
mod server;
pub(crate) mod state;
mod talk;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use state::{Announced, Demo};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::client::token::mint;
use super::cluster::{Cluster, SUPERUSER, migrate, set_password};
use super::{Globals, print, random};
use crate::error::{Error, ErrorKind};
use crate::postgres::{Sql, Target, connect};
use crate::relay::Relay;
use crate::secret::Secret;
use crate::shutdown::Stage;

/// Longer than anybody looks at a demo.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

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
    cluster: Cluster,
    people: talk::People,
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
    let ended = tokio::select! {
        () = stop.asked() => Ok(()),
        error = running.relay.failed() => Err(error),
        ended = talk::run(&running.sql, &running.people, pace, args.quiet, args.once) => ended,
    };
    running.stop().await;
    if !args.quiet {
        print::line("stopped; nothing is left behind")?;
    }
    ended
}

async fn start(args: &Args) -> Result<Running, Error> {
    check_free(args.listen)?;
    let say = |text: &str| if args.quiet { Ok(()) } else { print::line(text) };
    say("starting a throwaway Postgres …")?;
    let cluster = Cluster::start("demo", &[]).await?;
    let stage = Stage::new();
    let target = Target::parse(&cluster.local_url(SUPERUSER))?;
    let sql = connect(&target, "relay-demo", &[], &stage).await?;
    migrate(&sql, include_str!("../../sql/SUPABASE_COMPAT.sql")).await?;
    migrate(&sql, include_str!("../../sql/ENABLE_REALTIME_CHAT.sql")).await?;
    migrate(&sql, include_str!("../../sql/RELAY_ROLE.sql")).await?;
    let (relay_password, password) = (random::hex(16), random::hex(16));
    set_password(&sql, "relay", &relay_password).await?;
    set_password(&sql, SUPERUSER, &password).await?;
    let people = talk::People::new();
    people.introduce(&sql).await?;
    say("starting the relay …")?;
    let secret = random::hex(32);
    let url = cluster.tcp_url("relay", &relay_password);
    let relay = server::start(args.listen, &url, &secret).await?;
    let key = Secret::new(secret.clone());
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
        database_url: cluster.tcp_url(SUPERUSER, &password),
    };
    let announced = demo.announce()?;
    page::lines(&demo, cluster.dir(), &people, &tokens).iter().try_for_each(|line| say(line))?;
    Ok(Running { _announced: announced, relay, sql, stage, cluster, people })
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

impl Running {
    async fn stop(self) {
        let Self { _announced, relay, sql, stage, cluster, .. } = self;
        drop(_announced);
        relay.stop().await;
        drop(sql);
        stage.stop(DRAIN).await;
        cluster.stop();
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
