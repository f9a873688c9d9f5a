//! What has arrived of a WebSocket message that is not whole yet: its memory, its deadline and its least rate.
//!
//! Whoever reads the socket says what arrives and what became a message. A message is given [`FREE`] bytes without being
//! counted, which every socket has; from there on its bytes are counted as [`Kind::Messages`] of its caller. Once it has
//! begun it must keep its [`Pace`] and be whole within a time.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep_until};

use super::pace::Pace;
use crate::memory::{Full, Kind, Memory, MemoryReservation, PIECE};
use crate::model::CallerIdentity;

/// Bytes of an unfinished message that are not counted.
const FREE: usize = 4 * 1024;

/// Why a socket is read no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadFault {
    /// There is no memory for the message.
    Full(Full),
    /// It comes too slowly, or takes too long.
    Slow,
}

impl ReadFault {
    /// Close code, reason for the client, word for the metrics.
    pub(super) const fn close_frame(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Full(full) if full.is_of_caller => {
                (1008, "too much that is unfinished: send messages whole", "unfinished")
            }
            Self::Full(_) => (1013, "no memory for unfinished messages; try again", "unfinished"),
            Self::Slow => (1008, "a message took too long to arrive", "unfinished"),
        }
    }
}

/// What has arrived of one socket's message.
#[derive(Debug)]
pub(super) struct Unfinished {
    memory: Memory,
    caller: CallerIdentity,
    /// How long a message may take.
    patience: Duration,
    bytes: usize,
    pace: Option<Pace>,
    held: Option<MemoryReservation>,
    /// Runs while a message is unfinished.
    alarm: Option<Pin<Box<Sleep>>>,
    fault: Option<ReadFault>,
}

impl Unfinished {
    /// Nothing has arrived yet.
    pub(super) const fn new(memory: Memory, caller: CallerIdentity, patience: Duration) -> Self {
        let (pace, held, alarm, fault) = (None, None, None, None);
        Self { memory, caller, patience, bytes: 0, pace, held, alarm, fault }
    }

    /// So many bytes arrived.
    ///
    /// # Errors
    /// There is no memory for them; see [`Unfinished::fault`].
    pub(super) fn arrived(&mut self, bytes: usize) -> io::Result<()> {
        self.pace.get_or_insert_with(|| Pace::begin(self.patience));
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= FREE {
            return Ok(());
        }
        let needed = self.bytes.next_multiple_of(PIECE);
        let held = match &mut self.held {
            Some(held) => held.resize(needed),
            None => self
                .memory
                .reserve(Kind::Messages, &self.caller, needed)
                .map(|held| self.held = Some(held)),
        };
        held.map_err(|full| {
            self.fault = Some(ReadFault::Full(full));
            io::ErrorKind::OutOfMemory.into()
        })
    }

    /// A message is whole. What arrived of the next one is within the reader's buffer, and begins with its next byte.
    pub(super) fn finished(&mut self) {
        (self.bytes, self.pace, self.held, self.alarm) = (0, None, None, None);
    }

    /// A control frame of so many bytes, its head included, came between the parts of a message, or alone.
    pub(super) fn passed(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.bytes == 0 {
            self.finished();
        }
    }

    /// Ready when what is unfinished comes too slowly. To be asked whenever nothing more can be read.
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(pace) = self.pace else { return Poll::Pending };
        let due = pace.due(self.bytes);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if alarm.deadline() != due {
            alarm.as_mut().reset(due);
        }
        ready!(alarm.as_mut().poll(cx));
        self.fault = Some(ReadFault::Slow);
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// Why it is read no further, if it is not.
    pub(super) const fn fault(&self) -> Option<ReadFault> {
        self.fault
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::Instant;

    use super::*;
    use crate::metrics::Metrics;

    fn unfinished(total: usize) -> (Memory, Unfinished) {
        let memory = Memory::new(total, &Metrics::new());
        let caller = CallerIdentity::Subject("ann".into());
        let unfinished = Unfinished::new(memory.clone(), caller, Duration::from_secs(60));
        (memory, unfinished)
    }

    #[tokio::test]
    async fn little_is_free_and_more_is_counted_until_the_message_is_whole() {
        let (memory, mut unfinished) = unfinished(16 << 20);
        unfinished.arrived(FREE).unwrap();
        assert_eq!(memory.held(Kind::Messages), 0);
        unfinished.arrived(PIECE).unwrap();
        assert_eq!(memory.held(Kind::Messages), 2 * PIECE);
        unfinished.passed(131);
        assert_eq!(memory.held(Kind::Messages), 2 * PIECE, "a ping between two parts ends nothing");
        unfinished.finished();
        assert_eq!(memory.held(Kind::Messages), 0);
        // A caller has a quarter of three sixteenths.
        unfinished.arrived(768 << 10).unwrap();
        unfinished.arrived(1).unwrap_err();
        assert!(matches!(unfinished.fault(), Some(ReadFault::Full(full)) if full.is_of_caller));
    }

    #[tokio::test(start_paused = true)]
    async fn what_trickles_is_late_and_what_comes_at_the_least_rate_has_its_time() {
        let late = async |unfinished: &mut Unfinished| {
            poll_fn(|cx| unfinished.poll_late(cx).map(drop)).await;
        };
        let (_, mut trickle) = unfinished(16 << 20);
        let began = Instant::now();
        trickle.arrived(1).unwrap();
        late(&mut trickle).await;
        assert_eq!(began.elapsed(), Duration::from_secs(10));
        assert_eq!(trickle.fault(), Some(ReadFault::Slow));

        let (_, mut steady) = unfinished(16 << 20);
        let began = Instant::now();
        for _ in 0..59 {
            steady.arrived(2 * 1024).unwrap();
            let second = tokio::time::timeout(Duration::from_secs(1), late(&mut steady));
            second.await.unwrap_err();
        }
        late(&mut steady).await;
        assert_eq!(began.elapsed(), Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_late_between_messages() {
        let (_, mut unfinished) = unfinished(16 << 20);
        unfinished.arrived(131).unwrap();
        unfinished.passed(131);
        let late = poll_fn(|cx| unfinished.poll_late(cx).map(drop));
        tokio::time::timeout(Duration::from_secs(3600), late).await.unwrap_err();
    }
}
