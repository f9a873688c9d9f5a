//! `http.trusted_proxies`, who is believed about where a request comes from, and what one address may have.

use super::check::Check;
use super::written;
use crate::model::Cidr;

impl Check<'_> {
    /// Connections of one address that is no proxy's.
    pub(super) fn address_connections(&mut self, written: &written::Limits) -> usize {
        self.count("limits.address_connections", written.address_connections, 1, 1_000_000)
    }

    /// Blocks of addresses.
    pub(super) fn proxies(&mut self, written: &[String]) -> Vec<Cidr> {
        let mut proxies = Vec::with_capacity(written.len());
        for text in written {
            match text.trim().parse() {
                Ok(block) => proxies.push(block),
                Err(_) => {
                    let reason = format!(
                        "{text:?} is no address and no block of addresses; write \"10.0.0.7\" or \"10.0.0.0/8\""
                    );
                    self.say("http.trusted_proxies", reason);
                }
            }
        }
        proxies
    }
}
