//! What every socket needs, in one place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::effect::Now;
use super::rest::Rates;
use super::session::Rules;
use crate::auth::policy::Policies;
use crate::auth::token::Tokens;
use crate::catalog::Catalog;
use crate::changelog::Place;
use crate::config::{Limits, Live};
use crate::egress::budget::Budget;
use crate::egress::seats::Seats;
use crate::fanout::Latecomer;
use crate::hub::{
    Backlog, Broadcast, Door, Gates, Hole, Hub, Member, Notice, Outbox, Post, RoomName, Wishes,
};
use crate::metrics::{Metrics, reason};
use crate::model::{FirstRead, Since};
use crate::shutdown::Stage;
use crate::source::SourceState;

/// Bytes of what is live that may wait while a channel is shown the past. Together they may be as many as in all outboxes.
const GATE: usize = 4 << 20;

/// How long it may take until all have left who were told to connect again; they come back as fast.
const RECALL: Duration = Duration::from_secs(10);

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
    pub limits: Live<Limits>,
    /// Whether joins of public channels are refused.
    pub rules: Rules,
    /// What is counted.
    pub metrics: Metrics,
    /// Unix seconds.
    pub clock: fn() -> i64,
    /// Where sockets run.
    pub stage: Stage,
    /// Who may be here, and for how long.
    pub seats: Arc<Seats>,
    joins: Budget,
    /// Broadcasts by HTTP.
    pub(super) http_rates: Rates,
    backlog: Arc<Backlog>,
    gates: Arc<Gates>,
    latecomers: mpsc::Sender<Latecomer>,
    posts: Vec<Arc<Post>>,
    opened: AtomicUsize,
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
    /// See [`Desk::seats`].
    pub seats: Arc<Seats>,
    /// Where those go who are shown the past first.
    pub latecomers: mpsc::Sender<Latecomer>,
}

impl Desk {
    /// Opens the desk.
    pub fn new(
        services: Services,
        (limits, rules): (Live<Limits>, Rules),
        metrics: Metrics,
        clock: fn() -> i64,
        stage: Stage,
    ) -> Self {
        let joins = Budget::new(limits.joins_per_second, Instant::now());
        let http_rates = Rates::new(&limits, Instant::now());
        let backlog = Arc::new(Backlog::new(limits.outboxes));
        let gates = Arc::new(Gates::new(limits.outboxes));
        let Services { tokens, catalog, policies, source, hub, seats, latecomers } = services;
        // As many as threads can write at once.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let posts = (0..cores).map(|_| Post::start(&stage)).collect();
        Self {
            tokens,
            catalog,
            policies,
            source,
            hub,
            limits,
            rules,
            metrics,
            clock,
            stage,
            seats,
            joins,
            http_rates,
            backlog,
            gates,
            latecomers,
            posts,
            opened: AtomicUsize::new(0),
        }
    }

    /// The queue in front of one more socket, whose frames go through `door`.
    pub fn outbox(&self, door: Box<dyn Door>) -> Arc<Outbox> {
        let outbox = Arc::new(Outbox::new(self.limits.outbox, Arc::clone(&self.backlog)));
        let turn = self.opened.fetch_add(1, Ordering::Relaxed) % self.posts.len().max(1);
        if let Some(post) = self.posts.get(turn) {
            outbox.open(Arc::clone(post), door);
        }
        outbox
    }

    /// Subscribes a member; first it is shown what it missed, if it says `since` when, and the rows it wants to read first.
    pub(super) fn subscribe(
        &self,
        member: Arc<Member>,
        wishes: Wishes,
        mut since: Vec<(u64, Since)>,
        firsts: Vec<(u64, FirstRead)>,
    ) {
        if since.is_empty() && firsts.is_empty() {
            return self.hub.subscribe(&member, wishes);
        }
        // Its other wishes are in force from now on, although it is subscribed only when it has come to the present.
        if let Some(now) = self.hub.resumes().settled() {
            let is_other = |id: u64| {
                since.iter().all(|(named, _)| *named != id)
                    && firsts.iter().all(|(first, _)| *first != id)
            };
            let others: Vec<u64> =
                wishes.iter().map(|(id, _)| *id).filter(|id| is_other(*id)).collect();
            since.extend(others.into_iter().map(|id| (id, Since::After(now))));
        }
        member.shut(GATE);
        if let Some(gate) = member.gate() {
            gate.count(Arc::clone(&self.gates));
        }
        let latecomer = Latecomer { member, wishes, since, firsts };
        if let Err(full) = self.latecomers.try_send(latecomer) {
            let Latecomer { member, wishes, .. } = full.into_inner();
            let why = "too_many_catching_up";
            self.metrics.gaps.get_or_create(&reason(why)).inc();
            let message =
                "Changes may be missing: too many are catching up. Please read the table again.";
            let hole = Hole { reason: why, ..Hole::default() };
            let now = self.hub.resumes().settled().map(Place::from).unwrap_or_default();
            // What comes from now on waits while it is told: it may read the table at once. One that cannot be told is
            // being closed, and learns by reconnecting.
            self.hub.attach(&member, wishes);
            let _ = member.give_up(now, &Notice::of_hole(message.to_owned(), hole));
            member.open(None);
        }
    }

    /// Minutes since 1970.
    pub(super) fn minute(&self) -> u32 {
        u32::try_from((self.clock)() / 60).unwrap_or(0)
    }

    /// This moment.
    pub fn now(&self) -> Now {
        Now { at: Instant::now(), unix: (self.clock)() }
    }

    /// Heeds rates of the whole relay that were reloaded.
    pub fn renew_rates(&self) {
        self.joins.set_rate(self.limits.joins_per_second);
        self.http_rates.set_rate(self.limits.http_messages_per_second);
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

    /// Has every client connect again: the sockets that are open now leave by and by. Who comes meanwhile stays.
    pub fn recall(self: &Arc<Self>) {
        let (desk, generation) = (Arc::clone(self), self.seats.departure.recall());
        self.stage.spawn(async move {
            tokio::select! {
                () = desk.stage.stopping() => {}
                () = desk.seats.departure.clear(&generation, RECALL) => {}
            }
        });
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
