//! The demo's relay, inside the process, on the throwaway Postgres.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;

use crate::cli::{environment, misconfigured};
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::relay::Relay;
use crate::source::SourceState;

/// What a demo's relay is told.
pub(super) struct Told<'a> {
    pub(super) listen: SocketAddr,
    pub(super) url: &'a str,
    pub(super) secret: &'a str,
    pub(super) pages: Option<&'a Path>,
    /// The slot, in a database that stays.
    pub(super) slot: &'a str,
    /// Whether settings of the environment apply.
    pub(super) is_open: bool,
}

/// Starts it, with routes of the demo's own, and waits until it streams.
///
/// # Errors
/// What failed to start.
pub(super) async fn start(told: Told<'_>, own: Router) -> Result<Relay, Error> {
    let given = |name: &str| match name {
        "RELAY_HTTP__LISTEN" => Some(told.listen.to_string()),
        // The demo's pages show metrics; of a throwaway database they give away nothing.
        "RELAY_HTTP__ADMIN_LISTEN" if !told.is_open => Some(told.listen.to_string()),
        "RELAY_HTTP__DRAIN" => Some("1s".to_owned()),
        "RELAY_HTTP__PAGES" => told.pages.map(|pages| pages.display().to_string()),
        "RELAY_POSTGRES__URL" => Some(told.url.to_owned()),
        "RELAY_AUTH__JWT_SECRET" => Some(told.secret.to_owned()),
        "RELAY_CHAT__PRESET" => Some("support".to_owned()),
        "RELAY_POSTGRES__SLOT" if told.is_open => Some(told.slot.to_owned()),
        name => told.is_open.then(|| environment(name)).flatten(),
    };
    let (mut config, _) = Config::load(None, &given).map_err(|faults| misconfigured(&faults))?;
    // Nothing is left behind, unless a place is named for it.
    let is_placed = told.is_open && environment("RELAY_LOG__DIR").is_some();
    config.log.is_ephemeral |= !is_placed;
    let mut relay = Relay::start_with(config, own).await?;
    let mut state = relay.state();
    let streaming = async {
        let settled = |state: &SourceState| !matches!(state, SourceState::Connecting { .. });
        match state.wait_for(settled).await.map(|state| state.clone()) {
            Ok(SourceState::Blocked { reason }) => {
                Err(Error::new(ErrorKind::SourceRejected, reason))
            }
            _ => Ok(()),
        }
    };
    let started = tokio::select! {
        error = relay.failed() => Err(error),
        started = streaming => started,
    };
    match started {
        Ok(()) => Ok(relay),
        Err(error) => {
            relay.stop().await;
            Err(error)
        }
    }
}
