//! Who may connect: how many connections that are no sockets (yet), of all and of one address.
//!
//! A connection that becomes a socket gives its permit back. What is over the number of all waits in the kernel's queue;
//! what is over the number of one address is closed at once, so that silent connections of one address keep nobody out.
//! When permits run short, an address has fewer and the head of a request has to come faster. A trusted proxy may have as
//! many as all: it stands for many.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::trusted_proxies::TrustedProxies;
use crate::egress::network_permits::{NetworkPermit, NetworkPermits};
use crate::metrics::{Metrics, reason};
use crate::model::Network;

/// Connections that are not sockets (yet).
const MAX_HTTP: usize = 4096;

/// Connections that wait in the kernel's queue; the system may allow fewer (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// Permits run short when fewer are free.
const SHORT: usize = MAX_HTTP / 2;

/// When permits run short, an address has this part of what it has otherwise.
const PART_WHEN_SHORT: usize = 8;

/// How long the head of a request may take, and how long a connection may wait between requests.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// The same when permits run short.
const HEAD_PATIENCE_WHEN_SHORT: Duration = Duration::from_secs(2);

/// Lets connections in.
#[derive(Debug)]
pub struct Acceptor {
    connections: Arc<Semaphore>,
    by_network: Arc<NetworkPermits>,
    most_of_address: usize,
    /// Where requests come from.
    pub(super) proxies: TrustedProxies,
    metrics: Metrics,
}

/// What a connection has from when it is accepted; given back when dropped.
#[derive(Debug)]
pub(super) struct AcceptPermit {
    /// How long the head of a request may take.
    pub(super) head_patience: Duration,
    _of_all: OwnedSemaphorePermit,
    _of_address: Option<NetworkPermit>,
}

/// Listens on an address, with a queue for those who come at once. It is called within the runtime that is to accept.
///
/// # Errors
/// The address cannot be listened on.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Acceptor {
    /// Every permit is free; one address may have `most_of_address`.
    pub fn new(most_of_address: usize, proxies: TrustedProxies, metrics: Metrics) -> Self {
        let connections = Arc::new(Semaphore::new(MAX_HTTP));
        Self { connections, by_network: Arc::default(), most_of_address, proxies, metrics }
    }

    /// The next connection that has a permit.
    pub(super) async fn accept(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, AcceptPermit)> {
        let of_all =
            Arc::clone(&self.connections).acquire_owned().await.map_err(io::Error::other)?;
        loop {
            let (stream, peer) = listener.accept().await?;
            let is_short = self.connections.available_permits() < SHORT;
            let Some(of_address) = self.permit(peer, is_short) else {
                self.metrics.refused.get_or_create(&reason("AddressConnectionLimitReached")).inc();
                continue;
            };
            let head_patience = if is_short { HEAD_PATIENCE_WHEN_SHORT } else { HEAD_PATIENCE };
            return Ok((
                stream,
                peer,
                AcceptPermit { head_patience, _of_all: of_all, _of_address: of_address },
            ));
        }
    }

    /// A permit for its address; none is counted for a trusted proxy.
    fn permit(&self, peer: SocketAddr, is_short: bool) -> Option<Option<NetworkPermit>> {
        if self.proxies.trusts(peer.ip()) {
            return Some(None);
        }
        let part = if is_short { PART_WHEN_SHORT } else { 1 };
        let most = (self.most_of_address / part).max(1);
        self.by_network.take(Network::of(peer.ip()), most).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An acceptor with so many permits free, behind which 10.0.0.0/8 is trusted; an address may have 16.
    fn acceptor(free: usize) -> Acceptor {
        let proxies = TrustedProxies::new(&["10.0.0.0/8".parse().unwrap()]);
        let acceptor = Acceptor::new(16, proxies, Metrics::new());
        Acceptor { connections: Arc::new(Semaphore::new(free)), ..acceptor }
    }

    #[tokio::test]
    async fn when_places_are_short_an_address_has_fewer_and_heads_must_come_faster() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        for (free, most, patience) in
            [(MAX_HTTP, 16, HEAD_PATIENCE), (SHORT, 2, HEAD_PATIENCE_WHEN_SHORT)]
        {
            let acceptor = acceptor(free);
            let mut clients = Vec::new();
            let mut permits = Vec::new();
            for _ in 0..most {
                clients.push(TcpStream::connect(address).await.unwrap());
                let (_, _, permit) = acceptor.accept(&listener).await.unwrap();
                assert_eq!(permit.head_patience, patience);
                permits.push(permit);
            }
            // One more is closed, and whoever comes after it from elsewhere is let in.
            clients.push(TcpStream::connect(address).await.unwrap());
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            clients.push(socket.connect(address).await.unwrap());
            let (_, peer, _) = acceptor.accept(&listener).await.unwrap();
            assert_eq!(peer.ip().to_string(), "127.0.0.2");
        }
    }

    #[test]
    fn a_trusted_proxy_stands_for_many() {
        let acceptor = acceptor(MAX_HTTP);
        let taken = |address: &str| {
            let peer = SocketAddr::new(address.parse().unwrap(), 1);
            let permits: Vec<_> = (0..100).map_while(|_| acceptor.permit(peer, false)).collect();
            permits.len()
        };
        assert_eq!((taken("10.0.0.1"), taken("192.0.2.1"), taken("2001:db8::1")), (100, 16, 16));
    }
}
