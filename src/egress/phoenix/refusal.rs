//! Why a join is refused: what its client is told, and the word for the metrics.

use std::borrow::Cow;

use crate::memory::Full;

/// Why a join is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The word for the metrics.
    pub(super) code: &'static str,
    /// `Code: text` for the client.
    pub(super) reason: Cow<'static, str>,
}

/// What a client is told that joins too often.
pub(super) const TOO_MANY_JOINS: &str = "Too many joins per second";

impl Refusal {
    /// Too many joins of a socket or a subject; the word for the metrics tells which.
    pub(super) const fn too_many_joins(code: &'static str) -> Self {
        let reason = Cow::Borrowed("ClientJoinRateLimitReached: Too many joins per second");
        Self { code, reason }
    }

    /// There is no memory for it; the word for the metrics tells whose limit it was.
    pub(super) const fn no_memory(full: Full) -> Self {
        let reason = if full.is_of_caller {
            "MemoryLimitReached: Too much is subscribed to; leave other channels first"
        } else {
            "MemoryLimitReached: Too much is subscribed to by all; try again later"
        };
        Self { code: full.code, reason: Cow::Borrowed(reason) }
    }

    /// Too many sockets of a subject.
    pub(super) const fn too_many_sockets(code: &'static str) -> Self {
        let reason = Cow::Borrowed("ConnectionRateLimitReached: Too many connected users");
        Self { code, reason }
    }
}

impl From<&'static str> for Refusal {
    fn from(reason: &'static str) -> Self {
        Self { code: code_of(reason), reason: Cow::Borrowed(reason) }
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { code: code_of(&reason), reason: Cow::Owned(reason) }
    }
}

/// The fixed part of a refusal's text.
fn code_of(reason: &str) -> &'static str {
    const CODES: [&str; 18] = [
        "TopicNameRequired",
        "TopicNameTooLong",
        "RealtimeRestarting",
        "PrivateOnly",
        "ChannelRateLimitReached",
        "ClientJoinRateLimitReached",
        "InvalidJoinPayload",
        "UnableToReplayMessages",
        "Unauthorized",
        "IncreaseConnectionPool",
        "DatabaseLackOfConnections",
        "InitializingProjectConnection",
        "QueryCanceled",
        "MissingPartition",
        "InvalidJWTToken",
        "MalformedJWT",
        "JwtSignatureError",
        "JwtSignerError",
    ];
    let code = reason.split(':').next().unwrap_or_default();
    CODES.into_iter().find(|known| *known == code).unwrap_or("UnableToConnectToProject")
}
