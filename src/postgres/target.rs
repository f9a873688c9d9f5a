//! Where and how to connect: what a connection string means.
//!
//! The words are libpq's. What is not given is not looked up: no environment variables, no password file, no
//! operating-system user. No host means `localhost`, no port 5432, no database the user's name, no sslmode `prefer`,
//! no connect_timeout 10 s. A key it does not know is refused by name, because an ignored `sslmod` is a hole.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::words;
use crate::error::{Error, ErrorKind};
use crate::secret::Secret;

/// Where and how to connect: a parsed connection string (`postgres://…` or `key=value …`), several hosts, every
/// sslmode.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) hosts: Box<[Host]>,
    pub(super) user: Box<str>,
    pub(super) password: Password,
    pub(super) database: Box<str>,
    pub(super) tls: Tls,
    pub(super) channel_binding: ChannelBinding,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) application: Option<Box<str>>,
    pub(super) options: Option<Box<str>>,
    pub(super) wanted: Wanted,
}

/// The password, which every clone of a target shares, so that all of them learn of another one.
#[derive(Clone, Debug)]
pub(super) struct Password(Arc<ArcSwapOption<Secret<String>>>);

impl Password {
    pub(super) fn get(&self) -> Option<Arc<Secret<String>>> {
        self.0.load_full()
    }
}

/// One server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// A name or address, and a port.
    Tcp(Box<str>, u16),
    /// A directory with a socket in it, and the port in the socket's name.
    Unix(PathBuf, u16),
}

/// What TLS is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tls {
    pub(super) mode: SslMode,
    pub(super) roots: Roots,
    /// Certificate and key to show the server.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// libpq's `sslmode`; `allow` is taken as `prefer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Which authorities to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Roots {
    System,
    File(PathBuf),
}

/// Whether the password exchange must be bound to the TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// libpq's `target_session_attrs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Any,
    ReadWrite,
    Primary,
}

const KEYS: [&str; 15] = [
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "channel_binding",
    "connect_timeout",
    "application_name",
    "options",
    "target_session_attrs",
    "client_encoding",
];

impl Target {
    /// Parses a connection string. Keys it does not know are named in the error; the password never is.
    ///
    /// # Errors
    /// The kind is `Misconfigured`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        words::split(text).and_then(|pairs| Self::from_pairs(&pairs)).map_err(|problem| {
            let problem = if words::looks_unescaped(text) {
                "the user or the password contains a / or ? (write them as %2F and %3F)".to_owned()
            } else {
                problem
            };
            Error::new(ErrorKind::Misconfigured, format!("connection string: {problem}"))
        })
    }

    /// The database it connects to.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The role it connects as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether another target differs in its password at most.
    pub fn is_like(&self, other: &Self) -> bool {
        let Self { hosts, user, password: _, database, tls, .. } = self;
        let Self { channel_binding, connect_timeout, application, options, wanted, .. } = self;
        *hosts == other.hosts
            && *user == other.user
            && *database == other.database
            && *tls == other.tls
            && *channel_binding == other.channel_binding
            && *connect_timeout == other.connect_timeout
            && *application == other.application
            && *options == other.options
            && *wanted == other.wanted
    }

    /// Takes the password of another target, for every clone of this one and the connections they open from now on;
    /// false when it is the same.
    pub fn renew_password(&self, other: &Self) -> bool {
        let (before, now) = (self.password.get(), other.password.get());
        let is_new = before != now;
        if is_new {
            self.password.0.store(now);
        }
        is_new
    }

    /// The same, but only `host`: so that two connections meet the same server.
    #[must_use]
    pub(super) fn only(&self, host: &Host) -> Self {
        Self { hosts: Box::new([host.clone()]), ..self.clone() }
    }

    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, String> {
        for (key, _) in pairs {
            if !KEYS.contains(&key.as_str()) {
                let plain = key.len() <= 40
                    && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                let named = if plain { format!("key {key:?}") } else { "a key".to_owned() };
                return Err(format!("{named} is not known; known are {}", KEYS.join(", ")));
            }
        }
        let value = |key: &str| {
            let found = pairs.iter().rev().find(|(name, _)| name == key);
            found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        let user = value("user").ok_or("no user is named (postgres://user@host/database)")?;
        let encoding = value("client_encoding").unwrap_or("UTF8");
        if !["UTF8", "UTF-8", "AUTO"].contains(&encoding.to_ascii_uppercase().as_str()) {
            return Err("client_encoding can only be UTF8".into());
        }
        let timeout = match value("connect_timeout") {
            None => 10,
            Some(text) => text
                .parse::<u32>()
                .map_err(|_| "connect_timeout is not a number of seconds".to_owned())?,
        };
        let channel_binding = choose(
            "channel_binding",
            value("channel_binding").unwrap_or("prefer"),
            &[
                ("disable", ChannelBinding::Disable),
                ("prefer", ChannelBinding::Prefer),
                ("require", ChannelBinding::Require),
            ],
        )?;
        let wanted = choose(
            "target_session_attrs",
            value("target_session_attrs").unwrap_or("any"),
            &[
                ("any", Wanted::Any),
                ("read-write", Wanted::ReadWrite),
                ("primary", Wanted::Primary),
            ],
        )?;
        Ok(Self {
            hosts: hosts(value("host").unwrap_or("localhost"), value("port").unwrap_or("5432"))?,
            user: user.into(),
            password: Password(Arc::new(ArcSwapOption::from_pointee(
                value("password").map(|password| Secret::new(password.to_owned())),
            ))),
            database: value("dbname").unwrap_or(user).into(),
            tls: tls(value)?,
            channel_binding,
            connect_timeout: (timeout > 0).then(|| Duration::from_secs(timeout.into())),
            application: value("application_name").map(Into::into),
            options: value("options").map(Into::into),
            wanted,
        })
    }
}

