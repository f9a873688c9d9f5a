//! The nouns of the relay: what a change, a row, a principal and a wish are.
//!
//! Everything here is a plain value. Nothing here does I/O, knows a wire format, or is serializable: each
//! boundary owns its own wire structs, so renaming a field can never change a protocol.

pub mod caller;
pub mod change;
pub mod cidr;
pub mod claims;
pub mod filter;
pub mod first_read;
pub mod lsn;
pub mod position;
pub mod relation;
pub mod row;
pub mod snapshot;
pub mod sqltype;
pub mod subscription;
pub mod table;
pub mod time;

pub use caller::{CallerIdentity, Network};
pub use change::{Change, ChangeKind, Event, Transaction};
pub use cidr::Cidr;
pub use claims::{Principal, read_subject};
pub use first_read::{FirstRead, Order};
pub use lsn::Lsn;
pub use position::{Epoch, Position, Since};
pub use relation::{Column, Relation, ReplicaIdentity};
pub use row::{Cell, OldRow, Row};
pub use snapshot::Snapshot;
pub use sqltype::{Kind, SqlType};
pub use subscription::{Subscription, Target};
pub use table::Table;
