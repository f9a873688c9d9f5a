//! What the log on disk costs: from COMMIT to the client, with it and without, by turns on one database.

use std::time::{Duration, Instant};

use serde_json::json;

use super::arena::size;
use crate::support::relay::token;
use crate::support::{Client, Cluster, Relay};

#[tokio::test(flavor = "multi_thread")]
async fn every_row_arrives_with_a_log_on_disk_and_without_and_about_as_fast() {
    let cluster = Cluster::start(&[("fsync", "on")]);
    let database = cluster.database().await.with_roles().await;
    database
        .execute(
            "create table notes (id bigint primary key, body text);
             grant select on notes to anon;
             alter publication supabase_realtime add table notes",
        )
        .await;
    let mut relays = [
        Relay::prepare(&database, &[("RUST_LOG", "warn")]),
        Relay::prepare(&database, &[("RUST_LOG", "warn")]).ephemeral(),
    ];
    let (mut times, mut id) = ([Vec::new(), Vec::new()], 0_i64);
    for _ in 0..size(1, 10) {
        for (relay, times) in relays.iter_mut().zip(&mut times) {
            relay.launch();
            relay.ready().await;
            let mut client = Client::connect(relay, &token("anon", &json!({}))).await;
            client
                .subscribe("room", json!([{ "event": "*", "schema": "public", "table": "notes" }]))
                .await;
            for _ in 0..size(50, 500) {
                id += 1;
                let start = Instant::now();
                database
                    .client()
                    .execute("insert into notes values ($1, 'x')", &[&id])
                    .await
                    .unwrap();
                // What the other one had not confirmed comes first.
                while client.change().await["record"]["id"] != id {}
                times.push(start.elapsed());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            relay.kill();
        }
    }
    let [disk, memory] = times.map(|mut times| {
        times.sort_unstable();
        (times[times.len() / 2].as_micros(), times[times.len() * 99 / 100].as_micros())
    });
    eprintln!(
        "chaos: log on disk: p50 {} µs, p99 {} µs; in memory: p50 {} µs, p99 {} µs; of {id} rows",
        disk.0, disk.1, memory.0, memory.1
    );
}
