//! Somebody who means no harm: rows are written for one user, who is subscribed to them, and how long each takes is noted.
//!
//! The time runs from before the INSERT is sent until its row was read from the socket. What did not come yet counts with
//! the time it has waited.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::socket::{BYSTANDER, join, open};
use crate::support::relay::token_of;
use crate::support::{PATIENCE, until};

/// Whose rows they are.
pub const USER: &str = "00000000-0000-4000-8000-0000000000ca";

/// The pause between two rows.
const PAUSE: Duration = Duration::from_millis(40);

/// Times of rows.
#[derive(Debug, Default)]
pub struct Times {
    /// In rising order.
    pub sorted: Vec<Duration>,
    /// How many of them did not come.
    pub missing: usize,
}

impl Times {
    pub fn new(mut times: Vec<Duration>, missing: usize) -> Self {
        times.sort_unstable();
        Self { sorted: times, missing }
    }

    /// What so many of a hundred do not exceed; nothing when there are none.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        self.sorted
            .get((self.sorted.len() * percent / 100).min(self.sorted.len().max(1) - 1))
            .copied()
    }
}

#[derive(Debug, Default)]
struct Rows {
    written: BTreeMap<i64, Instant>,
    took: Vec<Duration>,
}

/// The user and the writer, until it is dropped.
#[derive(Debug)]
pub struct Canary {
    rows: Arc<Mutex<Rows>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Canary {
    /// Subscribes, and writes from then on.
    pub async fn start(port: u16, database: &str) -> Self {
        let rows = Arc::<Mutex<Rows>>::default();
        let (stop, stopped) = oneshot::channel();
        let (theirs, database) = (Arc::clone(&rows), database.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap();
            runtime.block_on(async {
                tokio::select! {
                    end = live(port, &database, &theirs) => eprintln!("attack: the canary's end: {end:?}"),
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        let canary = Self { rows, stop: Some(stop), thread: Some(thread) };
        canary.is_served(10).await;
        canary
    }

    /// Waits until so many more rows have come.
    pub async fn is_served(&self, count: usize) {
        let come = || self.rows.lock().unwrap().took.len();
        let before = come();
        until("rows for somebody who means no harm", || async {
            (before + count <= come()).then_some(())
        })
        .await;
    }

    /// The times since the last call. Rows that are still out get a moment to come.
    pub async fn times(&self, moment: Duration) -> Times {
        let deadline = Instant::now() + moment.min(PATIENCE);
        let last = self.rows.lock().unwrap().written.keys().next_back().copied();
        let is_out = |rows: &Rows| {
            rows.written.keys().next().is_some_and(|first| last.is_some_and(|last| *first <= last))
        };
        while is_out(&self.rows.lock().unwrap()) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut rows = self.rows.lock().unwrap();
        let late: Vec<_> = rows
            .written
            .iter()
            .filter(|(id, _)| last.is_some_and(|last| **id <= last))
            .map(|(_, since)| since.elapsed())
            .collect();
        let mut times = std::mem::take(&mut rows.took);
        let missing = late.len();
        times.extend(late);
        Times::new(times, missing)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads and writes for ever; ends when the connection is gone.
async fn live(port: u16, database: &str, rows: &Arc<Mutex<Rows>>) -> Option<()> {
    let (mut reader, mut writer) = open(BYSTANDER, port, &token_of(USER)).await.ok()?;
    let wish = json!([{ "event": "INSERT", "schema": "public", "table": "canary" }]);
    writer.text(&join(1, "canary", &wish)).await?;
    reader.message(&["system"]).await?;
    let sql = crate::support::database::connect(database).await;
    let insert = format!("insert into canary (id, owner) values ($1, '{USER}')");
    let insert = sql.prepare(&insert).await.unwrap();
    let theirs = Arc::clone(rows);
    // In a task of its own, so that a row is noted when it comes and not when the next one was written.
    let writing = tokio::spawn(async move {
        for id in 1_i64.. {
            theirs.lock().unwrap().written.insert(id, Instant::now());
            sql.execute(&insert, &[&id]).await.unwrap();
            if id % 200 == 0 {
                let heartbeat = json!([null, "h", "phoenix", "heartbeat", {}]).to_string();
                writer.text(&heartbeat).await?;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Some(())
    });
    let reading = async {
        loop {
            let message: Value = reader.message(&["postgres_changes"]).await?;
            let Some(id) = message[4]["data"]["record"]["id"].as_i64() else { continue };
            let mut rows = rows.lock().unwrap();
            if let Some(since) = rows.written.remove(&id) {
                rows.took.push(since.elapsed());
            }
        }
    };
    tokio::select! {
        end = reading => end,
        end = writing => end.unwrap(),
    }
}
