//! The shipped SQL does what its headers say, as psql shows it.
//!
//! Each file of `sql/tests` runs in a cluster of its own, because roles belong to the cluster, and prints what
//! `sql/tests/expected` says. With `UPDATE_GOLDEN` set the expectations are written instead; review the difference.

mod matrix;
mod migrate;
mod remedies;
mod repeated;
mod undo;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::Cluster;
use crate::support::cluster::{SUPERUSER, bin_dir};
use crate::support::program::run;

/// The files that a DBA pastes.
const SHIPPED: [&str; 7] = [
    "ENABLE_REALTIME_CHAT",
    "DISABLE_REALTIME_CHAT",
    "UNDO_ENABLE_REALTIME_CHAT",
    "SUPABASE_COMPAT",
    "UNDO_SUPABASE_COMPAT",
    "RELAY_ROLE",
    "UNDO_RELAY_ROLE",
];

/// What each test file shows. A file that is not here fails the last test.
const FILES: &[&str] = &[
    "administrator",
    "existing_tables",
    "inside_a_transaction",
    "plain_postgres",
    "policies",
    "publications",
    "realtime",
    "realtime_of_supabase",
    "relay_role",
    "some_tables",
    "supabase",
    "verdicts",
    "writes",
];

#[test]
fn an_administrator_who_is_no_superuser_is_enough() {
    check("administrator");
}

#[test]
fn tables_that_are_there_keep_their_columns_policies_and_data() {
    check("existing_tables");
}

#[test]
fn within_the_callers_transaction_a_file_is_a_part_of_it() {
    check("inside_a_transaction");
}

#[test]
fn plain_postgres_gets_what_the_policies_stand_on() {
    check("plain_postgres");
}

#[test]
fn visitors_and_agents_read_and_write_what_is_theirs() {
    check("policies");
}

#[test]
fn every_kind_of_publication_and_identity_stays_writable() {
    check("publications");
}

#[test]
fn the_database_broadcasts_under_its_own_policies() {
    check("realtime");
}

#[test]
fn the_realtime_schema_of_a_supabase_database_stays_its_own() {
    check("realtime_of_supabase");
}

#[test]
fn the_relay_role_may_stream_and_become_and_nothing_else() {
    check("relay_role");
}

#[test]
fn a_missing_table_is_made_to_fit_those_that_are_there() {
    check("some_tables");
}

#[test]
fn a_supabase_database_keeps_its_roles_and_functions() {
    check("supabase");
}

#[test]
fn no_table_is_called_ready_that_is_not() {
    check("verdicts");
}

#[test]
fn no_write_fails_after_enable() {
    check("writes");
}

#[test]
fn every_test_file_is_run() {
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, FILES);
}

/// A DBA who enables the chat while somebody holds a table is told so, and finds everything as it was.
#[tokio::test]
async fn a_table_in_use_fails_the_whole_file_and_changes_nothing() {
    let cluster = Cluster::start(&[]);
    let database = cluster.database().await;
    let run = |script: &str| psql(&cluster, &database.name, script);
    run(
        "\\i sql/SUPABASE_COMPAT.sql\n\\i sql/ENABLE_REALTIME_CHAT.sql\n\\i sql/DISABLE_REALTIME_CHAT.sql\n",
    );

    let mut holder = database.connect().await;
    let reading = holder.transaction().await.unwrap();
    reading.batch_execute("select from public.chat_messages").await.unwrap();
    let printed = run("\\i sql/ENABLE_REALTIME_CHAT.sql\n");
    drop(reading);

    assert!(printed.contains("canceling statement due to lock timeout"), "{printed}");
    let published = "select count(*)::text from pg_publication_tables";
    assert_eq!(database.text(published).await, "0");
    run("\\i sql/ENABLE_REALTIME_CHAT.sql\n");
    assert_eq!(database.text(published).await, "3");
}

