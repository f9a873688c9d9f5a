//! The SDKs people use, as their registries ship them, against the built relay.
//!
//! What they do is in `tests/clients`, which versions there are in `tests/clients/versions.txt`; `make setup` fetches
//! them. Here the relay is started, stopped and started again when a scenario asks for it, and the verdict read.

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
async fn supabase_js_of_2026() {
    node("supabase-2026").await;
}

#[tokio::test]
async fn supabase_js_of_2025() {
    node("supabase-2025").await;
}

#[tokio::test]
async fn supabase_js_of_2024() {
    node("supabase-2024").await;
}

#[tokio::test]
async fn supabase_js_of_2023() {
    node("supabase-2023").await;
}

#[tokio::test]
async fn realtime_py_newest() {
    python("realtime-newest").await;
}

#[tokio::test]
async fn realtime_py_older() {
    python("realtime-older").await;
}

#[test]
fn the_listed_versions_are_the_locked_ones_and_each_is_run() {
    let lock = std::fs::read_to_string(folder().join("node/package-lock.json")).unwrap();
    let lock: serde_json::Value = serde_json::from_str(&lock).unwrap();
    let this = include_str!("clients.rs");
    for Listed { name, package, version, published, vsn, .. } in listed() {
        if package == "realtime" {
            let pins = folder().join(format!("python/{name}.txt"));
            let pins = std::fs::read_to_string(pins).unwrap();
            assert!(
                pins.lines().any(|pin| pin == format!("realtime=={version}")),
                "{name}\n{pins}"
            );
        } else {
            let locked = &lock["packages"][format!("node_modules/{name}")];
            assert_eq!([&locked["name"], &locked["version"]], [package, version], "{name}");
        }
        assert!(this.contains(&format!("(\"{name}\")")), "nothing runs {name}");
        assert!(published.starts_with("20") && ["1.0.0", "2.0.0"].contains(&vsn), "{name}");
    }
    let locked = lock["packages"][""]["dependencies"].as_object().unwrap();
    let pinned = std::fs::read_dir(folder().join("python")).unwrap();
    let pinned = pinned.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut installed: Vec<_> =
        pinned.filter_map(|it| Some(it.strip_suffix(".txt")?.into())).collect();
    // `ws` is no SDK: it is what they are handed to open sockets with under Node.
    installed.extend(locked.keys().filter(|name| *name != "ws").cloned());
    installed.sort_unstable();
    let mut named: Vec<_> = listed().iter().map(|it| it.name.to_owned()).collect();
    named.sort_unstable();
    assert_eq!(installed, named);
}

async fn node(sdk: &str) {
    let folder = folder().join("node");
    let package = folder.join("node_modules").join(sdk);
    assert!(package.exists(), "{} is missing; run `make setup`", package.display());
    let mut command = Command::new("node");
    command.arg(folder.join("scenario.mjs")).arg(sdk);
    run(command, sdk).await;
}

async fn python(sdk: &str) {
    let folder = folder().join("python");
    let program = folder.join(format!(".venv/{sdk}/bin/python"));
    assert!(program.exists(), "{} is missing; run `make setup`", program.display());
    let mut command = Command::new(program);
    command.arg(folder.join("scenario.py")).arg(sdk);
    run(command, sdk).await;
}

/// A line of `versions.txt`.
struct Listed {
    name: &'static str,
    package: &'static str,
    version: &'static str,
    published: &'static str,
    vsn: &'static str,
    lacks: &'static str,
}

fn listed() -> Vec<Listed> {
    let lines = include_str!("clients/versions.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            let [name, package, version, published, vsn, lacks] = fields[..] else {
                panic!("six fields: {line:?}")
            };
            Listed { name, package, version, published, vsn, lacks }
        })
        .collect()
}

/// Runs a scenario against a relay and a database of its own. It says what holds in TAP's words.
async fn run(mut command: Command, sdk: &str) {
    let listed = listed().into_iter().find(|it| it.name == sdk).unwrap();
    let database = database().await;
    // Whoever comes back soon never left: soon enough also on a machine that is busy.
    let mut relay = Relay::start_with(&database, &[("RELAY_REALTIME__PRESENCE_GRACE", "8s")]).await;
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
        if let Some((_, why)) = line.split_once(" # SKIP ") {
            let feature = why.rsplit(' ').next().unwrap();
            assert!(listed.lacks.split(' ').any(|lacking| lacking == feature), "{line}");
        }
        match line.as_str() {
            "# restart the relay" => relay.restart().await,
            "# stop the relay" => assert_eq!(relay.terminate().await, Some(0)),
            "# start the relay" => {
                relay.launch();
                relay.ready().await;
            }
            _ => continue,
        }
        answers.write_all(b"done\n").await.unwrap();
    }
    let status = child.wait().await.unwrap();
    let complaints = complaints.await.unwrap().unwrap();
    assert!(status.success() && planned == Some(held), "{status}\n{transcript}\n{complaints}");
}

/// The chat tables and the schema `realtime`, as a DBA gets them, and policies for private channels.
async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database.execute(include_str!("../sql/SUPABASE_COMPAT.sql")).await;
    database.execute(include_str!("../sql/ENABLE_REALTIME_CHAT.sql")).await;
    let database = database.with_realtime();
    database.execute(include_str!("clients/policies.sql")).await;
    database
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}
