//! Clients that are there throughout: they read, and when their connection ends they come back on their own schedule.
//!
//! Three kinds: those that say `since` themselves, those that only have a `resume` id, and supabase-js unmodified.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use relay::model::Position;

use super::dice::Dice;
use super::verdict::{Change, Seen, Story};
use crate::support::relay::token;

/// The key of the rows that only mark a moment.
pub const SENTINEL: i32 = -1;

/// How a client finds its place again.
#[derive(Clone, Debug)]
pub enum Memory {
    /// It says after which change it continues.
    Since,
    /// The relay knows, by this id.
    Resume(String),
}

/// What is known of a client while it lives.
#[derive(Debug, Default)]
pub struct Life {
    pub story: Story,
    /// Versions of sentinels up to this one have come.
    pub sentinel: i64,
    pub joined_at: Option<Instant>,
}

/// One client.
#[derive(Clone, Debug)]
pub struct Client {
    pub life: Arc<Mutex<Life>>,
    port: u16,
    seat: i32,
    memory: Memory,
    /// How long it waits before it comes back.
    pause: (u64, u64),
    dice: Dice,
    last: Option<Position>,
    /// Turns true when it must read no more.
    asleep: watch::Receiver<bool>,
}

/// Clients at work.
#[derive(Debug)]
pub struct Crowd {
    pub lives: Vec<Arc<Mutex<Life>>>,
    tasks: Vec<JoinHandle<()>>,
    /// Puts clients to sleep, or wakes them: they keep their connections and do not read.
    pub asleep: watch::Sender<bool>,
    /// Who enters now can be put to sleep.
    pub enters_sleepy: bool,
    awake: watch::Sender<bool>,
}

impl Crowd {
    pub fn new() -> Self {
        let (asleep, awake) = (watch::channel(false).0, watch::channel(false).0);
        Self { lives: Vec::new(), tasks: Vec::new(), asleep, enters_sleepy: false, awake }
    }

    /// Lets a client begin. `pause` is how long it waits before it comes back, in milliseconds.
    pub fn enter(&mut self, port: u16, seat: i32, memory: Memory, pause: (u64, u64), dice: &Dice) {
        let number = self.lives.len();
        let (kind, may_repeat) = match memory {
            Memory::Since => ("since", false),
            Memory::Resume(_) => ("resume", true),
        };
        let name = format!("{kind}-{number}");
        let story = Story { name, seat, may_repeat, ..Story::default() };
        let life = Arc::new(Mutex::new(Life { story, ..Life::default() }));
        let client = Client {
            life: Arc::clone(&life),
            port,
            seat,
            memory,
            pause,
            dice: dice.of(1000 + number as u64),
            last: None,
            asleep: if self.enters_sleepy { &self.asleep } else { &self.awake }.subscribe(),
        };
        self.add(life, tokio::spawn(client.live()));
    }

    /// Adds one that lives elsewhere.
    pub fn add(&mut self, life: Arc<Mutex<Life>>, task: JoinHandle<()>) {
        self.lives.push(life);
        self.tasks.push(task);
    }

