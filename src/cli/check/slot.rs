//! Facts about the replication slot.

use super::fact::Facts;
use super::server::Server;
use crate::cli::slot::outlook;
use crate::cli::slot::state::{Slot, bytes};

/// A slot this far behind is worth a look.
const FAR_BEHIND: i64 = 64 << 20;

/// The facts about the slot called `name`, which may lag by `budget` bytes.
pub(super) fn judge(
    (name, slot): (&str, Option<&Slot>),
    budget: usize,
    server: &Server,
    facts: &mut Facts,
) {
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
    if let Some(holder) = slot.foreign_holder(server.relay_application()) {
        facts
            .bad(
                about.clone(),
                format!("is read by {holder}, which is no relay: the relay stands by until that one stops"),
            )
            .also("stop that reader, or set postgres.slot to another name");
    } else if slot.is_lost() {
        let why = slot.invalidation_reason.as_deref().unwrap_or("WAL it needed was removed");
        facts
            .bad(about.clone(), format!("is lost ({why}); it can never be read again"))
            .sql(drop)
            .also(outlook::next(slot, budget).join("; "));
    } else {
        let holder = slot
            .holder()
            .map_or_else(|| "nobody reads it now".to_owned(), |holder| format!("read by {holder}"));
        facts.good(about.clone(), holder);
    }
    judge_wal(&about, slot, budget, facts);
    judge_limit(slot, budget, &server.other_slots, facts);
}

fn judge_wal(about: &str, slot: &Slot, budget: usize, facts: &mut Facts) {
    let says = format!(
        "{} behind; {} of WAL retained ({}); {}",
        bytes(slot.lag_bytes),
        bytes(slot.retained_bytes),
        slot.wal_status.as_deref().unwrap_or("none"),
        outlook::budget(slot, budget)
    );
    let about = format!("{about} lag");
    let is_far = slot.lag_bytes.is_some_and(|lag| lag > FAR_BEHIND)
        || slot.retained_bytes.is_some_and(|retained| retained > 8 * FAR_BEHIND);
    if is_far || slot.wal_status.as_deref() == Some("unreserved") {
        let fact = facts.odd(about.clone(), says);
        for next in outlook::next(slot, budget) {
            fact.also(next);
        }
    } else {
        facts.good(about.clone(), says);
    }
}

/// How much WAL Postgres keeps for a slot. A limit that is set where there was none also limits the slots of others.
fn judge_limit(slot: &Slot, budget: usize, others: &[String], facts: &mut Facts) {
    let statement = keep_size(budget);
    if slot.keep_bytes < 0 {
        let fact = facts.odd(
            "postgres.keep_size",
            "max_slot_wal_keep_size = -1: a stopped relay can fill the server's disk",
        );
        if others.is_empty() {
            fact.sql(format!("{statement};")).sql("select pg_reload_conf();");
        } else {
            fact.also(format!(
                "{statement}, if no other slot may fall further behind than that, else it is lost: {}",
                others.join(", ")
            ));
        }
    } else if budget != 0 && usize::try_from(slot.keep_bytes).is_ok_and(|keep| keep < budget) {
        facts
            .odd(
                "postgres.keep_size",
                format!(
                    "max_slot_wal_keep_size = {} is less than postgres.max_slot_lag: Postgres takes WAL from the slot before the relay gives it up, without a word beforehand",
                    slot.keep_size
                ),
            )
            .also(format!("set postgres.max_slot_lag below {}", slot.keep_size))
            .sql(format!("{statement};"))
            .sql("select pg_reload_conf();");
    }
}

/// The statement, without its semicolon, that gives Postgres a limit half as large again as the relay's own, 15 GB without
/// one.
fn keep_size(budget: usize) -> String {
    let budget = if budget == 0 { 10 << 30 } else { budget };
    let megabytes = (budget >> 20).saturating_mul(3) / 2;
    format!("alter system set max_slot_wal_keep_size = '{megabytes}MB'")
}
