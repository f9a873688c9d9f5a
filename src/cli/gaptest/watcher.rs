//! One client: it notes what comes, leaves without a word, and comes back where it was.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::verdict::{Came, Log};
use crate::cli::client::{Address, Client, Heard};
use crate::cli::random;
use crate::error::Error;

/// How long it waits before it tries again when it cannot come back.
const RETRY: Duration = Duration::from_millis(250);

/// How it finds its place again.
#[derive(Clone, Debug)]
pub(super) enum Memory {
    /// It says after which change it continues, once it has seen one.
    Since(Option<String>),
    /// The relay knows, by this id.
    Resume(String),
}

/// When its connections break.
#[derive(Clone, Copy, Debug)]
pub(super) struct Breaks {
    /// How long one lasts, more or less.
    pub(super) every: Duration,
    /// How long it stays away at most.
    pub(super) away: Duration,
    /// From then on it stays.
    pub(super) until: Instant,
}

/// See the module.
pub(super) struct Watcher {
    /// Where.
    pub(super) address: Address,
    /// With whose rights.
    pub(super) token: String,
    /// What it asks for.
    pub(super) wish: Value,
    /// How it continues.
    pub(super) memory: Memory,
    /// `None`: it stays.
    pub(super) breaks: Option<Breaks>,
    /// How marks begin; `None` when changes are known by their ids.
    pub(super) prefix: Option<String>,
    /// What came.
    pub(super) log: Arc<Mutex<Log>>,
}

impl Watcher {
    /// Connects and joins.
    ///
    /// # Errors
    /// As those of the client.
    pub(super) async fn join(&self) -> Result<Client, Error> {
        let mut wish = self.wish.clone();
        let resume = match &self.memory {
            Memory::Resume(id) => Some(id.as_str()),
            Memory::Since(last) => {
                if let (Some(last), Some(map)) = (last, wish.as_object_mut()) {
                    map.insert("since".to_owned(), last.as_str().into());
                }
                None
            }
        };
        let mut client = Client::connect_as(&self.address, &self.token, resume).await?;
        client.join("relay-gaptest", &[wish]).await?;
        self.log().connections += 1;
        Ok(client)
    }

    /// Watches, with `client` first, until it is dropped.
    pub(super) async fn watch(mut self, client: &mut Client) -> Infallible {
        self.listen(client).await;
        loop {
            if let Some(breaks) = self.breaks
                && Instant::now() < breaks.until
            {
                sleep(about(breaks.away / 2)).await;
            }
            match self.join().await {
                Ok(mut client) => self.listen(&mut client).await,
                Err(_) => sleep(RETRY).await,
            }
        }
    }

    /// Notes what comes until the connection ends or is to be broken. The connection is not broken before the relay gave a
    /// position: without one the watcher could not say where it continues, and what is committed meanwhile would count as lost.
    async fn listen(&mut self, client: &mut Client) {
        let ends = self.breaks.map(|breaks| (Instant::now() + about(breaks.every), breaks.until));
        let ends = ends.filter(|(at, until)| at < until);
        loop {
            let can_resume = !matches!(self.memory, Memory::Since(None));
            let breaking = async {
                match ends {
                    Some((at, _)) if can_resume => sleep_until(at).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                () = breaking => return,
                heard = client.hear() => match heard {
                    Ok(heard) => self.note(&heard),
                    Err(_) => return,
                },
            }
        }
    }

    fn note(&mut self, heard: &Heard) {
        let payload = &heard.payload;
        match heard.event.as_str() {
            "postgres_changes" => {
                let Some(data) = payload.get("data") else { return };
                let id = data.get("id").and_then(Value::as_str);
                let key = match &self.prefix {
                    Some(prefix) => mark(data, prefix),
                    None => id,
                };
                let Some(key) = key else { return };
                let mut log = self.log();
                let (key, connection) = (key.to_owned(), log.connections);
                log.came.push(Came { key, id: id.and_then(|id| id.parse().ok()), connection });
                drop(log);
                if let (Memory::Since(last), Some(id)) = (&mut self.memory, id) {
                    *last = Some(id.to_owned());
                }
            }
            "system" => {
                let says = |key: &str, word: &str| {
                    payload.get(key).and_then(Value::as_str).is_some_and(|said| said == word)
                };
                let mut log = self.log();
                // Only who was here before knows that its place is gone.
                if says("status", "error") || says("resume", "new") && 1 < log.connections {
                    let message = payload.get("message").and_then(Value::as_str);
                    log.told.push(message.unwrap_or_default().to_owned());
                }
            }
            _ => {}
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mark in one of the columns, whichever it is.
fn mark<'a>(data: &'a Value, prefix: &str) -> Option<&'a str> {
    let record = data.get("record")?.as_object()?;
    record.values().filter_map(Value::as_str).find(|text| text.starts_with(prefix))
}

/// Between half of it and half as much again.
fn about(length: Duration) -> Duration {
    let thousandths = u32::try_from(random::number() % 1000).unwrap_or(0);
    length / 2 + length * thousandths / 1000
}
