//! Probes and metrics: where they are served, what the figures say before anything happened, and that clients cannot keep
//! anybody from them.

use std::net::TcpListener;

use serde_json::json;

use crate::support::relay::{anon, get};
use crate::support::{Client, Cluster, Relay, until};

async fn prepare(environment: &[(&str, &str)]) -> Relay {
    let database = Cluster::shared().database().await.with_roles().await;
    Relay::prepare(&database, environment)
}

#[tokio::test]
async fn the_address_of_clients_has_the_probes_and_not_the_metrics() {
    let mut relay = prepare(&[]).await;
    relay.launch();
    relay.ready().await;
    let (status, text) = relay.get("/metrics");
    assert!(status == 404 && text.contains("http.admin_listen"), "{status} {text}");
    for port in [relay.port(), relay.admin_port()] {
        for path in ["/healthz", "/readyz"] {
            assert_eq!(get(port, path), Some((200, "ok".to_owned())), "{path} of {port}");
        }
    }
    let (status, text) = get(relay.admin_port(), "/metrics").unwrap();
    assert!(status == 200 && text.contains("relay_checks_total 0"), "{status} {text}");
    // Nothing of clients is there.
    assert_eq!(get(relay.admin_port(), "/realtime/v1/websocket").unwrap().0, 404);
    let address = format!("address=127.0.0.1:{}", relay.admin_port());
    let log = relay.log_text();
    let line = log.lines().find(|line| line.contains("http.admin_listen")).unwrap();
    assert!(line.contains(&address), "{line}");
}

#[tokio::test]
async fn one_address_for_all_is_the_operators_decision() {
    let port = crate::support::free_port();
    let address = format!("127.0.0.1:{port}");
    let both = [("RELAY_HTTP__LISTEN", &*address), ("RELAY_HTTP__ADMIN_LISTEN", &*address)];
    let mut relay = prepare(&both).await;
    relay.launch();
    until("the metrics", || async {
        get(port, "/metrics")
            .filter(|(status, text)| *status == 200 && text.contains("relay_changes_total 0"))
    })
    .await;
    let log = relay.log_text();
    assert!(log.contains("metrics are served to whoever reaches http.listen"), "{log}");
}

#[tokio::test]
async fn without_an_address_there_are_no_metrics() {
    let mut relay = prepare(&[("RELAY_HTTP__ADMIN_LISTEN", "off")]).await;
    relay.launch();
    relay.ready().await;
    let (status, text) = relay.get("/metrics");
    assert!(status == 404 && text.contains("http.admin_listen is off"), "{status} {text}");
    assert_eq!(get(relay.admin_port(), "/metrics"), None);
}

#[tokio::test]
async fn a_taken_default_is_done_without_and_a_taken_address_that_was_written_is_fatal() {
    // Whether it is this one or somebody else's: the port is taken.
    let _taken = TcpListener::bind("127.0.0.1:9464");
    let mut relay = prepare(&[("RELAY_HTTP__ADMIN_LISTEN", "")]).await;
    relay.launch();
    relay.ready().await;
    let log = relay.log_text();
    let line = log.lines().find(|line| line.contains("127.0.0.1:9464")).unwrap();
    assert!(line.contains("WARN") && line.contains("choose another http.admin_listen"), "{line}");

    let mut relay = prepare(&[("RELAY_HTTP__ADMIN_LISTEN", "127.0.0.1:9464")]).await;
    relay.launch();
    assert_eq!(relay.exited().await, Some(2));
    let log = relay.log_text();
    let line = log.lines().find(|line| line.starts_with("relay: ")).unwrap();
    assert!(
        line.contains("could not listen on 127.0.0.1:9464; choose another http.admin_listen"),
        "{line}"
    );
}

#[tokio::test]
async fn every_known_reason_is_counted_from_the_start_and_so_is_the_process() {
    let mut relay = prepare(&[]).await;
    relay.launch();
    relay.ready().await;
    let text = relay.metrics();
    for line in [
        "relay_gaps_total{reason=\"slot_dropped\"} 0",
        "relay_gaps_total{reason=\"row_checks_behind\"} 0",
        "relay_withheld_total{reason=\"check_failed\"} 0",
        "relay_closed_total{reason=\"slow\"} 0",
        "relay_refused_total{reason=\"InvalidJWTToken\"} 0",
        "relay_chat_requests_total{reason=\"failed\"} 0",
        concat!("relay_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let resident = relay.metric("process_resident_memory_bytes");
    assert!((1e6..1e10).contains(&resident), "{resident}");
    let (open, most) = (relay.metric("process_open_fds"), relay.metric("process_max_fds"));
    assert!(3.0 < open && open < most, "{open} of {most}");
    let begun = relay.metric("process_start_time_seconds");
    let now = crate::support::relay::now() as f64;
    // The clock of the boot is a whole second, and may have been set since.
    assert!((now - 3600.0..now + 60.0).contains(&begun), "{begun} at {now}");
    assert!(relay.metric("process_cpu_seconds_total") > 0.0);
}

#[tokio::test]
async fn a_relay_that_stops_says_so_and_is_watched_until_its_clients_left() {
    let database = Cluster::shared().database().await.with_roles().await;
    let database = database.with_table("notes", "id bigint primary key, body text").await;
    let mut relay = Relay::start_with(&database, &[("RELAY_LIMITS__OUTBOX", "64 MiB")]).await;
    let mut client = Client::connect(&relay, &anon()).await;
    let wishes = json!([{ "event": "*", "schema": "public", "table": "notes" }]);
    client.subscribe("room", wishes).await;
    // More than the kernel holds for a client that does not read, so that it does not leave at once.
    let rows = "insert into notes select i, repeat('x', 20000) from generate_series(1, 600) i";
    database.execute(rows).await;
    until("every row to be queued", || async {
        (600.0 <= relay.metric("relay_deliveries_total")).then_some(())
    })
    .await;
    relay.signal("TERM");
    until("the address of clients to be closed", || async {
        get(relay.port(), "/healthz").is_none().then_some(())
    })
    .await;
    let (status, text) = get(relay.admin_port(), "/readyz").unwrap();
    assert_eq!((status, &*text), (503, "clients are being sent away"));
    assert!(relay.metric("relay_connections") > 0.5);
    while client.receive_or_close().await.is_ok() {}
    assert_eq!(relay.terminate().await, Some(0));
}
