//! The harness: a throwaway Postgres, the built relay as a process, and a client that reads like a script.
//!
//! Nothing outlives the test process: servers run under a shell that stops them when its input closes.

pub mod client;
pub mod cluster;
pub mod database;
pub mod program;
pub mod relay;
pub mod signer;

pub use client::Client;
pub use cluster::Cluster;
pub use database::Database;
pub use relay::Relay;

use std::net::{TcpListener, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long anything may take before a test calls it lost. Generous: it is a bound, not a measurement, and only a test
/// that fails waits so long. A machine that is busy with something else must not reach it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A port nobody listens on, below the ephemeral range so that no outgoing connection takes it meanwhile.
///
/// What it is for may listen later, or stop and listen again, so it must stay free as long as this process lives: ports
/// come from blocks of a process's own, each held by a UDP socket on its first port.
pub fn free_port() -> u16 {
    const BLOCK: u16 = 500;
    static BLOCKS: Mutex<(Vec<(u16, UdpSocket)>, usize)> = Mutex::new((Vec::new(), 0));
    let mut held = BLOCKS.lock().unwrap();
    let (blocks, given) = &mut *held;
    loop {
        let (block, place) = (*given / usize::from(BLOCK), *given % usize::from(BLOCK));
        if blocks.len() == block {
            let begins = (0..20).map(|number| 20_000 + number * BLOCK);
            let of_nobody =
                begins.filter_map(|port| Some((port, UdpSocket::bind(("127.0.0.1", port)).ok()?)));
            // Without another block, those there are begin again.
            blocks.extend(of_nobody.take(1));
        }
        let (begin, _) = &blocks[block % blocks.len()];
        let port = begin + u16::try_from(place).unwrap();
        *given += 1;
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
