//! Those who attack: a thread of their own that gives way to everybody else, because they would be on another machine.
//!
//! What they were refused is counted by its words. An attacker that is sent away connects again after a second.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::background::Background;
use super::socket::{ATTACKER, Reader, Received, Unopened, Writer, open, open_at};
use crate::support::relay::anon;

/// How long an attacker that was sent away waits before it connects again. It is the pace of the attack, so time itself is
/// meant: nothing happens that an attacker could wait for.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// The pause between two bytes of an attacker that sends something slowly: the pace of its attack, too.
pub const TRICKLE_INTERVAL: Duration = Duration::from_secs(1);

/// An attack under way: everything that it does, until it is dropped.
pub type Attacking = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How much of an attack is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As much as shows what it is about, in every test run.
    Short,
    /// As much as did harm.
    Long,
}

/// What is attacked, and what is noted of it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The port of the relay.
    pub port: u16,
    /// How much is made.
    pub form: Form,
    noted: Arc<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    expected: AtomicUsize,
    ready: watch::Sender<usize>,
    refusals: Mutex<BTreeMap<String, usize>>,
    is_known: AtomicBool,
}

impl Target {
    pub fn new(port: u16, form: Form) -> Self {
        Self { port, form, noted: Arc::default() }
    }

    /// The short form's number, or the long one's.
    pub fn size<T>(&self, short: T, long: T) -> T {
        if self.form == Form::Short { short } else { long }
    }

    /// A socket with the public key.
    pub async fn open(&self) -> Option<(Reader, Writer)> {
        self.open_with(&public_key()).await
    }

    /// A socket with a token.
    pub async fn open_with(&self, token: &str) -> Option<(Reader, Writer)> {
        self.opened(open(ATTACKER, self.port, token).await)
    }

    /// A WebSocket of another protocol.
    pub async fn open_at(&self, path: &str) -> Option<(Reader, Writer)> {
        self.opened(open_at(ATTACKER, self.port, path).await)
    }

    fn opened<T>(&self, opened: Result<T, Unopened>) -> Option<T> {
        opened
            .map_err(|status| {
                self.refused(
                    &status.map_or("not answered".to_owned(), |status| status.to_string()),
                );
            })
            .ok()
    }

    /// Counts a refusal by its words, up to the first colon.
    pub fn refused(&self, words: &str) {
        let words = words.split(':').next().unwrap_or_default();
        *self.noted.refusals.lock().unwrap().entry(words.to_owned()).or_default() += 1;
    }

    /// What was refused how often, most often first.
    pub fn refusals(&self) -> Vec<(String, usize)> {
        let refusals = self.noted.refusals.lock().unwrap().clone();
        let mut refusals: Vec<_> = refusals.into_iter().collect();
        refusals.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        refusals
    }

    /// Whether everybody has done what the attack begins with, or was refused it.
    pub fn is_under_way(&self) -> bool {
        let noted = &self.noted;
        noted.is_known.load(Ordering::Acquire)
            && noted.expected.load(Ordering::Relaxed) <= *noted.ready.borrow()
    }

    /// Waits until so many of the crowd have done what the attack begins with, or were refused it.
    pub async fn are_ready(&self, count: usize) {
        let mut ready = self.noted.ready.subscribe();
        // The sender lives as long as `self` does.
        let _ = ready.wait_for(|ready| count <= *ready).await;
    }

    /// So many attack, for ever; each ends as soon as it is sent away, and begins again after a pause.
    pub async fn crowd<F>(self, count: usize, member: impl Fn(Member, usize) -> F)
    where
        F: Future<Output = Option<()>> + Send + 'static,
    {
        self.noted.expected.store(count, Ordering::Relaxed);
        self.noted.is_known.store(true, Ordering::Release);
        // All first attempts are under way before any second one.
        let mut attempts = tokio::task::JoinSet::new();
        let attempt = |attempts: &mut tokio::task::JoinSet<usize>, number, is_first: bool| {
            let attempt = member(Member { target: self.clone(), is_ready: !is_first }, number);
            attempts.spawn(async move {
                if !is_first {
                    tokio::time::sleep(RECONNECT_INTERVAL).await;
                }
                attempt.await;
                number
            });
        };
        for number in 0..count {
            attempt(&mut attempts, number, true);
        }
        while let Some(ended) = attempts.join_next().await {
            attempt(&mut attempts, ended.unwrap(), false);
        }
    }
}

/// One of a crowd.
#[derive(Debug)]
pub struct Member {
    pub target: Target,
    is_ready: bool,
}

impl Member {
    /// It has done what the attack begins with.
    pub fn ready(&mut self) {
        if !std::mem::replace(&mut self.is_ready, true) {
            self.target.noted.ready.send_modify(|ready| *ready += 1);
        }
    }

    /// Reads until it is sent away, and counts what it is refused; it is ready after so many replies.
    pub async fn listen(&mut self, reader: &mut Reader, replies: usize) -> Option<()> {
        let mut answered = 0;
        if replies == 0 {
            self.ready();
        }
        loop {
            let Some(received) = reader.next().await else { return self.gone(reader) };
            let Received::Text(text) = received else { continue };
            let is_reply = text.contains(r#""phx_reply""#);
            if text.contains(r#""status":"error""#) || text.contains(r#""type":"error""#) {
                self.target.refused(&words(&text));
            }
            answered += usize::from(is_reply);
            if is_reply && answered == replies {
                self.ready();
            }
        }
    }

    /// The next message with one of these events.
    pub async fn message(&mut self, reader: &mut Reader, events: &[&str]) -> Option<Value> {
        match reader.message(events).await {
            Some(message) => Some(message),
            None => self.gone(reader),
        }
    }

    /// Counts that it was sent away, or cut off; not that it was silent for long.
    fn gone<T>(&self, reader: &Reader) -> Option<T> {
        match reader.close_code {
            Some(1000) => {}
            Some(code) => self.target.refused(&format!("closed {code}")),
            None => self.target.refused("cut off"),
        }
        None
    }
}

/// Writes, and then does nothing: an attacker that is sent away while it writes learns that by reading.
pub async fn then_wait(writing: impl Future<Output = Option<()>>) -> Option<()> {
    writing.await;
    std::future::pending().await
}

/// An attacker that was refused counts as ready, too.
impl Drop for Member {
    fn drop(&mut self) {
        self.ready();
    }
}

/// The words of a refusal.
fn words(text: &str) -> String {
    let message: Value = serde_json::from_str(text).unwrap_or_default();
    let payload = &message[4];
    let texts = [&payload["response"]["reason"], &payload["message"], &message["detail"]];
    let text = texts.iter().find_map(|text| text.as_str()).unwrap_or("an error");
    text.chars().take(60).collect()
}

/// The key that every visitor of a page has.
pub fn public_key() -> String {
    anon()
}

/// Begins an attack; it is over when what this returns is dropped.
pub fn start(attack: fn(Target) -> Attacking, target: &Target) -> Background {
    let target = target.clone();
    Background::start(move || {
        give_way();
        attack(target)
    })
}

/// Lets everything else on this machine run first, where the system can be told so.
fn give_way() {
    let Ok(this) = std::fs::read_link("/proc/thread-self") else { return };
    let Some(id) = this.file_name().and_then(|id| id.to_str()) else { return };
    let mut renice = std::process::Command::new("renice");
    renice.args(["-n", "19", "-p", id]);
    renice.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let _ = renice.status();
}
