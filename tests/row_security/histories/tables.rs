//! The SQL that makes a table and everything that belongs to it, once and again.

use std::fmt::Write as _;

use super::rules::{Guard, Rule};
use super::shape::{Identity, Key, Shape, What};
use super::world::Roles;
use crate::chaos::dice::Dice;
use relay::postgres::quote::identifier as quoted;

/// What a role may select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    Table,
    /// All columns but one of the key.
    WithoutKey,
    /// All columns but the text.
    WithoutBody,
    Nothing,
}

impl Grant {
    pub fn random(dice: &mut Dice, shape: &Shape) -> Self {
        if shape.identity == Identity::Nothing {
            return Self::Table;
        }
        match dice.below(20) {
            0 => Self::WithoutKey,
            1..3 => Self::WithoutBody,
            3 => Self::Nothing,
            _ => Self::Table,
        }
    }
}

/// A table, what guards it, and who may select from it.
#[derive(Clone, Debug)]
pub struct Scene {
    pub shape: Shape,
    pub guard: Guard,
    /// What guards the partitions when somebody reads them under their own names.
    pub leaves: Guard,
    pub grants: Vec<(String, Grant)>,
    pub has_leaf_grants: bool,
    /// Whether columns are in the opposite order, as after a restore.
    pub is_reversed: bool,
}

impl Scene {
    /// Schemas, types and functions that outlive the table.
    pub fn world(&self, roles: &Roles) -> String {
        let (shape, number) = (&self.shape, self.shape.number);
        let everybody = roles.all();
        let mut sql = format!(
            "create schema {hidden}; create type {hidden}.mood as enum ('low', 'high');
             create domain public.small{number} as int; create domain public.sure{number} as int not null;",
            hidden = shape.hidden()
        );
        if shape.may_relay_use {
            write!(sql, "grant usage on schema {} to relay;", shape.hidden()).unwrap();
        }
        if shape.schema != "public" {
            let schema = quoted(&shape.schema);
            write!(sql, "create schema {schema}; grant usage on schema {schema} to {everybody};")
                .unwrap();
        }
        for rule in self.rules() {
            if let Some(made) = rule.makes(shape, &everybody) {
                sql.push_str(&made);
            }
        }
        sql
    }

    pub fn rules(&self) -> Vec<Rule> {
        let mut rules: Vec<Rule> = Vec::new();
        for policy in self.guard.policies.iter().chain(&self.leaves.policies) {
            if !rules.contains(&policy.rule) {
                rules.push(policy.rule);
            }
        }
        rules
    }

    /// The table itself, its policies and grants.
    pub fn table(&self) -> String {
        let shape = &self.shape;
        let table = shape.table();
        let mut columns: Vec<String> =
            shape.columns.iter().map(|(what, _)| self.column(*what)).collect();
        if self.is_reversed {
            columns.reverse();
        }
        match shape.key {
            Key::None => {}
            Key::Pair => columns.push(format!(
                "primary key ({}, {})",
                shape.column(What::Part),
                shape.column(What::Id)
            )),
            _ => columns.push(format!("primary key ({})", shape.column(What::Id))),
        }
        let mut sql = format!("create table {table} ({})", columns.join(", "));
        if shape.is_partitioned {
            write!(sql, " partition by list ({});", shape.column(What::Part)).unwrap();
            for part in 1..=2 {
                let leaf = shape.leaf(part);
                write!(sql, "create table {leaf} partition of {table} for values in ({part});")
                    .unwrap();
                self.push_leaf(&mut sql, part, &leaf);
            }
        } else {
            sql.push(';');
            self.push_identity(&mut sql, &table);
        }
        for what in [What::Big, What::Id, What::Code] {
            let is_long = match what {
                What::Id => shape.key == Key::LongText,
                _ => shape.has(what),
            };
            if is_long {
                let column = shape.column(what);
                write!(sql, "alter table {table} alter column {column} set storage external;")
                    .unwrap();
                for part in (1..=2).filter(|_| shape.is_partitioned) {
                    let leaf = shape.leaf(part);
                    write!(sql, "alter table {leaf} alter column {column} set storage external;")
                        .unwrap();
                }
            }
        }
        sql.push_str(&self.guard.sql(shape, &table, &shape.name));
        for (role, grant) in &self.grants {
            sql.push_str(&self.grant(role, *grant));
        }
        sql
    }

