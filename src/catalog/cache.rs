//! What is remembered of the catalog, and for how long it may be believed. Pure.
//!
//! **An entry older than [`FRESH`] is never served**: rights that were taken away must not live on because nobody could
//! be asked. Nor is one that may be older than what was known before, because two were asking at the same time, or whose
//! name was found to mean another table. Memory is bounded by [`MOST`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::shapes::{Shapes, composites};
use crate::model::{Snapshot, Table};

/// How long a table is believed. Entries in use are renewed once a second, well before this.
const FRESH: Duration = Duration::from_millis(2500);
/// How long "no such table" is believed.
const ABSENT: Duration = Duration::from_secs(1);
/// How long the composite types of a table wait for a transaction to be seen.
const EARLY: Duration = Duration::from_millis(250);
/// How long an entry nobody uses is kept and renewed.
const IDLE: Duration = Duration::from_mins(1);
/// Entries, and names that were not found, each. The longest unused go first; names are all forgotten.
const MOST: usize = 10_000;

/// Tables by oid, and names that lead nowhere.
#[derive(Debug, Default)]
pub(super) struct Cache {
    tables: HashMap<u32, Entry>,
    absent_names: HashMap<(Box<str>, Box<str>), Instant>,
    shapes: Shapes,
}

#[derive(Debug)]
struct Entry {
    table: Option<Arc<Table>>,
    generation: u64,
    /// When it was asked for; `None` when it is not to be believed.
    fetched_at: Option<Instant>,
    /// When the answer had come: what is asked for later is newer.
    answered_at: Instant,
    used_at: Instant,
    /// What the table was known to be made of, or to have been made of before.
    fingerprint: Option<Fingerprint>,
    /// The composite types it is made of, which change without a word in the WAL.
    composites: Box<[u32]>,
    /// The transactions for whose rows these are known to be right.
    right_for: RightFor,
}

/// A number that changes with what a table's description is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(pub(super) i64);

/// Transactions for whose rows the composite types of a table are right.
#[derive(Debug, Default)]
struct RightFor {
    /// This one.
    xid: Option<u32>,
    /// Those that are seen here.
    seen: Option<Snapshot>,
    /// Since when one is waited for that no query sees.
    waiting_since: Option<Instant>,
}

/// While a question was put to Postgres.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// It was not put before.
    pub(super) began: Instant,
    /// It was answered before.
    pub(super) ended: Instant,
}

/// What the cache says of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Its description, fresh; `None`: there is no such table.
    Fresh(Option<Arc<Table>>),
    /// Its description, fresh but for its composite types, which may have changed since.
    Composed(Arc<Table>),
    /// Ask Postgres.
    Unknown,
}

impl Entry {
    fn is_fresh(&self, now: Instant) -> bool {
        let believed = if self.table.is_some() { FRESH } else { ABSENT };
        self.fetched_at.is_some_and(|fetched_at| now.duration_since(fetched_at) < believed)
    }
}

impl Entry {
    fn is_right_for(&self, xid: u32) -> bool {
        let RightFor { xid: known, seen, .. } = &self.right_for;
        self.composites.is_empty()
            || *known == Some(xid)
            || seen.as_ref().is_some_and(|seen| seen.sees(xid))
    }
}

impl Cache {
    /// The table with this oid, fetched for a relation of `generation` or a newer one.
    pub(super) fn by_oid(&mut self, oid: u32, generation: u64, now: Instant) -> Known {
        match self.tables.get_mut(&oid) {
            Some(entry) if generation <= entry.generation && entry.is_fresh(now) => {
                entry.used_at = now;
                Known::Fresh(entry.table.clone())
            }
            _ => Known::Unknown,
        }
    }

    /// The same for a row that the transaction `xid` wrote.
    pub(super) fn of_row(&mut self, oid: u32, generation: u64, xid: u32, now: Instant) -> Known {
        let known = self.by_oid(oid, generation, now);
        match (self.tables.get(&oid), known) {
            (Some(entry), Known::Fresh(Some(table))) if !entry.is_right_for(xid) => {
                Known::Composed(table)
            }
            (_, known) => known,
        }
    }

