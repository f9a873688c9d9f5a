//! From what a client wrote to a [`Subscription`]: tables looked up, operands parsed by Postgres.
//!
//! Promises: one bad wish refuses all wishes of its channel with one text, the first in the order they were written;
//! an operand is in Postgres' canonical text and an operator exists for its column's type, so that a filter that was
//! bound does not fail later. Domains are looked through, so binding runs no function of the database's users.
//!
//! Each name is looked up once per channel, after the channel asked; filters cost two questions more. Deliberately not here: evaluating filters
//! (`router`), and judging rows (`auth::visibility`).

mod columns;
mod probe;
mod sqlstate;
mod terms;
mod texts;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use self::columns::Facts;
use self::probe::Probe;
use self::terms::Terms;
use super::{Catalog, TableName};
use crate::error::Error;
use crate::model::filter::{Condition, Keyword, Operand, Operator, Predicate};
use crate::model::table::TableColumn;
use crate::model::{
    CallerIdentity, FirstRead, Kind, Principal, SqlType, Subscription, Table, Target,
};

/// The most elements an `in` list may have.
const LIST_LIMIT: usize = 100;

/// The most conditions all wishes of a channel may have together.
const CONDITIONS_LIMIT: usize = 1000;

/// Partitions that are described in one question.
const LEAVES_AT_ONCE: usize = 100;

/// One element of a join's `postgres_changes`, as the client wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// `event`, verbatim; unknown words mean all.
    pub event: Option<String>,
    /// `schema`.
    pub schema: Option<String>,
    /// `table`.
    pub table: Option<String>,
    /// `filter`.
    pub filter: Option<String>,
    /// `select`; `Err` when it was not a list of strings.
    pub select: Option<Result<Vec<String>, ()>>,
    /// `snapshot`: the rows to be read first.
    pub first: Option<FirstRead>,
}

/// Who asks for something.
#[derive(Clone, Copy, Debug)]
pub struct BindContext<'a> {
    /// As whom it is read.
    pub principal: &'a Principal,
    /// Whose turn is used for it.
    pub caller: &'a CallerIdentity,
}

/// Why a channel's wishes cannot be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unbound {
    /// The client's fault: the text of the `system` message, final.
    Refused(String),
    /// Postgres could not be asked; worth trying again.
    Unavailable(String),
}

