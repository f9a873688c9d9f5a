//! The change log on disk: what a killed relay keeps, whose directory it is, and a disk that is full.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use relay::changelog::disk::Settings;
use relay::changelog::{ChangeLog, DiskLog, Past};
use relay::metrics::Metrics;
use relay::model::Lsn;
use serde_json::{Value, json};

use crate::support::relay::{QUIET, token};
use crate::support::{Client, Cluster, Database, Relay, until};

async fn database() -> Database {
    let columns = "id bigint primary key, body text";
    Cluster::shared().database().await.with_roles().await.with_table("events", columns).await
}

async fn watch(relay: &Relay) -> Client {
    let mut client = Client::connect(relay, &token("anon", &json!({}))).await;
    let wishes = json!([{ "event": "*", "schema": "public", "table": "events" }]);
    client.subscribe("room", wishes).await;
    client
}

fn id(change: &Value) -> i64 {
    change["record"]["id"].as_i64().unwrap()
}

/// What the log of a relay that does not run holds.
fn look(relay: &Relay) -> Past {
    let settings = Settings {
        dir: relay.directory().to_owned(),
        retain_bytes: 1 << 30,
        retain_age: Duration::from_hours(24),
        memory: 1 << 20,
    };
    let log = DiskLog::open(&settings, Metrics::new()).unwrap();
    let past = log.recall().unwrap();
    log.close();
    past
}

async fn confirmed(database: &Database) -> Lsn {
    let sql = format!(
        "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '{}'",
        database.slot()
    );
    database.text(&sql).await.parse().unwrap()
}

#[tokio::test]
async fn a_killed_relay_goes_on_where_its_log_ends_and_rows_keep_their_ids() {
    let database = database().await;
    let mut relay = Relay::start(&database).await;
    let writer = database.connect().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writing = tokio::spawn(async move {
        let mut id = 0_i64;
        while !*stopped.borrow() {
            id += 1;
            writer.execute("insert into events values ($1, 'x')", &[&id]).await.unwrap();
        }
        id
    });
    let mut epochs = Vec::new();
    let mut known = HashMap::new();
    for _ in 0..5 {
        let mut client = watch(&relay).await;
        let first = client.change().await;
        epochs.push(first["id"].as_str().unwrap().split(':').next().unwrap().to_owned());
        let mut change = first;
        for row in id(&change)..id(&change) + 200 {
            assert_eq!(id(&change), row);
            // What was seen and not on disk yet comes again, and can be told by its id.
            let event = change["id"].clone();
            assert_eq!(*known.entry(row).or_insert_with(|| event.clone()), event);
            change = client.change().await;
        }
        relay.kill();
        let (end, told) = (look(&relay).end, confirmed(&database).await);
        assert!(told <= end, "{told} was confirmed, and the log ends at {end}");
        relay.launch();
        relay.ready().await;
    }
    let mut client = watch(&relay).await;
    stop.send(true).unwrap();
    let last = writing.await.unwrap();
    database.execute("insert into events values (0, 'the last')").await;
    let mut seen = Vec::new();
    while seen.last() != Some(&0) {
        seen.push(id(&client.change().await));
    }
    seen.pop();
    assert!(seen.is_sorted_by(|a, b| a + 1 == *b) && seen.last().is_none_or(|id| *id == last));
    tokio::time::sleep(QUIET).await;
    assert!(client.flush().await.is_empty());
    epochs.dedup();
    assert_eq!(epochs.len(), 1, "it is one history");
    let log = relay.log_text();
    assert!(!log.contains("history lost") && !log.contains("panicked"), "{log}");
}

/// Drops the slot as soon as nobody reads it.
async fn drop_slot(database: &Database) {
    let sql = format!(
        "select count(pg_drop_replication_slot(slot_name))::text from pg_replication_slots
         where slot_name = '{}' and not active",
        database.slot()
    );
    until("the slot to be dropped", || async { (database.text(&sql).await == "1").then_some(()) })
        .await;
}

