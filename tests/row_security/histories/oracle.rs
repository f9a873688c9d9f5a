//! What Postgres itself says: who sees which version of a row, and what a role may do with a table.
//!
//! A version that is stored is looked for in the table; one that is gone is put there again, alone, in a subtransaction
//! that is undone. So each is judged in the state of the database at the time of asking, and as its own row.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::shape::{Identity, Shape, What};
use super::world::World;
use crate::row_security::histories::history::Version;
use relay::postgres::quote::literal;

/// What a role may do with a table.
#[derive(Clone, Debug, Deserialize)]
pub struct Rights {
    columns: Option<Vec<String>>,
    usage: bool,
    /// Whether row security binds the role.
    pub bound: bool,
    /// Whether the table has row security.
    pub guarded: bool,
    policies: Option<Vec<String>>,
    /// Whether a permissive policy applies.
    pub open: bool,
}

impl Rights {
    pub fn may_read(&self, column: &str) -> bool {
        self.usage && self.columns.iter().flatten().any(|name| name == column)
    }

    /// Whether a select is refused.
    pub fn is_refused(&self) -> bool {
        !self.usage || self.columns.iter().flatten().next().is_none()
    }

    pub fn policies(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().flatten().map(String::as_str)
    }
}

/// What a select shows of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Shown,
    Hidden,
    /// It raises this SQLSTATE.
    Raises(String),
}

/// Everything that was asked, by view and principal.
#[derive(Clone, Debug)]
pub struct Judged {
    pub rights: Vec<Vec<Rights>>,
    verdicts: HashMap<usize, Vec<Vec<Verdict>>>,
}

impl Judged {
    /// What `who` sees of a version through a view.
    pub fn verdict(&self, version: usize, view: usize, who: usize) -> &Verdict {
        &self.verdicts[&version][view][who]
    }
}

/// Asks about versions, by their places in `all`; those in `stored` are in the table.
pub async fn ask(
    world: &World,
    shape: &Shape,
    all: &[Version],
    wanted: &[usize],
    stored: &(dyn Fn(usize) -> bool + Sync),
) -> Judged {
    let views: Vec<String> = shape.views().into_iter().map(|(_, sql)| sql).collect();
    let versions: Vec<Value> =
        wanted.iter().map(|at| question(shape, &all[*at], stored(*at))).collect();
    let principals: Vec<&Value> = world.eyes.iter().map(|eye| &eye.who).collect();
    let asked =
        json!({ "views": views, "versions": versions, "principals": principals }).to_string();
    let sql = format!("begin; select oracle.judge({}); rollback", literal(&asked));
    let answer = world.writer.simple_query(&sql).await;
    let answer = answer.unwrap_or_else(|error| panic!("{error:?}\nin {asked}"));
    let text = answer.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let answer: Value = serde_json::from_str(text.unwrap()).unwrap();
    let rights =
        Vec::deserialize(&answer["rights"]).unwrap_or_else(|error| panic!("{error}: {answer}"));
    let told: Vec<Vec<Vec<String>>> = Vec::deserialize(&answer["verdicts"]).unwrap();
    let verdict = |text: &String| match &**text {
        "1" => Verdict::Shown,
        "0" => Verdict::Hidden,
        raised => Verdict::Raises(raised.trim_start_matches('!').to_owned()),
    };
    let of_view = |view: &Vec<String>| view.iter().map(verdict).collect();
    let of_version = |version: &Vec<Vec<String>>| version.iter().map(of_view).collect();
    let verdicts = wanted.iter().copied().zip(told.iter().map(of_version)).collect();
    Judged { rights, verdicts }
}

fn question(shape: &Shape, version: &Version, is_stored: bool) -> Value {
    let (table, ver) = (shape.table(), version.ver);
    // Postgres refuses deletes where the identity is nothing; such rows stay as they were written.
    if shape.identity == Identity::Nothing {
        assert!(is_stored, "nothing is deleted or changed");
        return json!({
            "before": "select",
            "probe": format!("select pg_catalog.count(*)::text from {{view}} where ver = {ver}"),
        });
    }
    let before = if is_stored {
        format!("delete from {table} where ver <> {ver}")
    } else {
        let late = if shape.has(What::Small) {
            format!("alter domain public.small{} drop constraint if exists few;", shape.number)
        } else {
            String::new()
        };
        format!("do $do$ begin {late} delete from {table}; {}; end $do$", version.insert(shape))
    };
    json!({ "before": before, "probe": "select pg_catalog.count(*)::text from {view}" })
}
