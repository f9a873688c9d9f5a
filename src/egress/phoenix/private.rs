//! Private channels: what policies let a channel hear and say, and what it hears of the past.
//!
//! What may be heard is asked at the join and again for each new token; what may be said, when something is first said.
//! Until that is known what was said waits, in order and bounded. Nothing is passed on that was not permitted.

use std::sync::Arc;

use super::attend::Asks;
use super::binary;
use super::channel::{Channel, Phase};
use super::dialect::message;
use super::effect::{Effect, Finding, Now, Readable, Work, Writable};
use super::frame::{NULL, Vsn};
use super::session::Session;
use crate::auth::denial::{Denial, no_longer_readable, unreadable};
use crate::auth::policy::{Kept, Past};
use crate::hub::{Broadcast, Dialect as _, Frame, Member, Namespace, Notice};
use crate::memory::MemoryReservation;
use crate::model::Principal;

/// Messages that wait for permission; more are refused. Their bytes are bounded by one broadcast's largest payload.
const UNSAID: usize = 100;

/// Messages that may be said while a channel joins; of more, the oldest are not told.
const MEANWHILE: usize = 10_000;

/// What was said while a channel joined was inserted at most so long before it first asked, in milliseconds: a message has
/// the time its transaction began.
const SINCE_BEGUN: i64 = 60_000;

/// What a channel is told whose past cannot be read.
const NO_PAST: &str = "UnableToReplayMessages: Realtime was unable to replay messages";

/// The response to a broadcast that policies forbid, as JSON.
pub(super) const FORBIDDEN: &str =
    r#"{"reason":"You do not have permissions to write to this Channel topic"}"#;

/// On a public topic.
const EVERYTHING: Writable = Writable { broadcast: true, presence: true };

/// What a channel may do.
#[derive(Debug)]
pub(super) struct Rights {
    /// What it may hear.
    pub(super) readable: Readable,
    /// What it may say; `None` is not known yet.
    writable: Option<Writable>,
    /// The work that finds out.
    pub(super) asking: Option<u64>,
    unsaid: Vec<Unsaid>,
    /// What it may hear by its newest token is being found out. That is not given up for a token after it, or somebody with
    /// many tokens would be judged by none of them.
    is_judged: bool,
    /// The token to look at then.
    next_token: Option<Arc<str>>,
    /// When its past was asked for, by the clock of Postgres.
    past_asked_at: Option<i64>,
}

/// What a channel says.
#[derive(Debug)]
pub(super) enum Said {
    /// Something to everyone.
    Broadcast(Broadcast),
    /// Something of itself.
    Presence(Asks),
}

/// What waits for permission.
#[derive(Debug)]
struct Unsaid {
    said: Said,
    reference: Box<str>,
    bytes: usize,
    _held: MemoryReservation,
}

impl Rights {
    /// Everything on a public topic; on a private one nothing yet.
    pub(super) const fn of(namespace: Namespace) -> Self {
        let is_public = matches!(namespace, Namespace::Public);
        Self {
            readable: Readable {
                broadcast: is_public,
                presence: if is_public { Some(true) } else { None },
            },
            writable: if is_public { Some(EVERYTHING) } else { None },
            asking: None,
            unsaid: Vec::new(),
            is_judged: false,
            next_token: None,
            past_asked_at: None,
        }
    }

    /// Keeps a token for later while the one before it is judged; gives it back otherwise.
    pub(super) fn keep(&mut self, token: Arc<str>) -> Option<Arc<str>> {
        if !self.is_judged {
            return Some(token);
        }
        self.next_token = Some(token);
        None
    }

    /// Whether it may broadcast; `None` is not known yet.
    pub(super) fn may_broadcast(&self) -> Option<bool> {
        self.writable.map(|writable| writable.broadcast)
    }

    /// Whether it is known what it may hear and say of presence.
    pub(super) const fn knows_presence(&self) -> bool {
        self.writable.is_some() && self.readable.presence.is_some()
    }

    /// Whether it is known that it may be present.
    pub(super) fn may_say_presence(&self) -> bool {
        self.writable.is_some_and(|writable| writable.presence)
    }