#[tokio::test]
async fn a_slot_made_again_while_no_relay_runs_is_told_to_who_continues() {
    for (is_made_again, reason) in [(true, "slot_moved"), (false, "slot_dropped")] {
        let database = database().await;
        let mut relay = Relay::start(&database).await;
        let mut client = watch(&relay).await;
        database.execute("insert into events values (1, 'x')").await;
        let before = client.change().await["id"].clone();
        relay.terminate().await;
        drop_slot(&database).await;
        database.execute("insert into events values (2, 'lost')").await;
        if is_made_again {
            let slot = database.slot();
            let sql = format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')");
            database.execute(&sql).await;
        }
        relay.launch();
        relay.ready().await;
        assert!(relay.log_text().contains("history lost; a new epoch begins"));
        until("the gap to be counted", || async {
            let metric = format!("relay_gaps_total{{reason=\"{reason}\"}}");
            (1.0 <= relay.metric(&metric)).then_some(())
        })
        .await;
        // Nobody was there to lose anything.
        until("the gap to be logged", || async {
            relay.log_text().contains("nobody is subscribed").then_some(())
        })
        .await;
        assert!(!relay.log_text().contains("ERROR"), "{}", relay.log_text());

        let mut client = continue_at(&relay, &before).await;
        let told = client.find("a gap", |received| received.payload.get("gap").is_some()).await;
        assert_eq!(told.payload["gap"]["reason"], reason, "{told:?}");
        assert_eq!(told.payload["gap"]["from"], before);
        database.execute("insert into events values (3, 'x')").await;
        let after = client.change().await;
        assert_eq!(id(&after), 3);
        let epoch = |id: &Value| id.as_str().unwrap().split(':').next().unwrap().to_owned();
        assert_ne!(epoch(&before), epoch(&after["id"]));

        // The new history is one like any other.
        database.execute("insert into events values (4, 'x')").await;
        relay.restart().await;
        let mut client = continue_at(&relay, &after["id"]).await;
        assert_eq!(id(&client.change().await), 4);
        assert!(client.flush().await.is_empty());
    }
}

/// A client that continues after a change it knows.
async fn continue_at(relay: &Relay, since: &Value) -> Client {
    let mut client = Client::connect(relay, &token("anon", &json!({}))).await;
    let wishes = json!([{ "event": "*", "schema": "public", "table": "events", "since": since }]);
    client.subscribe("room", wishes).await;
    client
}

#[tokio::test]
async fn a_restart_without_a_fault_keeps_the_history() {
    let database = database().await;
    let mut relay = Relay::start(&database).await;
    // An idle server is confirmed further than the last commit; that is no sign of another reader.
    database.execute("create table other as select generate_series(1, 1000) as id").await;
    let end: Lsn = database.text("select pg_current_wal_lsn()::text").await.parse().unwrap();
    until("foreign WAL to be confirmed", || async {
        (end <= confirmed(&database).await).then_some(())
    })
    .await;
    relay.kill();
    relay.launch();
    relay.ready().await;
    assert_eq!(relay.terminate().await, Some(0));
    assert!(confirmed(&database).await <= look(&relay).end);
    assert!(!relay.log_text().contains("history lost"), "{}", relay.log_text());
}

#[tokio::test]
async fn a_transaction_far_larger_than_memory_arrives_whole() {
    let database = database().await;
    let relay = Relay::start_with(&database, &[("RELAY_POSTGRES__MAX_BACKLOG", "4 MiB")]).await;
    let mut client = watch(&relay).await;
    let before = memory(&relay);
    let sql = "insert into events select id, repeat('x', 2000) from generate_series(1, 50000) id";
    database.execute(sql).await;
    let mut commit = Value::Null;
    for index in 0..50_000 {
        let change = client.change().await;
        assert_eq!(id(&change), index + 1);
        let parts: Vec<_> = change["id"].as_str().unwrap().split(':').collect();
        assert_eq!(parts[2], index.to_string());
        if commit.is_null() {
            commit = parts[1].into();
        }
        assert_eq!(commit, parts[1]);
    }
    let more = memory(&relay) - before;
    assert!(more < 64 << 20, "{more} bytes for a transaction of a hundred million");
    assert!(relay.metric("relay_log_bytes") > 1e8);
}

