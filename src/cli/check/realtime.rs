//! Facts about schema `realtime`: what private channels and broadcast from the database stand on.

use serde::Deserialize;

use super::fact::Facts;
use super::{read_one, roles::quoted};
use crate::cli::migrate;
use crate::error::Error;
use crate::postgres::Sql;

/// What makes and renews the schema.
const MIGRATE: &str = "run `relay migrate --url postgres://<owner>@…`, or `relay migrate --dry-run` and run what it prints";

/// The schema, if there is one.
#[derive(Debug)]
pub(super) struct Realtime {
    login: String,
    found: Option<Found>,
}

#[derive(Debug, Deserialize)]
struct Found {
    has_messages: bool,
    has_row_security: bool,
    is_published: bool,
    has_today: bool,
    missing: Vec<String>,
    outdated: Vec<String>,
    may_use: bool,
    forbidden: Vec<String>,
    kept_out: Vec<String>,
    opens: Vec<String>,
}

impl Realtime {
    /// Asks, as `login`, for what tokens of these roles need.
    ///
    /// # Errors
    /// `SourceRejected`: what Postgres said.
    pub(super) async fn read(sql: &Sql, login: &str, roles: &[String]) -> Result<Self, Error> {
        let (names, bodies): (Vec<_>, Vec<_>) = migrate::functions().into_iter().unzip();
        let text = include_str!("../../../sql/queries/check_realtime.sql");
        let called: &[&str] = &migrate::CALLED;
        let found = read_one(sql, text, &[&names, &bodies, &called, &roles]).await?;
        Ok(Self { login: login.to_owned(), found })
    }

    /// The facts.
    pub(super) fn judge(&self, facts: &mut Facts) {
        let Some(found) = &self.found else {
            facts
                .odd("realtime", "there is no schema realtime: private channels stay closed, and the database cannot broadcast")
                .also(MIGRATE);
            return;
        };
        if !found.has_messages {
            facts
                .bad(
                    "realtime",
                    "has no partitioned table realtime.messages: private channels stay closed",
                )
                .also(MIGRATE);
            return;
        }
        if !found.missing.is_empty() {
            let missing = found.missing.join(", ");
            facts.bad("realtime", format!("lacks {missing}")).also(MIGRATE);
        } else if !found.outdated.is_empty() {
            let outdated = found.outdated.join(", ");
            facts
                .odd(
                    "realtime",
                    format!("of an earlier version: {outdated}; migrating renews them"),
                )
                .also(MIGRATE);
        } else {
            facts.good(
                "realtime",
                "schema, table and functions are there and as this version makes them",
            );
        }
        found.judge_messages(facts);
        found.judge_grants(&quoted(&self.login), facts);
    }
}

impl Found {
    fn judge_messages(&self, facts: &mut Facts) {
        if !self.has_row_security {
            facts
                .bad(
                    "realtime.messages",
                    "row level security is off: everybody may join every private channel",
                )
                .sql("alter table realtime.messages enable row level security;");
        }
        if !self.is_published {
            facts
                .bad(
                    "realtime.messages",
                    "is not published: what the database broadcasts is not heard",
                )
                .also(MIGRATE);
        }
        if !self.has_today {
            let fact = facts.bad(
                "realtime.messages",
                "has no partition for today: no private channel can be joined, and the database cannot broadcast",
            );
            let maker = "keep_partitions()".to_owned();
            if self.missing.contains(&maker) {
                fact.also(MIGRATE);
            } else {
                fact.sql("select realtime.keep_partitions();")
                    .also("the running relay makes it every hour; see in its log why it did not");
            }
        }
        if self.has_row_security && self.is_published && self.has_today {
            facts.good(
                "realtime.messages",
                "row level security is on, published, and today has its partition",
            );
        }
    }

    fn judge_grants(&self, login: &str, facts: &mut Facts) {
        if !self.may_use || !self.forbidden.is_empty() {
            let fact = facts.bad(
                "realtime.grants",
                format!("{login} may not call what it needs: private channels stay closed"),
            );
            if !self.may_use {
                fact.sql(format!("grant usage on schema realtime to {login};"));
            }
            for function in &self.forbidden {
                fact.sql(format!("grant execute on function realtime.{function} to {login};"));
            }
        }
        for role in &self.kept_out {
            let role = quoted(role);
            let fact = facts.bad(
                "realtime.grants",
                format!("{role} may not use realtime.messages, so no policy can let it in"),
            );
            if self.has_row_security && self.opens.is_empty() {
                fact.sql(format!("grant usage on schema realtime to {role};"))
                    .sql(format!("grant select, insert, update on realtime.messages to {role};"));
            } else {
                fact.also(MIGRATE);
            }
        }
        if self.may_use && self.forbidden.is_empty() && self.kept_out.is_empty() {
            facts.good(
                "realtime.grants",
                format!("{login} and the roles of tokens have what they need"),
            );
        }
    }
}
