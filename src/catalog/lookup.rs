//! What is asked of Postgres' catalogs, and how the answers are read.
//!
//! All questions about a set of tables are asked in one read-only transaction with one snapshot, sent without
//! waiting in between. Caching is not done here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::{Client, Row};

use super::link::{Link, Parameters};
use super::types::Types;
use crate::error::Error;
use crate::model::table::{Access, Columns, Generated, Names, Policy, Reads, Rows, TableColumn};
use crate::model::{ReplicaIdentity, Table};
use crate::postgres::quote::fill;
use crate::postgres::rights::{fingerprint_of, memberships_of, versions_of_rights};

/// Whose access is looked up, and in which publication.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// The relay's publication.
    pub(super) publication: Box<str>,
    /// The allow-list of roles.
    pub(super) roles: Box<[String]>,
}

/// The tables among `oids` that exist now; `None` when the transaction `xid` cannot be seen yet.
pub(super) async fn tables(
    client: &Client,
    scope: &Scope,
    oids: &[u32],
    xid: Option<u32>,
) -> Result<Option<Vec<Table>>, tokio_postgres::Error> {
    let publication = &*scope.publication;
    let roles = &*scope.roles;
    client.batch_execute("begin isolation level repeatable read read only").await?;
    let described = async {
        if let Some(xid) = xid {
            // The first query takes the snapshot that all the others use.
            let gate = include_str!("../../sql/queries/visibility_gate.sql");
            let seen = client.query_one(gate, &[&[i64::from(xid)].as_slice()]).await?;
            if !seen.try_get::<_, bool>(0)? {
                return Ok(None);
            }
        }
        let shapes = client
            .query(include_str!("../../sql/queries/catalog_tables.sql"), &[&oids, &publication])
            .await?;
        let access = client.query(&access_of(), &[&oids, &roles]).await?;
        let mut wanted = HashSet::new();
        for shape in &shapes {
            wanted.extend(shape.try_get::<_, Vec<u32>>("types")?);
        }
        let wanted: Vec<u32> = wanted.into_iter().collect();
        let types = Types::fetch(client, &wanted).await?;
        assemble(&shapes, &access, &types).map(Some)
    }
    .await;
    // Also after an error: the connection is used again.
    client.batch_execute("commit").await?;
    described
}

/// A number for each of the tables that exist which changes with what is said of it, through the connection that the
/// catalog is read by.
pub(super) async fn fingerprints(
    link: &Link,
    scope: &Scope,
    oids: &[u32],
) -> Result<HashMap<u32, i64>, Error> {
    let sql = include_str!("../../sql/queries/catalog_fingerprints.sql");
    let parameters: Parameters = Arc::new([
        Box::new(oids.to_vec()),
        Box::new(scope.publication.to_string()),
        Box::new(scope.roles.to_vec()),
    ]);
    link.query(sql, parameters, |row| Ok((row.try_get("oid")?, row.try_get("fingerprint")?))).await
}

/// Those of `oids` that cannot be looked at without waiting for somebody's lock.
pub(super) async fn locked(
    client: &Client,
    oids: &[u32],
) -> Result<HashSet<u32>, tokio_postgres::Error> {
    let rows = client.query(include_str!("../../sql/queries/catalog_locked.sql"), &[&oids]).await?;
    rows.iter().map(|row| row.try_get("relation")).collect()
}

/// The oid of the table with this exact name.
pub(super) async fn find(
    client: &Client,
    schema: &str,
    name: &str,
) -> Result<Option<u32>, tokio_postgres::Error> {
    let row = client
        .query_opt(include_str!("../../sql/queries/catalog_find.sql"), &[&schema, &name])
        .await?;
    row.map(|row| row.try_get("oid")).transpose()
}

/// Whether the publication has a table in `schema`, or at all.
pub(super) async fn publishes(
    client: &Client,
    scope: &Scope,
    schema: Option<&str>,
) -> Result<bool, tokio_postgres::Error> {
    client
        .query_one(
            include_str!("../../sql/queries/catalog_publishes.sql"),
            &[&&*scope.publication, &schema],
        )
        .await?
        .try_get("publishes")
}

/// The tables of the publication.
pub(super) async fn published(
    link: &Link,
    scope: &Scope,
) -> Result<HashSet<(Box<str>, Box<str>)>, Error> {
    let sql = include_str!("../../sql/queries/catalog_published.sql");
    let parameters: Parameters = Arc::new([Box::new(scope.publication.to_string())]);
    let name = |row: &Row| {
        let (schema, name): (String, String) = (row.try_get("schema")?, row.try_get("name")?);
        Ok((schema.into(), name.into()))
    };
    link.query(sql, parameters, name).await
}

/// The roles of the allow-list that do not exist.
pub(super) async fn missing_roles(
    client: &Client,
    scope: &Scope,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = include_str!("../../sql/queries/catalog_missing_roles.sql");
    client.query_one(sql, &[&&*scope.roles]).await?.try_get("missing")
}

/// The statement that gives what roles may read.
fn access_of() -> String {
    let fingerprint = fingerprint_of(&versions_of_rights("c.oid", &memberships_of("r.oid")));
    fill(include_str!("../../sql/queries/catalog_access.sql"), &[("fingerprint", &fingerprint)])
}

