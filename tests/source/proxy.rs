//! A relay of bytes between the source and Postgres, which reads along and can misbehave.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::Database;

/// What passed on replication connections, in order.
enum Seen {
    Keepalive(u64),
    Commit(u64),
    Confirmed(u64),
}

/// A relay of bytes that reads along.
pub struct Proxy {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    swallows: Arc<AtomicBool>,
    frozen: watch::Sender<u32>,
}

impl Proxy {
    pub async fn start(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = address(&database.url);
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (frozen, watching) = watch::channel(0);
        let swallows: Arc<AtomicBool> = Arc::default();
        let proxy = Self { port, seen: Arc::clone(&seen), swallows: Arc::clone(&swallows), frozen };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let mine = *watching.borrow();
                let pipe = |from_server_side, from, to| Pipe {
                    from,
                    to,
                    from_server_side,
                    frozen: watching.clone(),
                    mine,
                    seen: Arc::clone(&seen),
                    swallows: Arc::clone(&swallows),
                };
                tokio::spawn(pipe(false, from_client, to_server).run());
                tokio::spawn(pipe(true, from_server, to_client).run());
            }
        });
        proxy
    }

    pub fn url(&self, database: &Database) -> String {
        let (start, end) = database.url.split_once(&address(&database.url)).unwrap();
        format!("{start}127.0.0.1:{}{end}?sslmode=disable", self.port)
    }

    /// Stops moving bytes on the connections that are open now, without closing them.
    pub fn freeze(&self) {
        self.frozen.send_modify(|frozen| *frozen += 1);
    }

    /// Whether messages written into the WAL are kept from the source. All else passes.
    pub fn swallow_messages(&self, swallows: bool) {
        self.swallows.store(swallows, Ordering::SeqCst);
    }

    /// Every confirmation since the slot stood at `start` was the end of a commit or a keepalive's position, none
    /// above, none below the one before. How many there were, and the last.
    pub fn exact_confirmations(&self, start: u64) -> (usize, u64) {
        let (mut allowed, mut highest, mut told) = (vec![start], start, 0);
        for seen in self.seen.lock().unwrap().iter() {
            match *seen {
                Seen::Keepalive(end) | Seen::Commit(end) => allowed.push(end),
                Seen::Confirmed(lsn) => {
                    assert!(allowed.contains(&lsn), "{lsn:X} was never an end");
                    assert!(lsn >= highest, "{lsn:X} after {highest:X}");
                    highest = lsn;
                    told += 1;
                }
            }
        }
        (told, highest)
    }
}

fn address(url: &str) -> String {
    url.split(['@', '/']).find(|part| part.starts_with("127.")).unwrap().to_owned()
}

struct Pipe {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    from_server_side: bool,
    frozen: watch::Receiver<u32>,
    mine: u32,
    seen: Arc<Mutex<Vec<Seen>>>,
    swallows: Arc<AtomicBool>,
}

impl Pipe {
    async fn run(mut self) {
        let mut passed = Vec::new();
        // Only a client's first message has no tag.
        let mut is_tagged = self.from_server_side;
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let mine = self.mine;
            let freezing = async { drop(self.frozen.wait_for(|frozen| *frozen > mine).await) };
            let read = tokio::select! {
                biased;
                () = freezing => None,
                read = self.from.read(&mut chunk) => Some(read.unwrap_or(0)),
            };
            let read = match read {
                None => return std::future::pending().await,
                Some(0) => return,
                Some(read) => read,
            };
            passed.extend_from_slice(&chunk[..read]);
            loop {
                let tag = usize::from(is_tagged);
                let Some(length) = passed.get(tag..tag + 4) else { break };
                let whole = tag + u32::from_be_bytes(length.try_into().unwrap()) as usize;
                if passed.len() < whole {
                    break;
                }
                let message: Vec<u8> = passed.drain(..whole).collect();
                let is_copy = is_tagged && message[0] == b'd';
                if is_copy {
                    self.note(&message[5..]);
                }
                is_tagged = true;
                let is_message = is_copy && message[5] == b'w' && message[30] == b'M';
                let is_swallowed = is_message && self.swallows.load(Ordering::SeqCst);
                if !is_swallowed && self.to.write_all(&message).await.is_err() {
                    return;
                }
            }
        }
    }

    fn note(&self, payload: &[u8]) {
        let lsn = |at: usize| u64::from_be_bytes(payload[at..at + 8].try_into().unwrap());
        let seen = match payload[0] {
            b'k' => Seen::Keepalive(lsn(1)),
            b'w' if payload[25] == b'C' => Seen::Commit(lsn(25 + 2 + 8)),
            b'r' => Seen::Confirmed(lsn(9)),
            _ => return,
        };
        self.seen.lock().unwrap().push(seen);
    }
}
