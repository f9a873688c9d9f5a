//! How the slot fares: metrics at every look, a line in the log at every change. Pure apart from those.
//!
//! It outlives sessions, so that what was said once is not said again after every reconnect.

use tracing::{error, info, warn};

use super::slot::Slot;
use crate::metrics::Metrics;

/// How near the slot is to losing the WAL it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    #[default]
    Reserved,
    /// It keeps more than `max_wal_size`.
    Extended,
    /// Postgres may remove what it needs at the next checkpoint.
    Unreserved,
    Lost,
}

impl Condition {
    fn of(slot: &Slot) -> Self {
        match slot.wal_status.as_deref() {
            _ if slot.is_lost() => Self::Lost,
            Some("extended") => Self::Extended,
            Some("unreserved") => Self::Unreserved,
            _ => Self::Reserved,
        }
    }
}

/// Why no heartbeat can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Only a primary writes WAL.
    Standby,
    /// The role may not execute the function.
    Forbidden,
}

/// What was seen and said of the slot.
#[derive(Debug)]
pub(super) struct Health {
    metrics: Metrics,
    condition: Condition,
    obstacle: Option<Obstacle>,
}

impl Health {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, condition: Condition::default(), obstacle: None }
    }

    /// Takes in one look at the slot.
    pub(super) fn see(&mut self, slot: &Slot) {
        let lag = slot.confirmed_lsn.map(|confirmed| slot.server_lsn.bytes_since(confirmed));
        self.metrics.slot_lag_bytes.set(lag.and_then(|lag| i64::try_from(lag).ok()).unwrap_or(0));
        self.metrics.slot_retained_bytes.set(slot.retained_bytes.unwrap_or(0));
        // Without a limit there is nothing to run out of.
        match slot.safe_bytes {
            Some(safe) => drop(self.metrics.slot_safe_bytes.get_or_create(&[]).set(safe)),
            None => self.metrics.slot_safe_bytes.clear(),
        }
        let condition = Condition::of(slot);
        if self.condition != condition {
            say(condition, slot);
            self.condition = condition;
        }
    }

    /// Whether Postgres may take WAL away from the slot, and ends its walsender first.
    pub(super) fn is_in_danger(&self) -> bool {
        Condition::Unreserved <= self.condition
    }

    /// Takes in whether a heartbeat can be written.
    pub(super) fn hinder(&mut self, obstacle: Option<Obstacle>) {
        if self.obstacle == obstacle {
            return;
        }
        self.obstacle = obstacle;
        match obstacle {
            None => info!("heartbeats can be written again"),
            Some(Obstacle::Standby) => info!("no heartbeats: the server is a standby"),
            Some(Obstacle::Forbidden) => warn!(
                "no heartbeats: the role may not execute pg_logical_emit_message; grant it, or set postgres.heartbeat to 0s"
            ),
        }
    }
}

fn say(condition: Condition, slot: &Slot) {
    let name = &slot.name;
    let (retained_bytes, safe_bytes) = (slot.retained_bytes, slot.safe_bytes);
    match condition {
        Condition::Reserved => info!(slot = name, retained_bytes, "the slot is in no danger"),
        Condition::Extended => warn!(
            slot = name,
            retained_bytes,
            safe_bytes,
            "the slot keeps more WAL than max_wal_size; see why the relay is behind"
        ),
        Condition::Unreserved => warn!(
            slot = name,
            retained_bytes,
            "the slot loses WAL at the next checkpoint; raise max_slot_wal_keep_size, or see why the relay is behind"
        ),
        Condition::Lost => error!(
            slot = name,
            reason = slot.invalidation.as_deref().or(slot.wal_status.as_deref()),
            "the slot is lost"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::model::Lsn;

    fn slot(wal_status: &str, safe_bytes: Option<i64>) -> Slot {
        Slot {
            name: "relay".into(),
            is_logical: true,
            plugin: Some("pgoutput".into()),
            database: Some("app".into()),
            holder: None,
            wal_status: Some(wal_status.into()),
            invalidation: None,
            restart_lsn: Some(Lsn::new(40)),
            confirmed_lsn: Some(Lsn::new(70)),
            server_lsn: Lsn::new(100),
            retained_bytes: Some(60),
            safe_bytes,
        }
    }

    #[test]
    fn what_is_seen_is_measured() {
        let metrics = Metrics::new();
        let mut health = Health::new(metrics.clone());
        health.see(&slot("reserved", Some(500)));
        assert_eq!((metrics.slot_lag_bytes.get(), metrics.slot_retained_bytes.get()), (30, 60));
        assert!(
            metrics.render().contains("\nrelay_slot_safe_bytes{} 500\n"),
            "{}",
            metrics.render()
        );
        health.see(&slot("reserved", None));
        assert!(!metrics.render().contains("\nrelay_slot_safe_bytes{"), "no limit, no number");
    }

    #[test]
    fn each_change_is_said_once() {
        let said = Said::default();
        let writer = said.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let mut health = Health::new(Metrics::new());
            for status in ["reserved", "extended", "extended", "unreserved", "lost", "lost"] {
                health.see(&slot(status, None));
            }
            health.see(&slot("reserved", None));
            for obstacle in [None, Some(Obstacle::Forbidden), Some(Obstacle::Forbidden), None] {
                health.hinder(obstacle);
            }
        });
        let said = said.0.lock().unwrap().clone();
        let said = String::from_utf8(said).unwrap();
        let levels: Vec<&str> =
            said.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(levels, ["WARN", "WARN", "ERROR", "INFO", "WARN", "INFO"], "{said}");
    }

    /// What was written to the log.
    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Said {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_status_has_its_condition() {
        let of = |status| Condition::of(&slot(status, None));
        let all = ["reserved", "extended", "unreserved", "lost"].map(of);
        assert!(all.is_sorted(), "{all:?}");
        assert_eq!(all[3], Condition::Lost);
        assert_eq!(of("of a later version"), Condition::Reserved);
        let invalidated = Slot { invalidation: Some("rows_removed".into()), ..slot("x", None) };
        assert_eq!(Condition::of(&invalidated), Condition::Lost);
    }
}
