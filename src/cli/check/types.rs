//! Types that a role reads and may not name: filters on columns of theirs are refused.

use super::fact::Facts;
use super::roles::quoted;
use super::unreadable;
use crate::error::Error;
use crate::postgres::Sql;

/// Says for each schema of types which role may not use it.
///
/// # Errors
/// `SourceRejected`: what Postgres said.
pub(super) async fn judge(
    sql: &Sql,
    publication: &str,
    roles: &[String],
    facts: &mut Facts,
) -> Result<(), Error> {
    let failed = |error| unreadable("the types of the published tables").because(error);
    let text = include_str!("../../../sql/queries/bind_unusable.sql");
    for row in sql.client.query(text, &[&publication, &roles]).await.map_err(failed)? {
        let name = |column| row.try_get::<_, String>(column).map_err(failed);
        let (schema, role, columns) = (name("schema")?, name("role")?, name("columns")?);
        let says = format!("has no USAGE on schema {schema}: its filters on {columns} are refused");
        // Whatever else the schema has is within reach then, so it is not for us to say.
        let action = format!(
            "grant usage on schema {schema} to {}; if it is to filter by them, and nothing in there is to be out of its reach",
            quoted(&role)
        );
        facts.odd(format!("role {role}"), says).also(action);
    }
    Ok(())
}