/// The most memory the relay ever had, in bytes.
fn memory(relay: &Relay) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_directory_belongs_to_one_database_and_one_slot() {
    let (database, other) = (database().await, database().await);
    let mut first = Relay::start(&database).await;
    let directory = first.directory().display().to_string();
    until("the log to have an owner", || async {
        (1.0 <= first.metric("relay_log_segments")).then_some(())
    })
    .await;
    first.kill();
    for (second, slot) in [(&other, other.slot()), (&database, format!("{}_b", database.slot()))] {
        let environment = [("RELAY_LOG__DIR", &*directory), ("RELAY_POSTGRES__SLOT", &*slot)];
        let mut second = Relay::prepare(second, &environment);
        second.launch();
        assert_eq!(second.exited().await, Some(2));
        let told = second.log_text();
        assert!(
            told.contains(&format!("{:?}", database.slot())) && told.contains("log.dir"),
            "{told}"
        );
        let sql =
            format!("select count(*)::text from pg_replication_slots where slot_name = '{slot}'");
        assert_eq!(other.text(&sql).await, "0", "nothing was touched");
    }
}

#[tokio::test]
async fn a_full_disk_is_said_by_readiness_and_costs_no_delivery() {
    let database = database().await;
    let mut relay = Relay::prepare(&database, &[]).shielded();
    relay.launch();
    relay.ready().await;
    let mut client = watch(&relay).await;
    let limit = |bytes: &str| {
        let limit = format!("--fsize={bytes}:unlimited");
        let status =
            Command::new("prlimit").args(["--pid", &relay.pid().to_string(), &limit]).status();
        assert!(status.unwrap().success());
    };
    // More than the log's text, less than one of the rows.
    limit("1000000");
    database.execute("insert into events values (1, repeat('x', 900000))").await;
    database.execute("insert into events values (2, repeat('x', 900000))").await;
    assert_eq!(id(&client.change().await), 1);
    assert_eq!(id(&client.change().await), 2);
    database.execute("insert into events values (3, repeat('x', 2000000))").await;
    assert_eq!(id(&client.change().await), 3);
    let (_, told) = until("the relay not to be ready", || async {
        Some(relay.get("/readyz")).filter(|(status, _)| *status == 503)
    })
    .await;
    assert!(told.contains("cannot be written") && told.contains("nothing is confirmed"), "{told}");
    assert!(relay.metric("relay_log_writable") < 0.5);
    let unwritten: Lsn = database.text("select pg_current_wal_lsn()::text").await.parse().unwrap();
    database.execute("insert into events values (4, 'x')").await;
    assert_eq!(id(&client.change().await), 4);
    let end: Lsn = database.text("select pg_current_wal_lsn()::text").await.parse().unwrap();
    assert!(confirmed(&database).await < unwritten);
    limit("unlimited");
    relay.ready().await;
    until("everything to be confirmed", || async {
        (end <= confirmed(&database).await).then_some(())
    })
    .await;
    database.execute("insert into events values (5, 'x')").await;
    assert_eq!(id(&client.change().await), 5);
    relay.kill();
    assert!(end <= look(&relay).end);
}

#[tokio::test]
async fn an_ephemeral_relay_leaves_nothing_on_disk() {
    let database = database().await;
    let mut relay = Relay::prepare(&database, &[]).ephemeral();
    relay.launch();
    relay.ready().await;
    let mut client = watch(&relay).await;
    database.execute("insert into events values (1, 'x')").await;
    assert_eq!(id(&client.change().await), 1);
    assert!(!relay.directory().exists());
    assert_eq!(relay.terminate().await, Some(0));
    assert!(!relay.directory().exists());
}
