//! Connections that act as somebody: an API role, under the settings that its own sessions in the database would have.
//!
//! Policies and the operands of filters may depend on settings (`extract(hour from t)` on the time zone, `text::date` on
//! the date style), so they are evaluated on such a connection, and values are rendered on one of [`super::connect`].
//! What is read here in the pinned text form still means the same: ISO dates with their offset, intervals and hex bytes
//! are read alike under every setting that is taken over.
//!
//! Promises: of everything that `alter database` and `alter role` set, the most specific value is in force, except for
//! what `acting_settings.sql` leaves out. What the login role may not set is left out as well, as is what does not exist any
//! more.
//!
//! Not here: settings that only the login role has. They are in force where nothing more specific is.

use futures_util::future::join_all;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tracing::debug;

use super::sql::{Sql, connect, connect_plain};
use super::target::Target;
use crate::error::{Error, ErrorKind};
use crate::shutdown::Stage;

/// Why nobody can be acted as.
#[derive(Debug)]
pub enum NotActing {
    /// The login role is not a member of the role.
    NotAMember {
        /// The login role.
        login: String,
    },
    /// There is no such role.
    NoSuchRole,
    /// Postgres could not be reached, or not now.
    Unreachable(Error),
}

/// Opens a connection that acts as `role` for as long as it lives. `limits` are settings on top of the role's own.
///
/// # Errors
/// See [`NotActing`].
pub async fn connect_as(
    target: &Target,
    application: &str,
    role: &str,
    limits: &[(&str, &str)],
    stage: &Stage,
) -> Result<Sql, NotActing> {
    let sql =
        connect_plain(target, application, limits, stage).await.map_err(NotActing::Unreachable)?;
    take_over(&sql.client, role).await.map_err(unreachable)?;
    become_role(&sql.client, role).await?;
    Ok(sql)
}

/// The same under the pinned settings: for what only an API role may call, and whose result is rendered.
///
/// # Errors
/// See [`NotActing`].
pub async fn connect_pinned_as(
    target: &Target,
    application: &str,
    role: &str,
    limits: &[(&str, &str)],
    stage: &Stage,
) -> Result<Sql, NotActing> {
    let sql = connect(target, application, limits, stage).await.map_err(NotActing::Unreachable)?;
    become_role(&sql.client, role).await?;
    Ok(sql)
}

/// Sets what the role's own sessions would begin with.
///
/// # Errors
/// The connection broke.
pub async fn take_over(client: &Client, role: &str) -> Result<(), tokio_postgres::Error> {
    let sql = include_str!("../../sql/queries/acting_settings.sql");
    let rows = client.query(sql, &[&role]).await?;
    let setting = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    let settings = rows.iter().map(setting).collect::<Result<Vec<(String, String)>, _>>()?;
    if settings.is_empty() {
        return Ok(());
    }
    let set = client.prepare("select pg_catalog.set_config($1, $2, false)").await?;
    let setting = settings.iter().map(|(name, value)| {
        let (client, set) = (client, &set);
        async move { (name, client.query_one(set, &[name, value]).await) }
    });
    for (name, was_set) in join_all(setting).await {
        match was_set {
            Err(error) if error.as_db_error().is_some() => {
                debug!(role, name, "a setting of the role cannot be taken over");
            }
            was_set => {
                was_set?;
            }
        }
    }
    Ok(())
}

async fn become_role(client: &Client, role: &str) -> Result<(), NotActing> {
    let became = client.query_one("select set_config('role', $1, false)", &[&role]).await;
    let Err(error) = became else {
        // `none` is a word to Postgres, not a role.
        let current = text(client, "select current_user::text").await?;
        return if current == role { Ok(()) } else { Err(NotActing::NoSuchRole) };
    };
    match error.code() {
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            Err(NotActing::NotAMember { login: text(client, "select session_user::text").await? })
        }
        Some(code) if *code == SqlState::INVALID_PARAMETER_VALUE => Err(NotActing::NoSuchRole),
        _ => Err(unreachable(error)),
    }
}

async fn text(client: &Client, sql: &str) -> Result<String, NotActing> {
    let row = client.query_one(sql, &[]).await.map_err(unreachable)?;
    row.try_get(0).map_err(unreachable)
}

fn unreachable(error: tokio_postgres::Error) -> NotActing {
    let what = "could not prepare a connection that acts as a role";
    NotActing::Unreachable(Error::new(ErrorKind::SourceUnreachable, what).because(error))
}
