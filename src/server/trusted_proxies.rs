//! Where a request comes from: its connection's address, or the one that a trusted proxy names.
//!
//! A proxy adds the address that it was asked from at the right end of `X-Forwarded-For`, or of `Forwarded` (RFC 7239).
//! What stands left of that is what the client said. So the list is read from the right, past the addresses of trusted
//! proxies, and the first other address is the client's. Where a request has both headers and they do not agree, one of
//! them is the client's own, and neither is believed.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, HeaderName, header};
use tracing::warn;

use crate::model::{Cidr, Network};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Which proxies are believed.
#[derive(Debug)]
pub struct TrustedProxies {
    trusted: Box<[Cidr]>,
    /// It was said that a proxy is not trusted.
    has_warned: AtomicBool,
}

impl TrustedProxies {
    /// Believes these proxies.
    pub fn new(trusted: &[Cidr]) -> Self {
        Self { trusted: trusted.into(), has_warned: AtomicBool::new(false) }
    }

    /// Whether an address is a trusted proxy's.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|block| block.contains(address))
    }

    /// The network that a request comes from.
    pub(super) fn of(&self, peer: IpAddr, headers: &HeaderMap) -> Network {
        let given = [X_FORWARDED_FOR, header::FORWARDED].map(|name| headers.contains_key(name));
        if given == [false, false] {
            return Network::of(peer);
        }
        if !self.trusts(peer) {
            if !self.has_warned.swap(true, Ordering::Relaxed) {
                warn!(
                    %peer,
                    "a request says for whom it is forwarded, and its address is no trusted proxy's; if it is a proxy of \
                     yours, name it in http.trusted_proxies: until then all its clients count as one"
                );
            }
            return Network::of(peer);
        }
        let listed = |name: HeaderName, read: fn(&str) -> Option<IpAddr>| {
            let values = headers.get_all(name).into_iter().collect::<Vec<_>>();
            let texts = values.into_iter().rev().map(|value| value.to_str().unwrap_or("?"));
            self.client(peer, texts.flat_map(|text| text.rsplit(',')).map(read))
        };
        let of_list = || listed(X_FORWARDED_FOR, |element| address(element.trim()));
        let of_forwarded = || listed(header::FORWARDED, forwarded_for);
        Network::of(match given {
            [true, false] => of_list(),
            [false, _] => of_forwarded(),
            [true, true] => {
                let client = of_list();
                if client == of_forwarded() { client } else { peer }
            }
        })
    }

    /// The first address from the right that is no trusted proxy's; the last one before what is no address.
    fn client(&self, peer: IpAddr, from_right: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut nearest = peer;
        for address in from_right {
            let Some(address) = address else { break };
            nearest = address;
            if !self.trusts(address) {
                break;
            }
        }
        nearest
    }
}

/// An address, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None if text.matches(':').count() == 1 => text.split_once(':')?.0,
        None => text,
    };
    bare.parse().ok()
}

/// The address of one element of `Forwarded`: `for=192.0.2.1;proto=https`, `for="[2001:db8::1]:4711"`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let mut named = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (_, value) = named.next()?;
    address(value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The network of a request of `peer` with these headers, where 10.0.0.0/8 is trusted.
    fn of(peer: &str, given: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, value.parse().unwrap());
        }
        let proxies = TrustedProxies::new(&["10.0.0.0/8".parse().unwrap()]);
        proxies.of(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_rightmost_address_that_no_proxy_of_ours_has_is_the_clients() {
        const LIST: &str = "x-forwarded-for";
        const FORWARDED: &str = "forwarded";
        for (peer, given, expected) in [
            ("10.0.0.1", &[][..], "10.0.0.1"),
            ("192.0.2.9", &[(LIST, "198.51.100.1")], "192.0.2.9"),
            ("10.0.0.1", &[(LIST, "198.51.100.1")], "198.51.100.1"),
            // What the client said stands left of what the proxy saw.
            ("10.0.0.1", &[(LIST, "203.0.113.5, 198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", &[(LIST, "203.0.113.5, 198.51.100.1, 10.9.9.9")], "198.51.100.1"),
            ("10.0.0.1", &[(LIST, "203.0.113.5"), (LIST, "198.51.100.1,10.9.9.9")], "198.51.100.1"),
            ("::ffff:10.0.0.1", &[(LIST, "198.51.100.1:4711")], "198.51.100.1"),
            ("10.0.0.1", &[(LIST, "2001:db8:0:1::7")], "2001:db8:0:1::/64"),
            ("10.0.0.1", &[(LIST, "198.51.100.1, unknown, 10.9.9.9")], "10.9.9.9"),
            ("10.0.0.1", &[(LIST, "")], "10.0.0.1"),
            ("10.0.0.1", &[(LIST, "10.0.0.7")], "10.0.0.7"),
            (
                "10.0.0.1",
                &[(FORWARDED, "for=203.0.113.5, FOR=198.51.100.1;proto=https")],
                "198.51.100.1",
            ),
            ("10.0.0.1", &[(FORWARDED, r#"for="[2001:db8:0:1::7]:4711""#)], "2001:db8:0:1::/64"),
            ("10.0.0.1", &[(FORWARDED, "for=_hidden")], "10.0.0.1"),
            (
                "10.0.0.1",
                &[(LIST, "198.51.100.1"), (FORWARDED, "for=198.51.100.1")],
                "198.51.100.1",
            ),
            ("10.0.0.1", &[(LIST, "203.0.113.5"), (FORWARDED, "for=198.51.100.1")], "10.0.0.1"),
        ] {
            assert_eq!(of(peer, given), expected, "{peer} {given:?}");
        }
    }
}
