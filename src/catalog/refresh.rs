//! Keeping what is remembered true: once a second for everything in use.
//!
//! Promises: once a second one statement, which stays prepared, asks whether anything has changed of what is remembered; only
//! what may have is asked for again. What was found out after its fingerprint was read is taken for changed the next time.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::cache::Fingerprint;
use super::cache::Span;
use super::{Catalog, lookup};
use crate::error::Error;
use crate::model::Table;
use crate::shutdown::Stage;

/// How often everything in use is asked for again.
const PERIOD: Duration = Duration::from_secs(1);

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
    let mut oids = catalog.cache().in_use(Instant::now());
    if oids.is_empty() {
        return Ok(());
    }
    let began = Instant::now();
    let fingerprints = lookup::fingerprints(&catalog.link, &catalog.scope, &oids).await?;
    let span = Span { began, ended: Instant::now() };
    oids.retain(|oid| {
        fingerprints.get(oid).is_none_or(|fingerprint| {
            !catalog.cache().confirm(*oid, Fingerprint(*fingerprint), span)
        })
    });
    if oids.is_empty() {
        return Ok(());
    }
    // A table that is being altered is looked up again before use; it must not hold up the others.
    let locked = catalog.locked(oids.clone()).await?;
    oids.retain(|oid| !locked.contains(oid));
    let began = Instant::now();
    let tables = catalog.fetch_all(oids.clone(), None).await?.unwrap_or_default();
    let mut tables: HashMap<u32, Table> =
        tables.into_iter().map(|table| (table.oid, table)).collect();
    let span = Span { began, ended: Instant::now() };
    let mut cache = catalog.cache();
    for oid in oids {
        cache.renew(oid, tables.remove(&oid), span);
        // The fingerprint is older than what was found out now: what changed in between changes it.
        if let Some(fingerprint) = fingerprints.get(&oid) {
            cache.fingerprint(oid, Fingerprint(*fingerprint));
        }
    }
    Ok(())
}
