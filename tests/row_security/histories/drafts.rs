//! Statements that change one row each, drafted before they run, and what each of them does.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Instant;

use super::history::{Change, Event, History, Version};
use super::shape::{Identity, Key, What};

impl History<'_> {
    fn ver(&self) -> u64 {
        self.versions.len() as u64 + 1
    }

    fn returning(&mut self, sql: &mut String, version: Option<usize>) {
        sql.push_str(" returning row_to_json(r)::text;");
        self.batch.push(version);
    }

    pub fn insert(&mut self, sql: &mut String, tag: &'static str) -> u64 {
        let row = self.next_row;
        self.next_row += 1;
        let ver = self.ver();
        let mut values = self.scene.shape.row(&mut self.dice, row, ver);
        // Older rows break a check that came later.
        if tag == "before" && self.scene.shape.has(What::Small) {
            values.insert(What::Small, "5000".to_owned());
        }
        let version = Version { ver, row, values, record: serde_json::Map::new() };
        sql.push_str(&version.insert(&self.scene.shape));
        self.versions.push(version);
        let at = self.versions.len() - 1;
        self.returning(sql, Some(at));
        self.rows.insert(row, at);
        self.changes.push(Change {
            event: Event::Insert,
            old: None,
            new: Some(at),
            set: BTreeSet::new(),
            tags: vec![tag],
            began: Instant::now(),
        });
        row
    }

    pub fn update(&mut self, sql: &mut String, row: u64, tag: &'static str) {
        let (old, ver) = (self.rows[&row], self.ver());
        let shape = self.scene.shape.clone();
        let mut values = self.versions[old].values.clone();
        let mut changeable = shape.written();
        changeable.retain(|what| match what {
            What::Id | What::Part | What::Code | What::Ver => false,
            // Left alone, it is not in the WAL.
            What::Big => self.dice.chance(20),
            What::Small => self.dice.chance(30),
            _ => true,
        });
        let mut set = BTreeSet::from([What::Ver]);
        for _ in 0..self.dice.below(3) {
            if let Some(what) = changeable
                .get(usize::try_from(self.dice.below(changeable.len().max(1) as u64)).unwrap())
            {
                set.insert(*what);
            }
        }
        let mut tags = vec![tag];
        if shape.key == Key::Int && self.dice.chance(8) {
            set.insert(What::Id);
            tags.push("key-changed");
        }
        let mut parts = Vec::new();
        for what in &set {
            let value = match what {
                What::Ver => ver.to_string(),
                What::Id => (1000 + ver).to_string(),
                other => shape.value(&mut self.dice, *other, row),
            };
            parts.push(format!("{} = {value}", shape.column(*what)));
            values.insert(*what, value);
        }
        let before = self.versions[old].ver;
        write!(sql, "update {} as r set {} where ver = {before}", shape.table(), parts.join(", "))
            .unwrap();
        self.versions.push(Version { ver, row, values, record: serde_json::Map::new() });
        let at = self.versions.len() - 1;
        self.returning(sql, Some(at));
        self.rows.insert(row, at);
        self.changes.push(Change {
            event: Event::Update,
            old: Some(old),
            new: Some(at),
            set,
            tags,
            began: Instant::now(),
        });
    }

    pub fn delete(&mut self, sql: &mut String, row: u64, tag: &'static str) {
        let old = self.rows.remove(&row).unwrap();
        write!(
            sql,
            "delete from {} as r where ver = {}",
            self.scene.shape.table(),
            self.versions[old].ver
        )
        .unwrap();
        self.returning(sql, None);
        self.changes.push(Change {
            event: Event::Delete,
            old: Some(old),
            new: None,
            set: BTreeSet::new(),
            tags: vec![tag],
            began: Instant::now(),
        });
    }

    /// Whether rows may be changed and deleted.
    pub fn may_change(&self) -> bool {
        self.scene.shape.identity != Identity::Nothing
    }
}
