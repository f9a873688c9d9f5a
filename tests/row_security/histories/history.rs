//! One history: a table, its policies, and transactions, each judged by Postgres right after it committed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::Value;
use tokio_postgres::SimpleQueryMessage;

use super::compare::{Class, Fault, compare};
use super::expect::{Expected, Place};
use super::late::{Seen, Shifted};
use super::oracle::{self, Judged};
use super::rules::{Guard, Rule};
use super::shape::{Shape, What};
use super::shifts::Shift;
use super::tables::{Grant, Scene};
use super::tally::Tally;
use super::world::{EVERYTHING, World};
use crate::chaos::dice::Dice;
use relay::postgres::quote::identifier as quoted;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Insert,
    Update,
    Delete,
}

impl Event {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// A row as one statement left it.
#[derive(Clone, Debug)]
pub struct Version {
    pub ver: u64,
    pub row: u64,
    pub values: BTreeMap<What, String>,
    /// Postgres' own JSON of it, generated columns included.
    pub record: serde_json::Map<String, Value>,
}

impl Version {
    /// The statement that writes it.
    pub fn insert(&self, shape: &Shape) -> String {
        let names: Vec<String> = self.values.keys().map(|what| shape.column(*what)).collect();
        let values: Vec<&str> = self.values.values().map(String::as_str).collect();
        format!(
            "insert into {} as r ({}) values ({})",
            shape.table(),
            names.join(", "),
            values.join(", ")
        )
    }
}

/// What one statement did, by the places of its versions.
#[derive(Clone, Debug)]
pub struct Change {
    pub event: Event,
    pub old: Option<usize>,
    pub new: Option<usize>,
    /// The columns that an UPDATE sets.
    pub set: BTreeSet<What>,
    pub tags: Vec<&'static str>,
    /// A moment before it.
    pub began: Instant,
}

/// A history under way.
pub struct History<'a> {
    pub world: &'a mut World,
    pub seed: u64,
    pub dice: Dice,
    pub scene: Scene,
    /// Everything that was executed.
    pub log: Vec<String>,
    pub versions: Vec<Version>,
    /// The rows that are stored, by their number.
    pub rows: BTreeMap<u64, usize>,
    pub changes: Vec<Change>,
    /// The first change that is not compared yet.
    compared: usize,
    /// The rights that changed, and when.
    pub shifted: Vec<Shifted>,
    pub next_row: u64,
    pub tags: Vec<String>,
    channels: Vec<String>,
    pub tally: Tally,
    withheld: u64,
    /// What is to be returned by the statements of a batch: the version, where there is one.
    pub batch: Vec<Option<usize>>,
}

impl<'a> History<'a> {
    pub fn new(world: &'a mut World, seed: u64) -> Self {
        let mut dice = Dice::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let guard = Guard::random(&mut dice, &world.roles, 3);
        let mut leaves = Guard::random(&mut dice, &world.roles, 1);
        leaves.policies.retain(|policy| policy.rule != Rule::WholeRow);
        let mut needed = guard.needed();
        needed.extend(leaves.needed());
        let shape = Shape::random(&mut dice, seed, &needed, world.version);
        let grants =
            [&world.roles.guest, &world.roles.user, &world.roles.power, &world.roles.group];
        let grants = grants.map(|role| (role.clone(), Grant::random(&mut dice, &shape))).to_vec();
        let leaves = if shape.is_partitioned { leaves } else { Guard::none() };
        let (has_leaf_grants, is_reversed) = (dice.chance(60), false);
        let scene = Scene { shape, guard, leaves, grants, has_leaf_grants, is_reversed };
        Self {
            world,
            seed,
            dice,
            scene,
            log: Vec::new(),
            versions: Vec::new(),
            rows: BTreeMap::new(),
            changes: Vec::new(),
            compared: 0,
            shifted: Vec::new(),
            next_row: 1,
            tags: Vec::new(),
            channels: vec![EVERYTHING.to_owned()],
            tally: Tally { histories: 1, ..Tally::default() },
            withheld: 0,
            batch: Vec::new(),
        }
    }

    /// The whole of it. Returns what it came to.
    pub async fn run(mut self) -> Tally {
        let began = Instant::now();
        self.withheld = self.world.withheld();
        self.note_about();
        self.set_up().await;
        let played = self.play().await;
        if let Err(what) = played {
            self.fault(Class::Stalled, "everybody".to_owned(), what, Vec::new());
        }
        self.clean_up().await;
        let withheld = self.world.withheld() - self.withheld;
        let seen = self.tally.withheld.values().sum::<u64>() + self.tally.withheld_without;
        if withheld < seen {
            let detail = format!("{seen} changes were withheld and told, {withheld} counted");
            self.fault(Class::Uncounted, "everybody".to_owned(), detail, Vec::new());
        }
        self.tally.took.push((began.elapsed(), self.seed));
        self.tally.changes = self.changes.len() as u64;
        for tag in &self.tags {
            *self.tally.about.entry(tag.clone()).or_default() += 1;
        }
        if !self.tally.faults.is_empty() {
            let log = self.log.join("\n");
            self.tally.faults[0].detail.push_str(&format!("\n    after\n{log}"));
        }
        self.tally
    }

