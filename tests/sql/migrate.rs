//! `relay migrate --undo`: what it says, what it needs, and what it leaves alone.

use crate::support::program::run;
use crate::support::{Cluster, Database};

fn undo(arguments: &[&str]) -> (Option<i32>, String) {
    run(&[&["migrate", "--undo", "--role", "relay"], arguments].concat())
}

/// What there is in schema `realtime`, and of its publication.
async fn there(database: &Database) -> String {
    let query = "select concat((select count(*) from pg_class c where c.relnamespace = to_regnamespace('realtime')), ' ',
        (select count(*) from pg_proc p where p.pronamespace = to_regnamespace('realtime')), ' ',
        (select count(*) from pg_publication p where p.pubname like '%messages%'))";
    database.text(query).await
}

#[tokio::test]
async fn it_takes_back_what_was_made_and_may_be_run_again() {
    let database = Cluster::shared().database().await.with_roles().await.with_realtime();
    for _ in 0..2 {
        let (code, printed) = undo(&["--url", &database.url]);
        assert_eq!(code, Some(0), "{printed}");
        let lines: Vec<Vec<&str>> =
            printed.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines,
            [
                vec!["schema", "realtime", "not", "there"],
                vec!["table", "realtime.messages", "not", "there"],
                vec!["its", "publication", "not", "there"],
            ]
        );
        assert_eq!(there(&database).await, "0 0 0");
    }
    // What is printed is what is run.
    let database = database.with_realtime();
    let (code, sql) = undo(&["--dry-run"]);
    assert_eq!(code, Some(0), "{sql}");
    database.execute(&sql).await;
    assert_eq!(there(&database).await, "0 0 0");
}

#[tokio::test]
async fn what_is_in_the_way_is_named_with_what_to_do_and_nothing_is_changed() {
    let database = Cluster::shared().database().await.with_roles().await.with_realtime();
    let before = there(&database).await;
    let refused = async |said: &str| {
        let (code, printed) = undo(&["--url", &database.url]);
        assert_eq!(code, Some(69), "{printed}");
        assert!(printed.contains("could not undo; nothing was changed"), "{printed}");
        assert!(printed.contains(said), "{printed}");
        assert_eq!(there(&database).await, before);
    };

    database.execute("create policy \"to all\" on realtime.messages using (true)").await;
    refused("run: drop policy \"to all\" on realtime.messages; and then this again").await;
    database.execute("drop policy \"to all\" on realtime.messages").await;

    database
        .execute(
            "create function tells() returns void language plpgsql as 'begin perform realtime.send(null, null, null); end'",
        )
        .await;
    refused("would go: tells()").await;
    database.execute("drop function tells()").await;

    database.execute("create view asks as select realtime.topic()").await;
    refused("view asks depends on function realtime.topic() (2BP01); drop or change that").await;
    database.execute("drop view asks").await;

    let relay = database.connect_as("relay").await;
    refused("the relay is connected as relay (55006); Stop the relay").await;
    drop(relay);
    crate::support::until("the relay to be gone", || async {
        let query =
            "select from pg_stat_activity where usename = 'relay' and datname = current_database()";
        database.query(query).await.is_empty().then_some(())
    })
    .await;

    let mut holder = database.connect().await;
    let reading = holder.transaction().await.unwrap();
    reading.batch_execute("select from realtime.messages").await.unwrap();
    refused("somebody holds realtime.messages").await;
    reading.rollback().await.unwrap();

    let (code, printed) = undo(&["--url", &database.url]);
    assert_eq!(code, Some(0), "{printed}");
}

/// The relay's own role may take back nothing.
#[tokio::test]
async fn it_needs_an_owner_and_says_so() {
    let (code, printed) = undo(&[]);
    assert_eq!(code, Some(2));
    assert!(printed.contains("give --url or RELAY_MIGRATE_URL"), "{printed}");
    let database = Cluster::shared().database().await.with_roles().await.with_realtime();
    let before = there(&database).await;
    let (code, printed) = undo(&["--url", &database.url_as("relay")]);
    assert_eq!(code, Some(69), "{printed}");
    assert!(printed.contains("use a superuser, or the owner"), "{printed}");
    assert_eq!(there(&database).await, before);
}

/// Whoever may make it may take it back: no superuser is needed.
#[tokio::test]
async fn an_owner_who_is_no_superuser_is_enough() {
    let database = Cluster::shared().database().await.with_roles().await;
    let owner = database.role_that_may_create().await;
    let url = database.url_as(&owner);
    let (code, printed) = run(&["migrate", "--role", "relay", "--url", &url]);
    assert_eq!(code, Some(0), "{printed}");
    let (code, printed) = undo(&["--url", &url]);
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(there(&database).await, "0 0 0");
    database.execute(&format!("drop owned by {owner}; drop role {owner}")).await;
}

#[test]
fn the_help_says_what_goes_and_what_stops_it() {
    let (_, help) = run(&["migrate", "--help"]);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in ["--undo", "Stop the relay first", "messages that are in realtime.messages go with"]
    {
        assert!(help.contains(said), "{help}");
    }
}
