//! Facts about roles: the one the relay logs in as, and those a token may name.

use serde::Deserialize;

use super::fact::Facts;
use super::unreadable;
use crate::error::Error;
use crate::postgres::Sql;

/// How many connections a relay needs to read the slot and the catalog, whatever its pools.
const LEAST_CONNECTIONS: usize = 4;

/// The role whose tokens are meant to read everything.
const SERVICE: &str = "service_role";

/// The login role and the API roles.
#[derive(Debug)]
pub(super) struct Roles {
    login: Login,
    api: Vec<Role>,
}

#[derive(Debug, Deserialize)]
struct Login {
    name: String,
    is_super: bool,
    may_replicate: bool,
    bypasses: bool,
    most_connections: Option<usize>,
    connections: usize,
    relays: usize,
    server_connections: usize,
}

#[derive(Debug, Deserialize)]
struct Role {
    name: String,
    exists: bool,
    is_super: bool,
    bypasses: bool,
    may_be_set: bool,
}

impl Roles {
    /// Asks for the login role, as which a relay connects that is called `relay_application`, and for `wanted`.
    ///
    /// # Errors
    /// `SourceRejected`: what Postgres said.
    pub(super) async fn read(
        sql: &Sql,
        wanted: &[String],
        relay_application: &str,
    ) -> Result<Self, Error> {
        let failed = || unreadable("the roles");
        let text = include_str!("../../../sql/queries/check_roles.sql");
        let row = sql
            .client
            .query_one(text, &[&wanted, &relay_application])
            .await
            .map_err(|error| failed().because(error))?;
        let read = |name: &str| row.get::<_, serde_json::Value>(name);
        Ok(Self {
            login: serde_json::from_value(read("login")).map_err(|e| failed().because(e))?,
            api: serde_json::from_value(read("roles")).map_err(|e| failed().because(e))?,
        })
    }

    /// The role the relay logs in as.
    pub(super) fn login(&self) -> &str {
        &self.login.name
    }

    /// The facts. `needed`: how many connections the relay may open.
    pub(super) fn judge(&self, needed: usize, facts: &mut Facts) {
        let login = &self.login;
        let about = format!("login {}", login.name);
        if !login.may_replicate {
            facts
                .bad(about, "may not replicate, so it cannot read the slot")
                .sql(format!("alter role {} replication;", quoted(&login.name)))
                .also("on Amazon RDS: grant rds_replication to it");
        } else if login.is_super || login.bypasses {
            let what = if login.is_super { "a superuser" } else { "past row level security" };
            facts
                .odd(about, format!("may replicate, but is {what}; the relay needs less"))
                .also("create the role of sql/RELAY_ROLE.sql and name it in postgres.url");
        } else {
            facts
                .good(about, "may replicate, and is neither superuser nor past row level security");
        }
        login.judge_connections(needed, facts);
        for role in &self.api {
            role.judge(login, facts);
        }
    }
}

/// How many connections a relay may open with pools of these sizes for each of so many roles: those that judge rows or write
/// for a chat, and those that read the slot, the catalog and what clients ask for.
pub(super) const fn connections(roles: usize, pool: usize, chat_pool: usize) -> usize {
    roles * (pool + chat_pool) + 2 * pool + 10
}

impl Login {
    fn judge_connections(&self, needed: usize, facts: &mut Facts) {
        let about = "postgres.connections";
        let name = quoted(&self.name);
        match self.most_connections {
            // While no relay runs, all of the login role's connections belong to other programs.
            Some(most)
                if most < LEAST_CONNECTIONS
                    || (self.relays == 0 && most < self.connections + LEAST_CONNECTIONS) =>
            {
                facts
                    .bad(
                        about,
                        format!(
                            "{name} may have {most} connections and has {}: too few to read the slot and the catalog",
                            self.connections
                        ),
                    )
                    .sql(format!("alter role {name} connection limit {};", needed + self.connections));
            }
            Some(most) if most < needed => {
                facts
                    .odd(
                        about,
                        format!(
                            "{name} may have {most} connections, and the relay opens up to {needed}"
                        ),
                    )
                    .also("lower postgres.pool and chat.pool, or raise it");
            }
            _ if self.server_connections < needed => {
                facts
                    .odd(
                        about,
                        format!(
                            "the server has {} connections for all, and the relay opens up to {needed}",
                            self.server_connections
                        ),
                    )
                    .also("lower postgres.pool and chat.pool, or raise max_connections and restart Postgres");
            }
            _ => {
                facts
                    .good(about, format!("there is room for the {needed} that the relay may open"));
            }
        }
    }
}

impl Role {
    fn judge(&self, login: &Login, facts: &mut Facts) {
        let about = format!("role {}", self.name);
        let name = quoted(&self.name);
        if !self.exists {
            let bypass = if self.name == SERVICE { " bypassrls" } else { "" };
            facts
                .bad(about, "is in auth.roles and does not exist")
                .sql(format!("create role {name} nologin{bypass};"))
                .sql(format!("grant {name} to {};", quoted(&login.name)))
                .also("or run sql/SUPABASE_COMPAT.sql, or take it out of auth.roles");
        } else if self.is_super {
            facts.bad(about, "is a superuser: a token that names it may do anything").also(
                "take it out of auth.roles, or take superuser from it if nothing relies on that",
            );
        } else if !self.may_be_set {
            facts
                .bad(
                    about,
                    format!("{} may not set it, so nothing can be checked for it", login.name),
                )
                .sql(format!("grant {name} to {};", quoted(&login.name)));
        } else if self.bypasses && self.name == SERVICE {
            facts.good(
                about,
                "may be set; bypasses row level security, so its tokens read every row",
            );
        } else if self.bypasses {
            facts
                .odd(about, "may be set; bypasses row level security: its tokens read every row")
                .also("take it out of auth.roles, or take bypassrls from it if nothing relies on that");
        } else if self.name == SERVICE {
            facts
                .odd(about, "may be set; does not bypass row level security, so servers with its tokens are shown only what policies show it")
                .also("if its tokens are to read everything, as on Supabase: give it bypassrls");
        } else {
            facts.good(about, "may be set");
        }
    }
}

/// A name as an SQL identifier.
pub(super) fn quoted(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_needs_it() {
        assert_eq!(quoted("service_role"), "service_role");
        assert_eq!(quoted("Ann"), "\"Ann\"");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
