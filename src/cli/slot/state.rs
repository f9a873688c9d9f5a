//! What Postgres knows about the slot, in words.

use serde::{Deserialize, Serialize};

use super::outlook;
use crate::error::{Error, ErrorKind};
use crate::postgres::Sql;

/// A replication slot as Postgres describes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Slot {
    /// Its name.
    pub(crate) name: String,
    /// The output plugin; none for a physical slot.
    pub(crate) plugin: Option<String>,
    /// `logical` or `physical`.
    pub(crate) r#type: String,
    /// The database it decodes.
    pub(crate) database: Option<String>,
    /// The database asked.
    pub(crate) here: String,
    /// Who holds it.
    pub(crate) pid: Option<i32>,
    /// What the holder calls itself, when this role may see it.
    pub(crate) application: Option<String>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub(crate) wal_status: Option<String>,
    /// The oldest WAL it needs.
    pub(crate) restart_lsn: Option<String>,
    /// What was confirmed.
    pub(crate) confirmed_lsn: Option<String>,
    /// WAL written but not confirmed.
    pub(crate) lag_bytes: Option<i64>,
    /// WAL kept on disk for it.
    pub(crate) retained_bytes: Option<i64>,
    /// WAL that may still be written before it can be lost; none when it is never lost that way.
    pub(crate) safe_wal_size: Option<i64>,
    /// Transactions since the oldest catalog row it holds back from vacuum.
    pub(crate) catalog_age: Option<i64>,
    /// `max_slot_wal_keep_size`.
    pub(crate) keep_size: String,
    /// Since when nobody holds it (PostgreSQL 17).
    pub(crate) inactive_since: Option<String>,
    /// Why it was invalidated (PostgreSQL 17).
    pub(crate) invalidation_reason: Option<String>,
    /// For how long its holder has said nothing, in seconds, when this role may see it.
    pub(crate) silent_s: Option<i64>,
    /// `max_slot_wal_keep_size` in bytes.
    pub(crate) keep_bytes: i64,
    /// `server_version_num`.
    pub(crate) version: i32,
    /// Whether the server is a standby.
    pub(crate) is_standby: bool,
    /// The process id of the oldest transaction that writes.
    pub(crate) oldest_pid: Option<i32>,
    /// For how long that transaction has been open, in seconds.
    pub(crate) oldest_open_s: Option<i64>,
    /// Whether standbys keep a copy (PostgreSQL 17).
    pub(crate) failover: Option<bool>,
    /// Whether this is such a copy (PostgreSQL 17).
    pub(crate) synced: Option<bool>,
    /// Whether it ends with its connection, or is a copy that is not complete yet.
    pub(crate) is_temporary: bool,
    /// `synchronized_standby_slots` (PostgreSQL 17).
    pub(crate) standby_slots: Option<String>,
}

impl Slot {
    /// Asks for the slot called `name`.
    ///
    /// # Errors
    /// `SourceRejected`: what Postgres said.
    pub(crate) async fn read(sql: &Sql, name: &str) -> Result<Option<Self>, Error> {
        let failed = || Error::new(ErrorKind::SourceRejected, "could not read the slot's state");
        let row = sql
            .client
            .query_opt(include_str!("../../../sql/queries/slot_status.sql"), &[&name])
            .await
            .map_err(|error| failed().because(error))?;
        let value: Option<serde_json::Value> = row.map(|row| row.get("slot"));
        value.map(serde_json::from_value).transpose().map_err(|error| failed().because(error))
    }

    /// Who holds it: `pid 123 (relay)`.
    pub(crate) fn holder(&self) -> Option<String> {
        let pid = self.pid?;
        Some(match self.application.as_deref() {
            Some(application) if !application.is_empty() => format!("pid {pid} ({application})"),
            _ => format!("pid {pid}"),
        })
    }

    /// Who holds it, when the holder's application name is not `relay`, which is what a relay of this configuration has.
    pub(crate) fn foreign_holder(&self, relay: &str) -> Option<String> {
        self.application.as_deref().filter(|application| *application != relay)?;
        self.holder()
    }

    /// Whether WAL it needs is gone for good.
    pub(crate) fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost") || self.invalidation_reason.is_some()
    }

    /// The state as lines of text; `budget` is `postgres.max_slot_lag`.
    pub(crate) fn lines(&self, budget: usize) -> Vec<String> {
        let status = self.wal_status.as_deref().unwrap_or("none");
        let reason =
            self.invalidation_reason.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        let mut lines = vec![
            format!("slot       {}", self.name),
            format!(
                "plugin     {} in database {}",
                self.plugin.as_deref().unwrap_or("none"),
                self.database.as_deref().unwrap_or("none")
            ),
            format!("held by    {}", self.held_by()),
            format!("wal        {status}{reason}: {}", outlook::status_means(status)),
            format!(
                "lag        {} not confirmed yet (confirmed {})",
                bytes(self.lag_bytes),
                self.confirmed_lsn.as_deref().unwrap_or("nothing")
            ),
            format!(
                "retained   {} of WAL on disk (from {})",
                bytes(self.retained_bytes),
                self.restart_lsn.as_deref().unwrap_or("nowhere")
            ),
            match self.safe_wal_size {
                Some(left) => format!(
                    "room       {} more may be written before the slot can be lost (max_slot_wal_keep_size = {})",
                    bytes(Some(left)),
                    self.keep_size
                ),
                None => "room       no limit: a stopped relay fills the disk (max_slot_wal_keep_size = -1)"
                    .to_owned(),
            },
            format!("budget     {}", outlook::budget(self, budget)),
            format!(
                "vacuum     keeps catalog rows of the last {} transactions for it",
                self.catalog_age.unwrap_or(0)
            ),
            format!("failover   {}", outlook::failover(self)),
        ];
        lines.extend(outlook::next(self, budget).iter().map(|line| format!("next       {line}")));
        lines
    }

    fn held_by(&self) -> String {
        match (self.holder(), self.silent_s) {
            (Some(holder), Some(silent)) if silent > 1 => {
                format!("{holder}, which has said nothing for {silent} s")
            }
            (Some(holder), _) => holder,
            (None, _) => match &self.inactive_since {
                Some(since) => format!("nobody, since {since}"),
                None => "nobody".to_owned(),
            },
        }
    }
}

/// A number of bytes as people read it.
pub(crate) fn bytes(number: Option<i64>) -> String {
    let Some(number) = number else { return "nothing".to_owned() };
    let mut rest = number;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if rest.abs() < 10 * 1024 {
            return format!("{rest} {unit}");
        }
        rest /= 1024;
    }
    format!("{rest} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        assert_eq!(bytes(Some(0)), "0 bytes");
        assert_eq!(bytes(Some(10 * 1024)), "10 kB");
        assert_eq!(bytes(Some(3 << 40)), "3072 GB");
        assert_eq!(bytes(Some(-5)), "-5 bytes");
        assert_eq!(bytes(None), "nothing");
    }
}
