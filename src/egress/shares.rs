//! Places that each network has a share of: a count per network, given back when dropped.
//!
//! Bounded by whoever hands out places: a network without one is not in the map.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::Network;

/// How many places each network has.
#[derive(Debug, Default)]
pub struct Shares(Mutex<HashMap<Network, usize>>);

/// One place of a network.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    network: Network,
}

impl Shares {
    /// One place more for a network, unless it has `most` already.
    pub fn take(self: &Arc<Self>, network: Network, most: usize) -> Option<Share> {
        let mut held = self.held();
        let of_network = held.get(&network).copied().unwrap_or(0);
        if most <= of_network {
            return None;
        }
        held.insert(network, of_network + 1);
        Some(Share { shares: Arc::clone(self), network })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Network, usize>> {
        // Nothing panics while holding the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Entry::Occupied(mut held) = self.shares.held().entry(self.network) {
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
        let shares = Arc::new(Shares::default());
        let network = |address: &str| Network::of(address.parse().unwrap());
        let (here, there) = (network("192.0.2.1"), network("192.0.2.2"));
        let held = [shares.take(here, 2).unwrap(), shares.take(here, 2).unwrap()];
        assert!(shares.take(here, 2).is_none() && shares.take(there, 2).is_some());
        drop(held);
        assert!(shares.take(here, 2).is_some() && shares.held().is_empty());
    }
}
