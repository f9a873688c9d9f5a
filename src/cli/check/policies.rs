//! What judging policies needs besides grants on tables: names that somebody may use, and settings that are the roles' own.

use super::fact::Facts;
use super::unreadable;
use crate::error::Error;
use crate::postgres::Sql;

/// Says which schemas nobody may use whom the relay could look their names up as, and which settings of the login role
/// stand where those of the roles should.
///
/// # Errors
/// `SourceRejected`: what Postgres said.
pub(super) async fn judge(
    sql: &Sql,
    publication: &str,
    roles: &[String],
    facts: &mut Facts,
) -> Result<(), Error> {
    let failed =
        |error| unreadable("what the policies of the published tables need").because(error);
    let text = include_str!("../../../sql/queries/check_policies.sql");
    for row in sql.client.query(text, &[&publication, &roles]).await.map_err(failed)? {
        let name = |column| row.try_get::<_, String>(column).map_err(failed);
        let (schema, login, tables) = (name("schema")?, name("login")?, name("tables")?);
        let says = format!(
            "policies of {tables} name it, and neither the roles nor {login} may use it: rows that changed again before they were judged are withheld"
        );
        let opens: Option<String> = row.try_get("opens").map_err(failed)?;
        let statement = format!("grant usage on schema {schema} to {login}");
        let fact = facts.odd(format!("schema {schema}"), says);
        match opens {
            None => fact.sql(format!("{statement};")),
            Some(opens) => {
                fact.also(format!("{statement}, if it may read what that opens: {opens}"))
            }
        };
    }
    let text = include_str!("../../../sql/queries/check_login_settings.sql");
    for row in sql.client.query(text, &[]).await.map_err(failed)? {
        let name = |column| row.try_get::<_, String>(column).map_err(failed);
        let (login, setting) = (name("login")?, name("name")?);
        let is_of_database: bool = row.try_get("is_of_database").map_err(failed)?;
        let place = if is_of_database { " in database <this one>" } else { "" };
        facts
            .odd(
                format!("role {login}"),
                format!("has a {setting} of its own: policies that depend on it are judged by it, not by what the roles' sessions have"),
            )
            .also(format!("alter role {login}{place} reset {setting}"));
    }
    Ok(())
}
