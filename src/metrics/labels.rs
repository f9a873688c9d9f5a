//! The reasons that counters are labelled with, and counters that have all of them from the start.
//!
//! An alert on an increase sees nothing of a series that appears with its first event: so every known reason is there at
//! zero. A build with debug assertions refuses to count under a word that is not listed here, which is how tests find it.

use std::ops::Deref;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::{Reason, reason};

/// Why rows or messages are withheld.
pub(super) const WITHHELD: &[&str] = &[
    "check_failed",
    "check_timed_out",
    "check_unavailable",
    "generated_column",
    "message_incomplete",
    "message_too_large",
    "row_incomplete",
    "table_gone",
];

/// Why changes may be missing.
pub(super) const GAPS: &[&str] = &[
    "catch_up_behind",
    "database_recreated",
    "fan_out_behind",
    "history_lost",
    "retention",
    "row_checks_behind",
    "server_changed",
    "slot_dropped",
    "slot_given_up",
    "slot_lost",
    "slot_moved",
    "snapshot_behind",
    "snapshot_early",
    "snapshot_failed",
    "snapshot_incomplete",
    "snapshot_timed_out",
    "snapshot_too_large",
    "snapshot_unavailable",
    "timeline_changed",
    "too_many_catching_up",
    "transaction_too_large",
    "unknown_position",
    "unpublished",
    "wal_rewound",
];

/// Why the relay closes sockets.
pub(super) const CLOSED: &[&str] =
    &["broken", "drain", "flood", "idle", "joins", "slow", "unfinished"];

/// What connections, joins, tokens and messages are refused with.
pub(super) const REFUSED: &[&str] = &[
    "AddressChatStrangersLimitReached",
    "AddressConnectionLimitReached",
    "ApiForbidden",
    "ApiKeyMissing",
    "BadVsn",
    "BodyMemoryReached",
    "ChannelRateLimitReached",
    "ChatRateLimitReached",
    "ChatStrangersLimitReached",
    "ClientJoinRateLimitReached",
    "ClientPresenceRateLimitReached",
    "ConnectionJoinRateLimitReached",
    "ConnectionRateLimitReached",
    "DataBeforeHandshake",
    "DatabaseLackOfConnections",
    "FrameRateLimitReached",
    "IncreaseConnectionPool",
    "InitializingProjectConnection",
    "InvalidJWTToken",
    "InvalidJoinPayload",
    "JwtSignatureError",
    "JwtSignerError",
    "MalformedBroadcast",
    "MalformedJWT",
    "MalformedMessage",
    "MessageMemoryReached",
    "MessageRateLimitReached",
    "MissingPartition",
    "NotJoined",
    "PatternMemoryReached",
    "PayloadSizeExceeded",
    "PresenceMemoryReached",
    "PresenceRateLimitReached",
    "PrivateOnly",
    "QueryCanceled",
    "RealtimeRestarting",
    "ResumeIdTooLong",
    "SocketMemoryReached",
    "Standby",
    "SubjectBodyMemoryReached",
    "SubjectConnectionRateLimitReached",
    "SubjectFrameRateLimitReached",
    "SubjectHttpMessageRateLimitReached",
    "SubjectJoinRateLimitReached",
    "SubjectMessageMemoryReached",
    "SubjectMessageRateLimitReached",
    "SubjectPatternMemoryReached",
    "SubjectPresenceMemoryReached",
    "SubjectPresenceRateLimitReached",
    "SubjectSocketMemoryReached",
    "SubjectSubscriptionMemoryReached",
    "SubjectUnsaidMemoryReached",
    "SubscriptionMemoryReached",
    "TopicNameRequired",
    "TopicNameTooLong",
    "TrackMessageSizeExceeded",
    "UnableToConnectToProject",
    "UnableToReplayMessages",
    "Unauthorized",
    "UnsaidMemoryReached",
];

/// What becomes of requests of the chat API.
pub(super) const CHAT_REQUESTS: &[&str] = &["done", "failed", "refused"];

/// What becomes of a configuration that is read again.
pub(super) const CONFIG_RELOADS: &[&str] = &["done", "refused"];

/// A counter for each of some reasons. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Counters {
    family: Family<Reason, Counter>,
    known: &'static [&'static str],
}

impl Counters {
    /// All of them at zero.
    pub(super) fn new(known: &'static [&'static str]) -> Self {
        let family = Family::default();
        for word in known {
            drop(family.get_or_create(&reason(word)));
        }
        Self { family, known }
    }

    /// The counter of a reason.
    pub fn get_or_create(&self, why: &Reason) -> impl Deref<Target = Counter> + '_ {
        let Reason { reason } = why;
        debug_assert!(self.known.contains(reason), "{reason} is missing in src/metrics/labels.rs");
        self.family.get_or_create(why)
    }
}

impl EncodeMetric for Counters {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.family.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.family.metric_type()
    }
}
