//! A subscriber who means no harm: rows are written for one user, who is subscribed to them, and how long each takes is
//! noted.
//!
//! The time runs from before the INSERT is sent until its row was read from the socket. What did not come yet counts with
//! the time it has waited.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::background::Background;
use super::socket::{BYSTANDER, join, open};
use crate::support::relay::token_of;
use crate::support::until;

/// Whose rows they are.
pub const USER: &str = "00000000-0000-4000-8000-0000000000ca";

/// The pause between two rows: the rate at which rows are measured, so time itself is meant.
const ROW_INTERVAL: Duration = Duration::from_millis(40);

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
pub struct Subscriber {
    rows: Arc<watch::Sender<Rows>>,
    _work: Background,
}

impl Subscriber {
    /// Subscribes, and writes from then on.
    pub async fn start(port: u16, database: &str) -> Self {
        let rows = Arc::<watch::Sender<Rows>>::default();
        let (noted, database) = (Arc::clone(&rows), database.to_owned());
        let work = Background::start(move || async move {
            let end = write_and_read(port, &database, &noted).await;
            eprintln!("attack: the subscriber's end: {end:?}");
        });
        let subscriber = Self { rows, _work: work };
        subscriber.is_served(10).await;
        subscriber
    }

    /// Waits until so many more rows have come.
    pub async fn is_served(&self, count: usize) {
        let come = || self.rows.borrow().took.len();
        let before = come();
        until("rows for somebody who means no harm", || async {
            (before + count <= come()).then_some(())
        })
        .await;
    }

    /// The times since the last call. Rows that are still out may take so long to come; the limit is what is measured, so
    /// nothing but time ends the wait for a row that is lost.
    pub async fn times(&self, at_most: Duration) -> Times {
        let last = self.rows.borrow().written.keys().next_back().copied();
        let is_due = |id: i64| last.is_some_and(|last| id <= last);
        let mut rows = self.rows.subscribe();
        let all_came = |rows: &Rows| !rows.written.keys().next().is_some_and(|id| is_due(*id));
        // The sender lives as long as `self` does, so the wait ends with the rows or with the time.
        let _ = timeout(at_most, rows.wait_for(all_came)).await;
        let (mut times, mut missing) = (Vec::new(), 0);
        self.rows.send_modify(|rows| {
            times = std::mem::take(&mut rows.took);
            let late = rows.written.iter().filter(|(id, _)| is_due(**id));
            let late: Vec<_> = late.map(|(_, since)| since.elapsed()).collect();
            missing = late.len();
            times.extend(late);
        });
        Times::new(times, missing)
    }
}

/// Reads and writes for ever; ends when the connection is gone.
async fn write_and_read(port: u16, database: &str, rows: &Arc<watch::Sender<Rows>>) -> Option<()> {
    let (mut reader, mut writer) = open(BYSTANDER, port, &token_of(USER)).await.ok()?;
    let subscription = json!([{ "event": "INSERT", "schema": "public", "table": "messages" }]);
    writer.text(&join(1, "subscriber", &subscription)).await?;
    reader.message(&["system"]).await?;
    let sql = crate::support::database::connect(database).await;
    let insert = format!("insert into messages (id, owner) values ($1, '{USER}')");
    let insert = sql.prepare(&insert).await.unwrap();
    let noted = Arc::clone(rows);
    // In a task of its own, so that a row is noted when it comes and not when the next one was written.
    let writing = tokio::spawn(async move {
        for id in 1_i64.. {
            noted.send_modify(|rows| {
                rows.written.insert(id, Instant::now());
            });
            sql.execute(&insert, &[&id]).await.unwrap();
            if id % 200 == 0 {
                let heartbeat = json!([null, "h", "phoenix", "heartbeat", {}]).to_string();
                writer.text(&heartbeat).await?;
            }
            tokio::time::sleep(ROW_INTERVAL).await;
        }
        Some(())
    });
    let reading = async {
        loop {
            let message: Value = reader.message(&["postgres_changes"]).await?;
            let Some(id) = message[4]["data"]["record"]["id"].as_i64() else { continue };
            rows.send_modify(|rows| {
                rows.took.extend(rows.written.remove(&id).map(|since| since.elapsed()));
            });
        }
    };
    tokio::select! {
        end = reading => end,
        end = writing => end.unwrap(),
    }
}
