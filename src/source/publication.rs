//! What a stream needs of Postgres, asked before attaching, so that a refusal names the thing and its fix.

use tokio_postgres::Client;

use super::connection::quoted;
use super::messages;
use crate::error::{Error, ErrorKind};
use crate::postgres::refusal;

/// The oldest server the relay speaks to.
const OLDEST: i32 = 140_000;

/// What a stream needs of the server and of the database, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `server_version_num`.
    pub version: i32,
    /// `wal_level`.
    pub wal_level: String,
    /// Whether the server is a standby.
    pub is_standby: bool,
    /// `max_replication_slots`.
    pub slots_allowed: i32,
    /// Replication slots there are.
    pub slots_used: i32,
    /// `max_wal_senders`.
    pub senders_allowed: i32,
    /// Whether the publication exists.
    pub has_publication: bool,
    /// Whether the publication of messages exists.
    pub has_messages: bool,
    /// `pg_database.oid` of the database.
    pub database: u32,
    /// Whether the role is a superuser or has REPLICATION. Managed services have other ways to grant it.
    pub may_replicate: bool,
}

impl Facts {
    /// Asks Postgres.
    ///
    /// # Errors
    /// `SourceUnreachable` or `SourceRejected`.
    pub async fn read(client: &Client, publication: &str) -> Result<Self, Error> {
        let failed = |error| refusal(&error, "could not ask Postgres for its settings");
        let query = include_str!("../../sql/queries/source_facts.sql");
        let row = client
            .query_one(query, &[&publication, &messages::PUBLICATION])
            .await
            .map_err(failed)?;
        Ok(Self {
            version: row.try_get("version").map_err(failed)?,
            wal_level: row.try_get("wal_level").map_err(failed)?,
            is_standby: row.try_get("is_standby").map_err(failed)?,
            slots_allowed: row.try_get("slots_allowed").map_err(failed)?,
            slots_used: row.try_get("slots_used").map_err(failed)?,
            senders_allowed: row.try_get("senders_allowed").map_err(failed)?,
            has_publication: row.try_get("has_publication").map_err(failed)?,
            has_messages: row.try_get("has_messages").map_err(failed)?,
            database: row.try_get("database").map_err(failed)?,
            may_replicate: row.try_get::<_, Option<bool>>("may_replicate").map_err(failed)?
                == Some(true),
        })
    }

    /// Whether a stream of `publication` can start; `needs_slot` says that a slot must be created for it.
    ///
    /// # Errors
    /// `SourceRejected`, naming what is missing and the statement that mends it.
    pub fn check(&self, publication: &str, needs_slot: bool) -> Result<(), Error> {
        let missing = |problem: String| Err(Error::new(ErrorKind::SourceRejected, problem));
        if self.version < OLDEST {
            return missing(format!(
                "PostgreSQL {} is too old; the relay needs 14 or newer",
                self.version / 10_000
            ));
        }
        if self.wal_level != "logical" {
            return missing(format!(
                "wal_level is {}; run `alter system set wal_level = logical` and restart Postgres",
                self.wal_level
            ));
        }
        if self.is_standby && self.version < 160_000 {
            return missing(
                "the server is a standby; name the primary in postgres.url (target_session_attrs=primary)"
                    .into(),
            );
        }
        if !self.has_publication {
            return missing(format!(
                "publication {publication:?} does not exist; run `create publication {}` and add tables to it",
                quoted(publication, '"')
            ));
        }
        if needs_slot && self.slots_used >= self.slots_allowed {
            return missing(format!(
                "all {} replication slots are taken; drop one (`select pg_drop_replication_slot(…)`), or run `alter system set max_replication_slots = {}` and restart Postgres",
                self.slots_allowed,
                self.slots_allowed + 10
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            version: 150_018,
            wal_level: "logical".into(),
            is_standby: false,
            slots_allowed: 1,
            slots_used: 1,
            senders_allowed: 10,
            has_publication: true,
            has_messages: false,
            database: 5,
            may_replicate: true,
        }
    }

    fn problem(facts: &Facts) -> String {
        facts.check("chat \"x\"", true).unwrap_err().to_string()
    }

    #[test]
    fn each_missing_thing_comes_with_its_statement() {
        assert!(facts().check("p", false).is_ok());
        assert!(problem(&facts()).contains("max_replication_slots = 11"));
        let replica = Facts { wal_level: "replica".into(), ..facts() };
        assert!(problem(&replica).contains("alter system set wal_level = logical"));
        let unpublished = Facts { has_publication: false, ..facts() };
        assert!(problem(&unpublished).contains("create publication \"chat \"\"x\"\"\""));
        assert!(problem(&Facts { is_standby: true, ..facts() }).contains("standby"));
        let newer = Facts { is_standby: true, version: 160_000, slots_used: 0, ..facts() };
        assert!(newer.check("p", true).is_ok());
        assert!(problem(&Facts { version: 130_000, ..facts() }).contains("13 is too old"));
    }
}
