//! The demo's relay, inside the process, on the throwaway Postgres.

use std::net::SocketAddr;

use crate::cli::misconfigured;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::relay::Relay;
use crate::source::SourceState;

/// Starts it and waits until it streams.
///
/// # Errors
/// What failed to start.
pub(super) async fn start(listen: SocketAddr, url: &str, secret: &str) -> Result<Relay, Error> {
    let given = |name: &str| match name {
        "RELAY_HTTP__LISTEN" => Some(listen.to_string()),
        "RELAY_HTTP__DRAIN" => Some("1s".to_owned()),
        "RELAY_POSTGRES__URL" => Some(url.to_owned()),
        "RELAY_AUTH__JWT_SECRET" => Some(secret.to_owned()),
        _ => None,
    };
    let (mut config, _) = Config::load(None, &given).map_err(|faults| misconfigured(&faults))?;
    // Nothing is left behind.
    config.log.is_ephemeral = true;
    let mut relay = Relay::start(config).await?;
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
