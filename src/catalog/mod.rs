//! What Postgres knows of the published tables: types, keys, policies, privileges. Cached, refreshed on relation
//! messages and once a second.

pub mod bind;

use std::sync::Arc;

use crate::error::Error;
use crate::model::{Relation, Table};

/// The cache of published tables. Shared.
#[derive(Debug)]
pub struct Catalog {}

impl Catalog {
    /// Opens the catalog connection lazily; `roles` is the allow-list whose access is looked up with each table.
    pub fn new(
        _target: crate::postgres::Target,
        _publication: &str,
        _roles: &[String],
        _stage: crate::shutdown::Stage,
    ) -> Arc<Self> {
        todo!()
    }

    /// The table a change belongs to, at least as new as the relation message that described it. `None`: it is gone.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn table(&self, _relation: &Relation) -> Result<Option<Arc<Table>>, Error> {
        todo!()
    }

    /// The table with this oid (an ancestor of a partition).
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn table_by_oid(&self, _oid: u32) -> Result<Option<Arc<Table>>, Error> {
        todo!()
    }

    /// The table of this exact name, published or not.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn find(&self, _schema: &str, _name: &str) -> Result<Option<Arc<Table>>, Error> {
        todo!()
    }

    /// Whether any published table is in this schema (`None`: at all).
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn publishes(&self, _schema: Option<&str>) -> Result<bool, Error> {
        todo!()
    }
}
