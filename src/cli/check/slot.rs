//! Facts about the replication slot.

use super::fact::Facts;
use crate::cli::slot::state::{Slot, bytes};

/// A slot this far behind is worth a look.
const FAR_BEHIND: i64 = 64 << 20;

/// The facts about the slot called `name`.
pub(super) fn judge(name: &str, slot: Option<&Slot>, facts: &mut Facts) {
    let about = format!("slot {name}");
    let Some(slot) = slot else {
        return facts.good(about, "does not exist yet; `relay run` creates it");
    };
    let drop = format!("select pg_drop_replication_slot('{}');", name.replace('\'', "''"));
    if slot.plugin.as_deref() != Some("pgoutput") {
        let plugin = slot.plugin.as_deref().unwrap_or("none (a physical slot)");
        facts
            .bad(about, format!("its plugin is {plugin}, not pgoutput: it is somebody else's"))
            .also("set postgres.slot to another name")
            .also(format!("or, if nobody needs it: {drop}"));
        return;
    }
    if slot.database.as_deref() != Some(slot.here.as_str()) {
        let database = slot.database.as_deref().unwrap_or_default();
        facts
            .bad(
                about,
                format!("decodes database {database}, and postgres.url names {}", slot.here),
            )
            .also("set postgres.slot to another name, one for each database");
        return;
    }
    if slot.is_lost() {
        let why = slot.invalidation_reason.as_deref().unwrap_or("WAL it needed was removed");
        facts
            .bad(about.clone(), format!("is lost ({why}); it can never be read again"))
            .sql(drop)
            .also("then restart the relay; clients must read again what they show");
    } else {
        let holder = slot
            .holder()
            .map_or_else(|| "nobody reads it now".to_owned(), |holder| format!("read by {holder}"));
        facts.good(about.clone(), holder);
    }
    judge_wal(&about, slot, facts);
}

fn judge_wal(about: &str, slot: &Slot, facts: &mut Facts) {
    let says = format!(
        "{} behind; {} of WAL retained ({})",
        bytes(slot.lag_bytes),
        bytes(slot.retained_bytes),
        slot.wal_status.as_deref().unwrap_or("none")
    );
    let about = format!("{about} lag");
    let is_far = slot.lag_bytes.is_some_and(|lag| lag > FAR_BEHIND);
    if slot.wal_status.as_deref() == Some("unreserved") {
        facts
            .odd(about.clone(), format!("{says}: the next checkpoint may remove what it needs"))
            .also("start the relay, or raise max_slot_wal_keep_size");
    } else if is_far && slot.pid.is_none() {
        facts
            .odd(about.clone(), format!("{says}: nobody reads it, and the disk fills"))
            .also("start the relay, or give the slot up with `relay slot drop`");
    } else if is_far {
        facts.odd(about.clone(), format!("{says}: changes arrive late until it has caught up"));
    } else {
        facts.good(about.clone(), says);
    }
    if slot.safe_wal_size.is_none() && slot.keep_size == "-1" {
        facts
            .odd(
                "postgres.keep_size",
                "max_slot_wal_keep_size = -1: a stopped relay can fill the server's disk",
            )
            .sql("alter system set max_slot_wal_keep_size = '10GB';")
            .sql("select pg_reload_conf();");
    }
}
