//! Every metric, its name and its labels, once.
//!
//! Values are plain atomics that the code can read back; `/metrics` prints the registry. A drop or a withholding
//! always has a `reason`.

mod labels;
pub mod process;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use labels::Counters;

/// Why something was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// A short fixed word.
    pub reason: &'static str,
}

/// What is held.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// A short fixed word.
    pub kind: &'static str,
}

/// All metrics. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Open sockets.
    pub connections: Gauge,
    /// Joined channels.
    pub channels: Gauge,
    /// Topics with somebody in them.
    pub topics: Gauge,
    /// Tracked members, those awaited for their grace time included.
    pub presences: Gauge,
    /// Distinct bindings in the router.
    pub bindings: Gauge,
    /// Transactions read from Postgres.
    pub transactions: Counter,
    /// Row changes read from Postgres.
    pub changes: Counter,
    /// Broadcasts accepted, from sockets and requests.
    pub broadcasts: Counter,
    /// Frames put into outboxes.
    pub deliveries: Counter,
    /// Rows not shown because they could not be judged, by reason.
    pub withheld: Counters,
    /// Holes announced to channels, by reason.
    pub gaps: Counters,
    /// Channels that are being shown what they missed.
    pub catching_up: Gauge,
    /// Channels that were shown what they missed.
    pub caught_up: Counter,
    /// First reads that were read.
    pub snapshots: Counter,
    /// Seconds one took to read, waiting for its turn included.
    pub snapshot_seconds: Histogram,
    /// Pings that proved what a client received.
    pub proofs: Counter,
    /// Places of resuming clients saved.
    pub places_saved: Counter,
    /// Places of resuming clients forgotten because there were too many.
    pub places_evicted: Counter,
    /// Sockets closed by the relay, by reason.
    pub closed: Counters,
    /// Connections, joins, tokens and messages refused, by code.
    pub refused: Counters,
    /// Bytes that clients make the relay hold, by what they are.
    pub memory_bytes: Family<Kind, Gauge>,
    /// Connections to Postgres opened for replication.
    pub source_connects: Counter,
    /// 1 while streaming.
    pub source_streaming: Gauge,
    /// Bytes between what Postgres has written and what was confirmed.
    pub source_lag_bytes: Gauge<i64>,
    /// Last confirmed LSN, in bytes.
    pub source_confirmed_lsn: Gauge<u64, AtomicU64>,
    /// Bytes of WAL the slot keeps on the server's disk.
    pub slot_retained_bytes: Gauge,
    /// Bytes between what Postgres has written and what the slot has confirmed, as Postgres shows it.
    pub slot_lag_bytes: Gauge,
    /// Bytes that can still be written before the slot is in danger; absent when there is no limit.
    pub slot_safe_bytes: Family<[(&'static str, &'static str); 0], Gauge>,
    /// Seconds for which WAL is known to exist that the slot has not confirmed.
    pub slot_lag_seconds: Gauge<f64, AtomicU64>,
    /// Bytes the slot may lag before it is given up; 0 for no limit.
    pub slot_budget_bytes: Gauge,
    /// Transactions since the oldest catalog row that the slot holds back from vacuum.
    pub slot_catalog_age: Gauge,
    /// Seconds for which nobody has read the slot, as Postgres 17 and later say.
    pub slot_inactive_seconds: Gauge,
    /// 1 when Postgres has invalidated the slot, by its reason; absent otherwise.
    pub slot_invalidated: Family<Reason, Gauge>,
    /// 1 while another relay reads the slot and this one waits to take over.
    pub standby: Gauge,
    /// Bytes of the change log on disk.
    pub log_bytes: Gauge,
    /// Files of the change log.
    pub log_segments: Gauge,
    /// Bytes of WAL between what was appended and what is on disk.
    pub log_durable_lag_bytes: Gauge,
    /// 1 while the log can be written.
    pub log_writable: Gauge,
    /// Seconds one write and fsync of the log took.
    pub log_sync_seconds: Histogram,
    /// Times the disk refused.
    pub log_failures: Counter,
    /// Times a part of the log could not be read and was given up.
    pub log_damages: Counter,
    /// Heartbeats that came back through the stream.
    pub heartbeats: Counter,
    /// Times a heartbeat should have come back and did not.
    pub heartbeats_missed: Counter,
    /// Seconds from writing the last heartbeat until it came back.
    pub heartbeat_seconds: Gauge<f64, AtomicU64>,
    /// Row checks sent to Postgres.
    pub checks: Counter,
    /// Checks repeated because the row's commit was not visible yet.
    pub check_waits: Counter,
    /// Seconds one round of row checks took.
    pub check_seconds: Histogram,
    /// Requests of the chat API, by what became of them.
    pub chat_requests: Counters,
    /// Seconds one request of the chat API took.
    pub chat_seconds: Histogram,
    /// Times the configuration was read again, by what became of it.
    pub config_reloads: Counters,
    /// 1 when the last reading was put in force.
    pub config_reload_successful: Gauge,
    /// When a configuration was last put in force, in seconds since 1970.
    pub config_reload_seconds: Gauge,
    /// Seconds from commit (server clock) to the outbox.
    pub lag_seconds: Histogram,
    registry: Arc<Registry>,
}

