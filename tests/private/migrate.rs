//! `relay migrate`: what it prints, what it needs, and that it may be run again.

use crate::support::Cluster;
use crate::support::program::run;

fn migrate(arguments: &[&str]) -> (Option<i32>, String) {
    run(&[&["migrate"], arguments].concat())
}

#[tokio::test]
async fn what_is_printed_is_what_is_run_and_may_be_run_again() {
    let database = Cluster::shared().database().await.with_roles().await;
    let (code, sql) = migrate(&["--dry-run", "--role", "relay"]);
    assert_eq!(code, Some(0), "{sql}");
    database.execute(&sql).await;
    for _ in 0..2 {
        let (code, printed) = migrate(&["--url", &database.url, "--role", "relay"]);
        assert_eq!(code, Some(0), "{printed}");
        let lines: Vec<Vec<&str>> =
            printed.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(lines.contains(&vec!["days", "of", "messages", "5"]), "{printed}");
        assert!(lines.contains(&vec!["kept", "by", "relay"]), "{printed}");
    }
}

#[tokio::test]
async fn it_needs_an_owner_and_says_so() {
    let (code, printed) = migrate(&[]);
    assert_eq!(code, Some(2));
    assert!(printed.contains("give --url or RELAY_MIGRATE_URL"), "{printed}");

    let database = Cluster::shared().database().await.with_roles().await;
    let (code, printed) = migrate(&["--url", &database.url_as("relay")]);
    assert_eq!(code, Some(69));
    assert!(printed.contains("nothing was changed: permission denied"), "{printed}");
    assert!(printed.contains("use a superuser, or the owner"), "{printed}");
    let made = "select count(*)::text from pg_namespace where nspname = 'realtime'";
    assert_eq!(database.text(made).await, "0");
}

#[tokio::test]
async fn a_role_that_was_named_and_is_missing_is_a_fault_and_nothing_is_changed() {
    let database = Cluster::shared().database().await.with_roles().await;
    let (code, printed) = migrate(&["--url", &database.url, "--role", "somebody else's"]);
    assert_eq!(code, Some(2), "{printed}");
    assert!(
        printed.contains("no role \"somebody else's\"") && printed.contains("--role"),
        "{printed}"
    );
    let made = "select count(*)::text from pg_namespace where nspname = 'realtime'";
    assert_eq!(database.text(made).await, "0");
}

#[tokio::test]
async fn what_is_wrong_with_the_address_is_said_of_the_flag() {
    let database = Cluster::shared().database().await.with_roles().await;
    let nowhere = format!("{}_nowhere", database.url);
    let (code, printed) = migrate(&["--url", &nowhere]);
    assert_eq!(code, Some(69), "{printed}");
    assert!(
        printed.contains("the database in --url") && !printed.contains("postgres.url"),
        "{printed}"
    );
}

#[tokio::test]
async fn what_is_in_the_way_is_named_and_nothing_is_changed() {
    let database = Cluster::shared().database().await.with_roles().await;
    let read_only = format!("{}?options=-c%20default_transaction_read_only%3Don", database.url);
    let (code, printed) = migrate(&["--url", &read_only]);
    assert_eq!(code, Some(69));
    assert!(printed.contains("the address of the primary"), "{printed}");

    database
        .execute("create schema realtime; create table realtime.messages (id bigint, topic text)")
        .await;
    let (code, printed) = migrate(&["--url", &database.url]);
    assert_eq!(code, Some(69));
    assert!(printed.contains("realtime.messages is there and is another table"), "{printed}");
    database.execute("drop schema realtime cascade").await;

    let database = database.with_realtime();
    database.execute("alter table realtime.messages drop column binary_payload").await;
    let mut holder = database.connect().await;
    let reading = holder.transaction().await.unwrap();
    reading.batch_execute("select from realtime.messages").await.unwrap();
    let (code, printed) = migrate(&["--url", &database.url]);
    assert_eq!(code, Some(69));
    assert!(printed.contains("somebody holds realtime.messages"), "{printed}");
    reading.rollback().await.unwrap();
    let (code, printed) = migrate(&["--url", &database.url]);
    assert_eq!(code, Some(0), "{printed}");
}

/// A cluster of its own, because roles belong to the cluster.
#[tokio::test]
async fn roles_that_are_missing_are_named_with_the_file_that_makes_them() {
    let cluster = Cluster::start(&[]);
    let database = cluster.database().await;
    let (code, printed) = migrate(&["--url", &database.url]);
    assert_eq!(code, Some(0), "{printed}");
    for line in [
        "nobody: run SUPABASE_COMPAT.sql, then this again",
        "nobody: run RELAY_ROLE.sql, then this again",
    ] {
        assert!(printed.contains(line), "{printed}");
    }
    let database = database.with_roles().await;
    let (_, printed) = migrate(&["--url", &database.url]);
    assert!(printed.contains("anon, authenticated, service_role"), "{printed}");
    assert!(!printed.contains("nobody"), "{printed}");
}

#[tokio::test]
async fn an_owner_who_is_no_superuser_is_enough() {
    let database = Cluster::shared().database().await.with_roles().await;
    let owner = database.role_that_may_create().await;
    for _ in 0..2 {
        let (code, printed) = migrate(&["--url", &database.url_as(&owner), "--role", "relay"]);
        assert_eq!(code, Some(0), "{printed}");
    }
    let client = database.connect_as("relay").await;
    client.batch_execute("select realtime.keep_partitions()").await.unwrap();
    database.execute(&format!("drop owned by {owner} cascade; drop role {owner}")).await;
}