    /// Notes that no query sees the transaction that wrote a row of the table. Whether it is to be waited for: a commit
    /// is soon seen, but for one that waits for a standby.
    pub(super) fn wait(&mut self, oid: u32, now: Instant) -> bool {
        self.tables.get_mut(&oid).is_some_and(|entry| {
            let since = *entry.right_for.waiting_since.get_or_insert(now);
            now.duration_since(since) < EARLY
        })
    }

    /// Notes that a table's composite types are right for the row of `xid`.
    pub(super) fn set_right_for(&mut self, oid: u32, xid: u32) {
        if let Some(entry) = self.tables.get_mut(&oid) {
            entry.right_for = RightFor { xid: Some(xid), ..RightFor::default() };
        }
    }

    /// Puts what was found out of the composite types of `before`. Returns what it is now.
    pub(super) fn retype(
        &mut self,
        before: &Arc<Table>,
        mut table: Table,
        seen: Option<Snapshot>,
    ) -> Arc<Table> {
        self.learn(&mut table);
        let is_same = **before == table;
        let table = if is_same { Arc::clone(before) } else { Arc::new(table) };
        if let Some(entry) = self.tables.get_mut(&table.oid)
            && entry.table.as_ref().is_some_and(|held| Arc::ptr_eq(held, before))
        {
            entry.composites = composites(&table).into();
            entry.table = Some(Arc::clone(&table));
            entry.right_for = RightFor { seen, ..RightFor::default() };
        }
        table
    }

    /// Completes a table with what its types were earlier. Other tables made of a type that is not what it was are asked
    /// for again before use.
    fn learn(&mut self, table: &mut Table) {
        let changed = self.shapes.learn(table);
        if changed.is_empty() {
            return;
        }
        for (oid, entry) in &mut self.tables {
            if *oid != table.oid && changed.iter().any(|changed| entry.composites.contains(changed))
            {
                entry.fetched_at = None;
            }
        }
    }

    /// The table of this name. Looks at every entry: names are asked for now and then.
    pub(super) fn by_name(&mut self, schema: &str, name: &str, now: Instant) -> Known {
        let named = |entry: &&mut Entry| {
            let fits = |table: &Arc<Table>| &*table.schema == schema && &*table.name == name;
            entry.is_fresh(now) && entry.table.as_ref().is_some_and(fits)
        };
        if let Some(entry) = self.tables.values_mut().find(named) {
            entry.used_at = now;
            return Known::Fresh(entry.table.clone());
        }
        match self.absent_names.get(&(schema.into(), name.into())) {
            Some(seen) if now.duration_since(*seen) < ABSENT => Known::Fresh(None),
            _ => Known::Unknown,
        }
    }

    /// What was said of a table to a question that was asked after `since`.
    pub(super) fn asked_after(&self, oid: u32, since: Instant) -> Option<Option<Arc<Table>>> {
        let entry = self.tables.get(&oid)?;
        entry.fetched_at.is_some_and(|asked| since < asked).then(|| entry.table.clone())
    }

    /// Puts the answer to a question about a name. Returns what was found.
    pub(super) fn found(
        &mut self,
        (schema, name): &(Box<str>, Box<str>),
        table: Option<Table>,
        span: Span,
    ) -> Option<Arc<Table>> {
        let oid = table.as_ref().map(|table| table.oid);
        for (other, entry) in &mut self.tables {
            let had_name = |table: &Arc<Table>| *table.schema == **schema && *table.name == **name;
            if Some(*other) != oid && entry.table.as_ref().is_some_and(had_name) {
                entry.fetched_at = None;
            }
        }
        let Some(table) = table else {
            if MOST <= self.absent_names.len() {
                self.absent_names.clear();
            }
            self.absent_names.insert((schema.clone(), name.clone()), span.began);
            return None;
        };
        self.absent_names.remove(&(schema.clone(), name.clone()));
        self.put(table.oid, 0, Some(table), span)
    }

