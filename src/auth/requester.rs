//! Whose turn it is at the connections: fairness between those for whom Postgres is asked.
//!
//! Deliberately not here: who may read what. That is decided for a principal, whoever's turn it is.

use crate::model::{CallerIdentity, Principal};

/// One of those who take turns at a role's connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Requester {
    /// Everybody who has the role and no subject: what is asked is the same for them, and none of them wrote any of it.
    Role,
    /// One caller, whichever of its tokens is used.
    Caller(CallerIdentity),
}

impl Requester {
    /// Who asks what no client wrote, on behalf of a principal.
    pub fn of(principal: &Principal) -> Self {
        match principal.subject() {
            subject if subject.is_empty() => Self::Role,
            subject => Self::Caller(CallerIdentity::Subject(subject.into())),
        }
    }
}