    async fn set_up(&mut self) {
        let roles = self.world.roles.clone();
        self.execute(&self.scene.world(&roles)).await;
        self.execute(&self.scene.table()).await;
        let count = self.dice.below(4);
        let mut sql = String::new();
        for _ in 0..count {
            self.insert(&mut sql, "before");
        }
        self.commit(&sql).await;
        // What was there before is not told.
        self.changes.clear();
        if self.scene.shape.has(What::Small) {
            self.execute(&self.scene.late_check()).await;
        }
        self.execute(&self.scene.publish()).await;
        if self.scene.shape.is_partitioned {
            let channel = format!("parent {}", self.seed);
            let (schema, name) = (self.scene.shape.schema.clone(), self.scene.shape.name.clone());
            for eye in &mut self.world.eyes {
                eye.join(&channel, &schema, &name).await;
            }
            self.channels.push(channel);
        }
    }

    async fn play(&mut self) -> Result<(), String> {
        let mut is_recreated = false;
        let place = self.world.place.clone();
        for phase in 0..=1 + self.dice.below(2) {
            let chosen = self.dice.below(100);
            let is_partitioned = self.scene.shape.is_partitioned;
            match chosen {
                _ if phase == 0 => self.burst().await,
                0..50 => self.shift().await,
                50..85 if is_partitioned => self.shift().await,
                50..65 if !is_partitioned => {
                    self.recreate().await;
                    is_recreated = true;
                }
                _ => self.burst().await,
            }
            self.settle().await?;
        }
        if !is_recreated && self.dice.chance(25) {
            self.resume(&place).await?;
        }
        Ok(())
    }

    /// Judges what was committed since the last time, waits until it arrived, and compares.
    async fn settle(&mut self) -> Result<(), String> {
        let judged = self.judge(self.compared).await;
        let marked = self.world.mark(&self.channels.clone()).await;
        let from = std::mem::replace(&mut self.compared, self.changes.len());
        for who in 0..self.world.eyes.len() {
            for channel in self.channels.clone() {
                let is_parent = channel != EVERYTHING;
                let expected = self.expected(&judged, who, from, is_parent);
                self.compare(who, &channel, &expected);
            }
        }
        marked
    }

    /// What Postgres says now of the versions of all changes from one on.
    async fn judge(&mut self, from: usize) -> Judged {
        let changes = &self.changes[from..];
        let wanted: BTreeSet<usize> =
            changes.iter().flat_map(|change| [change.old, change.new]).flatten().collect();
        let wanted: Vec<usize> = wanted.into_iter().collect();
        let stored = |at: usize| self.rows.get(&self.versions[at].row) == Some(&at);
        oracle::ask(self.world, &self.scene.shape, &self.versions, &wanted, &stored).await
    }

    fn expected(&self, judged: &Judged, who: usize, from: usize, is_parent: bool) -> Vec<Expected> {
        let shape = &self.scene.shape;
        let (name, version) = (self.world.eyes[who].name, self.world.version);
        let of_table = shape.views().len() - 1;
        let of = |(at, change): (usize, &Change)| {
            let row = self.versions[change.new.or(change.old).unwrap()].row;
            let leaf = usize::try_from(row % 2).unwrap();
            let view = match (shape.is_partitioned, is_parent) {
                (false, _) => 0,
                (true, false) => leaf,
                (true, true) => 2,
            };
            let guard = if view == 2 || !shape.is_partitioned {
                &self.scene.guard
            } else {
                &self.scene.leaves
            };
            let seen = Seen {
                at,
                began: change.began,
                who: name,
                shape,
                is_of_table: view == of_table,
                is_guarded: judged.rights[view][who].guarded,
                version,
            };
            let is_late = self.shifted.iter().any(|shifted| shifted.excuses(&seen));
            let is_opened = self.shifted.iter().any(|shifted| shifted.opens(change.began));
            let (versions, tags) = (&self.versions, &self.tags);
            Place { shape, guard, versions, judged, view, who, tags, is_late, is_opened }
                .expected(change)
        };
        self.changes.iter().enumerate().skip(from).map(of).collect()
    }

