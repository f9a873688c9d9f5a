//! `[auth]`: whom tokens are believed from, checked as far as that is possible without looking at the network.

use super::check::Check;
use super::written;
use super::{Auth, JwksSource};
use crate::secret::Secret;

/// A secret shorter than the hash it keys weakens every token.
const SHORTEST_SECRET: usize = 32;

impl Check<'_> {
    /// `[auth]` alone, for the verbs that need nothing else.
    pub(super) fn auth(&mut self, written: &written::Auth) -> Auth {
        let jwt_secret = self.secret(
            ("auth.jwt_secret", written.jwt_secret.as_ref()),
            ("auth.jwt_secret_file", written.jwt_secret_file.as_deref()),
        );
        let api_secret = self.secret(
            ("auth.api_secret", written.api_secret.as_ref()),
            ("auth.api_secret_file", written.api_secret_file.as_deref()),
        );
        self.long_enough("auth.jwt_secret", jwt_secret.as_ref());
        self.long_enough("auth.api_secret", api_secret.as_ref());
        let jwks = written.jwks.as_ref().and_then(|text| self.jwks(text.reveal()));
        let is_keyless = written.jwt_secret.is_none()
            && written.jwt_secret_file.is_none()
            && written.jwks.is_none();
        if is_keyless {
            let fix = "no token could be verified; set auth.jwt_secret, auth.jwt_secret_file or \
                       auth.jwks";
            self.say("auth.jwt_secret", fix);
        }
        self.roles(&written.roles);
        Auth {
            jwt_secret,
            jwks,
            api_secret,
            roles: written.roles.clone(),
            issuer: self.not_empty("auth.issuer", written.issuer.as_ref()),
            audience: self.not_empty("auth.audience", written.audience.as_ref()),
        }
    }

    fn long_enough(&mut self, key: &'static str, secret: Option<&Secret<String>>) {
        let Some(bytes) = secret.map(|secret| secret.reveal().len()) else { return };
        if bytes < SHORTEST_SECRET {
            let reason = format!(
                "{bytes} bytes can be guessed; use at least {SHORTEST_SECRET}, \
                 e.g. from `openssl rand -base64 48`"
            );
            self.say(key, reason);
        }
    }

    /// A JSON text, an address or a path.
    fn jwks(&mut self, text: &str) -> Option<JwksSource> {
        let text = text.trim();
        if text.starts_with('{') {
            return Some(JwksSource::Inline(text.to_owned()));
        }
        if text.starts_with('[') {
            self.say("auth.jwks", "a bare list of keys; write {\"keys\": […]}");
            return None;
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Some(JwksSource::File((self.base)("auth.jwks").join(text)));
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let reason = match scheme {
            _ if authority.contains('@') => "the address holds a user name or password; remove it",
            "https" if authority.is_empty() => "the address has no host",
            "https" => return Some(JwksSource::Url(text.to_owned())),
            "http" if is_loopback(authority) => return Some(JwksSource::Url(text.to_owned())),
            "http" => {
                "anybody between here and there could replace the keys; use https:// \
                 (http:// is for 127.0.0.1, [::1] and localhost)"
            }
            _ => "write a path, an https:// address, or the key set itself as JSON",
        };
        self.say("auth.jwks", reason);
        None
    }

    fn roles(&mut self, roles: &[String]) {
        if roles.is_empty() {
            let fix = "no token could be accepted; name the Postgres roles that tokens may carry, \
                       e.g. [\"anon\", \"authenticated\"]";
            self.say("auth.roles", fix);
        }
        for role in roles {
            self.name("auth.roles", role);
            // `set role 'none'` is back to the relay's own role, whatever its quotes.
            if ["none", "public"].contains(&role.as_str()) {
                self.say("auth.roles", format!("{role:?} is a word of SQL, not a role; remove it"));
            }
        }
    }

    fn not_empty(&mut self, key: &'static str, text: Option<&String>) -> Option<String> {
        if text.is_some_and(String::is_empty) {
            self.say(key, "no token could carry an empty one; remove it");
        }
        text.cloned()
    }
}

/// Whether `host:port` never leaves the machine.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
