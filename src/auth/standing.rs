//! Whether what an answer rests on is what it was: the role and its settings, its rights, and what a table's policies reach.
//!
//! Promises: marks that are asked for behind a question, in its transaction, are at least as new as the question's plan.

use tokio_postgres::{Client, Error, Statement};

use super::check::Basis;
use super::guard::{Guard, marks};
use crate::postgres::quote::fill;
use crate::postgres::rights::held_by;

/// What a connection was opened as.
#[derive(Debug)]
pub(super) struct Session {
    marks: Statement,
    /// The role it acts as.
    role: u32,
    /// The role, and what it was a member of when that was last looked up.
    held: Vec<u32>,
    /// The mark of the role and of the settings it was opened under.
    mark: i64,
}

/// Whether what an answer rests on is what it was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    RightsChanged,
    SettingsChanged,
    GuardChanged,
}

impl Session {
    /// What the connection is now.
    pub(super) async fn of(client: &Client) -> Result<Self, Error> {
        let marks = client.prepare(&marks()).await?;
        let (role, held) = own(client).await?;
        let mut session = Self { marks, role, held, mark: 0 };
        session.mark = session.marks(client, None).await?.session;
        Ok(session)
    }

    /// Whether what an answer rests on stands. Within the question's transaction, or later.
    pub(super) async fn standing(
        &self,
        client: &Client,
        rests_on: Option<(&Guard, &Basis)>,
    ) -> Result<Standing, Error> {
        let marks = self.marks(client, rests_on).await?;
        if marks.session != self.mark {
            return Ok(Standing::SettingsChanged);
        }
        Ok(match rests_on {
            Some((_, basis)) if marks.rights != basis.rights => Standing::RightsChanged,
            Some((guard, _)) if marks.guard != guard.mark => Standing::GuardChanged,
            _ => Standing::Good,
        })
    }

    /// Looks up what the role is a member of. Whether that is something else than before, so that rights which seemed to have
    /// changed may be those that were asked for.
    pub(super) async fn is_member_anew(&mut self, client: &Client) -> Result<bool, Error> {
        let (_, held) = own(client).await?;
        let is_new = held != self.held;
        self.held = held;
        Ok(is_new)
    }

    async fn marks(
        &self,
        client: &Client,
        rests_on: Option<(&Guard, &Basis)>,
    ) -> Result<Marks, Error> {
        let none: &[u32] = &[];
        let (functions, relations, table) = match rests_on {
            Some((guard, basis)) => (&*guard.functions, &*guard.relations, basis.table),
            None => (none, none, 0),
        };
        let row = client
            .query_one(&self.marks, &[&functions, &relations, &table, &self.role, &self.held])
            .await?;
        // There is no mark of a role that is gone.
        let session: Option<i64> = row.try_get("session")?;
        Ok(Marks {
            guard: row.try_get("guard")?,
            rights: row.try_get("rights")?,
            session: session.unwrap_or_default(),
        })
    }
}

/// Numbers that change with what they are the marks of.
struct Marks {
    guard: i64,
    rights: i64,
    session: i64,
}

async fn own(client: &Client) -> Result<(u32, Vec<u32>), Error> {
    let sql = include_str!("../../sql/queries/role_own.sql");
    let row = client.query_one(&fill(sql, &[("held", &held_by("who.oid"))]), &[]).await?;
    let mut held: Vec<u32> = row.try_get("held")?;
    held.sort_unstable();
    Ok((row.try_get("oid")?, held))
}
