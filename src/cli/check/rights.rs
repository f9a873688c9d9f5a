//! Facts about who may read a published table.
//!
//! A statement is printed only where it shows nobody anything but what a policy written for that role says, of this table:
//! no grant on partitions, which have no policies of their own; none on what is published only because everything is; none
//! on a schema that holds more. What is left is said in words.

use serde::Deserialize;

use super::fact::Facts;
use super::roles::quoted;
use super::tables::Table;

/// What a role can do with a table.
#[derive(Debug, Deserialize)]
pub(super) struct Access {
    pub(super) name: String,
    may_use_schema: bool,
    may_select: bool,
    is_owner: bool,
    pub(super) bypasses: bool,
    /// Policies for reading that apply to it.
    pub(super) policies: Vec<Policy>,
    opens: Vec<String>,
}

/// A policy for reading.
#[derive(Debug, Deserialize)]
pub(super) struct Policy {
    pub(super) name: String,
    is_permissive: bool,
    is_for_role: bool,
    /// Its condition; one without shows and hides nothing.
    pub(super) expression: Option<String>,
}

/// The facts about the rights to `table`.
pub(super) fn judge(table: &Table, facts: &mut Facts) {
    let about = table.about();
    for role in &table.roles {
        role.judge(table, facts);
    }
    let bound: Vec<_> = table.roles.iter().filter(|role| !role.bypasses).collect();
    if table.has_rls {
        // A table that is published with all others is meant to be read only where it has policies.
        let nobody = !bound.is_empty() && bound.iter().all(|role| !role.has_policy());
        if nobody && table.is_named {
            let names: Vec<_> = bound.iter().map(|role| role.name.as_str()).collect();
            facts
                .bad(
                    about.clone(),
                    format!("row level security is on and no policy lets {} read a row", names.join(" or ")),
                )
                .also(format!(
                    "create policy \"read own rows\" on {} for select to authenticated using (<who may read a row>)",
                    table.quoted
                ));
        }
    } else {
        judge_open(table, &bound, facts);
    }
    if !table.open_partitions.is_empty() {
        facts
            .odd(
                about.clone(),
                format!(
                    "{} can be read under their own names, past the policies of {}",
                    table.open_partitions.join(", "),
                    table.quoted
                ),
            )
            .also("revoke select on the partitions from the roles of tokens; they read them through the parent");
    }
    // Of a role that a policy names, its own fact says so already.
    let is_reported = bound.iter().any(|role| role.is_meant_to_read());
    if table.is_named && !is_reported && !table.roles.iter().any(Access::may_read) {
        facts
            .bad(about, "no role a token may name has SELECT on it, so nobody is shown a row")
            .also(format!(
                "grant select on {} to the roles that are to read {}",
                table.quoted,
                if table.has_rls { "what its policies show them" } else { "every row of it" }
            ));
    }
}

fn judge_open(table: &Table, bound: &[&Access], facts: &mut Facts) {
    let open: Vec<_> =
        bound.iter().filter(|role| role.may_read()).map(|role| role.name.as_str()).collect();
    if !open.is_empty() {
        facts
            .odd(
                table.about(),
                format!(
                    "row level security is off: every token of {} reads every row",
                    open.join(", ")
                ),
            )
            .also(format!(
                "alter table {} enable row level security, and write its policies",
                table.quoted
            ));
    }
}

impl Access {
    /// Whether its privileges let it read the table, whatever policies show it.
    pub(super) const fn may_read(&self) -> bool {
        self.may_select && self.may_use_schema
    }

    /// Whether it is shown rows, as far as privileges and policies tell.
    pub(super) fn is_shown_rows(&self, has_rls: bool) -> bool {
        self.may_read() && (self.bypasses || !has_rls || self.has_policy())
    }

    fn has_policy(&self) -> bool {
        self.policies.iter().any(|policy| policy.is_permissive)
    }

    /// Whether a policy names it: somebody wrote it for this role.
    fn is_meant_to_read(&self) -> bool {
        self.policies.iter().any(|policy| policy.is_permissive && policy.is_for_role)
    }

    fn judge(&self, table: &Table, facts: &mut Facts) {
        let (about, role) = (table.about(), quoted(&self.name));
        if self.is_owner && self.bypasses && table.has_rls {
            facts
                .bad(
                    about.clone(),
                    format!("is owned by {}, which its policies therefore do not bind", self.name),
                )
                .also(format!(
                    "give it an owner that is not in auth.roles (it is {}); forcing row level security would bind its writes as well",
                    table.owner
                ));
        }
        let is_meant = table.has_rls && self.is_meant_to_read();
        if is_meant && !self.may_select {
            let statement = format!("grant select on {} to {role}", table.quoted);
            let fact = facts.bad(
                about.clone(),
                format!("{} has a policy and no SELECT: it is shown no row", self.name),
            );
            if table.is_named {
                fact.sql(format!("{statement};"));
            } else {
                fact.also(format!("{statement}, if it is to read what the policy shows it"));
            }
        }
        if (self.may_select || is_meant) && !self.may_use_schema && !self.bypasses {
            self.judge_schema(table, facts);
        }
    }

    fn judge_schema(&self, table: &Table, facts: &mut Facts) {
        let statement =
            format!("grant usage on schema {} to {}", table.quoted_schema, quoted(&self.name));
        let says = format!("{} has no USAGE on schema {}", self.name, table.schema);
        if !table.is_named {
            facts.odd(table.about(), format!("{says}: it is shown no row"));
            return;
        }
        let fact = facts.bad(table.about(), says);
        if self.opens.is_empty() && table.has_rls {
            fact.sql(format!("{statement};"));
            return;
        }
        let mut others: Vec<_> = self.opens.iter().take(5).cloned().collect();
        if self.opens.len() > others.len() {
            others.push(format!("{} more", self.opens.len() - others.len()));
        }
        let others =
            if others.is_empty() { "every row of it".to_owned() } else { others.join(", ") };
        fact.also(format!("{statement}, if it may read what that opens: {others}"));
    }
}
