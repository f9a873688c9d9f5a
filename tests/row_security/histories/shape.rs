//! A random table: its columns and their values, key, replica identity, partitions, and what of it is published.

use std::collections::BTreeMap;

use crate::chaos::dice::Dice;
use relay::postgres::quote::{identifier as quoted, literal};

pub const ALICE: &str = "00000000-0000-4000-8000-00000000000a";
pub const BOB: &str = "00000000-0000-4000-8000-00000000000b";

/// How many generated columns make a row of more arguments than a function of Postgres takes.
const MANY: u8 = 55;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    Id,
    Part,
    /// The column of a replica identity index.
    Code,
    Owner,
    Team,
    /// The number of the version: no two are the same in a history.
    Ver,
    Body,
    /// A value that is stored out of line.
    Big,
    At,
    /// A date as somebody wrote it.
    Written,
    Score,
    Length,
    Raw,
    Doc,
    Plain,
    /// Of a type in a schema that the client's role may not use.
    Mood,
    /// Of a domain whose check older rows break.
    Small,
    /// Of a domain that refuses nulls.
    Sure,
    Twice,
    /// Generated, of a domain that refuses nulls.
    Drawn,
    /// Generated from a value that is stored out of line.
    Size,
    Many(u8),
}

/// How rows are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Int,
    Text,
    /// Stored out of line.
    LongText,
    Uuid,
    Pair,
    None,
}

/// What the WAL tells of old rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    Default,
    Full,
    Index,
    Nothing,
}

#[derive(Clone, Debug)]
pub struct Shape {
    pub number: u64,
    pub schema: String,
    pub name: String,
    pub columns: Vec<(What, String)>,
    pub key: Key,
    pub identity: Identity,
    pub is_code_long: bool,
    pub is_partitioned: bool,
    /// The publication's column list.
    pub listed: Option<Vec<What>>,
    pub is_virtual: bool,
    /// Whether the relay's own role may use the hidden schema.
    pub may_relay_use: bool,
}

impl Shape {
    /// A table that has at least the columns `needed`.
    pub fn random(dice: &mut Dice, number: u64, needed: &[What], version: u32) -> Self {
        let is_odd = dice.chance(15);
        // Postgres 15 cannot return rows of a partition with a generated column of a domain.
        let is_partitioned = dice.chance(20) && !needed.contains(&What::Drawn);
        let key = match dice.below(20) {
            _ if is_partitioned => Key::Pair,
            0..9 => Key::Int,
            9..11 => Key::Text,
            11..15 => Key::LongText,
            15..17 => Key::Uuid,
            17..19 => Key::Pair,
            _ => Key::None,
        };
        let identity = match dice.below(20) {
            _ if key == Key::None => Identity::Full,
            0..9 => Identity::Default,
            9..15 => Identity::Full,
            15..18 => Identity::Index,
            _ => Identity::Nothing,
        };
        // From 18 on, Postgres refuses changes of tables whose whole old row has columns that are not published.
        let may_generate = |identity| version < 18 || identity != Identity::Full;
        let must_generate = needed.iter().any(|what| !what.inputs().is_empty());
        let (key, identity) = match identity {
            Identity::Index | Identity::Nothing if is_partitioned => (key, Identity::Default),
            Identity::Full if must_generate && !may_generate(identity) && key == Key::None => {
                (Key::Int, Identity::Default)
            }
            Identity::Full if must_generate && !may_generate(identity) => (key, Identity::Default),
            other => (key, other),
        };
        let mut all = vec![What::Id, What::Ver];
        let mut take = |what: What, percent: u64| {
            if !all.contains(&what) && (needed.contains(&what) || dice.chance(percent)) {
                all.push(what);
            }
        };
        take(What::Part, if key == Key::Pair { 100 } else { 0 });
        take(What::Code, if identity == Identity::Index { 100 } else { 0 });
        for what in [What::Owner, What::Team, What::Body] {
            take(what, 80);
        }
        take(What::Big, 40);
        for what in [What::At, What::Written, What::Score, What::Length, What::Raw] {
            take(what, 15);
        }
        for what in [What::Doc, What::Plain, What::Mood, What::Small, What::Sure] {
            take(what, 12);
        }
        if may_generate(identity) {
            take(What::Twice, 12);
            take(What::Drawn, if is_partitioned { 0 } else { 12 });
            take(What::Many(0), 6);
            take(What::Size, 8);
        }
        if all.contains(&What::Many(0)) {
            all.extend((1..MANY).map(What::Many));
        }
        let inputs: Vec<What> = all.iter().flat_map(|what| what.inputs()).copied().collect();
        all.extend(inputs);
        all.sort();
        all.dedup();
        let is_virtual = 18 <= version && dice.chance(50) && !all.contains(&What::Drawn);
        let columns: Vec<_> = all.iter().map(|what| (*what, what.name(is_odd))).collect();
        let mut shape = Self {
            number,
            schema: if dice.chance(20) { format!("own{number}") } else { "public".to_owned() },
            name: if is_odd { format!("T \"{number}\" é") } else { format!("t{number}") },
            columns,
            key,
            identity,
            is_code_long: dice.chance(50),
            is_partitioned,
            listed: None,
            is_virtual,
            may_relay_use: dice.chance(50),
        };
        let may_list = matches!(identity, Identity::Default | Identity::Nothing) && !is_partitioned;
        if may_list && dice.chance(15) {
            let written = shape.written();
            let kept = written
                .into_iter()
                .filter(|what| *what == What::Ver || shape.is_key(*what) || dice.chance(60));
            shape.listed = Some(kept.collect());
        }
        shape
    }

