//! **The middle on one screen**: who asked, who may, who gets.
//!
//! Reads the change log in commit order. For each change the router names the bindings it answers, the members of
//! those bindings are grouped by principal, and each principal's members get the change once its rows were judged.
//! What needs no judging goes out at once; the rest waits in that principal's lane, in order, and holds up nobody
//! else. Nothing here waits for a client.
//!
//! Promises: one channel gets its changes in commit order; a change that could not be judged is not shown, is
//! counted, and is told to the channel; a table's JSON is written once per set of columns.

mod audience;
mod catchup;
mod first;
mod generated;
mod held;
mod history;
mod lane;
mod message;
mod pass;
pub mod published;
mod render;
mod round;
#[cfg(test)]
mod samples;
mod settled;
mod sighting;
#[cfg(test)]
mod tests;
mod told;
mod work;

pub use catchup::{Arrival, CatchUp, Latecomer};
pub use told::Told;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tokio::sync::{mpsc, watch};

use crate::auth::streamed::Streamed;
use crate::auth::visibility::{Trouble, Visibility};
use crate::catalog::{Catalog, Seen};
use crate::changelog::{ChangeLog, Gap, Place, Read};
use crate::config::Deletes;
use crate::hub::{Hole, Hub, Member, Membership, Notice, Receives};
use crate::log_rate::admit;
use crate::metrics::{Metrics, reason};
use crate::model::time::PgTime;
use crate::model::{Change, Epoch, Position, Relation, Row, Table, Target, Transaction};
use crate::router::{Candidate, StepBudget};
use crate::source::SourceState;

use audience::{Audience, Way};
use lane::{LaneScope, Lanes};
use message::Message;
use settled::Settled;
use sighting::{Layout, Sighting};
use work::Ask;

/// What the fan-out works with.
#[derive(Clone, Debug)]
pub struct Fanout {
    /// Who is subscribed.
    pub hub: Arc<Hub>,
    /// What tables are like.
    pub catalog: Arc<Catalog>,
    /// Who may see rows.
    pub visibility: Arc<Visibility>,
    /// LaneKey messages were told.
    pub streamed: Arc<Streamed>,
    /// What was handed out and may not be visible yet.
    pub told: Arc<Told>,
    /// The life of the history being read.
    pub source: watch::Receiver<SourceState>,
    /// What is told of deleted rows.
    pub deletes: Deletes,
    /// How long row changes are held back after they arrived.
    pub hold: Duration,
    /// Bytes of a row's JSON above which it is cut to its small columns.
    pub record_limit: usize,
    /// Bytes of a message of the database above which it is not passed on.
    pub broadcast_limit: usize,
    /// The wall clock.
    pub now: fn() -> PgTime,
    /// Counters.
    pub metrics: Metrics,
}

/// Changes taken from the log at once, in bytes: enough to share checks, little enough to stay fair.
const BATCH_BYTES: usize = 1 << 20;

/// How long to wait before asking an unreachable catalog again.
const CATALOG_RETRY: Duration = Duration::from_millis(100);

/// How long to wait before asking again whether a commit can be seen in the catalog.
const VISIBILITY_RETRY: Duration = Duration::from_millis(2);

/// Tables whose layouts are kept; then all are forgotten, because tables come and go.
const LAYOUTS: usize = 10_000;

/// Changes handed out before the rounds under way are looked at.
const STRIDE: usize = 256;

/// How the columns of relations lie over tables.
type Layouts = HashMap<(u32, u32), Arc<Layout>>;

impl Fanout {
    /// Delivers what the log has, for ever. Whoever was shown the past comes in through `arrivals`, between two pieces
    /// of the log.
    pub async fn run<L: ChangeLog>(
        self,
        log: Arc<L>,
        mut arrivals: mpsc::Receiver<Arrival>,
    ) -> Infallible {
        let mut reader = log.follow();
        let mut done = reader.start();
        self.told.reach(done);
        let mut layouts = Layouts::new();
        let mut lanes = Lanes::new(self.clone(), Way::Live);
        let mut settled = Settled::new();
        loop {
            settled.look(&self.hub, &lanes, done);
            tokio::select! {
                () = settled.later() => {}
                batch = log.read(&mut reader, BATCH_BYTES) => match batch {
                    Ok(Read::Pieces(batch)) => {
                        if !self.hold.is_zero() {
                            lanes.meanwhile(tokio::time::sleep(self.hold)).await;
                        }
                        for piece in &batch {
                            self.fan_out(piece, done.epoch, &mut layouts, &mut lanes).await;
                            done = Place::last_of(piece).of(done.epoch);
                            self.told.reach(done);
                        }
                        lanes.pump();
                    }
                    Ok(Read::Begun(at)) => {
                        let before = std::mem::replace(&mut done, at);
                        self.told.begin(at);
                        self.begin(&mut lanes, before.epoch, at.epoch).await;
                    }
                    Err(gap) => {
                        // Who arrives before the next change begins behind what is missing.
                        if let Gap::Forgotten { oldest } = gap {
                            done = oldest.max(done.into()).of(done.epoch);
                            self.told.reach(done);
                        }
                        self.announce_gap(&mut lanes, "fan_out_behind", &gap.to_string());
                    }
                },
                () = lanes.turn() => {}
                Some(arrival) = arrivals.recv() => arrival.admit(&self.hub, done, &self.told),
            }
        }
    }