    /// Whether it is known that it may be told who is present.
    pub(super) fn may_hear_presence(&self) -> bool {
        self.readable.presence == Some(true)
    }

    /// Whether something of so many bytes may be kept until it is known whether it may be said.
    fn may_hold(&self, bytes: usize, most: usize) -> bool {
        let waiting: usize = self.unsaid.iter().map(|unsaid| unsaid.bytes).sum();
        self.unsaid.len() < UNSAID && waiting.saturating_add(bytes) <= most
    }
}

impl Session {
    /// Asks what a private channel may hear; at a join, with what it wants to hear of the past.
    pub(super) fn authorise(
        &mut self,
        place: usize,
        principal: Arc<Principal>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(channel) = self.channels.get(place) else { return };
        let is_joining = matches!(channel.phase, Phase::Joining(_));
        let replay = self.wanted_past(channel).filter(|_| is_joining);
        let topic = channel.room().topic;
        let wants_presence =
            channel.attendance.is_wanted || channel.rights.readable.presence.is_some();
        let work = Work::Authorise { principal, topic, wants_presence, replay };
        let work = self.start(work, effects);
        if let Some(channel) = self.channels.get_mut(place) {
            channel.work = Some(work);
            channel.rights.is_judged = true;
        }
    }

    /// Since when and how many messages of the past a channel gets.
    fn wanted_past(&self, channel: &Channel) -> Option<(i64, usize)> {
        let replay = channel.replay?;
        let limit = replay.limit.map_or(self.max_replay, |limit| {
            usize::try_from(limit.max(1)).unwrap_or(usize::MAX).min(self.max_replay)
        });
        Some((replay.since, limit))
    }

    /// Asks once more for the past of a channel that has just entered its room, so that nothing falls between.
    pub(super) fn catch_up(&mut self, place: usize, effects: &mut Vec<Effect>) {
        let Some(channel) = self.channels.get(place) else { return };
        let Some((since, limit)) = self.wanted_past(channel) else { return };
        let topic = channel.room().topic;
        let limit = limit.max(MEANWHILE);
        let asked_at = channel.rights.past_asked_at;
        let since = asked_at.map_or(since, |at| since.max(at.saturating_sub(SINCE_BEGUN)));
        let work = self.start(Work::CatchUp { topic, since, limit }, effects);
        if let Some(channel) = self.channels.get_mut(place) {
            channel.catching_up = Some(work);
        }
    }

    /// What was said while a channel joined is given to it, unless it heard it.
    fn on_caught_up(&mut self, place: usize, past: &[Kept], effects: &mut Vec<Effect>) {
        let Some(channel) = self.channels.get_mut(place) else { return };
        channel.catching_up = None;
        let Phase::Joined(joined) = &channel.phase else { return };
        let member = &joined.member;
        if channel.rights.readable.broadcast {
            // What is older than the first one told was too much to be told.
            let first = channel.first_told.take();
            let older = past.iter().take_while(|kept| Some(&kept.id) != first.as_ref()).count();
            let older = if older < past.len() { older } else { 0 };
            for kept in past.iter().skip(older).filter(|kept| member.is_news(&kept.id)) {
                effects.extend(replayed(self.dialect.vsn, member, kept).map(Effect::Send));
            }
        }
        member.caught_up();
    }

