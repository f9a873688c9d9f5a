//! Facts about the server: its version, the settings logical replication stands on, and what delays commits.

use serde::Deserialize;

use super::fact::Facts;
use super::read_one;
use crate::error::Error;
use crate::postgres::Sql;

/// A writer that is open longer than this is named: nothing it wrote is decoded before it commits.
const LONG_TRANSACTION_S: i64 = 60;

/// What the server says of itself.
#[derive(Debug, Deserialize)]
pub(super) struct Server {
    version: String,
    version_number: u32,
    database: String,
    application: String,
    is_standby: bool,
    wal_level: String,
    most_slots: i64,
    slots: i64,
    /// Slots besides the relay's own: `max_slot_wal_keep_size` holds for them as well.
    pub(super) other_slots: Vec<String>,
    most_senders: i64,
    senders: i64,
    synchronous_standbys: String,
    oldest_writer_s: i64,
}

impl Server {
    /// Asks.
    ///
    /// # Errors
    /// `SourceRejected`: what Postgres said.
    pub(super) async fn read(sql: &Sql, slot: &str) -> Result<Self, Error> {
        let text = include_str!("../../../sql/queries/check_server.sql");
        let found = read_one(sql, text, &[&slot]).await?;
        found.ok_or_else(|| super::unreadable("the server's settings"))
    }

    /// The `application_name` under which a relay of this configuration reads the slot: postgres.url may give one.
    pub(super) fn relay_application(&self) -> &str {
        if self.application == super::APPLICATION { "relay-source" } else { &self.application }
    }

    /// The facts. `has_slot` and `is_held`: whether our slot exists, and whether somebody reads it now.
    pub(super) fn judge(&self, has_slot: bool, is_held: bool, facts: &mut Facts) {
        let version = format!("PostgreSQL {}, database {}", self.version, self.database);
        match outdated(self.version_number) {
            None => facts.good("postgres.version", version),
            Some(why) => {
                facts.odd("postgres.version", format!("{version}: {why}"));
            }
        }
        if self.is_standby {
            facts
                .odd(
                    "postgres.standby",
                    "this is a standby; before PostgreSQL 16 it cannot have a logical slot",
                )
                .also("point postgres.url at the primary");
        }
        if self.wal_level == "logical" {
            facts.good("postgres.wal_level", "logical");
        } else {
            facts
                .bad("postgres.wal_level", format!("{}; it must be logical", self.wal_level))
                .sql("alter system set wal_level = 'logical';")
                .also("restart Postgres (managed services: set it in the parameter group, e.g. rds.logical_replication = 1)");
        }
        room(facts, "max_replication_slots", self.slots, self.most_slots, has_slot);
        room(facts, "max_wal_senders", self.senders, self.most_senders, is_held);
        if self.oldest_writer_s > LONG_TRANSACTION_S {
            facts
                .odd(
                    "postgres.delay",
                    format!(
                        "a writing transaction is open for {} s; what it wrote arrives when it commits",
                        self.oldest_writer_s
                    ),
                )
                .also("find it: select pid, query from pg_stat_activity where backend_xid is not null order by xact_start");
        } else if !self.synchronous_standbys.is_empty() {
            facts.odd(
                "postgres.delay",
                format!(
                    "commits wait for synchronous standbys ({}); under row level security changes arrive after that wait",
                    self.synchronous_standbys
                ),
            );
        } else {
            facts.good(
                "postgres.delay",
                "no long transaction and no synchronous standby delays commits",
            );
        }
    }
}

/// Whether one more slot or sender fits; one that is ours already needs no room.
fn room(facts: &mut Facts, setting: &str, used: i64, most: i64, is_ours_in: bool) {
    let about = format!("postgres.{}", setting.trim_start_matches("max_"));
    let says = format!("{used} of {most} in use");
    if is_ours_in || used < most {
        facts.good(about, says);
    } else {
        facts
            .bad(about, format!("{says}; the relay needs one"))
            .sql(format!("alter system set {setting} = {};", most + 5))
            .also("restart Postgres");
    }
}

/// Why a version should not be used.
fn outdated(number: u32) -> Option<String> {
    let (major, minor) = (number / 10_000, number % 10_000);
    // Older minor releases could remove WAL that a slot still needed after a crash.
    let safe = match major {
        0..15 => return Some("the relay is tested on 15 and newer".to_owned()),
        15 => 14,
        16 => 10,
        17 => 6,
        _ => 0,
    };
    (minor < safe).then(|| {
        format!("a crash can lose WAL that a slot needs; update to {major}.{safe} or newer")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_minor_releases_that_lose_wal() {
        assert!(outdated(150_013).is_some());
        assert!(outdated(150_014).is_none());
        assert!(outdated(160_009).is_some());
        assert!(outdated(170_006).is_none());
        assert!(outdated(180_000).is_none());
        assert!(outdated(140_020).is_some());
    }
}
