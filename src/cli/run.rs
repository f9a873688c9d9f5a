//! `relay run`: the server, until it is told to stop.

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Globals;
use crate::error::{Error, ErrorKind};
use crate::relay::Relay;

/// What `relay run` is told besides the configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep changes in memory only: nothing is written to log.dir, and a restart forgets what clients may have missed
    #[arg(long)]
    ephemeral: bool,
}

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// Whatever stopped it otherwise.
pub(crate) async fn run(args: Args, globals: &Globals) -> Result<(), Error> {
    let mut config = globals.load()?;
    config.log.is_ephemeral = args.ephemeral;
    let mut relay = Relay::start(config).await?;
    let listen = |kind| {
        signal(kind).map_err(|cause| {
            Error::new(ErrorKind::Bug, "could not listen for signals").because(cause)
        })
    };
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let signal = tokio::select! {
        error = relay.failed() => {
            relay.stop().await;
            return Err(error);
        }
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal, "stopping");
    relay.stop().await;
    tracing::info!("stopped");
    Ok(())
}
