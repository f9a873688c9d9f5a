//! supabase-js as it is shipped, in a process of its own. The one thing it does for the relay is to name itself with a
//! `resume` parameter.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::crowd::{Data, Life};
use super::verdict::Story;
use crate::support::relay::token;

/// Starts it.
pub fn start(port: u16, seat: i32) -> (Arc<Mutex<Life>>, JoinHandle<()>) {
    let name = "supabase-js".to_owned();
    let story = Story { name, seat, may_repeat: true, ..Story::default() };
    let life = Arc::new(Mutex::new(Life { story, ..Life::default() }));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/node");
    assert!(folder.join("node_modules").exists(), "supabase-js is missing; run `make setup`");
    let mut child = Command::new("node")
        .arg(folder.join("chaos.mjs"))
        .env("RELAY_URL", format!("http://127.0.0.1:{port}"))
        .env(
            "TOKEN",
            token("authenticated", &json!({ "sub": format!("seat-{seat}"), "seat": seat })),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let shared = Arc::clone(&life);
    let task = tokio::spawn(async move {
        let _child = child;
        while let Some(line) = lines.next_line().await.unwrap() {
            let mut life = shared.lock().unwrap();
            match line.split_at(1) {
                ("S", status) => {
                    if status == "SUBSCRIBED" {
                        life.story.connections += 1;
                    } else {
                        life.story.told.push(status.to_owned());
                    }
                }
                ("N", notice) => life.hear(&serde_json::from_str::<Value>(notice).unwrap()),
                (_, change) => {
                    let connection = life.story.connections;
                    let data: Data<'_> = serde_json::from_str(change).unwrap();
                    life.note(&data, connection);
                }
            }
        }
    });
    (life, task)
}
