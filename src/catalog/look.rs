//! What a join asks of the catalog itself, and never of what is remembered: the table it names may have been made again
//! a moment ago, and its policies tightened.
//!
//! Promises: what is answered was so after the join asked. It is remembered, so that what the join is shown next, the
//! past included, is judged by nothing older. Joins for the same name share a look.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tokio_postgres::Client;

use super::cache::Span;
use super::lookup::{self, Scope};
use super::{Catalog, TableName};
use crate::error::Error;
use crate::model::Table;

/// How often a name is followed to a table that is gone when it is described.
const FOLLOWED: usize = 3;

impl Catalog {
    /// The table that has this exact name now, published or not.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn look(&self, schema: &str, name: &str) -> Result<Option<Arc<Table>>, Error> {
        let name: TableName = (schema.into(), name.into());
        Box::pin(self.looks.ask(name.clone(), self.look_for(name))).await
    }

    async fn look_for(&self, name: TableName) -> Result<Option<Arc<Table>>, Error> {
        let began = Instant::now();
        let (scope, name) = (&self.scope, &name);
        let ask = self.names.ask(|client| {
            let (scope, name) = (scope.clone(), name.clone());
            async move { by_name(client, &scope, &name).await }.boxed()
        });
        let table = ask.await?;
        let span = Span { began, ended: Instant::now() };
        Ok(self.cache().found(name, table, span))
    }

    /// The tables with these oids, as they are now.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub(super) async fn look_at(&self, oids: &[u32]) -> Result<Vec<Arc<Table>>, Error> {
        let began = Instant::now();
        let ask = self.names.ask(|client| {
            let (scope, oids) = (self.scope.clone(), oids.to_vec());
            async move { lookup::tables(client, &scope, &oids, None).await }.boxed()
        });
        let tables = ask.await?.unwrap_or_default();
        let span = Span { began, ended: Instant::now() };
        let mut cache = self.cache();
        let put = |table: Table| cache.put(table.oid, 0, Some(table), span);
        Ok(tables.into_iter().filter_map(put).collect())
    }

    /// Whether any published table is in this schema now (`None`: at all). What is known of the tables there is asked for
    /// again.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn look_around(&self, schema: Option<&str>) -> Result<bool, Error> {
        let schema: Option<Box<str>> = schema.map(Into::into);
        Box::pin(self.schemas.ask(schema.clone(), self.look_around_in(schema))).await
    }

    async fn look_around_in(&self, schema: Option<Box<str>>) -> Result<bool, Error> {
        let began = Instant::now();
        let oids = self.cache().in_use_of(schema.as_deref(), began);
        let ask = self.names.ask(|client| {
            let (scope, schema, oids) = (self.scope.clone(), schema.clone(), oids.clone());
            async move { around(client, &scope, schema.as_deref(), oids).await }.boxed()
        });
        let (publishes, tables) = ask.await?;
        let span = Span { began, ended: Instant::now() };
        let mut tables: HashMap<u32, Table> =
            tables.into_iter().map(|table| (table.oid, table)).collect();
        let mut cache = self.cache();
        for oid in oids {
            match tables.remove(&oid) {
                Some(table) => cache.renew(oid, Some(table), span),
                // It is gone, or was not looked at because it is being altered.
                None => cache.doubt(oid),
            }
        }
        Ok(publishes)
    }

    /// The roles of the allow-list that do not exist now: their tokens are believed and see nothing.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn missing_roles(&self) -> Result<Arc<[String]>, Error> {
        let asking = async {
            let ask = self.names.ask(|client| {
                let scope = self.scope.clone();
                async move { lookup::missing_roles(client, &scope).await }.boxed()
            });
            Ok(Arc::from(ask.await?))
        };
        self.roles.ask((), asking).await
    }
}

/// The table that has this name. A name may come to mean another table between two questions.
async fn by_name(
    client: &Client,
    scope: &Scope,
    name: &TableName,
) -> Result<Option<Table>, tokio_postgres::Error> {
    for _ in 0..FOLLOWED {
        let Some(oid) = lookup::find(client, &name.0, &name.1).await? else { return Ok(None) };
        let table = lookup::tables(client, scope, &[oid], None).await?.unwrap_or_default().pop();
        if let Some(table) =
            table.filter(|found| *found.schema == *name.0 && *found.name == *name.1)
        {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

/// Whether there is a published table, and those of `oids` that can be described without waiting.
async fn around(
    client: &Client,
    scope: &Scope,
    schema: Option<&str>,
    mut oids: Vec<u32>,
) -> Result<(bool, Vec<Table>), tokio_postgres::Error> {
    let publishes = lookup::publishes(client, scope, schema).await?;
    if !publishes || oids.is_empty() {
        return Ok((publishes, Vec::new()));
    }
    let locked = lookup::locked(client, &oids).await?;
    oids.retain(|oid| !locked.contains(oid));
    Ok((publishes, lookup::tables(client, scope, &oids, None).await?.unwrap_or_default()))
}
