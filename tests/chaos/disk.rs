//! The change log's disk: full, torn, damaged.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use serde_json::json;

use super::arena::{Arena, Plan, Resync, size};
use crate::support::relay::{get, token};
use crate::support::{Client, until};

/// The log's files of changes, oldest first.
fn segments(arena: &Arena) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(arena.relay.directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name().unwrap().to_string_lossy().bytes().any(|byte| byte.is_ascii_digit())
        })
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_confirmations_and_loses_nothing() {
    let mut plan = Plan::new((6, 100), (50, 300));
    plan.shielded = true;
    let mut arena = Arena::start("disk full", plan).await;
    arena.work(300, 2000).await;
    let pid = arena.relay.pid().to_string();
    let limit = |bytes: &str| {
        let limit = format!("--fsize={bytes}:unlimited");
        assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    };
    let largest = segments(&arena).iter().map(|path| path.metadata().unwrap().len()).max().unwrap();
    limit(&largest.to_string());
    until("the relay not to be ready", || async {
        get(arena.relay.port(), "/readyz").filter(|(status, _)| *status == 503)
    })
    .await;
    arena.work(500, 10_000).await;
    limit("unlimited");
    let start = Instant::now();
    arena.relay.ready().await;
    arena.figures.push(format!("ready again after {} ms", start.elapsed().as_millis()));
    arena.work(200, 2000).await;
    arena.relay.restart().await;
    arena.verdict(Resync::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_or_damaged_log_never_delivers_what_is_wrong_and_tells_what_is_gone() {
    let mut arena = Arena::start("log damaged", Plan::new((6, 100), (20, 300))).await;
    for round in 0..size(4, 100) {
        arena.work(200, 500).await;
        arena.relay.kill();
        let files = segments(&arena);
        let place = arena.dice.below(files.len() as u64);
        let path = files[usize::try_from(place).unwrap()].clone();
        let mut file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        if round % 2 == 0 {
            file.set_len(length - arena.dice.below(length.min(100))).unwrap();
        } else if length > 0 {
            let (at, bit) = (arena.dice.below(length), arena.dice.below(8));
            let mut byte = [0];
            file.seek(SeekFrom::Start(at)).unwrap();
            file.read_exact(&mut byte).unwrap();
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&[byte[0] ^ 1 << bit]).unwrap();
        }
        drop(file);
        arena.relay.launch();
        arena.relay.ready().await;
        arena.reach().await.unwrap();
    }
    arena.verdict(Resync::Told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_cannot_be_is_told_at_once() {
    let mut arena = Arena::start("bad cursors", Plan::new((4, 50), (20, 100))).await;
    let eyes = token("authenticated", &json!({ "sub": "seat-1", "seat": 1 }));
    let mut times = Vec::new();
    for round in 0..size(20, 1000) {
        let mut client = Client::connect(&arena.relay, &eyes).await;
        let random = arena.dice.next();
        let since = match round % 5 {
            0 => json!(format!("{random:x}:{:016x}:{}", arena.dice.next(), random % 9)),
            1 => json!("\u{0}\u{7f}\u{10ffff}".repeat(1 + usize::try_from(random % 1000).unwrap())),
            2 => json!([random, { "a": null }]),
            3 => json!("9".repeat(60_000)),
            _ => json!(format!("{}:{}:{}", "f".repeat(17), "f".repeat(16), u32::MAX)),
        };
        let wish = json!([{ "event": "*", "schema": "public", "table": "marks", "since": since }]);
        let start = Instant::now();
        client.subscribe("room", wish).await;
        client.find("a gap", |received| received.payload.get("gap").is_some()).await;
        times.push(start.elapsed());
    }
    // What is longer than any wish may be is no place either.
    let mut client = Client::connect(&arena.relay, &eyes).await;
    let wish = json!({ "event": "*", "schema": "public", "table": "marks", "since": "9".repeat(1_000_000) });
    let answer = client.join("room", json!({ "config": { "postgres_changes": [wish] } })).await;
    assert_eq!(answer["status"], "error", "{answer}");
    arena.figures.push(super::relay_dies::figures("from join to notice", times));
    arena.verdict(Resync::None).await;
}