    /// Hands out a piece of the history of `epoch`.
    async fn fan_out(
        &self,
        piece: &Transaction,
        epoch: Epoch,
        layouts: &mut Layouts,
        lanes: &mut Lanes,
    ) {
        if piece.oversized {
            let words = "a transaction was too large for the change log";
            self.announce_gap(lanes, "transaction_too_large", words);
        }
        self.told.note(piece.xid);
        for (at, change) in piece.changes.iter().enumerate() {
            if message::is_messages(&change.relation) {
                self.streamed.note(piece.xid, Instant::now());
                self.say(change);
            } else {
                let id = position(epoch, piece, at);
                self.match_change(piece, id, change, Audience::Live(&self.hub), layouts, lanes)
                    .await;
            }
            if at % STRIDE == STRIDE - 1 {
                lanes.pump();
                lanes.meanwhile(tokio::task::yield_now()).await;
            }
        }
    }

    /// Puts a change before those of the audience who asked for it.
    async fn match_change(
        &self,
        piece: &Transaction,
        id: Position,
        change: &Change,
        audience: Audience<'_>,
        layouts: &mut Layouts,
        lanes: &mut Lanes,
    ) {
        let looking = self.look(piece, id, change, audience, layouts);
        let Some(sightings) = lanes.meanwhile(looking).await else {
            let members = generated::asking_for(change, id.into(), audience);
            return lanes.withhold_gone(&change.relation, &members);
        };
        for (sighting, is_own, trouble) in sightings {
            if let Some(trouble) = trouble {
                lanes.withhold_of(
                    &sighting,
                    generated::in_the_dark(&sighting, is_own, audience),
                    &trouble,
                );
            }
            let asks = Self::who_asked(&sighting, is_own, audience);
            if !asks.is_empty() {
                lanes.take(Arc::new(sighting), asks);
                lanes.make_room().await;
            }
        }
    }

    /// The change as seen through each table that somebody may have asked for: whether that is its own, and why generated
    /// columns are absent that should not be. `None`: its own table is gone.
    async fn look(
        &self,
        transaction: &Transaction,
        id: Position,
        change: &Change,
        audience: Audience<'_>,
        layouts: &mut Layouts,
    ) -> Option<SmallVec<[(Sighting, bool, Option<Trouble>); 1]>> {
        let mut sightings = SmallVec::new();
        let Some((event, new, old)) = sighting::resolve(change) else { return Some(sightings) };
        for (table, is_own) in self.tables(change, transaction.xid).await? {
            if !audience.with(|members| members.router().wants(&table.schema, &table.name)) {
                continue;
            }
            let layout = layout(layouts, &change.relation, table);
            let (new, old, trouble) = self.compute(&layout, new.clone(), old.clone()).await;
            let sighting = Sighting {
                id,
                first: None,
                xid: transaction.xid,
                committed_at: transaction.committed_at,
                event,
                new,
                old,
                layout,
                rendered: render::Rendered::default(),
            };
            sightings.push((sighting, is_own, trouble));
        }
        Some(sightings)
    }

    /// The change's own table, then the partitioned tables it belongs to. `None`: it is gone.
    async fn tables(&self, change: &Change, xid: u32) -> Option<Vec<(Arc<Table>, bool)>> {
        let own = loop {
            match self.insist(|| self.catalog.table(&change.relation, xid)).await {
                Seen::Table(table) => break table,
                Seen::Gone => return None,
                Seen::TooEarly => {
                    self.metrics.check_waits.inc();
                    tokio::time::sleep(VISIBILITY_RETRY).await;
                }
            }
        };
        let mut tables = Vec::with_capacity(1 + own.ancestors.len());
        let ancestors = own.ancestors.clone();
        tables.push((own, true));
        for oid in ancestors {
            if let Some(table) = self.insist(|| self.catalog.table_by_oid(oid)).await {
                tables.push((table, false));
            }
        }
        Some(tables)
    }

