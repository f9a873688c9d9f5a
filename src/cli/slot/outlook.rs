//! What becomes of a slot if nobody does anything, and what to do instead. Pure.

use super::state::{Slot, bytes};

/// A transaction open for this long is worth naming, in seconds.
const LONG_OPEN: i64 = 300;
/// Catalog rows of this many transactions are worth a word: vacuum cannot clean up behind them.
const OLD_CATALOG: i64 = 100_000_000;
/// WAL kept beyond the lag that is worth a word.
const MUCH: i64 = 64 << 20;

/// What a `wal_status` means.
pub(super) fn status_means(status: &str) -> &'static str {
    match status {
        "reserved" => "everything it needs is there",
        "extended" => "everything it needs is there, though it is more than max_wal_size",
        "unreserved" => "the next checkpoint may remove what it needs",
        "lost" => "what it needs is gone; it can never be read again",
        _ => "it has kept nothing yet",
    }
}

/// How much of `postgres.max_slot_lag` is used.
pub(crate) fn budget(slot: &Slot, budget: usize) -> String {
    let Some(most) = i64::try_from(budget).ok().filter(|most| *most != 0) else {
        return "none: the relay never gives the slot up by itself (postgres.max_slot_lag = 0)"
            .to_owned();
    };
    let lag = slot.lag_bytes.unwrap_or(0).max(0);
    let percent = i128::from(lag) * 100 / i128::from(most);
    format!("{percent} % used of {} that it may lag (postgres.max_slot_lag)", bytes(Some(most)))
}

/// Whether the slot survives the promotion of a standby.
pub(super) fn failover(slot: &Slot) -> String {
    if slot.version < 170_000 {
        return "no: before PostgreSQL 17 a slot does not follow to a promoted standby; subscribers are then told of a gap"
            .to_owned();
    }
    match (slot.synced, slot.failover) {
        (Some(true), _) if slot.is_temporary => {
            "a copy that is not complete yet: it would be gone after a promotion".to_owned()
        }
        (Some(true), _) => "a complete copy: it survives a promotion of this standby".to_owned(),
        (_, Some(true)) => {
            let waits = match slot.standby_slots.as_deref() {
                Some(names) if !names.is_empty() => {
                    format!("; the stream waits for {names} (synchronized_standby_slots)")
                }
                _ => "; set synchronized_standby_slots to their slots, so that none is ever behind it"
                    .to_owned(),
            };
            format!("yes: standbys with sync_replication_slots = on keep a copy{waits}")
        }
        _ => format!(
            "no: it was made without; stop the relay, then `psql 'dbname={} replication=database' -c \
             'ALTER_REPLICATION_SLOT {} (FAILOVER true)'`",
            slot.here, slot.name
        ),
    }
}

