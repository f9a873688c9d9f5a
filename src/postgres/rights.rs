//! SQL for a number that changes when what decides what a role may read has changed: its fingerprint.
//!
//! Whoever remembers what follows from rights remembers their fingerprint, and compares it later. Two places ask: the
//! catalog, when it looks at a table, and every row check.

use super::quote::fill;

/// An expression: one number of the rows (`kind`, `entry`, `version`) that a query gives. It changes when one of them does.
pub fn fingerprint_of(versions: &str) -> String {
    let fingerprint = include_str!("../../sql/queries/fingerprint.sql");
    format!("({})", fill(fingerprint, &[("versions", versions)]))
}

/// A query for the versions of what decides what a role may read of a table. `memberships` is an array of the role and all
/// it is a member of.
pub fn versions_of_rights(table: &str, memberships: &str) -> String {
    let versions = include_str!("../../sql/queries/fingerprint_rights.sql");
    fill(versions, &[("table", table), ("memberships", memberships)])
}

/// An expression: an array of a role and all it is a member of.
pub fn memberships_of(role: &str) -> String {
    fill(include_str!("../../sql/queries/role_memberships.sql"), &[("role", role)])
}