impl Metrics {
    /// A registry of its own, so tests do not share counters.
    pub fn new() -> Self {
        let mut whole = Registry::default();
        whole.register_collector(Box::new(process::Process));
        let registry = whole.sub_registry_with_prefix("relay");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What was built", build);
        let histogram = || {
            Histogram::new([
                0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
            ])
        };
        macro_rules! register {
            ($($name:literal $help:literal $value:expr),* $(,)?) => {
                ($({ let metric = $value; registry.register($name, $help, metric.clone()); metric }),*)
            };
        }
        let (connections, channels, topics, presences, bindings) = register!(
            "connections" "Open sockets" Gauge::default(),
            "channels" "Joined channels" Gauge::default(),
            "topics" "Topics with somebody in them" Gauge::default(),
            "presences" "Tracked presences" Gauge::default(),
            "bindings" "Distinct bindings in the router" Gauge::default(),
        );
        let (transactions, changes, broadcasts, deliveries) = register!(
            "transactions" "Transactions read from Postgres" Counter::default(),
            "changes" "Row changes read from Postgres" Counter::default(),
            "broadcasts" "Broadcasts accepted" Counter::default(),
            "deliveries" "Frames put into outboxes" Counter::default(),
        );
        let (withheld, gaps, closed, refused) = register!(
            "withheld" "Rows not shown because they could not be judged" Counters::new(labels::WITHHELD),
            "gaps" "Holes announced to channels" Counters::new(labels::GAPS),
            "closed" "Sockets closed by the relay" Counters::new(labels::CLOSED),
            "refused" "Connections, joins, tokens and messages refused" Counters::new(labels::REFUSED),
        );
        let memory_bytes = register!("memory_bytes" "Bytes that clients make the relay hold, outboxes aside" Family::default());
        let (proofs, places_saved, places_evicted) = register!(
            "proofs" "Pings that proved what a client received" Counter::default(),
            "places_saved" "Places of resuming clients saved" Counter::default(),
            "places_evicted" "Places of resuming clients forgotten for want of room" Counter::default(),
        );
        let (snapshots, snapshot_seconds) = register!(
            "snapshots" "Snapshots read for channels" Counter::default(),
            "snapshot_seconds" "Seconds one snapshot took to read" histogram(),
        );
        let (catching_up, caught_up) = register!(
            "catching_up" "Channels being shown what they missed" Gauge::default(),
            "caught_up" "Channels that were shown what they missed" Counter::default(),
        );
        let (source_connects, source_streaming, source_lag_bytes, source_confirmed_lsn) = register!(
            "source_connects" "Replication connections opened" Counter::default(),
            "source_streaming" "1 while streaming" Gauge::default(),
            "source_lag_bytes" "WAL written but not confirmed" Gauge::default(),
            "source_confirmed_lsn" "Last confirmed LSN in bytes" Gauge::default(),
        );
        let (slot_retained_bytes, slot_lag_bytes, slot_safe_bytes) = register!(
            "slot_retained_bytes" "WAL the slot keeps on the server" Gauge::default(),
            "slot_lag_bytes" "WAL written but not confirmed, as Postgres shows it" Gauge::default(),
            "slot_safe_bytes" "WAL that may be written before the slot is in danger" Family::default(),
        );
        let (slot_lag_seconds, slot_budget_bytes, slot_catalog_age) = register!(
            "slot_lag_seconds" "Seconds for which WAL exists that the slot has not confirmed" Gauge::default(),
            "slot_budget_bytes" "Lag at which the slot is given up; 0 for no limit" Gauge::default(),
            "slot_catalog_age" "Transactions since the oldest catalog row the slot holds back" Gauge::default(),
        );
        let (slot_inactive_seconds, slot_invalidated, standby) = register!(
            "slot_inactive_seconds" "Seconds for which nobody has read the slot" Gauge::default(),
            "slot_invalidated" "1 when Postgres has invalidated the slot" Family::default(),
            "standby" "1 while another relay reads the slot" Gauge::default(),
        );
        let (log_bytes, log_segments, log_durable_lag_bytes, log_writable) = register!(
            "log_bytes" "Bytes of the change log on disk" Gauge::default(),
            "log_segments" "Files of the change log" Gauge::default(),
            "log_durable_lag_bytes" "WAL appended but not on disk" Gauge::default(),
            "log_writable" "1 while the change log can be written" Gauge::default(),
        );
        let (log_sync_seconds, log_failures, log_damages) = register!(
            "log_sync_seconds" "Seconds one write and fsync of the change log took" histogram(),
            "log_failures" "Times the disk refused the change log" Counter::default(),
            "log_damages" "Parts of the change log given up as unreadable" Counter::default(),
        );
        let (heartbeats, heartbeats_missed, heartbeat_seconds) = register!(
            "heartbeats" "Heartbeats that came back" Counter::default(),
            "heartbeats_missed" "Times a heartbeat did not come back in time" Counter::default(),
            "heartbeat_seconds" "Seconds the last heartbeat took to come back" Gauge::default(),
        );
        let (checks, check_waits, check_seconds, lag_seconds) = register!(
            "checks" "Row checks sent to Postgres" Counter::default(),
            "check_waits" "Checks repeated until the commit was visible" Counter::default(),
            "check_seconds" "Seconds one round of row checks took" histogram(),
            "lag_seconds" "Seconds from commit to the outbox" histogram(),
        );
        let (chat_requests, chat_seconds) = register!(
            "chat_requests" "Requests of the chat API" Counters::new(labels::CHAT_REQUESTS),
            "chat_seconds" "Seconds one request of the chat API took" histogram(),
        );
        let (config_reloads, config_reload_successful, config_reload_seconds) = register!(
            "config_reloads" "Times the configuration was read again" Counters::new(labels::CONFIG_RELOADS),
            "config_last_reload_successful" "1 when the last reading was put in force" Gauge::default(),
            "config_last_reload_success_timestamp_seconds" "When a configuration was put in force" Gauge::default(),
        );
        Self {
            connections,
            channels,
            topics,
            presences,
            bindings,
            transactions,
            changes,
            broadcasts,
            deliveries,
            withheld,
            gaps,
            catching_up,
            caught_up,
            snapshots,
            snapshot_seconds,
            proofs,
            places_saved,
            places_evicted,
            closed,
            refused,
            memory_bytes,
            source_connects,
            source_streaming,
            source_lag_bytes,
            source_confirmed_lsn,
            slot_retained_bytes,
            slot_lag_bytes,
            slot_safe_bytes,
            slot_lag_seconds,
            slot_budget_bytes,
            slot_catalog_age,
            slot_inactive_seconds,
            slot_invalidated,
            standby,
            log_bytes,
            log_segments,
            log_durable_lag_bytes,
            log_writable,
            log_sync_seconds,
            log_failures,
            log_damages,
            heartbeats,
            heartbeats_missed,
            heartbeat_seconds,
            checks,
            check_waits,
            check_seconds,
            lag_seconds,
            chat_requests,
            chat_seconds,
            config_reloads,
            config_reload_successful,
            config_reload_seconds,
            registry: Arc::new(whole),
        }
    }

    /// The registry as Prometheus text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The label for `reason`.
pub const fn reason(reason: &'static str) -> Reason {
    Reason { reason }
}
