//! What the files advise where it depends on the server: its version, or a setting that needs a restart. Each statement
//! that they print is run, and then they print it no more.

use super::{psql, psql_file};
use crate::support::{Cluster, Database};

const ENABLE: &str = "sql/ENABLE_REALTIME_CHAT.sql";
const ROLE: &str = "sql/RELAY_ROLE.sql";

/// Every kind of write to a chat table with a key or without.
const WRITES: &str = "insert into chat_messages (id, body) values (1, 'a');
    update chat_messages set body = 'bc';
    delete from chat_messages;\n";

#[test]
fn a_log_without_logical_changes_is_named_until_it_has_them() {
    let cluster = Cluster::start(&[("wal_level", "replica")]);
    psql_file(&cluster, "postgres", "sql/SUPABASE_COMPAT.sql");
    let advice = "alter system set wal_level = logical";
    for file in [ENABLE, ROLE] {
        let printed = psql_file(&cluster, "postgres", file);
        assert!(
            printed.contains(&format!("wal_level is replica: {advice}, then restart")),
            "{printed}"
        );
    }
    assert_eq!(psql(&cluster, "postgres", &format!("{advice};\n")), "");
    cluster.restart("fast");
    for file in [ENABLE, ROLE] {
        let printed = psql_file(&cluster, "postgres", file);
        assert!(!printed.contains("wal_level"), "{printed}");
    }
}

/// Postgres 18 publishes no virtual generated column, and refuses updates of a table of full identity that has one.
#[tokio::test]
async fn a_virtual_generated_column_keeps_its_table_writable() {
    let Some((cluster, database)) = scene(180_000).await else { return };
    for key in ["primary key", ""] {
        database
            .execute(&format!(
                "create table chat_messages (id int {key}, session_id uuid, created_at timestamptz, body text,
                   size int generated always as (length(body)))"
            ))
            .await;
        let printed = psql_file(&cluster, &database.name, ENABLE);
        assert!(printed.contains("it has a virtual generated column: size"), "{printed}");
        assert!(!printed.contains("updates and deletes of"), "{printed}");
        assert_eq!(printed.contains("not published"), key.is_empty(), "{printed}");
        assert_eq!(psql(&cluster, &database.name, WRITES), "", "{key}");
        // As advised, with a stored one in its place.
        database
            .execute(
                "alter table chat_messages drop column size,
                   add column size int generated always as (length(body)) stored",
            )
            .await;
        let printed = psql_file(&cluster, &database.name, ENABLE);
        assert!(!printed.contains("virtual") && !printed.contains("not published"), "{printed}");
        assert_eq!(identity(&database).await, "f");
        assert_eq!(psql(&cluster, &database.name, WRITES), "", "{key}");
        database.execute("drop table chat_messages").await;
    }
}

/// Two publications leave it out, so two statements are advised, and both are needed.
#[tokio::test]
async fn a_generated_column_that_is_not_published_keeps_its_table_writable() {
    let Some((cluster, database)) = scene(180_000).await else { return };
    database
        .execute(
            "alter publication supabase_realtime set (publish_generated_columns = none);
             create table chat_messages (id int primary key, session_id uuid, created_at timestamptz, body text,
               size int generated always as (length(body)) stored);
             create publication reports for table chat_messages",
        )
        .await;
    for publication in ["reports", "supabase_realtime"] {
        let printed = psql_file(&cluster, &database.name, ENABLE);
        let advice =
            format!("alter publication {publication} set (publish_generated_columns = stored)");
        assert!(printed.contains(&advice), "{printed}");
        assert_eq!(identity(&database).await, "d");
        assert_eq!(psql(&cluster, &database.name, WRITES), "");
        database.execute(&advice).await;
        assert_eq!(psql(&cluster, &database.name, WRITES), "");
    }
    let printed = psql_file(&cluster, &database.name, ENABLE);
    assert!(!printed.contains("generated"), "{printed}");
    assert_eq!(identity(&database).await, "f");
    assert_eq!(psql(&cluster, &database.name, WRITES), "");
    // A table that is refused already: what mends it is said.
    database.execute("alter publication reports set (publish_generated_columns = none)").await;
    let printed = psql_file(&cluster, &database.name, ENABLE);
    let said = "updates and deletes of public.chat_messages fail, because publication reports leaves out its generated \
                columns: alter publication reports set (publish_generated_columns = stored)";
    assert!(printed.contains(said), "{printed}");
}

/// From Postgres 16 on a membership says for itself whether its rights come unasked.
#[tokio::test]
async fn a_role_that_has_its_rights_unasked_is_told_so() {
    let Some((cluster, database)) = scene(160_000).await else { return };
    psql_file(&cluster, &database.name, ROLE);
    database.execute("grant authenticated to relay with inherit true").await;
    let printed = psql_file(&cluster, &database.name, ROLE);
    let advice = "grant authenticated to relay with inherit false";
    assert!(printed.contains(advice), "{printed}");
    database.execute(advice).await;
    let printed = psql_file(&cluster, &database.name, ROLE);
    assert!(!printed.contains("unasked"), "{printed}");
}

/// A database in which everything is enabled and `chat_messages` is still to be made; none where the server is older.
async fn scene(at_least: i32) -> Option<(Cluster, Database)> {
    let cluster = Cluster::start(&[]);
    let database = cluster.database().await;
    let version = database.text("select current_setting('server_version_num')").await;
    if version.parse::<i32>().unwrap() < at_least {
        return None;
    }
    for file in ["sql/SUPABASE_COMPAT.sql", ENABLE] {
        psql_file(&cluster, &database.name, file);
    }
    database.execute("drop table chat_messages").await;
    Some((cluster, database))
}

async fn identity(database: &Database) -> String {
    database
        .text("select relreplident::text from pg_class where oid = 'chat_messages'::regclass")
        .await
}
