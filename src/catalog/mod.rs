//! What Postgres knows of the published tables: types, keys, policies, privileges. Cached, refreshed on relation
//! messages and once a second.
//!
//! Promises: a table is at least as new as the relation message it is asked for, and never older than a few seconds,
//! so that a revoked right, a new policy or a changed publication takes effect within about a second even when the WAL
//! says nothing of it. What a join is told was so after it asked. A role without USAGE on a table's schema can read none
//! of its columns.
//!
//! Not here: judging rows (`auth::visibility`).

mod acting;
pub mod bind;
mod cache;
mod link;
mod look;
mod lookup;
mod probes;
mod refresh;
mod shapes;
mod together;
mod types;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use self::cache::{Cache, Known, Span};
use self::link::Link;
use self::lookup::Scope;
use self::probes::Probes;
use self::shapes::is_composed;
use self::together::Together;
use self::types::Types;
use crate::error::Error;
use crate::model::{Relation, Snapshot, Table};

/// Schema and name of a table.
type TableName = (Box<str>, Box<str>);

/// What the catalog says of a change's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// What it is like.
    Table(Arc<Table>),
    /// It is gone.
    Gone,
    /// The change's transaction cannot be seen by queries yet; ask again in a moment.
    TooEarly,
}

impl From<Option<Arc<Table>>> for Seen {
    fn from(table: Option<Arc<Table>>) -> Self {
        table.map_or(Self::Gone, Self::Table)
    }
}

/// The cache of published tables. Shared.
#[derive(Debug)]
pub struct Catalog {
    scope: Scope,
    /// What is in use is read through it; the fan-out waits for it.
    link: Link,
    /// Looks up the names clients wrote. Apart from `link`, so that no number of names holds up anything but joins.
    names: Link,
    /// Tries the values clients wrote. Apart from both, so that nothing they write holds up anything but their own joins.
    probes: Probes,
    cache: Mutex<Cache>,
    /// Held while asking, so that callers who want the same table ask once.
    turn: tokio::sync::Mutex<()>,
    /// Joins that ask for a name.
    looks: Together<TableName, Option<Arc<Table>>>,
    /// Joins that ask for a schema, or for everything.
    schemas: Together<Option<Box<str>>, bool>,
    /// Joins that ask which roles there are.
    roles: Together<(), Arc<[String]>>,
}

impl Catalog {
    /// Opens the catalog connection lazily; `roles` is the allow-list whose access is looked up with each table.
    pub fn new(
        target: crate::postgres::Target,
        publication: &str,
        roles: &[String],
        stage: crate::shutdown::Stage,
    ) -> Arc<Self> {
        let catalog = Arc::new(Self {
            scope: Scope { publication: publication.into(), roles: roles.into() },
            link: Link::new(target.clone(), "relay-catalog", "8000", stage.clone()),
            names: Link::new(target.clone(), "relay-names", "2000", stage.clone()),
            probes: Probes::new(&target, &stage),
            cache: Mutex::default(),
            turn: tokio::sync::Mutex::new(()),
            looks: Together::default(),
            schemas: Together::default(),
            roles: Together::default(),
        });
        let renewing = refresh::run(Arc::downgrade(&catalog), stage.clone());
        stage.spawn(renewing);
        catalog
    }