/// What happens next, each with its remedy; at least one sentence.
pub(crate) fn next(slot: &Slot, budget: usize) -> Vec<String> {
    let mut next = Vec::new();
    let most = i64::try_from(budget).unwrap_or(i64::MAX);
    let lag = slot.lag_bytes.unwrap_or(0);
    let is_held = slot.pid.is_some();
    if slot.is_lost() {
        next.push(if most == 0 {
            "it is of no more use: run `relay slot drop`; the relay makes a new one, and tells subscribers of the gap"
                .to_owned()
        } else {
            "a running relay replaces it by itself, and tells subscribers of the gap".to_owned()
        });
        return next;
    }
    if slot.wal_status.as_deref() == Some("unreserved") {
        next.push(
            "it is lost at a checkpoint soon: start the relay, or raise max_slot_wal_keep_size"
                .to_owned(),
        );
    }
    if most != 0 && most <= lag && is_held {
        next.push(
            "the relay gives it up unless it gets nearer within 10 s, and tells subscribers of the gap; or raise postgres.max_slot_lag"
                .to_owned(),
        );
    } else if most != 0 && most / 2 <= lag && is_held {
        next.push(format!(
            "at {} of lag the relay gives it up, and tells subscribers of the gap: see why it is behind (CPU, network, slow row checks), or raise postgres.max_slot_lag",
            bytes(Some(most))
        ));
    }
    if !is_held {
        next.push(if slot.keep_bytes < 0 {
            "WAL is kept until somebody reads it or the disk is full: start the relay, or `relay slot drop` if it will not come back"
                .to_owned()
        } else {
            format!(
                "WAL is kept up to {}, then the slot is lost: start the relay, or `relay slot drop` if it will not come back",
                slot.keep_size
            )
        });
    }
    let silent = slot.silent_s.unwrap_or(0);
    if is_held && silent >= 10 {
        next.push(format!(
            "its holder has said nothing for {silent} s: Postgres lets go of it after its wal_sender_timeout, and a relay that stands by takes over"
        ));
    }
    if let (Some(pid), Some(open)) = (slot.oldest_pid, slot.oldest_open_s)
        && LONG_OPEN <= open
        && slot.retained_bytes.unwrap_or(0) - lag > MUCH
    {
        next.push(format!(
            "WAL is kept for the transaction of pid {pid}, open for {open} s, not for the relay: end it with `select pg_terminate_backend({pid});`"
        ));
    }
    if slot.catalog_age.is_some_and(|age| OLD_CATALOG < age) {
        next.push(
            "vacuum cannot clean the catalogs up behind it: let the relay catch up, or drop it"
                .to_owned(),
        );
    }
    if next.is_empty() {
        next.push("nothing to do: it is read, and keeps up".to_owned());
    }
    next
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BUDGET: usize = 1000 << 20;

    fn slot(further: serde_json::Value) -> Slot {
        let mut slot = json!({
            "name": "relay", "plugin": "pgoutput", "type": "logical", "database": "app", "here": "app",
            "pid": 7, "application": "relay-source", "wal_status": "reserved", "restart_lsn": "0/1",
            "confirmed_lsn": "0/2", "lag_bytes": 0, "retained_bytes": 100, "safe_wal_size": null,
            "catalog_age": 3, "keep_size": "-1", "keep_bytes": -1, "version": 170_000,
            "is_standby": false, "failover": true, "synced": false, "is_temporary": false,
        });
        let fields = slot.as_object_mut().unwrap();
        fields.extend(further.as_object().unwrap().clone());
        serde_json::from_value(slot).unwrap()
    }

    fn says(further: serde_json::Value, words: &str) {
        let next = next(&slot(further), BUDGET).join("\n");
        assert!(next.contains(words), "{next}");
    }

    #[test]
    fn each_danger_is_named_with_its_remedy() {
        says(json!({}), "nothing to do");
        says(json!({ "lag_bytes": 600 << 20 }), "at 1000 MB of lag the relay gives it up");
        says(json!({ "lag_bytes": 1000 << 20 }), "unless it gets nearer");
        says(json!({ "pid": null }), "until somebody reads it or the disk is full");
        says(json!({ "pid": null, "keep_size": "1GB", "keep_bytes": 1 << 30 }), "up to 1GB, then");
        says(json!({ "wal_status": "unreserved" }), "raise max_slot_wal_keep_size");
        says(json!({ "wal_status": "lost" }), "replaces it by itself");
        says(json!({ "silent_s": 30 }), "said nothing for 30 s");
        let open = json!({ "oldest_pid": 9, "oldest_open_s": 900, "retained_bytes": 1 << 30 });
        says(open, "pg_terminate_backend(9)");
        says(json!({ "catalog_age": 200_000_000 }), "vacuum");
        let lost = next(&slot(json!({ "wal_status": "lost" })), 0);
        assert!(lost[0].contains("relay slot drop"), "{lost:?}");
    }

    #[test]
    fn the_budget_is_told_as_a_share() {
        assert!(budget(&slot(json!({ "lag_bytes": 250 << 20 })), BUDGET).starts_with("25 % used"));
        assert!(budget(&slot(json!({})), 0).starts_with("none"));
    }

    #[test]
    fn whether_a_promotion_takes_the_slot_along_is_told() {
        let told = |further| failover(&slot(further));
        assert!(told(json!({})).contains("set synchronized_standby_slots"));
        assert!(told(json!({ "standby_slots": "one" })).contains("waits for one"));
        assert!(told(json!({ "failover": false })).contains("ALTER_REPLICATION_SLOT relay"));
        assert!(
            told(json!({ "version": 150_000, "failover": null })).contains("before PostgreSQL 17")
        );
        assert!(told(json!({ "synced": true })).contains("a complete copy"));
        assert!(told(json!({ "synced": true, "is_temporary": true })).contains("not complete"));
    }
}
