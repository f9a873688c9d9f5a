//! `relay run`: the server, until it is told to stop.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Globals, log, misconfigured};
use crate::config::{Changes, Config, Effective};
use crate::error::{Error, ErrorKind};
use crate::metrics::process::most_files;
use crate::relay::{Connection, Relay};

/// What `relay run` is told besides the configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Signals: SIGTERM and SIGINT stop after draining (http.drain), a second one stops at once.
SIGHUP reads the configuration again, its file and the files of secrets that it names, and puts in force without dropping a
client: secrets and keys, auth.issuer, auth.audience, the password of postgres.url, log.level, and [limits] but
address_connections, broadcast_payload, memory, outboxes and record. What changed and needs a restart is named in the log.
With a fault in it, nothing is changed. Certificates that postgres.url names are read for each new connection anyway.")]
pub(crate) struct Args {
    /// Keep changes in memory only: nothing is written to log.dir, and a restart forgets what clients may have missed
    #[arg(long)]
    ephemeral: bool,
}

/// The configuration, read and checked.
#[derive(Debug)]
struct Reading {
    effective: Arc<Effective>,
    config: Config,
}

/// The configuration as it was read at the start, with which settings that need a restart are compared, and as it was read
/// last.
#[derive(Debug)]
struct Readings {
    first: Arc<Effective>,
    last: Reading,
}

/// Serves until SIGTERM or SIGINT, then drains; a second one ends the draining.
///
/// # Errors
/// Whatever stopped it otherwise.
pub(crate) async fn run(args: Args, globals: &Globals) -> Result<(), Error> {
    // Before anything else is done, so that no signal has its usual effect meanwhile.
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut hangup = listen(SignalKind::hangup())?;
    let last = Reading::of(globals)?;
    log::set(globals, &last.config.log.level)?;
    let mut readings = Readings { first: Arc::clone(&last.effective), last };
    let mut config = readings.last.config.clone();
    for doubt in config.doubts(most_files()) {
        tracing::warn!(setting = doubt.key, "{}", doubt.reason);
    }
    config.log.is_ephemeral = args.ephemeral;
    let mut relay = Relay::start(config).await?;
    let signal = loop {
        tokio::select! {
            error = relay.failed() => {
                relay.stop().await;
                return Err(error);
            }
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = hangup.recv() => readings.renew(globals, &relay),
        }
    };
    tracing::info!(signal, "stopping; a second signal stops at once");
    let stopping = relay.stop();
    tokio::select! {
        () = stopping => tracing::info!("stopped"),
        _ = terminate.recv() => tracing::warn!("stopped at once, without a word to clients"),
        _ = interrupt.recv() => tracing::warn!("stopped at once, without a word to clients"),
    }
    Ok(())
}

impl Reading {
    fn of(globals: &Globals) -> Result<Self, Error> {
        let effective = globals.effective()?;
        let config = effective.check().map_err(|faults| misconfigured(&faults))?;
        Ok(Self { effective: Arc::new(effective), config })
    }
}

impl Readings {
    /// Reads the configuration again and puts it in force.
    fn renew(&mut self, globals: &Globals, relay: &Relay) {
        let (config, reading) = match Reading::of(globals) {
            Ok(reading) => (Ok(reading.config.clone()), Some(reading)),
            Err(error) => (Err(error), None),
        };
        let connection = match relay.reload(config) {
            Ok(connection) => connection,
            Err(error) => {
                tracing::error!(%error, "the configuration was not reloaded; the one in force stays");
                return;
            }
        };
        let Some(reading) = reading else { return };
        if let Err(error) = log::set(globals, &reading.config.log.level) {
            tracing::error!(%error, "the log's level stays");
        }
        let restart = self.first.changes_to(&reading.effective).restart;
        let live = self.last.effective.changes_to(&reading.effective).live;
        let mut changes = Changes { live, restart };
        changes.look_into_files(&self.last.config, &reading.config);
        match connection {
            Connection::Same => {}
            Connection::NewPassword => changes.live.push("postgres.url (its password)"),
            Connection::Other => changes.restart.push("postgres.url"),
        }
        say(globals, &changes);
        self.last = reading;
    }
}

fn say(globals: &Globals, changes: &Changes) {
    let Changes { live, restart } = changes;
    tracing::info!(in_force = live.join(", "), "the configuration was reloaded");
    if live.contains(&"log.level") && globals.filter().is_some() {
        tracing::warn!("log.level counts for nothing while --log or RUST_LOG is set");
    }
    if !restart.is_empty() {
        tracing::warn!(settings = restart.join(", "), "some changed settings need a restart");
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind)
        .map_err(|cause| Error::new(ErrorKind::Bug, "could not listen for signals").because(cause))
}