    /// It is known what a private channel may hear.
    pub(super) fn authorised(
        &mut self,
        now: Now,
        place: usize,
        finding: Result<Readable, Denial>,
        past: Option<Result<Past, Denial>>,
        member_id: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(channel) = self.channels.get_mut(place) else { return };
        let topic = channel.room().topic;
        let before = channel.rights.readable;
        channel.rights.is_judged = false;
        let next_token = channel.rights.next_token.take();
        match &mut channel.phase {
            Phase::Joining(joining) => {
                let wants_past = channel.replay.is_some();
                let refusal = match (finding, past) {
                    (Err(denial), _) => denial.of_join(&topic),
                    (Ok(readable), _)
                        if readable.is_nothing() || wants_past && !readable.broadcast =>
                    {
                        Denial::Failed.of_join(&topic)
                    }
                    (Ok(_), Some(Err(_))) => NO_PAST.to_owned(),
                    (Ok(readable), past) => {
                        channel.rights.readable = readable;
                        if let Some(Ok(past)) = past {
                            channel.rights.past_asked_at = Some(past.asked_at);
                            joining.past = past.messages;
                        }
                        return self.permitted(now, place, member_id, effects);
                    }
                };
                self.refuse_joining(place, refusal, effects);
            }
            Phase::Joined(joined) => {
                let close_frame = match finding {
                    // It asked to be present meanwhile: ask for that, too.
                    Ok(readable) if readable.presence.is_none() && before.presence.is_some() => {
                        channel.rights.next_token = next_token;
                        let principal = joined.member.principal();
                        return self.authorise(place, principal, effects);
                    }
                    Err(denial) => denial.of_refresh(&topic),
                    Ok(readable) if readable.is_nothing() => unreadable(&topic),
                    Ok(readable) if readable.lacks_any_of(before) => no_longer_readable(&topic),
                    Ok(readable) => {
                        channel.rights.readable = readable;
                        let member = Arc::clone(&joined.member);
                        let (room, receives) = (channel.room(), channel.receives());
                        let principal = member.principal();
                        if readable != before {
                            effects.push(Effect::Enter { member, room, receives });
                            self.attend_if_wanted(place, effects);
                        }
                        return match next_token {
                            Some(token) => self.verify(place, token, effects),
                            None => self.bind_again(place, principal, effects),
                        };
                    }
                };
                self.shut_for(place, "Unauthorized", &close_frame, effects);
            }
        }
    }

