//! What Postgres knows of the published tables: types, keys, policies, privileges. Cached, refreshed on relation
//! messages and once a second.
//!
//! Promises: a table is at least as new as the relation message it is asked for, and never older than a few seconds,
//! so that a revoked right, a new policy or a changed publication takes effect within about a second even when the WAL
//! says nothing of it. A role without USAGE on a table's schema can read none of its columns.
//!
//! Not here: judging rows (`auth::visibility`).

pub mod bind;
mod cache;
mod link;
mod lookup;
mod probes;
mod refresh;
mod turns;
mod types;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use self::cache::{Cache, Known};
use self::link::{Link, in_time};
use self::lookup::Scope;
use self::probes::Probes;
use crate::error::Error;
use crate::model::{Relation, Snapshot, Table};

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
    /// The same for names. Whoever holds `turn` never waits for it.
    naming: tokio::sync::Mutex<()>,
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
            naming: tokio::sync::Mutex::new(()),
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
        if let Known::Fresh(table) = self.cache().by_oid(oid, generation, Instant::now()) {
            return Ok(table.into());
        }
        // Asking is rare and large; a future that carries it would be slow to move for every change.
        Box::pin(self.ask_for(oid, generation, xid)).await
    }

    async fn ask_for(&self, oid: u32, generation: u64, xid: u32) -> Result<Seen, Error> {
        let _turn = self.turn.lock().await;
        if let Known::Fresh(table) = self.cache().by_oid(oid, generation, Instant::now()) {
            return Ok(table.into());
        }
        let asked_at = Instant::now();
        let Some(mut tables) = self.fetch_all(vec![oid], Some(xid)).await? else {
            return Ok(Seen::TooEarly);
        };
        Ok(self.cache().put(oid, generation, tables.pop(), asked_at).into())
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
            self.fetch(oid, 0).await
        })
        .await
    }

    /// The table with this oid as it is now: what is remembered of it turned out to be old.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn look_again(&self, oid: u32) -> Result<Option<Arc<Table>>, Error> {
        let _turn = self.turn.lock().await;
        self.fetch(oid, 0).await
    }

    /// The table of this exact name, published or not.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn find(&self, schema: &str, name: &str) -> Result<Option<Arc<Table>>, Error> {
        if let Known::Fresh(table) = self.cache().by_name(schema, name, Instant::now()) {
            return Ok(table);
        }
        let _naming = in_time(self.naming.lock()).await?;
        if let Known::Fresh(table) = self.cache().by_name(schema, name, Instant::now()) {
            return Ok(table);
        }
        let (asked_schema, asked_name) = (schema.to_owned(), name.to_owned());
        let found = self
            .names
            .ask(move |client| {
                let (schema, name) = (asked_schema.clone(), asked_name.clone());
                async move { lookup::find(client, &schema, &name).await }.boxed()
            })
            .await?;
        let Some(oid) = found else {
            self.cache().set_absent(schema, name, Instant::now());
            return Ok(None);
        };
        let _turn = self.turn.lock().await;
        if let Known::Fresh(table @ Some(_)) = self.cache().by_name(schema, name, Instant::now()) {
            return Ok(table);
        }
        self.fetch(oid, 0).await
    }

    /// Whether any published table is in this schema (`None`: at all).
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn publishes(&self, schema: Option<&str>) -> Result<bool, Error> {
        if let Some(known) = self.cache().publishes(schema, Instant::now()) {
            return Ok(known);
        }
        let asked = schema.map(str::to_owned);
        let publishes = self
            .names
            .ask(|client| {
                let (scope, schema) = (self.scope.clone(), asked.clone());
                async move { lookup::publishes(client, &scope, schema.as_deref()).await }.boxed()
            })
            .await?;
        self.cache().set_publishes(schema, publishes, Instant::now());
        Ok(publishes)
    }

    /// Schemas and names of the published tables, not cached.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn published(&self) -> Result<HashSet<(Box<str>, Box<str>)>, Error> {
        self.link
            .ask(|client| {
                let scope = self.scope.clone();
                async move { lookup::published(client, &scope).await }.boxed()
            })
            .await
    }

    /// The publication's name.
    pub fn publication(&self) -> &str {
        &self.scope.publication
    }

    /// The roles of the allow-list that do not exist: their tokens are believed and see nothing.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn missing_roles(&self) -> Result<Arc<[String]>, Error> {
        if let Some(known) = self.cache().missing_roles(Instant::now()) {
            return Ok(known);
        }
        let missing = self
            .names
            .ask(|client| {
                let scope = self.scope.clone();
                async move { lookup::missing_roles(client, &scope).await }.boxed()
            })
            .await?;
        let missing = Arc::from(missing);
        self.cache().set_missing_roles(&missing, Instant::now());
        Ok(missing)
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

    /// Asks Postgres about one table and remembers the answer.
    async fn fetch(&self, oid: u32, generation: u64) -> Result<Option<Arc<Table>>, Error> {
        let asked_at = Instant::now();
        let table = self.fetch_all(vec![oid], None).await?.unwrap_or_default().pop();
        Ok(self.cache().put(oid, generation, table, asked_at))
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
