//! What an error of Postgres means for a question: an answer to give, or a reason to ask again.
//!
//! Promises: an error never turns into a verdict, and what is told of it carries no values. Text that Postgres or a
//! function composed from values stays in Postgres' own log.

use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use super::visibility::Trouble;
use crate::postgres::without_values;

/// What to do about an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Setback {
    /// This is the answer.
    Final(Trouble),
    /// The connection is of no more use; ask again on another.
    Broken,
    /// The question met something passing; ask again. If it stays, this is the answer.
    Passing(Trouble),
    /// What the connection remembers of the catalog may not be so any more; ask again on another. If it stays, this is the
    /// answer.
    Stale(Trouble),
}

impl Setback {
    /// Judges an error that came `elapsed` after a question with `limit` to run was sent.
    pub(super) fn of(error: &tokio_postgres::Error, elapsed: Duration, limit: Duration) -> Self {
        error.as_db_error().map_or(Self::Broken, |error| Self::of_refusal(error, elapsed, limit))
    }

    fn of_refusal(error: &DbError, elapsed: Duration, limit: Duration) -> Self {
        let code = error.code();
        if *code == SqlState::QUERY_CANCELED {
            // An administrator's cancel has the same code as our own limit.
            return if elapsed < limit * 9 / 10 {
                Self::Passing(Trouble::Unavailable)
            } else {
                Self::Final(Trouble::TimedOut)
            };
        }
        if *code == SqlState::LOCK_NOT_AVAILABLE {
            return Self::Passing(Trouble::TimedOut);
        }
        if *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT {
            return Self::Broken;
        }
        match code.code().get(..2).unwrap_or_default() {
            // Connection lost, resources, shutdown; and a statement that the server forgot.
            "08" | "53" | "57" | "58" | "26" => Self::Broken,
            // Serialization failures and deadlocks; a catalog that changes under the question.
            "40" => Self::Passing(Trouble::Unavailable),
            // A table that was dropped, and made again under its name, is not found by what was prepared before.
            "XX" => Self::Stale(failed(error)),
            _ => Self::Final(failed(error)),
        }
    }
}

/// The trouble that `error` is, told without values.
fn failed(error: &DbError) -> Trouble {
    Trouble::Failed { code: error.code().code().to_owned(), message: message_of(error) }
}

/// What Postgres said, without values.
pub(super) fn message_of(error: &DbError) -> String {
    match error.code().code().get(..2).unwrap_or_default() {
        // Names of objects and privileges, limits, missing features: Postgres composes these without values.
        "25" | "42" | "0A" | "54" => error.message().to_owned(),
        "22" => without_values(error),
        "P0" => "a function raised an exception".to_owned(),
        _ => "the check raised an error".to_owned(),
    }
}
