//! Many subscribers on one thread, which also says the messages: it knows when each was said and when each was read.

use std::io::{self, Read, Write};
use std::net;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::socket::{FIRST_ID, Item, cut, heartbeat};
use super::speaker::Speaker;
use crate::cli::bench::samples::Samples;

/// Sockets looked at before the next message is thought of.
const EVENTS: usize = 256;

/// How long nothing may arrive before the rest is called lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// When messages are said.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// This far apart.
    Every(Duration),
    /// As soon as fewer than so many are on their way.
    Window(u64),
}

/// What came of a run.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// From each message's saying to each of its deliveries.
    pub(super) latency: Samples,
    /// Deliveries.
    pub(super) deliveries: u64,
    /// Deliveries that never came.
    pub(super) lost: u64,
    /// From the first message said to the last delivery.
    pub(super) took: Duration,
}

/// The subscribers.
#[derive(Debug)]
pub(super) struct Ears {
    poll: Poll,
    ears: Vec<Ear>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Ear {
    stream: TcpStream,
    /// The beginning of a frame whose end is not here yet.
    part: Vec<u8>,
}

/// The messages of a run.
struct Said {
    many: u64,
    at: Vec<Instant>,
    missing: Vec<u64>,
    open: u64,
    heard: Heard,
}

impl Ears {
    /// Listens on these connections.
    ///
    /// # Errors
    /// What the system answered.
    pub(super) fn new(streams: Vec<net::TcpStream>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut ears = Vec::with_capacity(streams.len());
        for (place, stream) in streams.into_iter().enumerate() {
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(place), Interest::READABLE)?;
            ears.push(Ear { stream, part: Vec::new() });
        }
        Ok(Self { poll, ears, buffer: vec![0; 64 << 10] })
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.ears.len()).unwrap_or(u64::MAX)
    }

    /// Sends a heartbeat from each and waits for the answers.
    ///
    /// # Errors
    /// A connection that ended, or did not answer.
    pub(super) fn wake(&mut self) -> io::Result<()> {
        for ear in &mut self.ears {
            ear.stream.write_all(&heartbeat())?;
        }
        let mut answers = 0;
        let mut events = Events::with_capacity(EVENTS);
        while answers < self.count() {
            self.poll.poll(&mut events, Some(PATIENCE))?;
            if events.is_empty() {
                return Err(io::Error::other("a heartbeat was not answered"));
            }
            for event in &events {
                if let Some(ear) = self.ears.get_mut(event.token().0) {
                    ear.read(&mut self.buffer, |item| answers += u64::from(item == Item::Text))?;
                }
            }
        }
        Ok(())
    }

    /// Has `messages` said at this pace and listens to all of them.
    ///
    /// # Errors
    /// A connection that ended.
    pub(super) fn listen(
        &mut self,
        speaker: &mut Speaker,
        messages: u64,
        pace: Pace,
    ) -> io::Result<Heard> {
        let start = Instant::now();
        let mut said = Said::new(self.count());
        let mut events = Events::with_capacity(EVENTS);
        let mut moved_at = start;
        loop {
            let next = u64::try_from(said.at.len()).unwrap_or(u64::MAX);
            let mut wait = PATIENCE;
            if next < messages {
                let due = match pace {
                    Pace::Every(apart) => {
                        start + apart.saturating_mul(u32::try_from(next).unwrap_or(u32::MAX))
                    }
                    Pace::Window(open) if said.open < open => start,
                    Pace::Window(_) => start + Duration::from_secs(3600),
                };
                let now = Instant::now();
                if due <= now {
                    said.say(now);
                    speaker.say(FIRST_ID + next)?;
                    continue;
                }
                wait = wait.min(due - now);
            } else if said.open == 0 {
                break;
            }
            self.poll.poll(&mut events, Some(wait))?;
            if events.is_empty() && moved_at.elapsed() > PATIENCE {
                break;
            }
            for event in &events {
                let Some(ear) = self.ears.get_mut(event.token().0) else { continue };
                let now = Instant::now();
                moved_at = now;
                ear.read(&mut self.buffer, |item| said.hear(item, now))?;
            }
        }
        said.heard.took = moved_at - start;
        said.heard.lost = messages * said.many - said.heard.deliveries;
        Ok(said.heard)
    }
}

impl Ear {
    /// Reads what is there and tells of each frame.
    fn read(&mut self, buffer: &mut [u8], mut tell: impl FnMut(Item)) -> io::Result<()> {
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::other("a subscriber was closed")),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let read = buffer.get(..length).unwrap_or_default();
            let mut bytes = read;
            if !self.part.is_empty() {
                self.part.extend_from_slice(read);
                bytes = &self.part;
            }
            while let Some((item, rest)) = cut(bytes) {
                tell(item);
                bytes = rest;
            }
            self.part = bytes.to_vec();
            // Less than was asked for: there is no more, and the next event tells when there is.
            if length < buffer.len() {
                return Ok(());
            }
        }
    }
}

impl Said {
    fn new(many: u64) -> Self {
        Self { many, at: Vec::new(), missing: Vec::new(), open: 0, heard: Heard::default() }
    }

    fn say(&mut self, now: Instant) {
        self.at.push(now);
        self.missing.push(self.many);
        self.open += 1;
    }

    fn hear(&mut self, item: Item, now: Instant) {
        let Item::Broadcast(id) = item else { return };
        let Some(place) = id.checked_sub(FIRST_ID).and_then(|place| usize::try_from(place).ok())
        else {
            return;
        };
        let (Some(at), Some(missing)) = (self.at.get(place), self.missing.get_mut(place)) else {
            return;
        };
        // One too many is none that another misses.
        if *missing == 0 {
            return;
        }
        *missing -= 1;
        self.open -= u64::from(*missing == 0);
        self.heard.deliveries += 1;
        self.heard.latency.add(now - *at);
    }
}