    fn push_leaf(&self, sql: &mut String, part: usize, leaf: &str) {
        self.push_identity(sql, leaf);
        sql.push_str(&self.leaves.sql(&self.shape, leaf, &self.shape.leaf_name(part)));
        if self.has_leaf_grants {
            for (role, _) in &self.grants {
                write!(sql, "grant select on {leaf} to {role};").unwrap();
            }
        }
    }

    fn push_identity(&self, sql: &mut String, table: &str) {
        match self.shape.identity {
            Identity::Default => {}
            Identity::Full => write!(sql, "alter table {table} replica identity full;").unwrap(),
            Identity::Nothing => {
                write!(sql, "alter table {table} replica identity nothing;").unwrap();
            }
            Identity::Index => {
                let (index, code) = (quoted(&self.index()), self.shape.column(What::Code));
                write!(
                    sql,
                    "create unique index {index} on {table} ({code});
                     alter table {table} replica identity using index {index};"
                )
                .unwrap();
            }
        }
    }

    fn index(&self) -> String {
        format!("code of {}", self.shape.name)
    }

    /// What lets a role select.
    pub fn grant(&self, role: &str, grant: Grant) -> String {
        let left_out = |what: What| match grant {
            Grant::WithoutKey => what == What::Id,
            Grant::WithoutBody => what == What::Body,
            Grant::Table | Grant::Nothing => false,
        };
        let table = self.shape.table();
        match grant {
            Grant::Nothing => String::new(),
            Grant::Table => format!("grant select on {table} to {role};"),
            Grant::WithoutKey | Grant::WithoutBody => {
                let columns = self.shape.columns.iter().filter(|(what, _)| !left_out(*what));
                let columns: Vec<String> = columns.map(|(_, name)| quoted(name)).collect();
                format!("grant select ({}) on {table} to {role};", columns.join(", "))
            }
        }
    }

    /// What publishes it.
    pub fn publish(&self) -> String {
        let list = self.shape.listed.as_ref().map_or_else(String::new, |listed| {
            let names: Vec<String> = listed.iter().map(|what| self.shape.column(*what)).collect();
            format!(" ({})", names.join(", "))
        });
        format!("alter publication supabase_realtime add table {}{list};", self.shape.table())
    }

    /// The check that older rows break.
    pub fn late_check(&self) -> String {
        format!(
            "alter domain public.small{} add constraint few check (value < 1000) not valid;",
            self.shape.number
        )
    }

    /// What removes everything.
    pub fn removal(&self) -> String {
        let (shape, number) = (&self.shape, self.shape.number);
        let mut sql = format!(
            "drop table if exists {} cascade; drop schema {} cascade;
             drop domain public.small{number} cascade; drop domain public.sure{number} cascade;",
            shape.table(),
            shape.hidden()
        );
        if shape.schema != "public" {
            write!(sql, "drop schema {} cascade;", quoted(&shape.schema)).unwrap();
        }
        for rule in self.rules() {
            sql.push_str(&rule.removes(shape));
        }
        sql
    }

    fn column(&self, what: What) -> String {
        let shape = &self.shape;
        let kept = if shape.is_virtual { "virtual" } else { "stored" };
        let (team, number) = (|| shape.column(What::Team), shape.number);
        let sql_type = match what {
            What::Id => match shape.key {
                Key::Int | Key::Pair | Key::None => "int".to_owned(),
                Key::Text | Key::LongText => "text".to_owned(),
                Key::Uuid => "uuid".to_owned(),
            },
            What::Part | What::Team | What::Ver => "int".to_owned(),
            What::Code => "text not null".to_owned(),
            What::Owner => "uuid".to_owned(),
            What::Body | What::Big | What::Written => "text".to_owned(),
            What::At => "timestamptz".to_owned(),
            What::Score => "float8".to_owned(),
            What::Length => "interval".to_owned(),
            What::Raw => "bytea".to_owned(),
            What::Doc => "jsonb".to_owned(),
            What::Plain => "json".to_owned(),
            What::Mood => format!("{}.mood", shape.hidden()),
            What::Small => format!("public.small{number}"),
            What::Sure => format!("public.sure{number}"),
            What::Twice => format!("int generated always as ({} * 2) {kept}", team()),
            What::Drawn => format!(
                "public.sure{number} generated always as (coalesce({}, 0) + 1) {kept}",
                team()
            ),
            What::Size => {
                format!("int generated always as (length({})) {kept}", shape.column(What::Big))
            }
            What::Many(more) => format!("int generated always as ({} + {more}) {kept}", team()),
        };
        format!("{} {sql_type}", shape.column(what))
    }
}
