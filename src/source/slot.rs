//! The slot: look at it, judge it, create it, drop it.
//!
//! A slot is Postgres' memory of how far we read; losing it is losing history. So nothing here decides to drop one, and
//! nothing attaches to one that cannot give what it promises.

use tokio_postgres::Client;

use super::connection::{Connection, quoted};
use crate::error::{Error, ErrorKind};
use crate::model::Lsn;
use crate::postgres::refusal;

/// One replication slot, as Postgres shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Whether it is logical.
    pub is_logical: bool,
    /// The output plugin, for a logical slot.
    pub plugin: Option<String>,
    /// The database it belongs to.
    pub database: Option<String>,
    /// Who reads it now.
    pub holder: Option<Holder>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Why it was invalidated (PostgreSQL 17 and later say it).
    pub invalidation: Option<String>,
    /// The oldest WAL it keeps.
    pub restart_lsn: Option<Lsn>,
    /// How far Postgres has come in sending it, when somebody reads it.
    pub sent_lsn: Option<Lsn>,
    /// How far it was confirmed.
    pub confirmed_lsn: Option<Lsn>,
    /// Where the server's WAL ends.
    pub server_lsn: Lsn,
    /// Bytes of WAL it keeps on the server's disk.
    pub retained_bytes: Option<i64>,
    /// Bytes that can still be written before it is in danger, when there is a limit.
    pub safe_bytes: Option<i64>,
    /// Transactions since the oldest catalog row it holds back from vacuum.
    pub catalog_age: Option<i64>,
    /// For how long nobody has read it, in seconds (PostgreSQL 17 and later say it).
    pub inactive_s: Option<i64>,
}

/// Who reads a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The walsender's process id.
    pub pid: i32,
    /// Its application_name, when we may see it.
    pub application: Option<String>,
    /// Since when it is connected (UTC), when we may see it.
    pub since: Option<String>,
}

impl Slot {
    /// Looks at the slot called `name`; `None` when there is none.
    ///
    /// # Errors
    /// `SourceUnreachable` or `SourceRejected`.
    pub async fn read(client: &Client, name: &str) -> Result<Option<Self>, Error> {
        let failed = |error| refusal(&error, &format!("could not look at slot {name:?}"));
        let query = include_str!("../../sql/queries/source_slot.sql");
        let Some(row) = client.query_opt(query, &[&name]).await.map_err(failed)? else {
            return Ok(None);
        };
        let text = |column| row.try_get::<_, Option<String>>(column).map_err(failed);
        let number = |column| row.try_get::<_, Option<i64>>(column).map_err(failed);
        let lsn = |column| text(column).map(|text| text.and_then(|text| text.parse().ok()));
        let (application, since) = (text("application")?, text("since")?);
        let pid: Option<i32> = row.try_get("active_pid").map_err(failed)?;
        Ok(Some(Self {
            name: name.to_owned(),
            is_logical: text("slot_type")?.as_deref() == Some("logical"),
            plugin: text("plugin")?,
            database: text("database")?,
            holder: pid.map(|pid| Holder { pid, application, since }),
            wal_status: text("wal_status")?,
            invalidation: text("invalidation")?,
            restart_lsn: lsn("restart_lsn")?,
            sent_lsn: lsn("sent_lsn")?,
            confirmed_lsn: lsn("confirmed_lsn")?,
            server_lsn: lsn("server_lsn")?.unwrap_or_default(),
            retained_bytes: number("retained_bytes")?,
            safe_bytes: number("safe_bytes")?,
            catalog_age: number("catalog_age")?,
            inactive_s: number("inactive_s")?,
        }))
    }

    /// Whether its WAL is gone for good.
    pub fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost") || self.invalidation.is_some()
    }

    /// Bytes between where the server's WAL ends and what was confirmed.
    pub fn lag_bytes(&self) -> u64 {
        self.confirmed_lsn.map_or(0, |confirmed| self.server_lsn.bytes_since(confirmed))
    }

    /// Whether it is of the kind the relay makes, for `database`.
    pub fn is_ours(&self, database: &str) -> bool {
        self.is_logical
            && self.plugin.as_deref() == Some("pgoutput")
            && self.database.as_deref() == Some(database)
    }

    /// Whether the relay can read it from `database`, once nobody else does.
    ///
    /// # Errors
    /// `SourceRejected` when it is of the wrong kind or database, `SlotInvalidated` when it is lost.
    pub fn check(&self, database: &str) -> Result<(), Error> {
        let name = &self.name;
        let wrong = |problem: String| {
            Err(Error::new(
                ErrorKind::SourceRejected,
                format!(
                    "slot {name:?} {problem}; choose another postgres.slot, or drop it with `relay slot drop`"
                ),
            ))
        };
        if !self.is_logical {
            return wrong("is a physical slot".into());
        }
        if self.plugin.as_deref() != Some("pgoutput") {
            let plugin = self.plugin.as_deref().unwrap_or("no plugin");
            return wrong(format!("uses {plugin}, not pgoutput"));
        }
        if self.database.as_deref() != Some(database) {
            let other = self.database.as_deref().unwrap_or_default();
            return wrong(format!("belongs to database {other:?}, not {database:?}"));
        }
        if self.is_lost() {
            let why = match self.invalidation.as_deref() {
                Some(reason) => format!(" ({reason})"),
                None => " (Postgres removed WAL it needed; see max_slot_wal_keep_size)".into(),
            };
            return Err(Error::new(
                ErrorKind::SlotInvalidated,
                format!("slot {name:?} is lost{why}"),
            ));
        }
        Ok(())
    }

    /// Drops the slot called `name`, which nobody may hold.
    ///
    /// # Errors
    /// `SlotInUse` when somebody does, `SourceRejected` when there is none.
    pub async fn drop(client: &Client, name: &str) -> Result<(), Error> {
        let query = include_str!("../../sql/queries/source_slot_drop.sql");
        let result = client.query_one(query, &[&name]).await;
        result.map_err(|error| refusal(&error, &format!("could not drop slot {name:?}")))?;
        Ok(())
    }
}

