//! The harness: a throwaway Postgres, the built relay as a process, and a client that reads like a script.
//!
//! Nothing outlives the test process: servers run under a shell that stops them when its input closes.

pub mod client;
pub mod cluster;
pub mod database;
pub mod relay;
pub mod signer;

pub use client::Client;
pub use cluster::Cluster;
pub use database::Database;
pub use relay::Relay;

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long anything may take before a test calls it lost. Generous: it is a bound, not a measurement.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A port nobody listens on, below the ephemeral range so that no outgoing connection takes it meanwhile.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id() % 500 * 20;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(20_000 + (first + step) % 10_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A name no other test uses.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until `probe` answers, asking again every few milliseconds; fails the test naming `what` otherwise.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
