//! One channel of one session: what it asked for and how far it got.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attend::Attendance;
use super::dialect::TOPIC_PREFIX;
use super::effect::Now;
use super::frame::Vsn;
use super::payload::{Join, Replay};
use super::private::Rights;
use crate::auth::policy::Kept;
use crate::auth::token::Verified;
use crate::catalog::bind::Wish;
use crate::egress::subject::{Seat, Subject};
use crate::hub::{Frame, Member, Namespace, Receives, RoomName};
use crate::memory::MemoryReservation;
use crate::model::{FirstRead, Since};

/// Clients give a join ten seconds; the answer must be there before.
const JOIN_PATIENCE: Duration = Duration::from_secs(9);

/// A token is looked at again at least this often, because clocks are set.
const TOKEN_CHECK: Duration = Duration::from_secs(300);

/// A channel from its join to its close.
#[derive(Debug)]
pub(super) struct Channel {
    /// The topic as the client wrote it.
    pub(super) topic: Arc<str>,
    /// The reference of its join, as JSON text.
    pub(super) join_ref: Box<str>,
    /// Which topics it meets.
    pub(super) namespace: Namespace,
    /// Its part in presence.
    pub(super) attendance: Attendance,
    /// Its own broadcasts come back to it.
    pub(super) wants_own: bool,
    /// Each broadcast wants a reply.
    pub(super) wants_ack: bool,
    /// It joined without a `config`.
    pub(super) is_legacy: bool,
    /// It wants to know when the database's messages are streamed.
    pub(super) wants_messages: bool,
    /// What it wants to hear of the past.
    pub(super) replay: Option<Replay>,
    /// What it may hear and say.
    pub(super) rights: Rights,
    /// The first message of the past it was told.
    pub(super) first_told: Option<Box<str>>,
    /// The work that reads what was said while it joined.
    pub(super) catching_up: Option<u64>,
    /// The work that waits for the database's messages.
    pub(super) awaiting: Option<u64>,
    /// The row changes it asked for.
    pub(super) wishes: Arc<[Wish]>,
    /// The ids of the wishes in the client's eyes.
    pub(super) ids: Box<[u64]>,
    /// For the wishes that continue, by id: after what. Empty once they were granted.
    pub(super) since: Vec<(u64, Since)>,
    /// For the wishes whose rows are read first, by id: which rows. Empty once they were granted.
    pub(super) firsts: Vec<(u64, FirstRead)>,
    /// A hash of the token it uses, to know the same one again.
    pub(super) token: u64,
    /// The place on its socket of the subject it acts for.
    pub(super) seat: Option<Arc<Seat>>,
    /// The memory of what it asked for.
    pub(super) held: Option<MemoryReservation>,
    /// The work it waits for.
    pub(super) work: Option<u64>,
    /// How far it got.
    pub(super) phase: Phase,
}

/// How far a channel got.
#[derive(Debug)]
pub(super) enum Phase {
    /// The join is not answered yet.
    Joining(Box<Joining>),
    /// The join was answered with ok.
    Joined(Joined),
}

/// A join that is not answered yet.
#[derive(Debug)]
pub(super) struct Joining {
    /// The reference the reply must name.
    pub(super) reference: Box<str>,
    /// The wishes as the reply echoes them.
    pub(super) echo: String,
    /// The answer is due.
    pub(super) reply_by: Instant,
    /// Its token, once verified.
    pub(super) verified: Option<Verified>,
    /// A token that came while it joined, to be looked at afterwards.
    pub(super) newer_token: Option<Arc<str>>,
    /// What it hears of the past, after the reply.
    pub(super) past: Vec<Kept>,
    /// The joins it took the place of; they are closed after the reply.
    pub(super) replaced: Vec<Box<str>>,
}

/// A channel whose join was answered.
#[derive(Debug)]
pub(super) struct Joined {
    /// Its place in the hub.
    pub(super) member: Arc<Member>,
    /// `exp` of its token, in Unix seconds.
    pub(super) expires_at: i64,
    /// When to look at the token again.
    pub(super) check_at: Instant,
    /// When to ask for the wishes again.
    pub(super) retry_at: Option<Instant>,
}

impl Channel {
    /// A channel whose join has just arrived.
    pub(super) fn join(
        now: Now,
        topic: &str,
        (join_ref, reference): (&str, &str),
        token: u64,
        join: Join,
        replaced: Vec<Box<str>>,
    ) -> Self {
        let joining = Joining {
            reference: reference.into(),
            echo: join.echo,
            reply_by: now.at + JOIN_PATIENCE,
            verified: None,
            newer_token: None,
            past: Vec::new(),
            replaced,
        };
        let namespace = if join.is_private { Namespace::Private } else { Namespace::Public };
        Self {
            topic: topic.into(),
            join_ref: join_ref.into(),
            namespace,
            wants_messages: join.wants_messages,
            replay: join.replay,
            rights: Rights::of(namespace),
            first_told: None,
            catching_up: None,
            awaiting: None,
            attendance: Attendance::new(join.wants_presence, join.presence_key),
            wants_own: join.wants_own,
            wants_ack: join.wants_ack,
            is_legacy: join.is_legacy,
            wishes: join.wishes.into(),
            ids: join.ids.into(),
            since: join.since,
            firsts: join.firsts,
            token,
            seat: None,
            held: None,
            work: None,
            phase: Phase::Joining(Box::new(joining)),
        }
    }

    /// When it must be looked at again.
    pub(super) fn deadline(&self) -> Instant {
        match &self.phase {
            Phase::Joining(joining) => joining.reply_by,
            Phase::Joined(joined) => {
                joined.retry_at.map_or(joined.check_at, |retry| retry.min(joined.check_at))
            }
        }
    }

    /// Where it meets others.
    pub(super) fn room(&self) -> RoomName {
        let topic = self.topic.strip_prefix(TOPIC_PREFIX).unwrap_or(&self.topic).into();
        RoomName { namespace: self.namespace, topic }
    }

    /// What it receives there.
    pub(super) const fn receives(&self) -> Receives {
        Receives {
            broadcast: self.rights.readable.broadcast,
            own: self.wants_own,
            presence: self.attendance.is_told,
        }
    }

    /// The subject it acts for.
    pub(super) fn subject(&self) -> Option<&Subject> {
        self.seat.as_ref().map(|seat| &**seat.subject())
    }

    /// The references of a reply to one of its messages.
    pub(super) fn refs<'a>(&'a self, reference: &'a str) -> (&'a str, &'a str) {
        (&self.join_ref, reference)
    }
}

impl Joined {
    /// Uses a token until it expires.
    pub(super) fn use_token(&mut self, now: Now, expires_at: i64) {
        self.expires_at = expires_at;
        self.check_at = check_at(now, expires_at);
    }
}

/// When a token that expires at `expires_at` must be looked at again.
pub(super) fn check_at(now: Now, expires_at: i64) -> Instant {
    let left = u64::try_from(expires_at.saturating_sub(now.unix)).unwrap_or(0);
    now.at + Duration::from_secs(left).min(TOKEN_CHECK)
}

/// The `phx_close` of a channel: its join's reference in both places.
pub(super) fn close(vsn: Vsn, join_ref: &str, topic: &str) -> Frame {
    vsn.encode((join_ref, join_ref), topic, "phx_close", "{}")
}
