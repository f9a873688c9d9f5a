//! Whether what an answer rests on is what it was: the role and its settings, its rights, and what a table's policies reach.
//!
//! Each of these has a fingerprint, a number that changes with it. Promises: fingerprints that are asked for behind a
//! question, in its transaction, are at least as new as the question's plan.

use tokio_postgres::{Client, Error, Statement};

use super::check::Basis;
use super::guard::{Guard, fingerprints};
use crate::postgres::quote::fill;
use crate::postgres::rights::memberships_of;

/// The role that a connection was opened as.
#[derive(Debug)]
pub(super) struct ActingRole {
    fingerprints: Statement,
    oid: u32,
    /// The role, and what it was a member of when that was last looked up.
    memberships: Vec<u32>,
    /// The fingerprint of the role and of the settings it was opened under.
    fingerprint: i64,
}

/// Whether what an answer rests on is what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BasisState {
    Unchanged,
    RightsChanged,
    SettingsChanged,
    GuardChanged,
}

/// What an answer rests on, when it is about rows of a table.
pub(super) type RestsOn<'a> = Option<(&'a Guard, &'a Basis)>;

impl ActingRole {
    /// The role that the connection acts as now.
    pub(super) async fn of(client: &Client) -> Result<Self, Error> {
        let fingerprints = client.prepare(&fingerprints()).await?;
        let (oid, memberships) = current(client).await?;
        let mut role = Self { fingerprints, oid, memberships, fingerprint: 0 };
        role.fingerprint = role.fingerprints(client, None).await?.session;
        Ok(role)
    }

    /// Whether what an answer rests on is what it was. Within the question's transaction, or later.
    pub(super) async fn basis_state(
        &self,
        client: &Client,
        rests_on: RestsOn<'_>,
    ) -> Result<BasisState, Error> {
        let now = self.fingerprints(client, rests_on).await?;
        if now.session != self.fingerprint {
            return Ok(BasisState::SettingsChanged);
        }
        Ok(match rests_on {
            Some((_, basis)) if now.rights != basis.rights => BasisState::RightsChanged,
            Some((guard, _)) if now.guard != guard.fingerprint => BasisState::GuardChanged,
            _ => BasisState::Unchanged,
        })
    }

    /// The same, once more when rights seem to have changed and the role is a member of other roles than it was: the
    /// fingerprint was of the roles it knew, so the rights may be those that were asked for.
    pub(super) async fn basis_state_again(
        &mut self,
        client: &Client,
        state: BasisState,
        rests_on: RestsOn<'_>,
    ) -> Result<BasisState, Error> {
        if state != BasisState::RightsChanged {
            return Ok(state);
        }
        let (_, memberships) = current(client).await?;
        if memberships == self.memberships {
            return Ok(state);
        }
        self.memberships = memberships;
        self.basis_state(client, rests_on).await
    }

    async fn fingerprints(
        &self,
        client: &Client,
        rests_on: RestsOn<'_>,
    ) -> Result<Fingerprints, Error> {
        let none: &[u32] = &[];
        let (functions, relations, table) = match rests_on {
            Some((guard, basis)) => (&*guard.functions, &*guard.relations, basis.table),
            None => (none, none, 0),
        };
        let row = client
            .query_one(
                &self.fingerprints,
                &[&functions, &relations, &table, &self.oid, &self.memberships],
            )
            .await?;
        // A role that is gone has none.
        let session: Option<i64> = row.try_get("session")?;
        Ok(Fingerprints {
            guard: row.try_get("guard")?,
            rights: row.try_get("rights")?,
            session: session.unwrap_or_default(),
        })
    }
}

/// Numbers that change with what they are of.
struct Fingerprints {
    guard: i64,
    rights: i64,
    session: i64,
}

/// The role that a connection acts as, and what that is a member of.
async fn current(client: &Client) -> Result<(u32, Vec<u32>), Error> {
    let sql = fill(
        include_str!("../../sql/queries/role_own.sql"),
        &[("memberships", &memberships_of("who.oid"))],
    );
    let row = client.query_one(&sql, &[]).await?;
    let mut memberships: Vec<u32> = row.try_get("memberships")?;
    memberships.sort_unstable();
    Ok((row.try_get("oid")?, memberships))
}