fn hosts(names: &str, ports: &str) -> Result<Box<[Host]>, String> {
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    let ports = ports
        .split(',')
        .map(|port| match port.trim() {
            "" => Some(5432),
            port => port.parse::<u16>().ok().filter(|port| *port > 0),
        })
        .collect::<Option<Vec<u16>>>()
        .ok_or("a port is not a number from 1 to 65535")?;
    if ports.len() != 1 && ports.len() != names.len() {
        return Err(format!("{} hosts but {} ports", names.len(), ports.len()));
    }
    let ports = ports.iter().copied().cycle();
    let host = |(name, port): (&str, u16)| match name {
        "" => Host::Tcp("localhost".into(), port),
        path if path.starts_with('/') => Host::Unix(path.into(), port),
        name => Host::Tcp(name.into(), port),
    };
    Ok(names.into_iter().zip(ports).map(host).collect())
}

fn tls<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Result<Tls, String> {
    let roots = value("sslrootcert");
    let written = value("sslmode").unwrap_or(match roots {
        Some("system") => "verify-full",
        _ => "prefer",
    });
    let mut mode = choose(
        "sslmode",
        written,
        &[
            ("disable", SslMode::Disable),
            ("allow", SslMode::Prefer),
            ("prefer", SslMode::Prefer),
            ("require", SslMode::Require),
            ("verify-ca", SslMode::VerifyCa),
            ("verify-full", SslMode::VerifyFull),
        ],
    )?;
    if roots == Some("system") && mode != SslMode::VerifyFull {
        return Err(
            "sslrootcert=system wants sslmode=verify-full, because anyone can have a certificate \
                    signed by one of the system's authorities"
                .into(),
        );
    }
    // As libpq: who names an authority wants it asked.
    if roots.is_some() && mode == SslMode::Require {
        mode = SslMode::VerifyCa;
    }
    let identity = match (value("sslcert"), value("sslkey")) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        _ => return Err("sslcert and sslkey go together".into()),
    };
    let roots = match roots {
        None | Some("system") => Roots::System,
        Some(file) => Roots::File(file.into()),
    };
    Ok(Tls { mode, roots, identity })
}

fn choose<T: Copy>(key: &str, value: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(word, _)| *word == value);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        format!("{key} is none of {}", words.join(", "))
    })
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(name, port) if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Tcp(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(directory, port) => write!(f, "{}/.s.PGSQL.{port}", directory.display()),
        }
    }
}