fn assemble(
    shapes: &[Row],
    access: &[Row],
    types: &Types,
) -> Result<Vec<Table>, tokio_postgres::Error> {
    let mut by_table: HashMap<u32, HashMap<Box<str>, Access>> = HashMap::new();
    for row in access {
        let role: String = row.try_get("role")?;
        by_table.entry(row.try_get("oid")?).or_default().insert(role.into(), read_access(row)?);
    }
    let table = |row: &Row| {
        let oid = row.try_get("oid")?;
        let columns = read_columns(row, types)?;
        let mut access = by_table.remove(&oid).unwrap_or_default();
        for access in access.values_mut() {
            if let Rows::Policy(policy) = &mut access.rows {
                let reads = policy.reads.clone().resolved(&columns);
                *policy = Arc::new(Policy { reads, ..Policy::clone(policy) });
            }
        }
        Ok(Table {
            oid,
            schema: row.try_get::<_, String>("schema")?.into(),
            name: row.try_get::<_, String>("name")?.into(),
            is_published: row.try_get("is_published")?,
            has_row_security: row.try_get("has_row_security")?,
            is_partitioned: row.try_get("is_partitioned")?,
            identity: identity(&row.try_get::<_, String>("identity")?),
            columns,
            ancestors: row.try_get::<_, Vec<u32>>("ancestors")?.into(),
            access,
        })
    };
    shapes.iter().map(table).collect()
}

fn read_columns(row: &Row, types: &Types) -> Result<Box<[TableColumn]>, tokio_postgres::Error> {
    let names: Vec<String> = row.try_get("names")?;
    let oids: Vec<u32> = row.try_get("types")?;
    let keys: Vec<bool> = row.try_get("keys")?;
    let casts: Vec<String> = row.try_get("casts")?;
    let generated: Vec<Option<String>> = row.try_get("generated")?;
    let reads: Vec<Option<String>> = row.try_get("reads")?;
    let generated = generated.into_iter().zip(reads).map(|(expression, reads)| {
        let reads = reads.and_then(|names| serde_json::from_str::<Vec<String>>(&names).ok());
        let reads = reads.into_iter().flatten().map(Into::into).collect();
        expression.map(|expression| Generated { expression: expression.into(), reads })
    });
    let columns = names.into_iter().zip(oids).zip(keys).zip(casts).zip(generated);
    Ok(columns
        .map(|((((name, oid), is_primary_key), cast), generated)| TableColumn {
            name: name.into(),
            sql_type: types.resolve(oid),
            is_primary_key,
            cast: cast.into(),
            generated,
        })
        .collect())
}

fn read_access(row: &Row) -> Result<Access, tokio_postgres::Error> {
    let columns = if !row.try_get::<_, bool>("has_usage")? {
        // A table in a schema the role cannot use cannot be named by it, so it can read none of it.
        Columns::Only(Box::new([]))
    } else if row.try_get("has_table")? {
        Columns::All
    } else {
        let names: Vec<String> = row.try_get("columns")?;
        Columns::Only(names.into_iter().map(Into::into).collect())
    };
    let rows = if row.try_get("is_bound")? {
        let permissive: Vec<String> = row.try_get("permissive")?;
        let restrictive: Vec<String> = row.try_get("restrictive")?;
        match expression(&permissive, &restrictive) {
            Some(expression) => Rows::Policy(Arc::new(read_policy(row, expression)?)),
            None => Rows::None,
        }
    } else {
        Rows::All
    };
    Ok(Access { columns, rows, fingerprint: row.try_get("fingerprint")? })
}

fn read_policy(row: &Row, expression: Box<str>) -> Result<Policy, tokio_postgres::Error> {
    let columns: Vec<String> = row.try_get("reads_columns")?;
    // A whole-row reference names no column of its own.
    let whole_row = names_whole_row(&expression);
    let table_oid: bool = row.try_get("reads_table_oid")?;
    let reads = Reads {
        columns: columns.into_iter().map(Into::into).collect(),
        needed: Box::new([]),
        whole_row,
        table_oid,
        // A row that is made of its columns has no system columns beside them.
        stored: row.try_get("reads_stored")? || (whole_row && table_oid),
    };
    let names = if !row.try_get("has_foreign_names")? {
        Names::Own
    } else {
        let reader: Option<String> = row.try_get("reader")?;
        reader.map_or(Names::Nobodys, |reader| Names::Of(reader.into()))
    };
    Ok(Policy { expression, reads, names })
}

/// Whether an expression that Postgres printed takes a row as a whole (`t.*`), outside of its string constants.
fn names_whole_row(expression: &str) -> bool {
    expression.split('\'').step_by(2).any(|text| text.contains(".*"))
}

/// Every restrictive policy and at least one permissive one; `None` when there is no permissive one.
///
/// Restrictive ones come first, as they do in Postgres, so that an error in a permissive one is raised for the same
/// rows.
fn expression(permissive: &[String], restrictive: &[String]) -> Option<Box<str>> {
    if permissive.is_empty() {
        return None;
    }
    let mut sql = String::new();
    for condition in restrictive {
        sql.push_str(&format!("({condition}) and "));
    }
    let any: Vec<String> = permissive.iter().map(|condition| format!("({condition})")).collect();
    sql.push_str(&format!("({})", any.join(" or ")));
    Some(sql.into())
}

fn identity(letter: &str) -> ReplicaIdentity {
    match letter {
        "f" => ReplicaIdentity::Full,
        "i" => ReplicaIdentity::Index,
        "n" => ReplicaIdentity::Nothing,
        _ => ReplicaIdentity::Default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_no_whole_row() {
        assert!(!names_whole_row("(room ~ '^a.*'::text)"));
        assert!(!names_whole_row("(room = 'it''s .*'::text)"));
        assert!(names_whole_row("(sees(t.*) and room ~ 'x'::text)"));
    }

    #[test]
    fn all_restrictive_and_one_permissive_policy_must_hold() {
        let some = |texts: &[&str]| texts.iter().map(|&text| text.into()).collect::<Vec<String>>();
        assert_eq!(
            expression(&some(&["a", "b"]), &some(&["c"])).as_deref(),
            Some("(c) and ((a) or (b))")
        );
        assert_eq!(expression(&[], &some(&["c"])), None);
    }
}