/// Ends the connection with process id `pid` if it holds the slot called `name`.
pub(super) async fn end_own(client: &Client, name: &str, pid: i32) -> Result<(), Error> {
    let query = include_str!("../../sql/queries/source_end_own.sql");
    let result = client.query(query, &[&name, &pid]).await;
    result.map_err(|error| refusal(&error, "could not end the connection before this one"))?;
    Ok(())
}

/// Creates the slot called `name` and answers where it begins. Postgres waits for the transactions that are open. With
/// `follows_failover`, standbys that synchronise slots get a copy, so that it survives a promotion.
pub(super) async fn create(
    connection: &mut Connection,
    name: &str,
    follows_failover: bool,
) -> Result<Lsn, Error> {
    let what = format!("could not create slot {name:?}");
    let options =
        if follows_failover { "(SNAPSHOT 'nothing', FAILOVER true)" } else { "NOEXPORT_SNAPSHOT" };
    let command =
        format!("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput {options}", quoted(name, '"'));
    let rows = connection.query(&command, &what).await?;
    let start = rows.first().and_then(|row| row.get(1)?.as_deref()?.parse().ok());
    start.ok_or_else(|| Error::new(ErrorKind::Malformed, what).because("no position came back"))
}

impl std::fmt::Display for Holder {
    /// `pid 123 (relay, since 2026-01-01T00:00:00Z)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pid {}", self.pid)?;
        match (&self.application, &self.since) {
            (Some(application), Some(since)) => write!(f, " ({application}, since {since})"),
            (Some(application), None) => write!(f, " ({application})"),
            (None, Some(since)) => write!(f, " (since {since})"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        Slot {
            name: "relay".into(),
            is_logical: true,
            plugin: Some("pgoutput".into()),
            database: Some("app".into()),
            holder: None,
            wal_status: Some("reserved".into()),
            invalidation: None,
            restart_lsn: None,
            sent_lsn: None,
            confirmed_lsn: None,
            server_lsn: Lsn::ZERO,
            retained_bytes: None,
            safe_bytes: None,
            catalog_age: None,
            inactive_s: None,
        }
    }

    fn check(slot: &Slot) -> (ErrorKind, String) {
        let error = slot.check("app").unwrap_err();
        (error.kind(), error.to_string())
    }

    #[test]
    fn a_free_pgoutput_slot_of_our_database_can_be_read() {
        assert!(slot().check("app").is_ok());
    }

    #[test]
    fn who_reads_it_is_named_as_far_as_it_is_known() {
        let holder = |application: Option<&str>, since: Option<&str>| {
            let (application, since) = (application.map(Into::into), since.map(Into::into));
            Holder { pid: 7, application, since }.to_string()
        };
        let full = holder(Some("psql"), Some("2026-01-01T00:00:00Z"));
        assert_eq!(full, "pid 7 (psql, since 2026-01-01T00:00:00Z)");
        assert_eq!(holder(None, None), "pid 7");
    }

    #[test]
    fn what_cannot_be_read_is_named_with_the_reason() {
        let (kind, text) = check(&Slot { wal_status: Some("lost".into()), ..slot() });
        assert_eq!(kind, ErrorKind::SlotInvalidated);
        assert!(text.contains("max_slot_wal_keep_size"));
        let (kind, text) = check(&Slot { plugin: Some("test_decoding".into()), ..slot() });
        assert_eq!(kind, ErrorKind::SourceRejected);
        assert!(text.contains("uses test_decoding"));
        assert!(check(&Slot { database: Some("b".into()), ..slot() }).1.contains("database \"b\""));
        assert!(check(&Slot { is_logical: false, ..slot() }).1.contains("physical"));
    }
}