    /// The table a change belongs to, at least as new as the relation message that described it: as a query sees it that
    /// sees the change's transaction, `xid`, too. A transaction may change the rules for the rows it writes.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn table(&self, relation: &Relation, xid: u32) -> Result<Seen, Error> {
        let (oid, generation) = (relation.oid, relation.generation);
        if let Known::Fresh(table) = self.cache().of_row(oid, generation, xid, Instant::now()) {
            return Ok(table.into());
        }
        // Asking is rare and large; a future that carries it would be slow to move for every change.
        Box::pin(self.ask_for(oid, generation, xid)).await
    }

    async fn ask_for(&self, oid: u32, generation: u64, xid: u32) -> Result<Seen, Error> {
        let _turn = self.turn.lock().await;
        let known = self.cache().of_row(oid, generation, xid, Instant::now());
        match known {
            Known::Fresh(table) => return Ok(table.into()),
            Known::Composed(table) => return self.retype(table, xid).await,
            Known::Unknown => {}
        }
        let began = Instant::now();
        let Some(mut tables) = self.fetch_all(vec![oid], Some(xid)).await? else {
            return Ok(Seen::TooEarly);
        };
        let span = Span { began, ended: Instant::now() };
        let mut cache = self.cache();
        let table = cache.put(oid, generation, tables.pop(), span);
        cache.set_right_for(oid, xid);
        Ok(table.into())
    }

    /// Looks at a table's composite types again: they change without a relation message. A query tells for all
    /// transactions that it sees, so there are never more of them than Postgres answers.
    async fn retype(&self, table: Arc<Table>, xid: u32) -> Result<Seen, Error> {
        let composed = table.columns.iter().filter(|column| is_composed(&column.sql_type));
        let oids: Vec<u32> = composed.map(|column| column.sql_type.oid).collect();
        let ask = self.link.ask(|client| {
            let oids = oids.clone();
            async move { Types::fetch(client, &oids).await }.boxed()
        });
        let types = ask.await?;
        let is_seen = types.seen().is_some_and(|seen| seen.sees(xid));
        if !is_seen && self.cache().wait(table.oid, Instant::now()) {
            return Ok(Seen::TooEarly);
        }
        if !is_seen {
            // It takes long to commit for everybody, and its rows are shown as well as can be.
            return Ok(Seen::Table(table));
        }
        let mut now = Table::clone(&table);
        for column in &mut now.columns {
            if oids.contains(&column.sql_type.oid) {
                column.sql_type = types.resolve(column.sql_type.oid);
            }
        }
        Ok(Seen::Table(self.cache().retype(&table, now, types.seen().cloned())))
    }

    /// The table with this oid (an ancestor of a partition).
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn table_by_oid(&self, oid: u32) -> Result<Option<Arc<Table>>, Error> {
        if let Known::Fresh(table) = self.cache().by_oid(oid, 0, Instant::now()) {
            return Ok(table);
        }
        Box::pin(async {
            let _turn = self.turn.lock().await;
            if let Known::Fresh(table) = self.cache().by_oid(oid, 0, Instant::now()) {
                return Ok(table);
            }
            self.ask_now(oid).await
        })
        .await
    }

    /// The table with this oid as it is now: what is remembered of it turned out to be old. Whoever comes at the same time
    /// shares a look that began after it came.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn look_again(&self, oid: u32) -> Result<Option<Arc<Table>>, Error> {
        let since = Instant::now();
        let _turn = self.turn.lock().await;
        let asked = self.cache().asked_after(oid, since);
        match asked {
            Some(table) => Ok(table),
            None => self.ask_now(oid).await,
        }
    }

    /// Asks about one table, when it is one's turn, and remembers the answer.
    async fn ask_now(&self, oid: u32) -> Result<Option<Arc<Table>>, Error> {
        let began = Instant::now();
        let table = self.fetch_all(vec![oid], None).await?.unwrap_or_default().pop();
        let span = Span { began, ended: Instant::now() };
        Ok(self.cache().put(oid, 0, table, span))
    }

    /// The table of this exact name, published or not, as it was a few seconds ago at most.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn find(&self, schema: &str, name: &str) -> Result<Option<Arc<Table>>, Error> {
        if let Known::Fresh(table) = self.cache().by_name(schema, name, Instant::now()) {
            return Ok(table);
        }
        self.look(schema, name).await
    }

    /// Schemas and names of the published tables, not cached.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn published(&self) -> Result<HashSet<(Box<str>, Box<str>)>, Error> {
        lookup::published(&self.link, &self.scope).await
    }

    /// The publication's name.
    pub fn publication(&self) -> &str {
        &self.scope.publication
    }

    /// What queries see now; `None` when it cannot be read.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn snapshot(&self) -> Result<Option<Snapshot>, Error> {
        let ask = self.link.ask(|client| {
            async move {
                let sql = include_str!("../../sql/queries/catalog_snapshot.sql");
                client.query_one(sql, &[]).await?.try_get::<_, String>("seen")
            }
            .boxed()
        });
        Ok(ask.await?.parse().ok())
    }

    /// `None`: the transaction cannot be seen yet.
    async fn fetch_all(
        &self,
        oids: Vec<u32>,
        xid: Option<u32>,
    ) -> Result<Option<Vec<Table>>, Error> {
        self.link
            .ask(|client| {
                let (scope, oids) = (self.scope.clone(), oids.clone());
                async move { lookup::tables(client, &scope, &oids, xid).await }.boxed()
            })
            .await
    }

    /// Those of `oids` that somebody has locked.
    async fn locked(&self, oids: Vec<u32>) -> Result<HashSet<u32>, Error> {
        self.link
            .ask(|client| {
                let oids = oids.clone();
                async move { lookup::locked(client, &oids).await }.boxed()
            })
            .await
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // The cache holds no promise that a panic elsewhere could break half-way.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
