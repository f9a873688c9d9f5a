//! The texts of refusals, word for word as Supabase Realtime's clients know them.

use super::Wish;
use super::terms::Terms;
use crate::model::filter::inspect;
use crate::model::{Event, Target};

/// `select` was not a list of strings.
pub(super) const BAD_SELECT: &str = "Error parsing `select` params: expected a list of column name strings, e.g. \
                                     select: [\"col1\", \"col2\"]";

/// `select` without one table.
pub(super) const WILDCARD_SELECT: &str = "Column selection is not supported for wildcard subscriptions. Provide an \
                                          explicit schema and table name.";

/// Neither schema nor table, or a filter without both.
pub(super) fn no_params(wish: &Wish) -> String {
    let mut fields = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            fields.push(format!("{} => {value}", inspect::string(name)));
        }
    };
    add("event", wish.event.as_deref().map(inspect::string));
    add("filter", wish.filter.as_deref().map(inspect::string));
    add("schema", wish.schema.as_deref().map(inspect::string));
    add("select", wish.select.iter().flatten().next().map(|names| inspect::strings(names)));
    add("table", wish.table.as_deref().map(inspect::string));
    let shown = format!("%{{{}}}", fields.join(", "));
    let is_secret = shown.contains("user_token") || shown.contains("auth_token");
    let shown = if is_secret { "<redacted>" } else { &shown };
    format!(
        "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: {shown}"
    )
}

/// The filters of a channel have too many conditions together.
pub(super) fn too_many_conditions(most: usize) -> String {
    format!("Error parsing `filter` params: too many conditions in one channel. Maximum {most}")
}

/// No published table matches.
pub(super) fn not_published(terms: &Terms) -> String {
    format!(
        "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given \
         connect parameters: {}",
        shown(terms)
    )
}

/// The database said no: an SQLSTATE and its message.
pub(super) fn failed(terms: &Terms, code: &str, message: &str) -> String {
    let name = super::sqlstate::name(code);
    format!(
        "Unable to subscribe to changes with given parameters. An exception happened so please check your connect \
         parameters: {}. Exception: ERROR {code} ({name}) {message}",
        shown(terms)
    )
}

/// A check of the protocol's own said no.
pub(super) fn raised(terms: &Terms, message: &str) -> String {
    failed(terms, "P0001", message)
}

/// The role may be named by tokens and is not there.
pub(super) fn missing_role(terms: &Terms, role: &str) -> String {
    let message =
        format!("role \"{role}\" does not exist; create it, or take it out of auth.roles");
    failed(terms, "42704", &message)
}

/// The relay's login role may not act as the role.
pub(super) fn not_a_member(terms: &Terms, role: &str, login: &str) -> String {
    let (role, login) = (quoted(role), quoted(login));
    let message =
        format!("the relay cannot read filters as the token's role; grant {role} to {login}");
    failed(terms, "42501", &message)
}

/// The role may not use the type of a filter's column.
pub(super) fn unusable(terms: &Terms, message: &str, schema: &str, role: &str) -> String {
    let role = quoted(role);
    failed(terms, "42501", &format!("{message}; grant usage on schema {schema} to {role}"))
}

/// A name as SQL has it.
fn quoted(name: &str) -> String {
    let is_plain = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    let begins_plainly = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
    if is_plain && begins_plainly {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// A filter names a column that is not there, or not for this role.
pub(super) fn invalid_column(terms: &Terms, column: &str) -> String {
    raised(terms, &format!("invalid column for filter {column}"))
}

fn shown(terms: &Terms) -> String {
    let (schema, table) = match &terms.target {
        Target::Table { schema, table } => (&**schema, &**table),
        Target::Schema(schema) => (&**schema, "*"),
        Target::All => ("*", "*"),
    };
    let event = terms.event.map_or("*", Event::word);
    let filters = inspect::predicates(&terms.predicates);
    let select =
        terms.select.as_ref().map_or_else(|| "nil".to_owned(), |names| inspect::strings(names));
    format!(
        "[event: {event}, schema: {schema}, table: {table}, filters: {filters}, select: {select}]"
    )
}
