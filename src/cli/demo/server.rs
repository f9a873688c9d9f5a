//! The demo's relay.

use std::net::SocketAddr;
use std::path::Path;

use crate::cli::process::Process;
use crate::error::Error;

/// A running relay.
#[derive(Debug)]
pub(super) struct Relay(Process);

impl Relay {
    /// Starts it and waits until it streams.
    ///
    /// # Errors
    /// What failed to start.
    pub(super) async fn start(
        listen: SocketAddr,
        url: &str,
        secret: &str,
        dir: &Path,
    ) -> Result<Self, Error> {
        let variables = [
            ("RELAY_POSTGRES__URL", url.to_owned()),
            ("RELAY_AUTH__JWT_SECRET", secret.to_owned()),
        ];
        Process::start(listen, &variables, &dir.join("relay.log")).await.map(Self)
    }

    /// Tells clients, and stops.
    pub(super) async fn stop(self) {
        self.0.stop().await;
    }
}
