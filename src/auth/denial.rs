//! Why a private topic stays closed, and what its client is told. Details stay in the log.

use tokio_postgres::Error;

use super::trouble::message_of;
use crate::log_rate::admit;
use crate::postgres::sqlstate;

/// Why it is not known that somebody may read or send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// A policy raised an error, the role cannot be taken, or the database was not prepared.
    Failed,
    /// Too many ask at once.
    Busy,
    /// It took too long.
    Cancelled,
    /// The table has no partition for today.
    NoPartition,
    /// Postgres is there and could not answer.
    Unavailable,
    /// Postgres could not be reached.
    Unreachable,
    /// Postgres takes no more connections.
    Full,
    /// Postgres is starting and takes none yet.
    Starting,
}

impl Denial {
    /// Judges what Postgres said to the policies of a role.
    pub(super) fn of(error: &Error, role: &str) -> Self {
        let Some(said) = error.as_db_error() else { return Self::Unreachable };
        let code = said.code().code();
        let denial = match (code, code.get(..2).unwrap_or_default()) {
            ("57014", _) => Self::Cancelled,
            ("23514", _) if said.message().starts_with("no partition of relation") => {
                Self::NoPartition
            }
            ("25006", _) | (_, "08" | "53" | "57" | "58" | "XX") => Self::Unavailable,
            ("42883" | "3F000" | "42P01", _) => {
                if let Some(left_out) = admit(&["denied", role, code]) {
                    tracing::warn!(
                        role,
                        sqlstate = code,
                        error = message_of(said),
                        left_out,
                        "private topics stay closed: an object is missing; if it is realtime.probe, run `relay migrate`"
                    );
                }
                return Self::Failed;
            }
            _ => Self::Failed,
        };
        if let Some(left_out) = admit(&["denied", role, code]) {
            tracing::warn!(
                role,
                sqlstate = code,
                error = message_of(said),
                ?denial,
                left_out,
                "private topics stay closed: the policies on realtime.messages could not be tried"
            );
        }
        denial
    }

    /// Judges why no connection could be opened.
    pub(super) fn of_connecting(error: &crate::error::Error) -> Self {
        match sqlstate(error) {
            Some("53300") => Self::Full,
            Some("57P03") => Self::Starting,
            _ => Self::Unreachable,
        }
    }

    /// What a join is refused with.
    pub fn of_join(self, topic: &str) -> String {
        match self {
            Self::Failed => format!("Unauthorized: {}", unreadable(topic)),
            Self::Busy => {
                "IncreaseConnectionPool: Please increase your connection pool size".to_owned()
            }
            Self::Cancelled => {
                "QueryCanceled: canceling statement due to statement timeout".to_owned()
            }
            Self::NoPartition => {
                "MissingPartition: Realtime was unable to find the expected messages partition"
                    .to_owned()
            }
            Self::Unavailable => UNAVAILABLE.to_owned(),
            Self::Unreachable => format!("UnableToConnectToProject: {UNAVAILABLE}"),
            Self::Full => format!("DatabaseLackOfConnections: {FULL}"),
            Self::Starting => format!("InitializingProjectConnection: {STARTING}"),
        }
    }

    /// What a channel is closed with when its token was refreshed.
    pub fn of_refresh(self, topic: &str) -> String {
        match self {
            Self::Failed => unreadable(topic),
            Self::Cancelled => "Query was cancelled, please try again".to_owned(),
            Self::Busy => "Please increase your connection pool size".to_owned(),
            Self::NoPartition => {
                "Realtime was unable to find the expected messages partition".to_owned()
            }
            Self::Unavailable | Self::Unreachable => UNAVAILABLE.to_owned(),
            Self::Full => FULL.to_owned(),
            Self::Starting => STARTING.to_owned(),
        }
    }
}

const UNAVAILABLE: &str = "Realtime was unable to connect to the project database";

const FULL: &str = "Database can't accept more connections, Realtime won't connect";

const STARTING: &str = "Connecting to the project database";

/// Nothing of the topic may be read.
pub fn unreadable(topic: &str) -> String {
    format!("You do not have permissions to read from this Channel topic: {topic}")
}

/// Something of the topic may not be read any more.
pub fn no_longer_readable(topic: &str) -> String {
    format!("You no longer have permission to read from this Channel topic: {topic}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_denial_has_the_text_clients_know_at_a_join_and_at_a_new_token() {
        let unable = "Realtime was unable to connect to the project database";
        for (denial, code, text, of_refresh) in [
            (
                Denial::Failed,
                "Unauthorized: ",
                "You do not have permissions to read from this Channel topic: a:b",
                None,
            ),
            (
                Denial::Busy,
                "IncreaseConnectionPool: ",
                "Please increase your connection pool size",
                None,
            ),
            (
                Denial::Cancelled,
                "QueryCanceled: ",
                "canceling statement due to statement timeout",
                Some("Query was cancelled, please try again"),
            ),
            (
                Denial::NoPartition,
                "MissingPartition: ",
                "Realtime was unable to find the expected messages partition",
                None,
            ),
            (Denial::Unavailable, "", unable, None),
            (Denial::Unreachable, "UnableToConnectToProject: ", unable, None),
            (
                Denial::Full,
                "DatabaseLackOfConnections: ",
                "Database can't accept more connections, Realtime won't connect",
                None,
            ),
            (
                Denial::Starting,
                "InitializingProjectConnection: ",
                "Connecting to the project database",
                None,
            ),
        ] {
            assert_eq!(denial.of_join("a:b"), format!("{code}{text}"));
            assert_eq!(denial.of_refresh("a:b"), of_refresh.unwrap_or(text));
        }
    }
}
