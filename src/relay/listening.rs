//! The addresses the relay listens on: that of clients, without which it does not start, and that of probes and metrics.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::config::Http;
use crate::error::{Error, ErrorKind};
use crate::server;
use crate::server::admin::Figures;

/// What the relay listens on.
#[derive(Debug)]
pub(super) struct Listeners {
    /// For clients.
    pub(super) clients: TcpListener,
    /// For probes and metrics, when they have an address of their own.
    pub(super) admin: Option<TcpListener>,
    /// Where the metrics are.
    pub(super) figures: Figures,
}

/// Listens.
///
/// # Errors
/// An address that was asked for cannot be had. The default one of probes and metrics is done without.
pub(super) fn listen(http: &Http) -> Result<Listeners, Error> {
    let clients = bind("http.listen", http.listen)?;
    let without = |figures| (None, figures);
    let (admin, figures) = match http.admin {
        None => without(Figures::Off),
        Some(admin)
            if admin.is_given && admin.address == http.listen && http.listen.port() != 0 =>
        {
            tracing::info!(
                address = %http.listen,
                "metrics are served to whoever reaches http.listen, because http.admin_listen is the same; they move \
                 with rows that row security hides"
            );
            without(Figures::Here)
        }
        Some(admin) => match bind("http.admin_listen", admin.address) {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(admin.address);
                tracing::info!(%address, "serving probes and metrics (http.admin_listen)");
                (Some(listener), Figures::Elsewhere)
            }
            Err(error) if admin.is_given => return Err(error),
            Err(error) => {
                tracing::warn!(error = %error, "going on without metrics; \"off\" makes that the intention");
                without(Figures::Off)
            }
        },
    };
    Ok(Listeners { clients, admin, figures })
}

fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, Error> {
    server::bind(address).map_err(|cause| {
        let text = format!("could not listen on {address}; choose another {key}");
        Error::new(ErrorKind::Misconfigured, text).because(cause)
    })
}
