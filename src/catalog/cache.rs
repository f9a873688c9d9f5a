//! What is remembered of the catalog, and for how long it may be believed. Pure.
//!
//! **An entry older than [`FRESH`] is never served**: rights that were taken away must not live on because nobody could
//! be asked. Memory is bounded by [`MOST`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Table;

/// How long a table is believed. Entries in use are renewed once a second, well before this.
const FRESH: Duration = Duration::from_millis(2500);
/// How long "no such table" is believed.
const ABSENT: Duration = Duration::from_secs(1);
/// How long an entry nobody uses is kept and renewed.
const IDLE: Duration = Duration::from_mins(1);
/// Entries, and names that were not found, each. The longest unused go first; names are all forgotten.
const MOST: usize = 10_000;

/// Tables by oid, and names that lead nowhere.
#[derive(Debug, Default)]
pub(super) struct Cache {
    tables: HashMap<u32, Entry>,
    absent_names: HashMap<(Box<str>, Box<str>), Instant>,
    publishes: HashMap<Option<Box<str>>, (Instant, bool)>,
    missing_roles: Option<(Instant, Arc<[String]>)>,
}

#[derive(Debug)]
struct Entry {
    table: Option<Arc<Table>>,
    generation: u64,
    fetched_at: Instant,
    used_at: Instant,
}

/// What the cache says of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Its description, fresh; `None`: there is no such table.
    Fresh(Option<Arc<Table>>),
    /// Ask Postgres.
    Unknown,
}

impl Entry {
    fn is_fresh(&self, now: Instant) -> bool {
        let believed = if self.table.is_some() { FRESH } else { ABSENT };
        now.duration_since(self.fetched_at) < believed
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

    /// The table of this name. Looks at every entry: names are asked for at joins only.
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

    /// Remembers that there is no table of this name.
    pub(super) fn set_absent(&mut self, schema: &str, name: &str, now: Instant) {
        if MOST <= self.absent_names.len() {
            self.absent_names.clear();
        }
        self.absent_names.insert((schema.into(), name.into()), now);
    }

    /// Whether the schema has published tables, when that was asked within the last second.
    pub(super) fn publishes(&self, schema: Option<&str>, now: Instant) -> Option<bool> {
        let (seen, publishes) = self.publishes.get(&schema.map(Into::into))?;
        (now.duration_since(*seen) < ABSENT).then_some(*publishes)
    }

    /// Remembers whether the schema has published tables.
    pub(super) fn set_publishes(&mut self, schema: Option<&str>, publishes: bool, now: Instant) {
        if MOST <= self.publishes.len() {
            self.publishes.clear();
        }
        self.publishes.insert(schema.map(Into::into), (now, publishes));
    }

    /// The allowed roles that do not exist, when that was asked within the last second.
    pub(super) fn missing_roles(&self, now: Instant) -> Option<Arc<[String]>> {
        let (seen, missing) = self.missing_roles.as_ref()?;
        (now.duration_since(*seen) < ABSENT).then(|| Arc::clone(missing))
    }

    /// Remembers which allowed roles do not exist.
    pub(super) fn set_missing_roles(&mut self, missing: &Arc<[String]>, now: Instant) {
        self.missing_roles = Some((now, Arc::clone(missing)));
    }

    /// Puts the answer to a question about `oid`, asked at `asked_at` for a relation of `generation`. Returns what is
    /// remembered: the value before when nothing changed, so that pointers stay equal.
    pub(super) fn put(
        &mut self,
        oid: u32,
        generation: u64,
        table: Option<Table>,
        asked_at: Instant,
    ) -> Option<Arc<Table>> {
        if MOST <= self.tables.len() && !self.tables.contains_key(&oid) {
            self.drop_longest_unused();
        }
        let entry = self.tables.entry(oid).or_insert(Entry {
            table: None,
            generation,
            fetched_at: asked_at,
            used_at: asked_at,
        });
        entry.generation = entry.generation.max(generation);
        entry.fetched_at = asked_at;
        if entry.table.as_deref() != table.as_ref() {
            entry.table = table.map(Arc::new);
        }
        entry.table.clone()
    }

    /// Puts the answer to a renewal asked at `asked_at`, unless something newer was put meanwhile.
    pub(super) fn renew(&mut self, oid: u32, table: Option<Table>, asked_at: Instant) {
        let Some(entry) = self.tables.get(&oid) else { return };
        if entry.fetched_at <= asked_at {
            self.put(oid, 0, table, asked_at);
        }
    }

    /// Forgets what was not used for a minute and names the rest, to be renewed.
    pub(super) fn in_use(&mut self, now: Instant) -> Vec<u32> {
        self.tables.retain(|_, entry| {
            now.duration_since(entry.used_at) < IDLE
                && (entry.table.is_some() || entry.is_fresh(now))
        });
        self.absent_names.retain(|_, seen| now.duration_since(*seen) < ABSENT);
        self.publishes.retain(|_, (seen, _)| now.duration_since(*seen) < ABSENT);
        self.tables.iter().filter(|(_, entry)| entry.table.is_some()).map(|(oid, _)| *oid).collect()
    }

    fn drop_longest_unused(&mut self) {
        let longest = self.tables.iter().min_by_key(|(_, entry)| entry.used_at);
        if let Some(oid) = longest.map(|(oid, _)| *oid) {
            self.tables.remove(&oid);
        }
    }
}