    /// Asks the catalog until it answers: nothing may be shown before it is known who may see it.
    async fn insist<T, F>(&self, ask: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T, crate::error::Error>>,
    {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(error) => {
                    if let Some(left_out) = admit(&["catalog", &error.to_string()]) {
                        tracing::warn!(%error, left_out, "waiting for the catalog");
                    }
                    tokio::time::sleep(CATALOG_RETRY).await;
                }
            }
        }
    }

    /// The members whose wishes the change answers, or may answer. A partitioned table is seen only by those who
    /// named it: a wildcard already covers the partition.
    fn who_asked(sighting: &Sighting, is_own: bool, audience: Audience<'_>) -> Vec<Ask> {
        let Some(row) = sighting.subject() else { return Vec::new() };
        audience.with(|members| Self::those_of(members, sighting, row, is_own, audience))
    }

    fn those_of(
        members: &Membership,
        sighting: &Sighting,
        row: &Row,
        is_own: bool,
        audience: Audience<'_>,
    ) -> Vec<Ask> {
        let (table, place) = (sighting.table(), Place::from(sighting.id));
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut budget = StepBudget::of_change(row.size());
        let name = (&*table.schema, &*table.name);
        members.router().candidates(
            name,
            sighting.event,
            &sighting.layout.relation,
            row,
            &mut budget,
            &mut candidates,
        );
        let mut asks = Vec::new();
        for Candidate { binding, undecided } in candidates {
            let Some(wish) = members.router().subscription(binding) else { continue };
            if !is_own && !matches!(wish.target, Target::Table { .. }) {
                continue;
            }
            for (member, id) in members.members(binding) {
                if !audience.wants(member.id, *id, place) {
                    continue;
                }
                // What clients wrote is asked for each of them apart, unless it is the same.
                let apart =
                    (!undecided.is_empty()).then(|| match members.router().owner(binding) {
                        Some(owner) => LaneScope::Caller(owner),
                        None => LaneScope::SameFilters(members.digest(member.id)),
                    });
                let (member, wish) = (Arc::clone(member), Arc::clone(wish));
                asks.push(Ask { member, id: *id, wish, undecided: undecided.clone(), apart });
            }
        }
        asks
    }

    /// Gives a message of the database to everyone in its room who has not had it.
    fn say(&self, change: &Change) {
        match message::read(change, self.broadcast_limit) {
            Ok(Some(Message { room, broadcast, id })) => {
                self.metrics.broadcasts.inc();
                let is_for =
                    |member: &Member, receives: Receives| receives.broadcast && member.is_news(&id);
                self.hub
                    .rooms()
                    .give(&room, is_for, |dialect, topic| dialect.broadcast(topic, &broadcast));
            }
            Ok(None) => {}
            Err(why) => {
                if let Some(left_out) = admit(&["message", why]) {
                    tracing::warn!(
                        reason = why,
                        left_out,
                        "a message of the database was not passed on"
                    );
                }
                self.metrics.withheld.get_or_create(&reason(why)).inc();
            }
        }
    }

    /// Tells every subscriber that something it asked for may be missing.
    fn announce_gap(&self, lanes: &mut Lanes, why: &'static str, words: &str) {
        self.metrics.gaps.get_or_create(&reason(why)).inc();
        let message = format!("Changes may be missing: {words}. Please read the table again.");
        let hole = Hole { reason: why, ..Hole::default() };
        // Who is away learns of it when it comes back with a position.
        match lanes.announce(&Notice::of_hole(message, hole)) {
            0 => tracing::info!(reason = why, "changes may be missing; nobody is subscribed"),
            members => {
                tracing::error!(
                    reason = why,
                    members,
                    "changes were lost to subscribers; they were told"
                );
            }
        }
    }
}

/// The id of a change of a piece.
fn position(epoch: Epoch, piece: &Transaction, at: usize) -> Position {
    let index = piece.first.saturating_add(u32::try_from(at).unwrap_or(u32::MAX));
    Position { epoch, commit_lsn: piece.commit_lsn, index }
}

fn layout(layouts: &mut Layouts, relation: &Arc<Relation>, table: Arc<Table>) -> Arc<Layout> {
    let key = (relation.oid, table.oid);
    if let Some(held) = layouts.get(&key).filter(|held| held.fits(relation, &table)) {
        return Arc::clone(held);
    }
    if layouts.len() == LAYOUTS {
        layouts.clear();
    }
    let made = Arc::new(Layout::new(relation, table));
    layouts.insert(key, Arc::clone(&made));
    made
}