    /// Waits until every client has seen this sentinel; false when it takes longer than `patience`.
    pub async fn reached(&self, sentinel: i64, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        for life in &self.lives {
            while life.lock().unwrap().sentinel < sentinel {
                if deadline < Instant::now() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        true
    }

    /// Ends everybody; what each has seen.
    pub fn leave(self) -> Vec<Story> {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.lives.iter().map(|life| life.lock().unwrap().story.clone()).collect()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A message of the protocol, read as far as needed.
#[derive(Deserialize)]
struct Frame<'a>(
    #[serde(borrow)] Option<Cow<'a, str>>,
    #[serde(borrow)] Option<Cow<'a, str>>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] &'a RawValue,
);

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

/// A change as the relay sends it.
#[derive(Deserialize)]
pub struct Data<'a> {
    id: &'a str,
    table: &'a str,
    r#type: &'a str,
    record: Option<Row>,
    old_record: Option<Row>,
}

#[derive(Deserialize)]
struct Row {
    key: i32,
    ver: Option<i64>,
}

impl Life {
    /// Takes down a change.
    pub fn note(&mut self, data: &Data<'_>, connection: u32) -> Position {
        let kind = (data.table.as_bytes()[0], data.r#type.as_bytes()[0]);
        let row = if kind.1 == b'D' { &data.old_record } else { &data.record };
        let row = row.as_ref().unwrap_or_else(|| panic!("a change without a row: {}", data.id));
        let ver = row.ver.unwrap_or_else(|| panic!("a row without its version: {}", data.id));
        let id: Position = data.id.parse().unwrap();
        if row.key == SENTINEL {
            self.sentinel = self.sentinel.max(ver);
        } else {
            let change = Change { kind, key: row.key, ver };
            self.story.seen.push(Seen { id, change, connection });
        }
        id
    }

    /// Its connection ended.
    fn left(&mut self, ended: Result<(), String>) {
        self.joined_at = None;
        if self.story.told.len() < 100 {
            self.story.told.extend(ended.err());
        }
    }

    /// Takes down a `system` message.
    pub fn hear(&mut self, payload: &Value) {
        if payload.get("gap").is_some() {
            self.story.gaps.push(payload.to_string());
        } else if payload["status"] == "error" {
            self.story.told.push(payload.to_string());
        }
    }
}

impl Client {
    async fn live(mut self) {
        loop {
            let ended = self.connect().await;
            self.life.lock().unwrap().left(ended);
            let (from, to) = self.pause;
            tokio::time::sleep(self.dice.millis(from, to)).await;
        }
    }

    /// One connection, from its beginning to its end.
    async fn connect(&mut self) -> Result<(), String> {
        let words = |error: &dyn std::fmt::Display| format!("(connection) {error}");
        let token = token(
            "authenticated",
            &json!({ "sub": format!("seat-{}", self.seat), "seat": self.seat }),
        );
        let resume = match &self.memory {
            Memory::Since => String::new(),
            Memory::Resume(id) => format!("&resume={id}"),
        };
        let uri = format!(
            "ws://127.0.0.1:{}/realtime/v1/websocket?apikey={token}&vsn=2.0.0{resume}",
            self.port
        );
        let connecting = async {
            let stream =
                TcpStream::connect(("127.0.0.1", self.port)).await.map_err(|e| words(&e))?;
            stream.set_nodelay(true).map_err(|error| words(&error))?;
            tokio_tungstenite::client_async(uri, stream).await.map_err(|e| words(&e))
        };
        let patience = Duration::from_secs(10);
        let connecting = tokio::time::timeout(patience, connecting).await;
        let (mut socket, _) = connecting.map_err(|_| "(connection) took too long".to_owned())??;
        let wishes: Vec<Value> = ["marks", "states"]
            .map(|table| {
                let mut wish = json!({ "event": "*", "schema": "public", "table": table });
                if let (Memory::Since, Some(last)) = (&self.memory, self.last) {
                    wish["since"] = last.to_string().into();
                }
                wish
            })
            .into();
        let join = json!(["1", "1", "realtime:chaos", "phx_join", { "config": { "postgres_changes": wishes } }]);
        socket.send(Message::text(join.to_string())).await.map_err(|error| words(&error))?;
        let connection = {
            let mut life = self.life.lock().unwrap();
            life.story.connections += 1;
            life.story.connections
        };
        let mut heartbeat = tokio::time::interval(Duration::from_secs(20));
        heartbeat.tick().await;
        let joining = tokio::time::sleep(patience);
        tokio::pin!(joining);
        let mut is_joined = false;
        loop {
            // Asleep, it neither reads nor says anything.
            if *self.asleep.borrow_and_update() {
                let _ = self.asleep.wait_for(|asleep| !asleep).await;
            }
            let message = tokio::select! {
                message = socket.next() => message,
                () = &mut joining, if !is_joined => return Err("(join) took too long".to_owned()),
                _ = self.asleep.changed() => continue,
                _ = heartbeat.tick() => {
                    let beat = json!([null, "2", "phoenix", "heartbeat", {}]).to_string();
                    socket.send(Message::text(beat)).await.map_err(|error| words(&error))?;
                    continue;
                }
            };
            let text = match message {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(frame))) => return Err(format!("(closed) {frame:?}")),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(words(&error)),
                None => return Err("(connection) ended".to_owned()),
            };
            let Frame(_, _, _, event, payload) = serde_json::from_str(&text).unwrap();
            match &*event {
                "postgres_changes" => {
                    let payload: Payload<'_> = serde_json::from_str(payload.get())
                        .unwrap_or_else(|error| panic!("{error}: {text}"));
                    let id = self.life.lock().unwrap().note(&payload.data, connection);
                    self.last = Some(id);
                }
                "system" => {
                    let payload: Value = serde_json::from_str(payload.get()).unwrap();
                    let mut life = self.life.lock().unwrap();
                    if payload["status"] == "ok" {
                        life.joined_at = Some(Instant::now());
                        is_joined = true;
                    }
                    // After a gap its old place means nothing any more.
                    if let Some(to) = payload["gap"]["to"].as_str() {
                        self.last = to.parse().ok();
                    }
                    life.hear(&payload);
                }
                "phx_reply" => {
                    let payload: Value = serde_json::from_str(payload.get()).unwrap();
                    if payload["status"] == "error" {
                        return Err(format!("(join) {payload}"));
                    }
                }
                "phx_close" | "phx_error" => return Err(format!("({event}) {}", payload.get())),
                _ => {}
            }
        }
    }
}