impl From<Error> for Unbound {
    fn from(error: Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Binds all wishes of one channel; one bad wish refuses them all, with one text.
///
/// # Errors
/// See [`Unbound`].
pub async fn bind(
    catalog: &Catalog,
    context: BindContext<'_>,
    wishes: &[Wish],
) -> Result<Vec<Subscription>, Unbound> {
    // Sockets carry it while they wait, and it is large.
    Box::pin(bind_all(catalog, context, wishes)).await
}

async fn bind_all(
    catalog: &Catalog,
    context: BindContext<'_>,
    wishes: &[Wish],
) -> Result<Vec<Subscription>, Unbound> {
    let read: Result<Vec<Terms>, String> = wishes.iter().enumerate().map(Terms::read).collect();
    let terms = read.map_err(Unbound::Refused)?;
    if CONDITIONS_LIMIT < terms.iter().map(|terms| terms.predicates.len()).sum() {
        return Err(Unbound::Refused(texts::too_many_conditions(CONDITIONS_LIMIT)));
    }
    let mut draft = Draft::default();
    for terms in &terms {
        if let Err(refusal) = draft.add(catalog, context, terms).await? {
            draft.refusal = Some(refusal);
            break;
        }
    }
    let facts = columns::ask(catalog, context, &draft.columns).await?;
    let mut probes = Vec::new();
    for (column, facts) in draft.columns.iter().zip(&facts) {
        let terms = terms.get(column.wish);
        let known = terms.zip(facts.as_ref());
        let made = known.map(|(terms, facts)| (condition(terms, column, facts), facts));
        match made {
            Some((Ok(condition), facts)) => {
                let schema = facts.schema.clone();
                probes.push(Probe { wish: column.wish, condition, schema });
            }
            Some((Err(text), _)) => {
                draft.refusal = Some(text);
                break;
            }
            None => {
                draft.refusal =
                    terms.map(|terms| texts::invalid_column(terms, &column.predicate.column));
                break;
            }
        }
    }
    let bound = probe::ask(catalog, context, &terms, probes).await?;
    match draft.refusal {
        Some(refusal) => Err(Unbound::Refused(refusal)),
        None => assemble(&terms, bound),
    }
}

/// What was found out without context about columns. What is known of names here was looked up for this channel.
#[derive(Default)]
struct Draft {
    tables: HashMap<TableName, Option<Arc<Table>>>,
    /// Schemas with published tables; `None` is all.
    schemas: HashSet<Option<Box<str>>>,
    is_role_missing: Option<bool>,
    columns: Vec<Filtered>,
    /// The first refusal; what was written after it no longer counts.
    refusal: Option<String>,
}

/// A column that a wish filters on.
#[derive(Clone, Debug)]
struct Filtered {
    wish: usize,
    table: u32,
    sql_type: SqlType,
    predicate: Predicate,
}

impl Draft {
    /// Checks one wish against the catalog; the inner error is a refusal.
    async fn add(
        &mut self,
        catalog: &Catalog,
        context: BindContext<'_>,
        terms: &Terms,
    ) -> Result<Result<(), String>, Unbound> {
        if !terms.names_can_exist() {
            return Ok(Err(texts::not_published(terms)));
        }
        let (schema, name) = match &terms.target {
            Target::Table { schema, table } => (schema, table),
            Target::Schema(schema) => {
                return self.check_many(catalog, context, terms, Some(schema)).await;
            }
            Target::All => return self.check_many(catalog, context, terms, None).await,
        };
        let name = (schema.clone(), name.clone());
        let found = match self.tables.get(&name) {
            Some(found) => found.clone(),
            None => {
                let found = reachable(catalog, context, &name).await?;
                self.tables.entry(name).or_insert(found).clone()
            }
        };
        match found {
            Some(table) => Ok(self.check_columns(context.principal.role(), &table, terms)),
            None => Ok(Err(texts::not_published(terms))),
        }
    }

    /// Checks a wish for all tables of a schema, or all there are.
    async fn check_many(
        &mut self,
        catalog: &Catalog,
        context: BindContext<'_>,
        terms: &Terms,
        schema: Option<&str>,
    ) -> Result<Result<(), String>, Unbound> {
        let schema: Option<Box<str>> = schema.map(Into::into);
        if !self.schemas.contains(&schema) {
            if !catalog.look_around(schema.as_deref()).await? {
                return Ok(Err(texts::not_published(terms)));
            }
            self.schemas.insert(schema);
        }
        let role = context.principal.role();
        let is_missing = match self.is_role_missing {
            Some(is_missing) => is_missing,
            None => catalog.missing_roles().await?.iter().any(|missing| missing == role),
        };
        self.is_role_missing = Some(is_missing);
        Ok(if is_missing { Err(texts::missing_role(terms, role)) } else { Ok(()) })
    }

    fn check_columns(&mut self, role: &str, table: &Table, terms: &Terms) -> Result<(), String> {
        let Some(access) = table.access.get(role) else {
            return Err(texts::missing_role(terms, role));
        };
        let readable =
            |name: &str| table.column(name).filter(|column| access.columns.allow(&column.name));
        for predicate in &terms.predicates {
            let Some(column) = readable(&predicate.column) else {
                return Err(texts::invalid_column(terms, &predicate.column));
            };
            self.columns.push(Filtered {
                wish: terms.place,
                table: table.oid,
                sql_type: column.sql_type.clone(),
                predicate: predicate.clone(),
            });
        }
        if let Some(first) = &terms.first {
            check_first(&readable, table, terms, first)?;
        }
        let mut selected = terms.select.iter().flat_map(|select| select.iter());
        match selected.find(|name| readable(name).is_none()) {
            Some(name) => Err(texts::raised(terms, &format!("invalid column for select {name}"))),
            None => Ok(()),
        }
    }
}

/// Whether the rows that are to be read first can be: by columns that may be read, and told apart by their key.
fn check_first<'a>(
    readable: &dyn Fn(&str) -> Option<&'a TableColumn>,
    table: &Table,
    terms: &Terms,
    first: &FirstRead,
) -> Result<(), String> {
    let mut keys = table.columns.iter().filter(|column| column.is_primary_key);
    if !table.has_primary_key() || keys.any(|key| readable(&key.name).is_none()) {
        return Err(texts::raised(terms, "a snapshot needs a primary key that may be read"));
    }
    match first.order.iter().find(|order| readable(&order.column).is_none()) {
        Some(order) => {
            let text = format!("invalid column for snapshot order {}", order.column);
            Err(texts::raised(terms, &text))
        }
        None => Ok(()),
    }
}

/// The table of this name when its changes arrive: it is published, or it is partitioned and one of its partitions is.
async fn reachable(
    catalog: &Catalog,
    context: BindContext<'_>,
    (schema, name): &TableName,
) -> Result<Option<Arc<Table>>, Unbound> {
    let Some(table) = catalog.look(schema, name).await? else { return Ok(None) };
    if table.is_published {
        return Ok(Some(table));
    }
    let leaves = columns::leaves(catalog, context, table.oid).await?;
    for leaves in leaves.chunks(LEAVES_AT_ONCE) {
        if catalog.look_at(leaves).await?.iter().any(|leaf| leaf.is_published) {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

/// A condition whose operand is still as written, once its operator suits its column.
fn condition(terms: &Terms, column: &Filtered, facts: &Facts) -> Result<Condition, String> {
    let mut predicate = column.predicate.clone();
    let word = predicate.operator.word();
    let kind = &column.sql_type.base().kind;
    let unsuitable = || {
        let shown = &facts.shown_type;
        let text = format!("operator {word} requires a text-compatible column type, got {shown}");
        Err(texts::raised(terms, &text))
    };
    let is_text = matches!(kind, Kind::Text | Kind::BlankPadded);
    match (predicate.operator, &predicate.operand) {
        (Operator::Like | Operator::Ilike, Operand::Text(pattern)) => {
            if !is_text && *kind != Kind::Bytea && !facts.has_like {
                return unsuitable();
            }
            // Postgres notices only when a text gets that far.
            if ends_in_escape(pattern) {
                let message = "LIKE pattern must not end with escape character";
                return Err(texts::failed(terms, "22025", message));
            }
        }
        (Operator::Match | Operator::Imatch, _) if !is_text && !facts.has_match => {
            return unsuitable();
        }
        (Operator::Is, Operand::Text(word)) => {
            let Some(keyword) = Keyword::from_word(word) else {
                let text = "invalid value for is filter: must be null, true, false, or unknown";
                return Err(texts::raised(terms, text));
            };
            if keyword != Keyword::Null && *kind != Kind::Bool {
                let (word, shown) = (keyword.word(), &facts.shown_type);
                let text = format!("is {word} filter requires a boolean column, got {shown}");
                return Err(texts::raised(terms, &text));
            }
            predicate.operand = Operand::Keyword(keyword);
        }
        _ => (),
    }
    Ok(Condition {
        predicate,
        sql_type: column.sql_type.clone(),
        collation: facts.collation,
        spelling: facts.spelling.clone(),
    })
}

/// Whether a pattern ends in a backslash that protects nothing.
fn ends_in_escape(pattern: &str) -> bool {
    let backslashes = pattern.bytes().rev().take_while(|&byte| byte == b'\\').count();
    backslashes % 2 == 1
}

fn assemble(terms: &[Terms], bound: Vec<Probe>) -> Result<Vec<Subscription>, Unbound> {
    let mut filters: Vec<Vec<Condition>> = vec![Vec::new(); terms.len()];
    for probe in bound {
        if let Operand::List(elements) = &probe.condition.predicate.operand
            && LIST_LIMIT < elements.len()
        {
            let text = "too many values for `in` filter. Maximum 100";
            let refusal = terms.get(probe.wish).map(|terms| texts::raised(terms, text));
            return Err(Unbound::Refused(refusal.unwrap_or_default()));
        }
        if let Some(filter) = filters.get_mut(probe.wish) {
            filter.push(probe.condition);
        }
    }
    let subscription = |(terms, filter): (&Terms, Vec<Condition>)| Subscription {
        target: terms.target.clone(),
        event: terms.event,
        filter: Arc::from(filter),
        select: terms.select.clone(),
    };
    Ok(terms.iter().zip(filters).map(subscription).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_backslash_at_the_end_is_noticed() {
        for (pattern, expected) in [("a\\", true), ("a\\\\", false), ("\\", true), ("", false)] {
            assert_eq!(ends_in_escape(pattern), expected);
        }
    }
}
