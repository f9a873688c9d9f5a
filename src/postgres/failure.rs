//! Why Postgres did not do what it was asked: the connection broke, or it said no.

use std::fmt;
use std::io;

use postgres_protocol::message::backend::ErrorResponseBody;

use crate::error::{Error, ErrorKind};
use tokio_postgres::fallible_iterator::FallibleIterator;

/// What went wrong on a connection of our own.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection broke.
    Broken(io::Error),
    /// The server said no.
    Refused(Refused),
    /// The server said something that does not belong here.
    OutOfPlace(&'static str),
}

/// An ErrorResponse, without its detail, which may quote values.
#[derive(Debug)]
pub(crate) struct Refused {
    /// SQLSTATE.
    pub(crate) code: Box<str>,
    /// The primary message.
    pub(crate) message: Box<str>,
}

impl Refused {
    pub(crate) fn from_body(body: &ErrorResponseBody) -> Self {
        let (mut code, mut message) = (Box::default(), Box::default());
        let mut fields = body.fields();
        while let Ok(Some(field)) = fields.next() {
            let value = || String::from_utf8_lossy(field.value_bytes()).into();
            match field.type_() {
                b'C' => code = value(),
                b'M' => message = value(),
                _ => {}
            }
        }
        Self { code, message }
    }
}

impl Failure {
    /// Widens it, saying what could not be done.
    pub(crate) fn because_of(self, what: impl Into<Box<str>>) -> Error {
        match self {
            Self::Broken(error) => {
                let kind = match error.kind() {
                    io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                        ErrorKind::Malformed
                    }
                    _ => ErrorKind::SourceUnreachable,
                };
                let hung_up = error.kind() == io::ErrorKind::UnexpectedEof;
                let error = Error::new(kind, what).because(error);
                if hung_up {
                    Error::new(kind, "Postgres closed the connection").because(error)
                } else {
                    error
                }
            }
            Self::Refused(refused) => {
                let kind = kind(&refused.code);
                Error::new(kind, what).because(Answered::new(&refused.code, &refused.message))
            }
            Self::OutOfPlace(what_came) => Error::new(ErrorKind::Malformed, what)
                .because(format!("unexpected answer: {what_came}")),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

/// A refusal as the cause of an [`Error`], with what mends it.
#[derive(Debug)]
pub(crate) struct Answered {
    code: Box<str>,
    text: String,
}

impl Answered {
    /// `message (code); advice`.
    pub(crate) fn new(code: &str, message: &str) -> Self {
        let advice = advice(code, message).map_or(String::new(), |advice| format!("; {advice}"));
        Self { code: code.into(), text: format!("{message} ({code}){advice}") }
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Answered {}

/// The SQLSTATE that Postgres answered with, when a connection or a statement was refused.
pub(crate) fn sqlstate(error: &Error) -> Option<&str> {
    let cause = std::error::Error::source(error)?;
    cause.downcast_ref::<Answered>().map(|answered| &*answered.code)
}

/// Where to look for the cause of a SQLSTATE: what heals by itself, and what a person must mend.
pub(crate) fn kind(code: &str) -> ErrorKind {
    match code {
        "55006" => ErrorKind::SlotInUse,
        // Query cancelled.
        "57014" => ErrorKind::SourceUnreachable,
        _ => match code.get(..2) {
            // Connection trouble, resources (connections, memory, disk), operator intervention (shutdown, starting
            // up), system and internal errors, serialization failures.
            Some("08" | "53" | "57" | "58" | "XX" | "40") => ErrorKind::SourceUnreachable,
            _ => ErrorKind::SourceRejected,
        },
    }
}

/// The statement or place that mends a refusal, where one exists.
pub(crate) fn advice(code: &str, message: &str) -> Option<&'static str> {
    match code {
        "28P01" => Some("check user and password in postgres.url"),
        "28000" if message.contains("pg_hba.conf") => Some(
            "allow the relay's host, user and database in pg_hba.conf, then `select pg_reload_conf()`",
        ),
        "28000" if message.contains("does not exist") => {
            Some("create the role with RELAY_ROLE.sql")
        }
        "28000" if message.contains("not permitted to log in") => {
            Some("`alter role … login`, or name another role in postgres.url")
        }
        "28000" if message.contains("certificate") => {
            Some("name the client's certificate and key with sslcert and sslkey in postgres.url")
        }
        "42501" if message.contains("for database") => {
            Some("`grant connect on database … to` the role in postgres.url")
        }
        "55000" if message.contains("not accepting connections") => Some(
            "`alter database … allow_connections true`, or name another database in postgres.url",
        ),
        "57014" if message.contains("statement timeout") => Some(
            "something cut the time short: see statement_timeout in the options of postgres.url, and a pooler in between",
        ),
        "42501" if message.contains("replication") || message.contains("WAL sender") => Some(
            "`alter role … replication` (on managed services: grant rds_replication or the like)",
        ),
        "3D000" => Some("check the database in postgres.url"),
        "53300" if message.contains("standby") || message.contains("max_wal_senders") => {
            Some("raise max_wal_senders and restart Postgres")
        }
        "53300" if message.contains("for role") => Some(
            "raise the role's own limit (`alter role … connection limit …`), or lower postgres.pool and chat.pool",
        ),
        "53300" if message.contains("for database") => Some(
            "raise the database's own limit (`alter database … connection limit …`), or lower postgres.pool and chat.pool",
        ),
        "53300" => Some("raise max_connections, or close idle connections"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same code says that the server, the database or the role has no connection left, and each is mended elsewhere.
    #[test]
    fn advice_names_what_refused() {
        for (code, message, words) in [
            ("53300", "sorry, too many clients already", "max_connections"),
            ("53300", "too many connections for role \"relay\"", "alter role"),
            ("53300", "too many connections for database \"app\"", "alter database"),
            ("28000", "role \"relay\" is not permitted to log in", "alter role … login"),
            ("42501", "permission denied for database \"app\"", "grant connect"),
            ("57014", "canceling statement due to statement timeout", "statement_timeout"),
        ] {
            assert!(advice(code, message).is_some_and(|told| told.contains(words)), "{message}");
        }
    }
}