/// Web editors send what was pasted as one string.
#[tokio::test]
async fn a_file_sent_as_one_string_ends_committed() {
    let cluster = Cluster::start(&[]);
    let database = cluster.database().await;
    for _ in 0..2 {
        for name in ["SUPABASE_COMPAT", "ENABLE_REALTIME_CHAT", "RELAY_ROLE"] {
            database.execute(&shipped(name)).await;
        }
    }
    // One that fails half-way takes all of the string along.
    let failing = format!(
        "create table of_the_string (id int);\n{}\nselect 1 / 0;",
        shipped("DISABLE_REALTIME_CHAT")
    );
    database.connect().await.batch_execute(&failing).await.unwrap_err();
    let left = "select coalesce(to_regclass('of_the_string')::text, 'nothing')";
    assert_eq!(database.text(left).await, "nothing");
    let published = "select count(*)::text from pg_publication_tables";
    assert_eq!(
        database.connect().await.query_one(published, &[]).await.unwrap().get::<_, &str>(0),
        "3"
    );
}

/// Editors know no psql meta-commands, and a paste must not depend on psql's variables.
#[test]
fn the_files_to_paste_are_plain_sql() {
    for name in SHIPPED {
        for line in shipped(name).lines() {
            assert!(!line.trim_start().starts_with('\\'), "{name}: {line}");
            assert!(line.chars().count() <= 132, "{name}: {line}");
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped(name: &str) -> String {
    std::fs::read_to_string(root().join(format!("sql/{name}.sql"))).unwrap()
}

fn folder() -> PathBuf {
    root().join("sql/tests")
}

/// Runs one file in an empty database of a new cluster and compares what psql prints.
fn check(name: &str) {
    let cluster = Cluster::start(&[]);
    let printed = psql_file(&cluster, "postgres", &format!("sql/tests/{name}.sql"));
    let expected = folder().join(format!("expected/{name}.out"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&expected, &printed).unwrap();
    }
    let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
    if let Some((line, (is, should))) =
        printed.lines().zip(wanted.lines()).enumerate().find(|(_, (is, should))| is != should)
    {
        panic!(
            "{}:{}\n  expected {should}\n  printed  {is}\n\n{printed}",
            expected.display(),
            line + 1
        );
    }
    assert_eq!(printed.lines().count(), wanted.lines().count(), "{printed}");
}

/// Runs one file, or the variable that names one.
fn psql_file(cluster: &Cluster, database: &str, file: &str) -> String {
    psql(cluster, database, &format!("\\i {file}\n"))
}

/// What `relay migrate` prints, made and undone, in files that the variables `migrate` and `undo_migrate` of psql name.
fn migrations(cluster: &Cluster) -> [String; 2] {
    [("migrate", &[][..]), ("undo_migrate", &["--undo"][..])].map(|(name, arguments)| {
        let path = cluster.dir().join(name);
        if !path.exists() {
            let dry_run = &["migrate", "--dry-run", "--role", "relay"];
            let (code, printed) = run(&[dry_run, arguments].concat());
            assert_eq!(code, Some(0), "{printed}");
            std::fs::write(&path, printed).unwrap();
        }
        format!("{name}={}", path.display())
    })
}

/// Feeds `script` to psql in the repository's root; what it prints, errors in their places, without the names of files.
fn psql(cluster: &Cluster, database: &str, script: &str) -> String {
    let own = bin_dir().join("psql");
    let program = if own.exists() { own } else { PathBuf::from("psql") };
    let mut child = Command::new("sh")
        .args(["-c", "exec \"$0\" -X -q -v \"$2\" -v \"$3\" -d \"$1\" 2>&1"])
        .arg(program)
        .arg(cluster.url(SUPERUSER, database))
        .args(migrations(cluster))
        .current_dir(root())
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| format!("{}\n", without_place(line).trim_end())).collect()
}

/// `psql:file.sql:12: ERROR: …` without the file and the line.
fn without_place(line: &str) -> &str {
    let Some(rest) = line.strip_prefix("psql:") else { return line };
    rest.split_once(": ").map_or(line, |(_, message)| message)
}
