//! How the slot fares: metrics at every look, a line in the log at every change. Pure apart from those.
//!
//! It outlives sessions, so that what was said once is not said again after every reconnect.

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::epoch::Break;
use super::governor::Governor;
use super::lag::Ends;
use super::slot::Slot;
use crate::metrics::{Metrics, reason};
use crate::model::Lsn;

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
    governor: Governor,
    ends: Ends,
    /// Why the slot must go, or went and was not made anew yet.
    letting_go: Option<Break>,
}

impl Health {
    /// `max_slot_lag` is the slot's budget in bytes, zero for none.
    pub(super) fn new(metrics: Metrics, max_slot_lag: usize) -> Self {
        metrics.slot_budget_bytes.set(i64::try_from(max_slot_lag).unwrap_or(i64::MAX));
        Self {
            metrics,
            condition: Condition::default(),
            obstacle: None,
            governor: Governor::new(max_slot_lag),
            ends: Ends::default(),
            letting_go: None,
        }
    }

    /// Measures what was seen of the slot.
    pub(super) fn measure(&mut self, slot: &Slot, now: Instant) {
        self.metrics.slot_lag_bytes.set(i64::try_from(slot.lag_bytes()).unwrap_or(i64::MAX));
        let confirmed = slot.confirmed_lsn.unwrap_or(Lsn::ZERO);
        let age = self.ends.age(slot.server_lsn, confirmed, now);
        self.metrics.slot_lag_seconds.set(age.as_secs_f64());
        self.metrics.slot_retained_bytes.set(slot.retained_bytes.unwrap_or(0));
        self.metrics.slot_catalog_age.set(slot.catalog_age.unwrap_or(0));
        self.metrics.slot_inactive_seconds.set(slot.inactive_s.unwrap_or(0));
        self.metrics.slot_invalidated.clear();
        if slot.is_lost() {
            let known = slot.invalidation.as_deref().and_then(known_reason).unwrap_or("lost");
            self.metrics.slot_invalidated.get_or_create(&reason(known)).set(1);
        }
        // Without a limit there is nothing to run out of.
        match slot.safe_bytes {
            Some(safe) => drop(self.metrics.slot_safe_bytes.get_or_create(&[]).set(safe)),
            None => self.metrics.slot_safe_bytes.clear(),
        }
    }

    /// Takes in one look at a slot that we read, or could, and whether the stream moved since the last one.
    pub(super) fn see(&mut self, slot: &Slot, is_moving: bool, now: Instant) {
        self.measure(slot, now);
        if let Some(condition) = self.turn(slot) {
            say(condition, slot);
        }
        if self.condition == Condition::Lost {
            self.letting_go = self.governor.may_act().then_some(Break::SlotLost);
        } else if self.governor.see(&slot.name, slot.lag_bytes(), is_moving, now) {
            self.letting_go = Some(Break::SlotGivenUp);
        }
    }

    /// The slot's condition, when it is another one than before.
    fn turn(&mut self, slot: &Slot) -> Option<Condition> {
        let condition = Condition::of(slot);
        (std::mem::replace(&mut self.condition, condition) != condition).then_some(condition)
    }

    /// Whether this is another obstacle than before.
    fn turn_to(&mut self, obstacle: Option<Obstacle>) -> bool {
        std::mem::replace(&mut self.obstacle, obstacle) != obstacle
    }

    /// Why the slot must go, or went and was not made anew yet.
    pub(super) const fn letting_go(&self) -> Option<Break> {
        self.letting_go
    }

    /// The slot is another one now.
    pub(super) fn begin_anew(&mut self) {
        self.letting_go = None;
        self.governor.forget();
    }

    /// Somebody else reads the slot: what becomes of it is not ours to decide.
    pub(super) fn stand_by(&mut self) {
        self.begin_anew();
    }

    /// Whether Postgres may take WAL away from the slot, and ends its walsender first.
    pub(super) fn is_in_danger(&self) -> bool {
        Condition::Unreserved <= self.condition
    }

    /// Takes in whether a heartbeat can be written.
    pub(super) fn hinder(&mut self, obstacle: Option<Obstacle>) {
        if !self.turn_to(obstacle) {
            return;
        }
        match obstacle {
            None => info!("heartbeats can be written again"),
            Some(Obstacle::Standby) => info!("no heartbeats: the server is a standby"),
            Some(Obstacle::Forbidden) => warn!(
                "no heartbeats: the role may not execute pg_logical_emit_message; grant it, or set postgres.heartbeat to 0s"
            ),
        }
    }
}

/// Postgres' reasons for an invalidation, so that labels are few whatever a server says.
fn known_reason(reason: &str) -> Option<&'static str> {
    let known = ["wal_removed", "rows_removed", "wal_level_insufficient", "idle_timeout"];
    known.into_iter().find(|known| *known == reason)
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

    use super::*;

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
            sent_lsn: None,
            confirmed_lsn: Some(Lsn::new(70)),
            server_lsn: Lsn::new(100),
            retained_bytes: Some(60),
            safe_bytes,
            catalog_age: Some(9),
            inactive_s: None,
        }
    }

    #[test]
    fn what_is_seen_is_measured() {
        let metrics = Metrics::new();
        let mut health = Health::new(metrics.clone(), 0);
        health.see(&slot("reserved", Some(500)), false, Instant::now());
        assert_eq!((metrics.slot_lag_bytes.get(), metrics.slot_retained_bytes.get()), (30, 60));
        assert!(
            metrics.render().contains("\nrelay_slot_safe_bytes{} 500\n"),
            "{}",
            metrics.render()
        );
        health.see(&slot("reserved", None), false, Instant::now());
        assert!(!metrics.render().contains("\nrelay_slot_safe_bytes{"), "no limit, no number");
    }

    #[test]
    fn a_lost_slot_goes_if_slots_may_go_and_says_why_it_is_lost() {
        let metrics = Metrics::new();
        let lost = Slot { invalidation: Some("idle_timeout".into()), ..slot("lost", None) };
        let mut careful = Health::new(metrics.clone(), 0);
        careful.see(&lost, false, Instant::now());
        assert_eq!(careful.letting_go(), None);
        let mut health = Health::new(metrics.clone(), 1000);
        health.see(&lost, false, Instant::now());
        assert_eq!(health.letting_go(), Some(Break::SlotLost));
        let text = metrics.render();
        assert!(text.contains("relay_slot_invalidated{reason=\"idle_timeout\"} 1"), "{text}");
        health.begin_anew();
        health.see(&slot("reserved", None), false, Instant::now());
        assert_eq!(health.letting_go(), None);
        assert!(!metrics.render().contains("relay_slot_invalidated{"));
    }

    #[test]
    fn each_change_is_said_once() {
        let mut health = Health::new(Metrics::new(), 0);
        let looks = ["reserved", "extended", "extended", "unreserved", "lost", "lost", "reserved"];
        let said = looks.map(|status| health.turn(&slot(status, None)));
        let (extended, unreserved) = (Some(Condition::Extended), Some(Condition::Unreserved));
        let (lost, reserved) = (Some(Condition::Lost), Some(Condition::Reserved));
        assert_eq!(said, [None, extended, None, unreserved, lost, None, reserved]);
        let forbidden = Some(Obstacle::Forbidden);
        let said = [None, forbidden, forbidden, None].map(|obstacle| health.turn_to(obstacle));
        assert_eq!(said, [false, true, false, true]);
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
