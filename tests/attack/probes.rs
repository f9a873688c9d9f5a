//! What is measured beside the subscriber: the relay's memory, its health check, and what somebody else would try meanwhile.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

use super::attackers::public_key;
use super::socket::{BYSTANDER, Reader, Received, Writer, answer, dial, join, open, open_at};
use super::subscriber::Times;
use crate::support::relay::{token, token_of};

/// How long somebody tries before giving up.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The pauses between two measurements: of the memory, of a health check, and of an attempt of somebody else.
const MEMORY_INTERVAL: Duration = Duration::from_millis(100);
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(500);

/// Who would notice, beside those who wait for rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bystander {
    /// Somebody without an account who connects and joins with a filter.
    Newcomer,
    /// A user who asks for a snapshot.
    Reader,
    /// An application's server that broadcasts by HTTP.
    Server,
    /// A visitor who opens the chat.
    Visitor,
}

impl Bystander {
    /// Does once what it does; none when it was refused or given up.
    pub async fn attempt(self, port: u16) -> Option<Duration> {
        let began = Instant::now();
        let attempt = async {
            match self {
                Self::Newcomer => {
                    let subscription = json!([{ "event": "*", "schema": "public", "table": "notes",
                                        "filter": "body=match.^z[0-9]+$" }]);
                    subscribe(port, &public_key(), &subscription).await.map(drop)
                }
                Self::Reader => {
                    let subscription = json!([{ "event": "*", "schema": "public", "table": "notes",
                                        "snapshot": { "limit": 1 } }]);
                    let reader = token_of("00000000-0000-4000-8000-0000000000ea");
                    let (mut reader, _writer) = subscribe(port, &reader, &subscription).await?;
                    loop {
                        let message = reader.message(&["system"]).await?;
                        if message[4].get("snapshot").is_some() {
                            return (message[4]["status"] == "ok").then_some(());
                        }
                    }
                }
                Self::Server => {
                    let body =
                        json!({ "messages": [{ "topic": "server", "event": "e", "payload": {} }] });
                    let token = token("service_role", &json!({}));
                    let status = post(BYSTANDER, port, &token, body.to_string().as_bytes()).await?;
                    (status == 202).then_some(())
                }
                Self::Visitor => {
                    let (mut reader, mut writer) =
                        open_at(BYSTANDER, port, "/api/gre-chat/ws").await.ok()?;
                    let token = token_of("00000000-0000-4000-8000-0000000000fa");
                    let said = json!({ "type": "authenticate", "token": token, "as": "player" });
                    writer.text(&said.to_string()).await?;
                    loop {
                        if let Received::Text(text) = reader.next().await? {
                            return text.contains("authenticated").then_some(());
                        }
                    }
                }
            }
        };
        timeout(ATTEMPT_TIMEOUT, attempt).await.ok().flatten().map(|()| began.elapsed())
    }
}

/// Connects, joins, and waits until the subscription is in force.
async fn subscribe(port: u16, token: &str, subscription: &Value) -> Option<(Reader, Writer)> {
    let (mut reader, mut writer) = open(BYSTANDER, port, token).await.ok()?;
    writer.text(&join(1, "bystander", subscription)).await?;
    let reply = reader.message(&["phx_reply"]).await?;
    let system = reader.message(&["system"]).await?;
    (reply[4]["status"] == "ok" && system[4]["status"] == "ok").then_some((reader, writer))
}

/// Posts broadcasts; the status.
pub async fn post(from: Ipv4Addr, port: u16, token: &str, body: &[u8]) -> Option<u16> {
    let mut stream = dial(from, port).await.ok()?;
    stream.write_all(request(token, body.len(), "close").as_bytes()).await.ok()?;
    stream.write_all(body).await.ok()?;
    answer(&mut BufReader::new(stream)).await.ok()
}

/// The head of a request that broadcasts.
pub fn request(token: &str, length: usize, connection: &str) -> String {
    format!(
        "POST /api/broadcast HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\nconnection: {connection}\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// What was measured; a thread for each kind writes.
#[derive(Debug, Default)]
struct Measured {
    peak: AtomicU64,
    health: Mutex<Attempts>,
    attempts: Mutex<Attempts>,
}

/// What was tried, and since when the present attempt is under way.
#[derive(Debug, Default)]
struct Attempts {
    ended: Vec<Option<Duration>>,
    present: Option<Instant>,
}

impl Attempts {
    /// One attempt, noted when it begins and when it ends.
    fn note(attempts: &Mutex<Self>, attempt: impl FnOnce() -> Option<Duration>) {
        attempts.lock().unwrap().present = Some(Instant::now());
        let ended = attempt();
        let mut attempts = attempts.lock().unwrap();
        attempts.present = None;
        attempts.ended.push(ended);
    }

    /// The times of what has ended since the last call; what did not end counts with the time it has taken so far.
    fn times(attempts: &Mutex<Self>) -> Times {
        let mut attempts = attempts.lock().unwrap();
        let ended = std::mem::take(&mut attempts.ended);
        let missing = ended.iter().filter(|time| time.is_none()).count();
        let ended = ended.into_iter().map(|time| time.unwrap_or(ATTEMPT_TIMEOUT));
        let present = attempts.present.map(|since| since.elapsed());
        Times::new(ended.chain(present).collect(), missing)
    }
}

/// The measuring, until it is dropped.
#[derive(Debug)]
pub struct Probes {
    measured: Arc<Measured>,
    is_over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// What was measured in one phase.
#[derive(Debug)]
pub struct Phase {
    /// The most memory of the relay, in MiB.
    pub peak: u64,
    pub health: Times,
    pub attempts: Times,
}

impl Probes {
    pub fn start(port: u16, process: u32, bystander: Bystander) -> Self {
        let (measured, is_over) = (Arc::<Measured>::default(), Arc::<AtomicBool>::default());
        let probe = |pause: Duration, probe: Box<dyn Fn(&tokio::runtime::Runtime) + Send>| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    probe(&runtime);
                    std::thread::sleep(pause);
                }
            })
        };
        let theirs = [(); 3].map(|()| Arc::clone(&measured));
        let [memory, health, attempts] = theirs;
        let threads = vec![
            probe(
                MEMORY_INTERVAL,
                Box::new(move |_| {
                    memory.peak.fetch_max(resident(process), Ordering::Relaxed);
                }),
            ),
            probe(
                HEALTH_INTERVAL,
                Box::new(move |runtime| {
                    Attempts::note(&health.health, || runtime.block_on(is_healthy(port)));
                }),
            ),
            probe(
                ATTEMPT_INTERVAL,
                Box::new(move |runtime| {
                    let attempt = || runtime.block_on(bystander.attempt(port));
                    Attempts::note(&attempts.attempts, attempt);
                }),
            ),
        ];
        Self { measured, is_over, threads }
    }

    /// What was measured since the last call.
    pub fn phase(&self) -> Phase {
        Phase {
            peak: self.measured.peak.swap(0, Ordering::Relaxed),
            health: Attempts::times(&self.measured.health),
            attempts: Attempts::times(&self.measured.attempts),
        }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// How long the health check takes; none when it fails.
pub async fn is_healthy(port: u16) -> Option<Duration> {
    let began = Instant::now();
    let check = async {
        let mut stream = dial(BYSTANDER, port).await.ok()?;
        let request = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.ok()?;
        let status = answer(&mut BufReader::new(stream)).await.ok()?;
        (status == 200).then(|| began.elapsed())
    };
    timeout(ATTEMPT_TIMEOUT, check).await.ok().flatten()
}

/// The resident memory of a process in MiB.
pub fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