/// `user@host:port,host:port/database`, without the password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.user)?;
        for (place, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if place > 0 { "," } else { "" })?;
        }
        write!(f, "/{}", self.database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        let error = Target::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        error.to_string()
    }

    #[test]
    fn what_is_not_given_has_a_stated_default() {
        let target = Target::parse("user=u").unwrap();
        assert_eq!(target.to_string(), "u@localhost:5432/u");
        assert_eq!(target.tls.mode, SslMode::Prefer);
        assert_eq!(target.connect_timeout, Some(Duration::from_secs(10)));
        assert!(target.password.get().is_none());
    }

    #[test]
    fn several_hosts_share_a_port_or_bring_their_own() {
        let shared = Target::parse("user=u host=a,/tmp,::1 port=6000").unwrap();
        assert_eq!(shared.to_string(), "u@a:6000,/tmp/.s.PGSQL.6000,[::1]:6000/u");
        let own = Target::parse("postgres://u@a:1,b:2,c/d?target_session_attrs=primary").unwrap();
        assert_eq!(own.to_string(), "u@a:1,b:2,c:5432/d");
        assert_eq!(own.wanted, Wanted::Primary);
        assert!(complaint("user=u host=a,b,c port=1,2").contains("3 hosts but 2 ports"));
        assert!(complaint("user=u port=x").contains("port"));
    }

    #[test]
    fn naming_an_authority_means_asking_it() {
        let mode = |text: &str| Target::parse(text).unwrap().tls.mode;
        assert_eq!(mode("user=u sslmode=require"), SslMode::Require);
        assert_eq!(mode("user=u sslmode=allow"), SslMode::Prefer);
        assert_eq!(mode("user=u sslmode=require sslrootcert=/ca.pem"), SslMode::VerifyCa);
        assert_eq!(mode("user=u sslrootcert=system"), SslMode::VerifyFull);
        assert!(complaint("user=u sslmode=require sslrootcert=system").contains("verify-full"));
    }

    #[test]
    fn complaints_name_the_key_and_the_choices() {
        assert!(complaint("user=u pgbouncer=true").contains("key \"pgbouncer\" is not known"));
        assert!(complaint("user=u sslmode=on").contains("sslmode is none of disable, allow"));
        assert!(complaint("host=h").contains("no user"));
        assert!(complaint("user=u sslcert=/c").contains("go together"));
        assert!(complaint("user=u connect_timeout=x").contains("connect_timeout"));
        assert!(complaint("user=u client_encoding=LATIN1").contains("UTF8"));
    }

    #[test]
    fn another_password_reaches_every_clone_and_anything_else_is_another_target() {
        let target = Target::parse("postgres://u:one@h/d").unwrap();
        let clones = [target.clone(), target.only(&target.hosts[0])];
        let same = Target::parse("postgres://u:one@h/d?sslmode=prefer").unwrap();
        assert!(target.is_like(&same) && !target.renew_password(&same));
        let renewed = Target::parse("postgres://u:two@h/d").unwrap();
        assert!(target.is_like(&renewed) && target.renew_password(&renewed));
        for clone in clones {
            assert_eq!(clone.password.get().unwrap().reveal(), "two");
        }
        for other in [
            "postgres://u:two@h2/d",
            "postgres://v:two@h/d",
            "postgres://u:two@h/d?sslmode=require",
        ] {
            assert!(!target.is_like(&Target::parse(other).unwrap()), "{other}");
        }
    }

    #[test]
    fn a_password_is_printed_nowhere() {
        for text in ["postgres://u:hunter2@h/d", "user=u password=hunter2"] {
            let target = Target::parse(text).unwrap();
            assert!(!format!("{target} {target:?}").contains("hunter2"));
        }
        for text in
            ["postgres://u:hun/ter2@h/d", "postgres://u:hun?ter2@h/d", "postgres://u:/ter2@h"]
        {
            let complaint = complaint(text);
            assert!(!complaint.contains("hun") && !complaint.contains("ter2"), "{complaint}");
            assert!(complaint.contains("%2F"), "{complaint}");
        }
    }
}
