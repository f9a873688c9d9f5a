//! One client's protocol, without I/O: what happens goes in, what to do comes out.
//!
//! It promises:
//!
//! - A heartbeat is answered in the turn it arrives, whatever the channels wait for.
//! - Each join is answered exactly once, within ten seconds, and before anything else that carries its reference.
//! - A join that is answered with ok is subscribed in the same turn: what commits after the client saw the answer
//!   arrives. So is what others say in the channel. What stands in the way of that is told in a `system` message; the channel stays open.
//! - Channels do not touch each other: each waits, fails, expires and closes alone.
//! - A message that cannot be understood is dropped and counted; it never costs the connection.
//!
//! The life of a channel:
//!
//! ```text
//! phx_join ─▶ Joining ── Admit ──▶ token verified ── Bind ──▶ reply ok, subscribe, "Subscribed to PostgreSQL"
//!                │ refused, or nine seconds                      │ access_token: Verify, Bind again
//!                ▼                                               │ bind failed for now: again in 5-10 s
//!            reply error                                         ▼ phx_leave, expiry, bad token, second phx_join
//!                                                            phx_close
//! ```
//!
//! On a private topic the policies are asked between Admit and Bind, and again after each Verify; see `private`.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Instant;

use super::attend::PresenceLimits;
use super::channel::{Channel, Joining, Phase, close};
use super::dialect::{Phoenix, TOPIC_PREFIX};
use super::effect::{Effect, Input, Now, Work};
use super::frame::{ClientMessage, NULL};
use super::payload::{Join, parse_access_token, parse_join};
use super::refusal::{Refusal, TOO_MANY_JOINS};
use crate::config::Limits;
use crate::egress::budget::Budget;
use crate::egress::subject::{Allowance, Seat, Subject, Use, quiet};
use crate::hub::{Dialect as _, Frame, Notice, Outbox};
use crate::memory::Memory;
use crate::model::Network;

/// Longer topics are refused: they are kept for the life of a channel.
const MAX_TOPIC: usize = 1024;

/// The same without the protocol's prefix.
pub(super) const MAX_SUBTOPIC: usize = MAX_TOPIC - TOPIC_PREFIX.len();

/// How messages that cannot be understood are counted.
const MALFORMED: &str = "MalformedMessage";

/// What a session begins with.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The token the socket was opened with.
    pub credential: &'a str,
    /// What it may use.
    pub limits: &'a Limits,
    /// What holds for every channel.
    pub rules: Rules,
    /// The place of the token's subject on the socket.
    pub seat: Option<Arc<Seat>>,
    /// What clients may make the relay hold.
    pub memory: Memory,
    /// Where its client comes from.
    pub network: Network,
    /// This moment.
    pub at: Instant,
}

/// What an operator decided for every channel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Joins of public channels are refused.
    pub private_only: bool,
    /// Every channel is told who is present.
    pub presence_always: bool,
}

/// One client's protocol state.
#[derive(Debug)]
pub struct Session {
    pub(super) dialect: &'static Phoenix,
    pub(super) outbox: Arc<Outbox>,
    pub(super) channels: Vec<Channel>,
    pub(super) hasher: foldhash::fast::RandomState,
    credential: Arc<str>,
    max_channels: usize,
    /// Bytes of a broadcast.
    pub(super) max_payload: usize,
    /// Messages of the past one join may have.
    pub(super) max_replay: usize,
    /// Rows that one join may have read first.
    max_snapshot: usize,
    /// What a channel may say of itself.
    pub(super) presence: PresenceLimits,
    /// What it may use, whoever its channels act for.
    pub(super) allowance: Allowance,
    /// The place on it of the subject it was opened for.
    pub(super) seat: Option<Arc<Seat>>,
    /// Frames that say nothing, as few as nobody minds.
    pub(super) quiet: Budget,
    /// Broadcasts that were passed on.
    pub(super) said: u64,
    /// What clients may make the relay hold.
    pub(super) memory: Memory,
    /// Where its client comes from.
    pub(super) network: Network,
    rules: Rules,
    /// What it was told last to have done too much, and when it last did.
    pub(super) scolded: Option<(&'static str, Instant)>,
    next_work: u64,
    is_draining: bool,
}

impl Session {
    /// A session with no channels.
    pub fn new(dialect: &'static Phoenix, outbox: Arc<Outbox>, opening: Opening<'_>) -> Self {
        let Opening { credential, limits, rules, seat, memory, network, at } = opening;
        Self {
            dialect,
            outbox,
            channels: Vec::new(),
            hasher: foldhash::fast::RandomState::default(),
            credential: credential.into(),
            max_channels: limits.channels,
            max_payload: limits.broadcast_payload,
            max_replay: limits.replay,
            max_snapshot: limits.snapshot_rows,
            presence: PresenceLimits::of(limits),
            allowance: Allowance::of_socket(limits, at),
            seat,
            quiet: quiet(limits, at),
            said: 0,
            memory,
            network,
            rules,
            scolded: None,
            next_work: 0,
            is_draining: false,
        }
    }

