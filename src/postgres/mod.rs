//! Reaching Postgres: connection strings, TLS, ordinary SQL connections, and the start of replication connections.
//!
//! Every sslmode, every login method and every session setting is decided here, once for both kinds of connection.
//! Poolers are not spoken to: replication does not pass through them.

mod acting;
mod failure;
mod plain;
pub mod quote;
pub mod rights;
mod session;
mod sql;
mod startup;
mod stream;
mod target;
mod tls;
mod turns;
mod wire;
mod words;

pub use acting::{NotActing, connect_as, connect_pinned_as, take_over};
pub use plain::without_values;
pub use session::PINNED;
pub use sql::{Sql, connect, connect_plain, refusal};
pub use target::Target;

pub(crate) use failure::{Failure, Refused, sqlstate};
pub(crate) use startup::{replication, simple_query};
pub(crate) use turns::{Turn, Turns};
pub(crate) use wire::{Frame, Wire};