    /// Holds something back and asks whether it may be said; the word for the metrics when too much waits already.
    pub(super) fn reserve(
        &mut self,
        place: usize,
        said: Said,
        bytes: usize,
        reference: &str,
        effects: &mut Vec<Effect>,
    ) -> Result<(), &'static str> {
        let most = self.max_payload;
        let held = self.reserve_unsaid(place, bytes).map_err(|full| full.code)?;
        let Some(channel) = self.channels.get_mut(place) else { return Ok(()) };
        let rights = &mut channel.rights;
        if !rights.may_hold(bytes, most) {
            return Err("MessageRateLimitReached");
        }
        rights.unsaid.push(Unsaid { said, reference: reference.into(), bytes, _held: held });
        if rights.asking.is_none() {
            self.ask_to_say(place, effects);
        }
        Ok(())
    }

    /// Forgets what a private channel might say, because it acts for somebody else now.
    pub(super) fn forget_rights(&mut self, place: usize, effects: &mut Vec<Effect>) {
        let Some(channel) = self.channels.get_mut(place) else { return };
        channel.rights.writable = None;
        effects.extend(channel.rights.asking.take().map(Effect::Cancel));
        if !channel.rights.unsaid.is_empty() {
            self.ask_to_say(place, effects);
        }
    }

    /// It is known what a channel may say; what waited for that is said, or not.
    fn on_may_say(
        &mut self,
        place: usize,
        writable: Result<Writable, Denial>,
        hears_presence: Option<bool>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(channel) = self.channels.get_mut(place) else { return };
        let rights = &mut channel.rights;
        rights.asking = None;
        // What could not be found out is asked again next time.
        rights.writable = writable.ok();
        rights.readable.presence = rights.readable.presence.or(hears_presence);
        let waits = |unsaid: &Unsaid| matches!(unsaid.said, Said::Presence(_));
        let lacks_answer = rights.writable.is_some() && rights.readable.presence.is_none();
        if lacks_answer && rights.unsaid.iter().any(waits) {
            return self.ask_to_say(place, effects);
        }
        for Unsaid { said, reference, .. } in std::mem::take(&mut rights.unsaid) {
            match said {
                Said::Broadcast(broadcast) => self.say(place, broadcast, &reference, effects),
                Said::Presence(asks) => self.present(place, asks, &reference, effects),
            }
        }
    }

    /// Passes on a broadcast that waited, if it may be, and answers it.
    fn say(&self, place: usize, broadcast: Broadcast, reference: &str, effects: &mut Vec<Effect>) {
        let Some(channel) = self.channels.get(place) else { return };
        let Phase::Joined(joined) = &channel.phase else { return };
        let is_permitted = channel.rights.may_broadcast() == Some(true);
        effects.push(if is_permitted {
            Effect::Broadcast { member: Arc::clone(&joined.member), broadcast }
        } else {
            Effect::Refused("Unauthorized")
        });
        if channel.wants_ack {
            let response = if is_permitted { "{}" } else { FORBIDDEN };
            let (vsn, refs) = (self.dialect.vsn, channel.refs(reference));
            effects.push(Effect::Send(vsn.reply(refs, &channel.topic, is_permitted, response)));
        }
    }

    fn ask_to_say(&mut self, place: usize, effects: &mut Vec<Effect>) {
        let Some(channel) = self.channels.get(place) else { return };
        let Phase::Joined(joined) = &channel.phase else { return };
        let (principal, topic) = (joined.member.principal(), channel.room().topic);
        let rights = &channel.rights;
        let is_presence = |unsaid: &Unsaid| matches!(unsaid.said, Said::Presence(_));
        let wants_presence =
            rights.readable.presence.is_none() && rights.unsaid.iter().any(is_presence);
        let work = self.start(Work::MaySay { principal, topic, wants_presence }, effects);
        if let Some(channel) = self.channels.get_mut(place) {
            channel.rights.asking = Some(work);
        }
    }

    /// Waits for the stream of the database's messages, for a channel that wants to know.
    pub(super) fn await_messages(&mut self, place: usize, effects: &mut Vec<Effect>) {
        let work = self.start(Work::AwaitMessages, effects);
        if let Some(channel) = self.channels.get_mut(place) {
            channel.awaiting = Some(work);
        }
    }

    /// The database's messages are streamed, or were not in time.
    pub(super) fn on_messages(&mut self, place: usize, is_ok: bool, effects: &mut Vec<Effect>) {
        let Some(channel) = self.channels.get_mut(place) else { return };
        channel.awaiting = None;
        let text = if is_ok {
            "Replication connection established"
        } else {
            "Replication connection was not established in time"
        };
        let notice = Notice::of_channel(is_ok, text.to_owned());
        let frame = self.dialect.notice(&channel.topic, &channel.join_ref, &notice);
        if is_ok {
            effects.push(Effect::Send(frame));
        } else {
            self.shut(place, frame, effects);
        }
    }

    /// Takes the end of work that is not a step of a channel's join; true when it was such work.
    pub(super) fn on_aside(
        &mut self,
        work: u64,
        finding: &Finding,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let aside = |channel: &Channel| {
            [channel.rights.asking, channel.catching_up, channel.awaiting].contains(&Some(work))
        };
        let Some(place) = self.channels.iter().position(aside) else { return false };
        match finding {
            Finding::MaySay { writable, hears_presence } => {
                self.on_may_say(place, *writable, *hears_presence, effects);
            }
            Finding::CaughtUp(past) => {
                let past = past.as_deref().unwrap_or_default();
                self.on_caught_up(place, past, effects);
            }
            Finding::Streams(is_ok) => self.on_messages(place, *is_ok, effects),
            _ => {}
        }
        true
    }
}

/// What a member hears of the past, oldest first; it will not hear it again.
pub(super) fn replay(vsn: Vsn, member: &Member, past: Vec<Kept>, effects: &mut Vec<Effect>) {
    for kept in &past {
        effects.extend(replayed(vsn, member, kept).map(Effect::Send));
    }
    member.remember(past.into_iter().map(|kept| kept.id));
}

fn replayed(vsn: Vsn, member: &Member, kept: &Kept) -> Option<Frame> {
    let meta = format!(r#"{{"id":"{}","replayed":true}}"#, kept.id);
    match &kept.payload {
        Ok(json) => {
            let message = message(&kept.event, &meta, json);
            Some(vsn.encode((&member.join_ref, NULL), &member.topic, "broadcast", &message))
        }
        Err(bytes) if vsn == Vsn::V2 => {
            binary::write(&member.topic, &kept.event, &meta, false, bytes)
        }
        Err(_) => None,
    }
}