    fn compare(&mut self, who: usize, channel: &str, expected: &[Expected]) {
        let heard = self.world.eyes[who].take(channel);
        let result = compare(expected, &heard);
        self.tally.delivered += result.delivered;
        self.tally.hidden += result.hidden;
        self.tally.late += result.late;
        self.tally.withheld_without += result.withheld_without;
        for excuse in result.withheld {
            *self.tally.withheld.entry(excuse).or_default() += 1;
        }
        let name = format!("{} in {channel:?}", self.world.eyes[who].name);
        for (class, detail, tags) in result.faults {
            self.fault(class, name.clone(), detail, tags);
        }
    }

    fn fault(&mut self, class: Class, who: String, detail: String, tags: Vec<String>) {
        let tags = if tags.is_empty() { self.tags.clone() } else { tags };
        self.tally.faults.push(Fault { class, seed: self.seed, who, detail, tags });
    }

    /// Somebody joins again with a place before all this, perhaps right after rights were taken away.
    async fn resume(&mut self, place: &Value) -> Result<(), String> {
        self.tags.push("since".to_owned());
        let who = usize::try_from(self.dice.below(self.world.eyes.len() as u64)).unwrap();
        if self.dice.chance(60) {
            let shift = Shift::tightening(&mut self.dice, &self.scene);
            self.tags.extend([format!("since-{shift:?}"), "since-shift".to_owned()]);
            let roles = self.world.roles.clone();
            self.execute(&shift.sql(&self.scene, &roles)).await;
        }
        let channel = format!("since {}", self.seed);
        let (shape, is_named) = (&self.scene.shape, self.dice.chance(50));
        let named = (&*shape.schema, &*shape.name);
        let named = (is_named && !shape.is_partitioned).then_some(named);
        self.world.eyes[who].join_since(&channel, place, named).await;
        // A join, and what it is shown of the past, is never judged by what was known before it.
        self.shifted.clear();
        let judged = self.judge(0).await;
        let marked = self.world.mark_for(who, &channel).await;
        let expected = self.expected(&judged, who, 0, false);
        self.compare(who, &channel, &expected);
        self.world.eyes[who].socket.leave(&channel).await;
        marked
    }

    async fn clean_up(&mut self) {
        for channel in self.channels.clone().iter().skip(1) {
            for eye in &mut self.world.eyes {
                eye.socket.leave(channel).await;
            }
        }
        let roles = self.world.roles.clone();
        self.execute(&Shift::restored(&roles)).await;
        self.execute(&self.scene.removal()).await;
    }

    async fn execute(&mut self, sql: &str) {
        self.log.push(sql.to_owned());
        if let Err(error) = self.world.writer.batch_execute(sql).await {
            panic!("RIGHTS_SEED={}: {error:?}\nin {}", self.seed, self.log.join("\n"));
        }
    }

    /// Runs statements that were drafted, and takes down what they returned.
    pub async fn commit(&mut self, sql: &str) {
        self.log.push(sql.to_owned());
        let answer = match self.world.writer.simple_query(sql).await {
            Ok(answer) => answer,
            Err(error) => {
                panic!("RIGHTS_SEED={}: {error:?}\nin {}", self.seed, self.log.join("\n"))
            }
        };
        let rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let batch = std::mem::take(&mut self.batch);
        let rows: Vec<&str> = rows.collect();
        assert_eq!(rows.len(), batch.len(), "RIGHTS_SEED={}\n{}", self.seed, self.log.join("\n"));
        for (text, version) in rows.iter().zip(batch) {
            if let Some(version) = version {
                self.versions[version].record = serde_json::from_str(text).unwrap();
            }
        }
    }

    pub fn note_about(&mut self) {
        let shape = &self.scene.shape;
        let mut tags = vec![
            format!("world{}", self.world.number),
            format!("{:?}", shape.key),
            format!("{:?}", shape.identity),
        ];
        let facts = [
            ("partitioned", shape.is_partitioned),
            ("column-list", shape.listed.is_some()),
            ("own-schema", shape.schema != "public"),
            ("odd-name", quoted(&shape.name).contains("\"\"")),
            ("out-of-line", shape.has(What::Big)),
            ("long-code", shape.has(What::Code) && shape.is_code_long),
            ("many-generated", shape.has(What::Many(1))),
            ("virtual", shape.is_virtual && shape.has(What::Twice)),
            ("domain-generated", shape.has(What::Drawn)),
            ("domain-not-null", shape.has(What::Sure)),
            ("domain-not-valid", shape.has(What::Small)),
            ("hidden-type", shape.has(What::Mood)),
            ("json", shape.has(What::Plain)),
            ("unguarded", !self.scene.guard.is_enabled),
            ("relay-may-use", shape.may_relay_use),
        ];
        tags.extend(facts.iter().filter(|(_, is)| *is).map(|(tag, _)| (*tag).to_owned()));
        tags.extend(self.scene.rules().iter().map(|rule| format!("{rule:?}")));
        self.tags = tags;
    }
}
