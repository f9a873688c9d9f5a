//! What `relay check` says of a relay that runs, and of another program that answers instead of it.

use std::io::{BufRead as _, Write as _};
use std::net::TcpListener;
use std::process::Command;

use serde_json::json;

use crate::cli::{check, healthy, healthy_in, on};
use crate::support::relay::token_of;
use crate::support::{Client, Cluster, Database, Relay, until};

/// The check, pointed at a relay.
pub(super) fn of_relay(database: &Database, relay: &Relay) -> Command {
    let mut command = of(database, relay.port());
    command.env("RELAY_HTTP__ADMIN_LISTEN", format!("127.0.0.1:{}", relay.admin_port()));
    command
}

/// The check, pointed at whatever listens there.
fn of(database: &Database, port: u16) -> Command {
    let mut command = on(database, &["check"]);
    command.env("RELAY_HTTP__LISTEN", format!("127.0.0.1:{port}"));
    command
}

#[tokio::test]
async fn withheld_rows_are_reported_with_their_reason() {
    let database = healthy().await;
    let relay = Relay::start(&database).await;
    check(of_relay(&database, &relay), 0, &["✓ relay withheld", "✓ relay gaps"]);
    let mut client =
        Client::connect(&relay, &token_of("11111111-1111-4111-8111-111111111111")).await;
    let wishes = json!([{ "event": "*", "schema": "public", "table": "orders" }]);
    client.subscribe("room", wishes).await;
    database
        .execute(
            "create function judge() returns boolean language plpgsql as
             $$ begin raise exception 'no tenant'; end $$;
             create policy judged on orders as restrictive for select to authenticated using (judge());
             insert into orders values (1, '11111111-1111-4111-8111-111111111111', 'x')",
        )
        .await;
    client.find("that rows are withheld", |got| got.payload.to_string().contains("P0001")).await;
    let words = [
        "✗ table public.orders",
        "policy judged fails for authenticated: no tenant (SQLSTATE P0001)",
        "! relay withheld",
        "check_failed 1",
        "check_failed: a policy raised an error",
    ];
    check(of_relay(&database, &relay), 69, &words);
}

#[tokio::test]
async fn a_relay_whose_disk_is_full_streams_and_cannot_keep() {
    let database = healthy().await;
    let mut relay = Relay::prepare(&database, &[]).shielded();
    relay.launch();
    relay.ready().await;
    let pid = relay.pid().to_string();
    let limited =
        Command::new("prlimit").args(["--pid", &pid, "--fsize=100000:unlimited"]).status();
    assert!(limited.unwrap().success());
    database.execute("insert into orders values (1, null, repeat('x', 900000))").await;
    until("the relay not to be ready", || async {
        Some(relay.get("/readyz")).filter(|(status, _)| *status == 503)
    })
    .await;
    let words = ["✗ relay", "streams, at 127.0.0.1", "cannot keep what it streams", "log.dir"];
    check(of_relay(&database, &relay), 69, &words);
}

#[tokio::test]
async fn another_program_that_speaks_http_is_no_relay() {
    let database = healthy().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // What is closed with something unread in it is reset.
            let mut head = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
            while head.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let body = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
            let _ = stream.write_all(body.as_bytes());
        }
    });
    check(of(&database, port), 69, &["✗ relay", "something else answers", "/readyz says 200"]);
}

/// A server that is frozen, or behind a firewall that swallows what is said, accepts connections all the same.
#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_reported_after_connect_timeout() {
    let database = healthy().await;
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for (mode, words) in [
        ("disable", "accepts connections and says nothing for 1 s (connect_timeout)"),
        ("prefer", "no answer in 1 s (connect_timeout)"),
        ("require", "no answer in 1 s (connect_timeout)"),
    ] {
        let mut command = on(&database, &["check"]);
        let url = format!("postgres://relay@127.0.0.1:{port}/app?connect_timeout=1&sslmode={mode}");
        command.env("RELAY_POSTGRES__URL", url);
        check(command, 69, &["✗ postgres.reachable", words]);
    }
}

#[tokio::test]
async fn a_history_that_ends_with_nobody_subscribed_is_no_error() {
    let database = healthy().await;
    let relay = Relay::start(&database).await;
    let slot = database.slot();
    until("the slot to be dropped", || async {
        let end = format!(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '{slot}'"
        );
        database.query(&end).await;
        let drop = format!("select pg_drop_replication_slot('{slot}')");
        database.client().batch_execute(&drop).await.ok()
    })
    .await;
    until("the end of the history to be logged", || async {
        relay.log_text().contains("nobody is subscribed").then_some(())
    })
    .await;
    assert!(!relay.log_text().contains("changes were lost to subscribers"));
}

#[tokio::test]
async fn a_relay_that_calls_itself_something_else_is_not_taken_for_strangers() {
    // Roles are the server's, and other tests connect as the relay's.
    let cluster = Cluster::start(&[]);
    let database = healthy_in(&cluster).await;
    let own = format!("{}?application_name=shop", database.url_as("relay"));
    let relay = Relay::start_with(&database, &[("RELAY_POSTGRES__URL", &own)]).await;
    database.execute("alter role relay connection limit 5").await;
    let mut command = of_relay(&database, &relay);
    command.env("RELAY_POSTGRES__URL", &own);
    check(command, 0, &["✓ relay ", "! postgres.connections"]);
}
