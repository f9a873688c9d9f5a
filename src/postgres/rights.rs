//! SQL that tells, as a number, whether what decides what a role may read has changed.
//!
//! Whoever remembers what follows from rights remembers their mark, and compares it later. Two places ask: the catalog,
//! when it looks at a table, and every row check.

use super::quote::fill;

/// An expression: one number of the rows (`kind`, `place`, `version`) that a query gives. It changes when one of them does.
pub fn mark_of(versions: &str) -> String {
    let mark = include_str!("../../sql/queries/versions_mark.sql");
    format!("({})", fill(mark, &[("versions", versions)]))
}

/// A query for the versions of what decides what a role may read of a table. `held` is an array of the role and all it is a
/// member of.
pub fn versions_of_rights(table: &str, role: &str, held: &str) -> String {
    let versions = include_str!("../../sql/queries/versions_rights.sql");
    fill(versions, &[("table", table), ("role", role), ("held", held)])
}

/// An expression: an array of a role and all it is a member of.
pub fn held_by(role: &str) -> String {
    fill(include_str!("../../sql/queries/role_held.sql"), &[("role", role)])
}