    pub fn has(&self, what: What) -> bool {
        self.columns.iter().any(|(own, _)| *own == what)
    }

    /// The column's name, as it is.
    pub fn plain_name(&self, what: What) -> &str {
        let found = self.columns.iter().find(|(own, _)| *own == what);
        &found.unwrap_or_else(|| panic!("{what:?} is not in {self:?}")).1
    }

    /// The column's name in SQL.
    pub fn column(&self, what: What) -> String {
        quoted(self.plain_name(what))
    }

    /// The table's name in SQL.
    pub fn table(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// The name of a partition, as it is.
    pub fn leaf_name(&self, part: usize) -> String {
        format!("{} leaf{part}", self.name)
    }

    pub fn leaf(&self, part: usize) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.leaf_name(part)))
    }

    /// The tables through which rows are seen: the partitions, and the table itself, which is the last.
    pub fn views(&self) -> Vec<(String, String)> {
        let mut views = Vec::new();
        if self.is_partitioned {
            views.extend((1..=2).map(|part| (self.leaf_name(part), self.leaf(part))));
        }
        views.push((self.name.clone(), self.table()));
        views
    }

    /// The schema that the clients' roles may not use.
    pub fn hidden(&self) -> String {
        format!("hidden{}", self.number)
    }

    /// The columns that are written, generated ones left out.
    pub fn written(&self) -> Vec<What> {
        self.columns.iter().map(|(what, _)| *what).filter(|what| what.inputs().is_empty()).collect()
    }

    pub fn is_key(&self, what: What) -> bool {
        match self.key {
            Key::None => false,
            Key::Pair => matches!(what, What::Id | What::Part),
            Key::Int | Key::Text | Key::LongText | Key::Uuid => what == What::Id,
        }
    }

    /// Whether the WAL has the column of every old row.
    pub fn is_identity(&self, what: What) -> bool {
        match self.identity {
            Identity::Default => self.is_key(what),
            Identity::Full => true,
            Identity::Index => what == What::Code,
            Identity::Nothing => false,
        }
    }

    pub fn is_listed(&self, what: What) -> bool {
        self.listed.as_ref().is_none_or(|listed| listed.contains(&what))
    }

    /// A row's value for a column, as SQL.
    pub fn value(&self, dice: &mut Dice, what: What, row: u64) -> String {
        let pick = |dice: &mut Dice, list: &[&str]| {
            list[usize::try_from(dice.below(list.len() as u64)).unwrap()].to_owned()
        };
        match what {
            What::Id => match self.key {
                Key::Int | Key::Pair | Key::None => row.to_string(),
                Key::Text => format!("'k{row}'"),
                Key::LongText => format!("repeat('{row:04}k', 500)"),
                Key::Uuid => format!("'00000000-0000-4000-8000-{row:012}'"),
            },
            What::Part => (1 + row % 2).to_string(),
            What::Code if self.is_code_long => format!("repeat('{row:04}c', 500)"),
            What::Code => format!("'c{row}'"),
            What::Owner => pick(dice, &["null", &literal(ALICE), &literal(ALICE), &literal(BOB)]),
            What::Team => pick(dice, &["null", "1", "2", "3"]),
            What::Ver => unreachable!("versions are numbered"),
            What::Body => pick(dice, &["null", "'a'", "'42'", "E'it''s \"q\" \\\\ \\n é'", "''"]),
            What::Big => pick(
                dice,
                &["repeat('a', 3000)", "repeat('a', 3000)", "repeat('b', 3000)", "'ab'", "null"],
            ),
            What::At => pick(
                dice,
                &[
                    "'2024-06-01 02:00+00'",
                    "'2024-06-01 13:00+00'",
                    "'2024-06-01 23:30+00'",
                    "null",
                ],
            ),
            What::Written => pick(dice, &["'01/02/2024'", "'02/01/2024'", "'2024-01-03'", "null"]),
            What::Score => pick(dice, &["0.1", "0.30000000000000004", "null"]),
            What::Length => pick(dice, &["'1 day 02:00'", "'90 minutes'", "null"]),
            What::Raw => pick(dice, &["'\\x01ff'", "'\\x'", "null"]),
            What::Doc => pick(
                dice,
                &["'null'", "null", "'[1]'", &format!("'{{\"who\":\"{ALICE}\",\"open\":true}}'")],
            ),
            What::Plain => {
                pick(dice, &["'null'", "null", "'{\"a\": 1}'", "'{\"a\": \"\\u0000\"}'"])
            }
            What::Mood => pick(dice, &["'low'", "'high'", "null"]),
            What::Small => pick(dice, &["3", "7", "null"]),
            What::Sure => pick(dice, &["1", "5"]),
            What::Twice | What::Drawn | What::Size | What::Many(_) => {
                unreachable!("Postgres generates {what:?}")
            }
        }
    }

    /// A new row's values.
    pub fn row(&self, dice: &mut Dice, row: u64, ver: u64) -> BTreeMap<What, String> {
        let value = |what| match what {
            What::Ver => ver.to_string(),
            _ => self.value(dice, what, row),
        };
        self.written()
            .into_iter()
            .zip(self.written().into_iter().map(value).collect::<Vec<_>>())
            .collect()
    }
}

impl What {
    fn name(self, is_odd: bool) -> String {
        match self {
            Self::Body if is_odd => "bo\"dy 1".to_owned(),
            Self::Owner if is_odd => "Owner".to_owned(),
            Self::Id if is_odd => "the id".to_owned(),
            Self::Many(number) => format!("many{number}"),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    /// What a generated column is made of; nothing for others.
    pub const fn inputs(self) -> &'static [Self] {
        match self {
            Self::Twice | Self::Drawn | Self::Many(_) => &[Self::Team],
            Self::Size => &[Self::Big],
            _ => &[],
        }
    }
}

/// Whether a value of [`Shape::value`] is stored out of line.
pub fn is_out_of_line(value: &str) -> bool {
    value.starts_with("repeat(")
}
