//! Places that each network has a permit of: a count per network, given back when dropped.
//!
//! Bounded by whoever hands out places: a network without one is not in the map.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::Network;

/// How many places each network has.
#[derive(Debug, Default)]
pub struct NetworkPermits(Mutex<HashMap<Network, usize>>);

/// One place of a network.
#[derive(Debug)]
pub struct NetworkPermit {
    permits: Arc<NetworkPermits>,
    network: Network,
}

impl NetworkPermits {
    /// One place more for a network, unless it has `most` already.
    pub fn take(self: &Arc<Self>, network: Network, most: usize) -> Option<NetworkPermit> {
        let mut held = self.held();
        let of_network = held.get(&network).copied().unwrap_or(0);
        if most <= of_network {
            return None;
        }
        held.insert(network, of_network + 1);
        Some(NetworkPermit { permits: Arc::clone(self), network })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Network, usize>> {
        // Nothing panics while holding the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NetworkPermit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut held) = self.permits.held().entry(self.network) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_share_and_gives_it_back() {
        let permits = Arc::new(NetworkPermits::default());
        let network = |address: &str| Network::of(address.parse().unwrap());
        let (here, there) = (network("192.0.2.1"), network("192.0.2.2"));
        let held = [permits.take(here, 2).unwrap(), permits.take(here, 2).unwrap()];
        assert!(permits.take(here, 2).is_none() && permits.take(there, 2).is_some());
        drop(held);
        assert!(permits.take(here, 2).is_some() && permits.held().is_empty());
    }
}
