//! Who may be here: the sockets of all protocols together, those of one subject, and when they leave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::departure::{Departure, Generation};
use super::subject::{self, Subject, Subjects};
use crate::config::{Limits, Live};
use crate::metrics::Metrics;
use crate::model::CallerIdentity;

/// The seats of a relay.
#[derive(Debug)]
pub struct Seats {
    /// When sockets say close_frame.
    pub departure: Departure,
    limits: Live<Limits>,
    subjects: Subjects,
    metrics: Metrics,
}

/// One of the sockets that may be open at once; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    metrics: Metrics,
    generation: Generation,
    /// The place its token's subject has on it.
    pub(super) of_subject: Option<Arc<subject::Seat>>,
}

impl Seats {
    /// All of them are free.
    pub fn new(limits: Live<Limits>, metrics: Metrics) -> Self {
        let (departure, subjects) = (Departure::new(), Subjects::new(limits.clone()));
        Self { departure, limits, subjects, metrics }
    }

    /// What a caller may use.
    pub fn subject(&self, caller: &CallerIdentity) -> Arc<Subject> {
        self.subjects.of(caller, Instant::now())
    }

    /// A seat for one more socket.
    ///
    /// # Errors
    /// The word for the metrics when all are taken, or all of its subject.
    pub fn take(&self, caller: &CallerIdentity) -> Result<Seat, &'static str> {
        let before = self.metrics.connections.inc();
        let (metrics, generation) = (self.metrics.clone(), self.departure.enter());
        let mut seat = Seat { metrics, generation, of_subject: None };
        if i64::try_from(self.limits.connections).unwrap_or(i64::MAX) <= before {
            return Err("ConnectionRateLimitReached");
        }
        let of_subject = self.subject(caller).seat().ok_or(subject::TOO_MANY_SOCKETS)?;
        seat.of_subject = Some(of_subject);
        Ok(seat)
    }

    /// Sends every socket away, spread over about `over` when they are many, and returns when all are gone.
    pub async fn send_away(&self, over: Duration) {
        let present = || usize::try_from(self.metrics.connections.get()).unwrap_or(0);
        self.departure.send_away(over, present).await;
    }
}

impl Seat {
    /// Between which recalls its socket came.
    pub(super) fn generation(&self) -> u64 {
        self.generation.number()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}
