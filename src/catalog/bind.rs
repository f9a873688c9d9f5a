//! From what a client wrote to a [`Subscription`]: tables looked up, operands parsed by Postgres.

use super::Catalog;
use crate::model::{Principal, Subscription};

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
}

/// Why a channel's wishes cannot be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unbound {
    /// The client's fault: the text of the `system` message (`supabase-realtime` 2.6, 5.5, 5.6), final.
    Refused(String),
    /// Postgres could not be asked; worth trying again.
    Unavailable(String),
}

/// Binds all wishes of one channel; one bad wish refuses them all, with one text.
///
/// # Errors
/// See [`Unbound`].
pub async fn bind(
    _catalog: &Catalog,
    _principal: &Principal,
    _wishes: &[Wish],
) -> Result<Vec<Subscription>, Unbound> {
    todo!()
}
