//! What every socket needs, in one place.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, watch};

use super::effect::Now;
use super::rest;
use super::subject::{self, Subject, Subjects};
use crate::auth::policy::Policies;
use crate::auth::token::Tokens;
use crate::catalog::Catalog;
use crate::config::Limits;
use crate::egress::budget::Budget;
use crate::hub::{Backlog, Broadcast, Hub, Outbox, RoomName};
use crate::metrics::{Metrics, reason};
use crate::model::Principal;
use crate::shutdown::Stage;
use crate::source::SourceState;

/// The services behind the sockets.
#[derive(Debug)]
pub struct Desk {
    /// Believes tokens or not.
    pub tokens: Arc<Tokens>,
    /// Knows the tables.
    pub catalog: Arc<Catalog>,
    /// Knows who may hear and say what on private topics.
    pub policies: Arc<Policies>,
    /// What the source is doing.
    pub source: watch::Receiver<SourceState>,
    /// Knows who is subscribed to what.
    pub hub: Arc<Hub>,
    /// What one client may use.
    pub limits: Limits,
    /// Whether joins of public channels are refused.
    pub private_only: bool,
    /// What is counted.
    pub metrics: Metrics,
    /// Unix seconds.
    pub clock: fn() -> i64,
    /// Where sockets run; they say goodbye when it is asked to stop.
    pub stage: Stage,
    joins: Budget,
    subjects: Subjects,
    /// Broadcasts by HTTP.
    pub(super) http_messages: Budget,
    /// Memory for the bodies of requests.
    pub(super) bodies: Semaphore,
    backlog: Arc<Backlog>,
    /// How often everybody was sent away.
    recalls: watch::Sender<u64>,
}

/// Whom a desk asks.
#[derive(Debug)]
pub struct Services {
    /// See [`Desk::tokens`].
    pub tokens: Arc<Tokens>,
    /// See [`Desk::catalog`].
    pub catalog: Arc<Catalog>,
    /// See [`Desk::policies`].
    pub policies: Arc<Policies>,
    /// See [`Desk::source`].
    pub source: watch::Receiver<SourceState>,
    /// See [`Desk::hub`].
    pub hub: Arc<Hub>,
}

/// One of the sockets that may be open at once; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    metrics: Metrics,
    /// The place its token's subject has on it.
    pub(super) of_subject: Option<Arc<subject::Seat>>,
}

impl Desk {
    /// Opens the desk.
    pub fn new(
        services: Services,
        (limits, private_only): (Limits, bool),
        metrics: Metrics,
        clock: fn() -> i64,
        stage: Stage,
    ) -> Self {
        let joins = Budget::new(limits.joins_per_second, Instant::now());
        let http_messages = Budget::new(limits.http_messages_per_second, Instant::now());
        let subjects = Subjects::new(&limits);
        let bodies = Semaphore::new(rest::MAX_BODIES);
        let backlog = Arc::new(Backlog::new(limits.outboxes));
        let Services { tokens, catalog, policies, source, hub } = services;
        Self {
            tokens,
            catalog,
            policies,
            source,
            hub,
            limits,
            private_only,
            metrics,
            clock,
            stage,
            joins,
            subjects,
            http_messages,
            bodies,
            backlog,
            recalls: watch::Sender::new(0),
        }
    }

    /// The queue in front of one more socket.
    pub fn outbox(&self) -> Outbox {
        Outbox::new(self.limits.outbox, Arc::clone(&self.backlog))
    }

    /// This moment.
    pub fn now(&self) -> Now {
        Now { at: Instant::now(), unix: (self.clock)() }
    }

    /// Takes one of the joins of this second; false when there is none left.
    pub fn take_join(&self) -> bool {
        self.joins.take(1, Instant::now())
    }

    /// Whether no join is left this second.
    pub fn has_no_joins(&self) -> bool {
        self.joins.is_spent(Instant::now())
    }

    /// Gives a broadcast to everyone in a room.
    pub fn broadcast(&self, room: &RoomName, sender: Option<u64>, broadcast: &Broadcast) {
        self.metrics.broadcasts.inc();
        self.hub.rooms().broadcast(room, sender, broadcast);
    }

    /// The subject of a principal, if it has one.
    pub fn subject(&self, principal: &Principal) -> Option<Arc<Subject>> {
        self.subjects.of(principal, Instant::now())
    }

    /// A seat for one more socket.
    ///
    /// # Errors
    /// The word for the metrics when all are taken, or all of its subject.
    pub fn seat(&self, principal: &Principal) -> Result<Seat, &'static str> {
        let before = self.metrics.connections.inc();
        let mut seat = Seat { metrics: self.metrics.clone(), of_subject: None };
        if i64::try_from(self.limits.connections).unwrap_or(i64::MAX) <= before {
            return Err("ConnectionRateLimitReached");
        }
        if let Some(subject) = self.subject(principal) {
            let of_subject = subject.seat().ok_or(subject::TOO_MANY_SOCKETS)?;
            seat.of_subject = Some(of_subject);
        }
        Ok(seat)
    }

    /// Closes every socket so that its client connects again.
    pub fn recall(&self) {
        self.recalls.send_modify(|recalls| *recalls += 1);
    }

    /// Changes when everybody is sent away.
    pub(super) fn recalls(&self) -> watch::Receiver<u64> {
        self.recalls.subscribe()
    }

    /// Counts a refusal.
    pub fn refused(&self, code: &'static str) {
        self.metrics.refused.get_or_create(&reason(code)).inc();
    }

    /// Counts a socket that was closed from this side.
    pub fn closed(&self, why: &'static str) {
        self.metrics.closed.get_or_create(&reason(why)).inc();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}
