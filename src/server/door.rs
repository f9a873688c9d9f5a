//! Who may connect: how many connections that are no sockets (yet), of all and of one address.
//!
//! A connection that becomes a socket gives its place back. What is over the number of all waits in the kernel's queue;
//! what is over the number of one address is closed at once, so that silent connections of one address keep nobody out.
//! When places are short, an address has fewer and the head of a request has to come faster. A trusted proxy may have as
//! many as all: it stands for many.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::origin::Origins;
use crate::egress::shares::{Share, Shares};
use crate::metrics::{Metrics, reason};
use crate::model::Network;

/// Connections that are not sockets (yet).
const MAX_HTTP: usize = 4096;

/// Connections that wait in the kernel's queue; the system may allow fewer (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// Places are short when fewer are free.
const SHORT: usize = MAX_HTTP / 2;

/// When places are short, an address has this part of what it has otherwise.
const PART_WHEN_SHORT: usize = 8;

/// How long the head of a request may take, and how long a connection may wait between requests.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// The same when places are short.
const HEAD_PATIENCE_WHEN_SHORT: Duration = Duration::from_secs(2);

/// Lets connections in.
#[derive(Debug)]
pub struct Door {
    seats: Arc<Semaphore>,
    shares: Arc<Shares>,
    most_of_address: usize,
    /// Where requests come from.
    pub(super) origins: Origins,
    metrics: Metrics,
}

/// A place of a connection; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    /// How long the head of a request may take.
    pub(super) head_patience: Duration,
    _seat: OwnedSemaphorePermit,
    _share: Option<Share>,
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

impl Door {
    /// Every place is free; one address may have `most_of_address`.
    pub fn new(most_of_address: usize, origins: Origins, metrics: Metrics) -> Self {
        let seats = Arc::new(Semaphore::new(MAX_HTTP));
        Self { seats, shares: Arc::default(), most_of_address, origins, metrics }
    }

    /// The next connection that has a place.
    pub(super) async fn accept(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, Place)> {
        let seat = Arc::clone(&self.seats).acquire_owned().await.map_err(io::Error::other)?;
        loop {
            let (stream, peer) = listener.accept().await?;
            let is_short = self.seats.available_permits() < SHORT;
            let Some(share) = self.share(peer, is_short) else {
                self.metrics.refused.get_or_create(&reason("AddressConnectionLimitReached")).inc();
                continue;
            };
            let head_patience = if is_short { HEAD_PATIENCE_WHEN_SHORT } else { HEAD_PATIENCE };
            return Ok((stream, peer, Place { head_patience, _seat: seat, _share: share }));
        }
    }

    /// A place for its address; none is counted for a trusted proxy.
    fn share(&self, peer: SocketAddr, is_short: bool) -> Option<Option<Share>> {
        if self.origins.trusts(peer.ip()) {
            return Some(None);
        }
        let part = if is_short { PART_WHEN_SHORT } else { 1 };
        let most = (self.most_of_address / part).max(1);
        self.shares.take(Network::of(peer.ip()), most).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A door with so many places free, behind which 10.0.0.0/8 is trusted; an address may have 16.
    fn door(free: usize) -> Door {
        let origins = Origins::new(&["10.0.0.0/8".parse().unwrap()]);
        let door = Door::new(16, origins, Metrics::new());
        Door { seats: Arc::new(Semaphore::new(free)), ..door }
    }

    #[tokio::test]
    async fn when_places_are_short_an_address_has_fewer_and_heads_must_come_faster() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        for (free, most, patience) in
            [(MAX_HTTP, 16, HEAD_PATIENCE), (SHORT, 2, HEAD_PATIENCE_WHEN_SHORT)]
        {
            let door = door(free);
            let mut clients = Vec::new();
            let mut places = Vec::new();
            for _ in 0..most {
                clients.push(TcpStream::connect(address).await.unwrap());
                let (_, _, place) = door.accept(&listener).await.unwrap();
                assert_eq!(place.head_patience, patience);
                places.push(place);
            }
            // One more is closed, and whoever comes after it from elsewhere is let in.
            clients.push(TcpStream::connect(address).await.unwrap());
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            clients.push(socket.connect(address).await.unwrap());
            let (_, peer, _) = door.accept(&listener).await.unwrap();
            assert_eq!(peer.ip().to_string(), "127.0.0.2");
        }
    }

    #[test]
    fn a_trusted_proxy_stands_for_many() {
        let door = door(MAX_HTTP);
        let taken = |address: &str| {
            let peer = SocketAddr::new(address.parse().unwrap(), 1);
            let shares: Vec<_> = (0..100).map_while(|_| door.share(peer, false)).collect();
            shares.len()
        };
        assert_eq!((taken("10.0.0.1"), taken("192.0.2.1"), taken("2001:db8::1")), (100, 16, 16));
    }
}