    /// Puts the answer to a question about `oid`, asked for a relation of `generation`. Returns what was answered: the
    /// value before when nothing changed, so that pointers stay equal.
    pub(super) fn put(
        &mut self,
        oid: u32,
        generation: u64,
        mut table: Option<Table>,
        span: Span,
    ) -> Option<Arc<Table>> {
        if let Some(table) = &mut table {
            self.learn(table);
        }
        if MOST <= self.tables.len() && !self.tables.contains_key(&oid) {
            self.drop_longest_unused();
        }
        let Some(entry) = self.tables.get_mut(&oid) else {
            let table = table.map(Arc::new);
            let entry = Entry {
                composites: table.as_deref().map(composites).unwrap_or_default().into(),
                right_for: RightFor::default(),
                fingerprint: None,
                table: table.clone(),
                generation,
                fetched_at: Some(span.began),
                answered_at: span.ended,
                used_at: span.began,
            };
            self.tables.insert(oid, entry);
            return table;
        };
        let is_same = entry.table.as_deref() == table.as_ref();
        // Which of two that were asked for at the same time saw more is not known.
        let is_newer = entry.answered_at <= span.began;
        let was_believed = entry.fetched_at.is_some();
        entry.fetched_at = match (is_newer, is_same && was_believed) {
            (true, _) => Some(span.began),
            (false, true) => entry.fetched_at.max(Some(span.began)),
            (false, false) => None,
        };
        entry.answered_at = entry.answered_at.max(span.ended);
        entry.generation = entry.generation.max(generation);
        if !is_same {
            entry.composites = table.as_ref().map(composites).unwrap_or_default().into();
            entry.right_for = RightFor::default();
            entry.fingerprint = None;
            entry.table = table.map(Arc::new);
        }
        entry.used_at = entry.used_at.max(span.began);
        entry.table.clone()
    }

    /// Notes the fingerprint of a table that was read before the table was.
    pub(super) fn fingerprint(&mut self, oid: u32, fingerprint: Fingerprint) {
        if let Some(entry) = self.tables.get_mut(&oid) {
            entry.fingerprint = Some(fingerprint);
        }
    }

    /// Believes an entry for longer, if its fingerprint is still this.
    pub(super) fn confirm(&mut self, oid: u32, fingerprint: Fingerprint, span: Span) -> bool {
        let Some(entry) = self.tables.get_mut(&oid) else { return false };
        // What is doubted is asked for again, and so is what two were told at the same time.
        let is_confirmed = entry.fingerprint == Some(fingerprint)
            && entry.fetched_at.is_some()
            && entry.answered_at <= span.began;
        if is_confirmed {
            entry.fetched_at = Some(span.began);
            entry.answered_at = span.ended;
        }
        is_confirmed
    }

    /// Puts the answer to a renewal, if the entry is still there.
    pub(super) fn renew(&mut self, oid: u32, table: Option<Table>, span: Span) {
        if let Some(entry) = self.tables.get(&oid) {
            let used_at = entry.used_at;
            self.put(oid, 0, table, span);
            if let Some(entry) = self.tables.get_mut(&oid) {
                entry.used_at = used_at;
            }
        }
    }

    /// An entry is to be asked for again before use.
    pub(super) fn doubt(&mut self, oid: u32) {
        if let Some(entry) = self.tables.get_mut(&oid) {
            entry.fetched_at = None;
        }
    }

    /// Forgets what was not used for a minute and names the rest, to be renewed.
    pub(super) fn in_use(&mut self, now: Instant) -> Vec<u32> {
        self.tables.retain(|_, entry| {
            now.duration_since(entry.used_at) < IDLE
                && (entry.table.is_some() || entry.is_fresh(now))
        });
        self.absent_names.retain(|_, seen| now.duration_since(*seen) < ABSENT);
        self.in_use_of(None, now)
    }

    /// The tables of a schema among those in use; of all for `None`.
    pub(super) fn in_use_of(&self, schema: Option<&str>, now: Instant) -> Vec<u32> {
        let is_in_use = |entry: &Entry| {
            let fits = |table: &Arc<Table>| schema.is_none_or(|schema| *table.schema == *schema);
            now.duration_since(entry.used_at) < IDLE && entry.table.as_ref().is_some_and(fits)
        };
        self.tables.iter().filter(|(_, entry)| is_in_use(entry)).map(|(oid, _)| *oid).collect()
    }

    fn drop_longest_unused(&mut self) {
        let longest = self.tables.iter().min_by_key(|(_, entry)| entry.used_at);
        if let Some(oid) = longest.map(|(oid, _)| *oid) {
            self.tables.remove(&oid);
        }
    }
}

#[cfg(test)]
mod tests;
