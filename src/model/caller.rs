//! Who is asked to share: the identity by which fairness and limits tell one caller from another.
//!
//! Promises: one caller cannot make itself many by asking for new tokens, opening more sockets or counting through the
//! addresses of its own IPv6 network; strangers whose tokens name nobody (the public key, `service_role`) are told apart
//! by where they come from, so that one of them cannot use up what all of them have.
//!
//! Deliberately not here: what is shared, and what authorises. Rows are judged for a [`Principal`], never for a caller.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::Principal;

/// Where somebody comes from: one IPv4 address, or the 64 bits of an IPv6 network, within which anybody has as many
/// addresses as they like. An IPv4 address written as IPv6 (`::ffff:192.0.2.1`) is that IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(IpAddr);

/// Bits of an IPv6 address that tell one network from another.
const IPV6_NETWORK: u128 = !((1 << 64) - 1);

impl Network {
    /// What an address counts as when nobody said where something comes from: all such callers are one.
    pub const UNKNOWN: Self = Self(IpAddr::V6(Ipv6Addr::UNSPECIFIED));

    /// The network of an address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK))
            }
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

/// One caller, wherever limits and turns are shared out: the subject of its token, or, where the token names none, its
/// role and the network it comes from.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum CallerIdentity {
    /// The claim `sub`, whatever the address, the role and the rest of the claims.
    Subject(Box<str>),
    /// A token without `sub`. The role counts, so that the public key uses nothing of a server's that stands behind the
    /// same address.
    Nameless {
        /// The role of the token, one of `auth.roles`.
        role: Box<str>,
        /// Where it comes from.
        network: Network,
    },
    /// Nobody has shown a token yet.
    Stranger(Network),
}

impl CallerIdentity {
    /// Who a principal is that comes from a network.
    pub fn of(principal: &Principal, network: Network) -> Self {
        match principal.subject() {
            subject if subject.is_empty() => {
                Self::Nameless { role: principal.role().into(), network }
            }
            subject => Self::Subject(subject.into()),
        }
    }
}

/// Subjects are not printed.
impl fmt::Debug for CallerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subject(_) => "Subject",
            Self::Nameless { .. } => "Nameless",
            Self::Stranger(_) => "Stranger",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    #[test]
    fn an_ipv6_network_is_one_caller_and_an_ipv4_address_is_one() {
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
        assert_eq!(network("192.0.2.1").to_string(), "192.0.2.1");
    }

    #[test]
    fn a_subject_is_one_caller_wherever_it_is_and_whatever_its_tokens_say_besides() {
        let (here, there) = (network("192.0.2.1"), network("192.0.2.2"));
        let ann =
            |further: &str| Principal::new("authenticated", format!(r#"{{"sub":"ann"{further}}}"#));
        let one = CallerIdentity::of(&ann(""), here);
        assert_eq!(one, CallerIdentity::of(&ann(r#","iat":7"#), there));
        let nameless = |role: &str, network| CallerIdentity::of(&Principal::of_role(role), network);
        assert_eq!(nameless("anon", here), nameless("anon", here));
        assert_ne!(nameless("anon", here), nameless("anon", there));
        assert_ne!(nameless("anon", here), nameless("service_role", here));
        assert!(!format!("{one:?}").contains("ann"));
    }
}
