//! Keeping what is remembered true: once a second for everything in use, and at once for a newer relation.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::Catalog;
use crate::error::Error;
use crate::model::{Relation, Table};
use crate::shutdown::Stage;

/// How often everything in use is asked for again.
const PERIOD: Duration = Duration::from_secs(1);
/// How often, and how long in between, a table is asked for that does not look like its relation yet.
const LOOKS: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_millis(1);

/// Renews the entries in use once a second, until the stage stops or the catalog is gone.
pub(super) async fn run(catalog: Weak<Catalog>, stage: Stage) {
    let mut was_failing = false;
    loop {
        tokio::select! {
            () = stage.stopping() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        let Some(catalog) = catalog.upgrade() else { return };
        let renewed = tokio::select! {
            () = stage.stopping() => return,
            renewed = renew(&catalog) => renewed,
        };
        if let Err(error) = &renewed
            && !was_failing
        {
            warn!(%error, "the catalog cannot be read; tables are looked up again before use");
        }
        was_failing = renewed.is_err();
    }
}

async fn renew(catalog: &Catalog) -> Result<(), Error> {
    let asked_at = Instant::now();
    let oids = catalog.cache().in_use(asked_at);
    if oids.is_empty() {
        return Ok(());
    }
    let tables = catalog.fetch_all(oids.clone()).await?;
    let mut tables: HashMap<u32, Table> =
        tables.into_iter().map(|table| (table.oid, table)).collect();
    let mut cache = catalog.cache();
    for oid in oids {
        cache.renew(oid, tables.remove(&oid), asked_at);
    }
    Ok(())
}

/// Asks for the table of a relation message that is newer than what is remembered.
///
/// The WAL runs ahead of what a query sees, so the table may still look as it did before. Then it is asked for again, a
/// few times only: it may as well have been altered once more, and will never look like this relation again.
///
/// # Errors
/// Postgres could not be asked.
pub(super) async fn fetch_for(
    catalog: &Catalog,
    relation: &Relation,
) -> Result<Option<Arc<Table>>, Error> {
    let mut wait = FIRST_WAIT;
    let mut look = 1;
    loop {
        let table = catalog.fetch(relation.oid, relation.generation).await?;
        if look == LOOKS || table.as_ref().is_some_and(|table| resembles(table, relation)) {
            return Ok(table);
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
        look += 1;
    }
}

fn resembles(table: &Table, relation: &Relation) -> bool {
    relation.columns.iter().all(|column| {
        table.column(&column.name).is_some_and(|known| known.sql_type.oid == column.type_oid)
    })
}
