//! The SDKs people use, as their registries ship them, against the built relay.
//!
//! What they do is in `tests/clients`; `make setup` fetches them. Here the relay is started, restarted when a scenario
//! asks for it, and the verdict read.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::support::cluster::bin_dir;
use crate::support::relay::SECRET;
use crate::support::{Cluster, Database, Relay};

#[tokio::test]
async fn supabase_js_newest() {
    node("supabase-newest").await;
}

#[tokio::test]
async fn supabase_js_of_protocol_version_1() {
    node("supabase-vsn1").await;
}

#[tokio::test]
async fn realtime_py_newest() {
    let python = folder().join("python");
    let program = python.join(".venv/bin/python");
    assert!(program.exists(), "{} is missing; run `make setup`", program.display());
    let mut command = Command::new(program);
    command.arg(python.join("scenario.py"));
    run(command).await;
}

async fn node(sdk: &str) {
    let folder = folder().join("node");
    let package = folder.join("node_modules").join(sdk);
    assert!(package.exists(), "{} is missing; run `make setup`", package.display());
    let mut command = Command::new("node");
    command.arg(folder.join("scenario.mjs")).arg(sdk);
    run(command).await;
}

/// Runs a scenario against a relay and a database of its own. It says what holds in TAP's words.
async fn run(mut command: Command) {
    let database = database().await;
    let mut relay = Relay::start(&database).await;
    let own = bin_dir().join("psql");
    let mut child = command
        .env("RELAY_URL", relay.url())
        .env("DATABASE_URL", &database.url)
        .env("JWT_SECRET", SECRET)
        .env("PSQL", if own.exists() { own } else { PathBuf::from("psql") })
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut answers = child.stdin.take().unwrap();
    let mut errors = child.stderr.take().unwrap();
    let complaints = tokio::spawn(async move {
        let mut text = String::new();
        errors.read_to_string(&mut text).await.map(|_| text)
    });
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut transcript, mut held) = (String::new(), 0);
    let mut planned = None;
    while let Some(line) = lines.next_line().await.unwrap() {
        transcript.push_str(&line);
        transcript.push('\n');
        if let Some(count) = line.strip_prefix("1..") {
            planned = count.parse::<u32>().ok();
        }
        if line.starts_with("ok ") {
            held += 1;
        }
        if line == "# restart the relay" {
            relay.restart().await;
            answers.write_all(b"restarted\n").await.unwrap();
        }
    }
    let status = child.wait().await.unwrap();
    let complaints = complaints.await.unwrap().unwrap();
    assert!(status.success() && planned == Some(held), "{status}\n{transcript}\n{complaints}");
}

/// The chat tables, as a DBA gets them.
async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database.execute(include_str!("../sql/SUPABASE_COMPAT.sql")).await;
    database.execute(include_str!("../sql/ENABLE_REALTIME_CHAT.sql")).await;
    database
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}
