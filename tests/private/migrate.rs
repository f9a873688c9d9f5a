//! `relay migrate`: what it prints, what it needs, and that it may be run again.

use std::process::{Command, Output};

use crate::support::Cluster;

fn migrate(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_relay"))
        .arg("migrate")
        .args(arguments)
        .env_remove("RELAY_MIGRATE_URL")
        .env_remove("RELAY_POSTGRES__URL")
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout) + &text(stderr))
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
    let made = "select count(*)::text from pg_namespace where nspname = 'realtime'";
    assert_eq!(database.text(made).await, "0");
}

#[tokio::test]
async fn a_role_that_is_missing_is_no_obstacle() {
    let database = Cluster::shared().database().await.with_roles().await;
    let (code, printed) = migrate(&["--url", &database.url, "--role", "somebody else's"]);
    assert_eq!(code, Some(0), "{printed}");
}