    /// Takes one input and adds to `effects` what is to be done about it.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        match input {
            Input::Text(text) => match self.dialect.vsn.parse(text) {
                Ok(message) => self.on_message(now, &message, effects),
                Err(_) => effects.push(Effect::Refused(MALFORMED)),
            },
            Input::Binary(bytes) => match self.dialect.vsn.parse_binary(bytes) {
                Ok(message) => self.on_message(now, &message, effects),
                Err(_) => effects.push(Effect::Refused(MALFORMED)),
            },
            Input::Tick => self.on_tick(now, effects),
            Input::Done(done) => self.on_done(now, done, effects),
            Input::Closing(is_closing) => self.is_draining = is_closing,
            Input::Drain => self.on_drain(effects),
            Input::Gone => {
                while let Some(channel) = self.channels.pop() {
                    leave(channel, Parting::Lost, effects);
                }
            }
        }
    }

    /// When [`Input::Tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.channels.iter().map(Channel::deadline).min()
    }

    /// Channels whose join was answered with ok.
    pub fn joined(&self) -> usize {
        self.channels.iter().filter(|channel| matches!(channel.phase, Phase::Joined(_))).count()
    }

    fn on_message(&mut self, now: Now, message: &ClientMessage<'_>, effects: &mut Vec<Effect>) {
        let vsn = self.dialect.vsn;
        let (topic, reference) = (&*message.topic, &*message.reference);
        let place = self.channels.iter().position(|channel| *channel.topic == *topic);
        let frame = match (&*message.event, place) {
            ("heartbeat", None) if topic == "phoenix" => {
                vsn.reply((NULL, reference), topic, true, "{}")
            }
            ("phx_join", place) => return self.on_join(now, message, place, effects),
            (_, Some(place)) => return self.on_push(now, message, place, effects),
            ("phx_leave", None) => vsn.reply((&message.join_ref, reference), topic, true, "{}"),
            (_, None) => vsn.refusal((NULL, reference), topic, "unmatched topic"),
        };
        effects.push(Effect::Send(frame));
    }

    fn on_join(
        &mut self,
        now: Now,
        message: &ClientMessage<'_>,
        place: Option<usize>,
        effects: &mut Vec<Effect>,
    ) {
        let (topic, refs) = (&*message.topic, (&*message.join_ref, &*message.reference));
        let mut replaced = Vec::new();
        if let Some(place) = place {
            let mut old = self.channels.swap_remove(place);
            if let Phase::Joining(joining) = &mut old.phase {
                replaced.append(&mut joining.replaced);
            }
            replaced.push(old.join_ref.clone());
            leave(old, Parting::Lost, effects);
        }
        let join = match self.may_join(topic) {
            Ok(()) => self.parse_join(now, message.payload),
            Err(reason) if reason == UNMATCHED => {
                let frame = self.dialect.vsn.refusal((NULL, refs.1), topic, UNMATCHED);
                return effects.push(Effect::Send(frame));
            }
            Err(reason) => Err(reason.into()),
        };
        let mut join = match join {
            Ok(join) => join,
            Err(refusal) => return self.refuse(refs, topic, &refusal, replaced, effects),
        };
        let token = join.token.take().map_or_else(|| Arc::clone(&self.credential), Arc::from);
        let known = self.hasher.hash_one(&*token);
        let mut channel = Channel::join(now, topic, refs, known, join, replaced);
        channel.work = Some(self.start(Work::Admit { token }, effects));
        self.channels.push(channel);
    }

    /// Whether a join on this topic may be looked at.
    fn may_join(&self, topic: &str) -> Result<(), &'static str> {
        match topic.strip_prefix(TOPIC_PREFIX) {
            None => Err(UNMATCHED),
            Some("") => Err("TopicNameRequired: You must provide a topic name"),
            Some(_) if topic.len() > MAX_TOPIC => {
                Err("TopicNameTooLong: A topic name may have 1024 bytes")
            }
            Some(_) if self.is_draining => {
                Err("RealtimeRestarting: Realtime is restarting, please standby")
            }
            Some(_) if self.channels.len() >= self.max_channels => {
                Err("ChannelRateLimitReached: Too many channels")
            }
            Some(_) => Ok(()),
        }
    }

    /// What a join asks for, if it may be asked for now.
    fn parse_join(&self, now: Now, payload: &str) -> Result<Join, Refusal> {
        let mut join = parse_join(payload)?;
        join.wants_presence |= self.rules.presence_always;
        if self.rules.private_only && !join.is_private {
            return Err("PrivateOnly: This project only allows private channels".into());
        }
        let rows = join.firsts.iter().map(|(_, first)| first.limit as usize).sum::<usize>();
        if self.max_snapshot < rows {
            let most = self.max_snapshot;
            let reason = format!(
                "InvalidJoinPayload: config.postgres_changes: its snapshots ask for {rows} rows, the most is {most}"
            );
            return Err(reason.into());
        }
        // Before all others pay: whose token it is, is not known yet.
        self.allowance.take(self.owner(), Use::Join, 1, now.at).map_err(Refusal::too_many_joins)?;
        Ok(join)
    }

    /// The place of a subject on this socket: the one it has, or another if it may.
    pub(super) fn seat(&self, subject: &Arc<Subject>) -> Option<Arc<Seat>> {
        let seats = self.channels.iter().filter_map(|channel| channel.seat.as_ref());
        let mut seats = seats.chain(&self.seat);
        match seats.find(|seat| Arc::ptr_eq(seat.subject(), subject)) {
            Some(seat) => Some(Arc::clone(seat)),
            None => subject.seat(),
        }
    }

    /// Answers a join with an error and closes what it took the place of.
    pub(super) fn refuse(
        &self,
        refs: (&str, &str),
        topic: &str,
        refusal: &Refusal,
        replaced: Vec<Box<str>>,
        effects: &mut Vec<Effect>,
    ) {
        let vsn = self.dialect.vsn;
        effects.push(Effect::Refused(refusal.code));
        effects.push(Effect::Send(vsn.refusal(refs, topic, &refusal.reason)));
        for join_ref in replaced {
            effects.push(Effect::Send(close(vsn, &join_ref, topic)));
        }
    }

    /// A message on a channel that is joined or joining.
    fn on_push(
        &mut self,
        now: Now,
        message: &ClientMessage<'_>,
        place: usize,
        effects: &mut Vec<Effect>,
    ) {
        let vsn = self.dialect.vsn;
        match &*message.event {
            "phx_leave" => {
                let is_own = self.channels.get(place).is_some_and(|channel| {
                    *channel.join_ref == *message.join_ref || &*channel.join_ref == NULL
                });
                if is_own {
                    let channel = self.channels.swap_remove(place);
                    let refs = channel.refs(&message.reference);
                    let replies = [
                        Effect::Send(vsn.reply(refs, &channel.topic, true, "{}")),
                        Effect::Send(close(vsn, &channel.join_ref, &channel.topic)),
                    ];
                    leave(channel, Parting::Left, effects);
                    effects.extend(replies);
                }
            }
            "access_token" => {
                if let Some(token) = parse_access_token(message.payload) {
                    self.on_token(now, place, token.into(), effects);
                }
            }
            "broadcast" => self.on_broadcast(now, message, place, effects),
            "presence" => self.on_presence(now, message, place, effects),
            _ => {}
        }
    }

    /// Takes the token of an `access_token` message, unless it is the one in use.
    pub(super) fn on_token(
        &mut self,
        now: Now,
        place: usize,
        token: Arc<str>,
        effects: &mut Vec<Effect>,
    ) {
        let known = self.hasher.hash_one(&*token);
        let Some(channel) = self.channels.get_mut(place) else { return };
        if channel.token == known {
            return;
        }
        if let Phase::Joining(joining) = &mut channel.phase {
            joining.newer_token = Some(token);
            return;
        }
        channel.token = known;
        // It may cost as much as a join.
        if let Err(code) = self.allowance.take(None, Use::Join, 1, now.at) {
            return self.shut_for(place, code, TOO_MANY_JOINS, effects);
        }
        if let Some(token) = channel.rights.keep(token) {
            self.verify(place, token, effects);
        }
    }

    /// Looks at a newer token instead of whatever was under way.
    pub(super) fn verify(&mut self, place: usize, token: Arc<str>, effects: &mut Vec<Effect>) {
        let Some(channel) = self.channels.get_mut(place) else { return };
        let stale = channel.work.take();
        let work = self.start(Work::Verify { token }, effects);
        effects.extend(stale.map(Effect::Cancel));
        if let Some(channel) = self.channels.get_mut(place) {
            channel.work = Some(work);
        }
    }

    fn on_drain(&mut self, effects: &mut Vec<Effect>) {
        self.is_draining = true;
        for channel in &self.channels {
            if matches!(channel.phase, Phase::Joined(_)) {
                effects.push(Effect::Send(self.dialect.farewell(&channel.topic)));
            }
        }
        effects.push(Effect::Close(RESTART, "the server is going away"));
    }

    /// Numbers some work and starts it.
    pub(super) fn start(&mut self, work: Work, effects: &mut Vec<Effect>) -> u64 {
        self.next_work += 1;
        effects.push(Effect::Start(self.next_work, work));
        self.next_work
    }

    /// Closes a channel from this side, after the `system` message that says why.
    pub(super) fn shut(&mut self, place: usize, reason: Frame, effects: &mut Vec<Effect>) {
        let channel = self.channels.swap_remove(place);
        let closing = close(self.dialect.vsn, &channel.join_ref, &channel.topic);
        leave(channel, Parting::Left, effects);
        effects.extend([Effect::Send(reason), Effect::Send(closing)]);
    }

    /// Closes a channel from this side for a reason that is told in a `system` message and counted.
    pub(super) fn shut_for(
        &mut self,
        place: usize,
        code: &'static str,
        text: &str,
        effects: &mut Vec<Effect>,
    ) {
        let Some(channel) = self.channels.get(place) else { return };
        let notice = Notice::of_channel(false, text.to_owned());
        let frame = self.dialect.notice(&channel.topic, &channel.join_ref, &notice);
        effects.push(Effect::Refused(code));
        self.shut(place, frame, effects);
    }

    /// Answers a join that is not answered yet with an error, and forgets it.
    pub(super) fn refuse_joining(
        &mut self,
        place: usize,
        refusal: impl Into<Refusal>,
        effects: &mut Vec<Effect>,
    ) {
        let channel = self.channels.swap_remove(place);
        effects.extend(channel.work.map(Effect::Cancel));
        if let Phase::Joining(joining) = channel.phase {
            let Joining { reference, replaced, .. } = *joining;
            let refs = (&*channel.join_ref, &*reference);
            self.refuse(refs, &channel.topic, &refusal.into(), replaced, effects);
        }
    }
}

/// A topic that is no channel's.
const UNMATCHED: &str = "unmatched topic";

/// Close code: the server restarts, come back.
const RESTART: u16 = 1012;

/// How a channel ends.
#[derive(Clone, Copy, Debug)]
enum Parting {
    /// The client said so, or it was closed from this side.
    Left,
    /// It may come back: its socket is gone, or a second join took its place.
    Lost,
}

/// Ends a channel without a word to the client.
fn leave(channel: Channel, parting: Parting, effects: &mut Vec<Effect>) {
    let works = [channel.work, channel.rights.asking, channel.catching_up, channel.awaiting];
    effects.extend(works.into_iter().flatten().map(Effect::Cancel));
    if let Phase::Joined(joined) = channel.phase {
        effects.push(Effect::Unsubscribe(joined.member));
    }
    effects.extend(channel.attendance.attendee.map(|attendee| match parting {
        Parting::Left => Effect::Untrack(attendee),
        Parting::Lost => Effect::Lose(attendee),
    }));
}
