//! How channels get on: work that ends, deadlines that pass.

use std::sync::Arc;
use std::time::Duration;

use super::channel::{Joined, Phase, check_at, close};
use super::effect::{Done, Effect, Finding, Now, Work};
use super::private::replay;
use super::refusal::Refusal;
use super::session::Session;
use crate::auth::token::{TokenRefusal, Verified};
use crate::catalog::bind::Unbound;
use crate::egress::subject::{Subject, TOO_MANY_SOCKETS, Use};
use crate::hub::{Member, Namespace, Notice};
use crate::model::{Principal, Subscription};

/// The answer to a join that Postgres keeps waiting.
const NO_DATABASE: &str =
    "UnableToConnectToProject: Realtime was unable to connect to the project database";

/// The shortest wait before wishes are looked up again, and what randomness adds.
const RETRY_MS: (u64, u64) = (5_000, 5_000);

/// Close code: going away.
const GOING_AWAY: u16 = 1001;

impl Session {
    /// Looks at every channel whose deadline has passed.
    pub(super) fn on_tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut place = 0;
        while let Some(channel) = self.channels.get_mut(place) {
            if channel.deadline() > now.at {
                place += 1;
                continue;
            }
            let Phase::Joined(joined) = &mut channel.phase else {
                self.refuse_joining(place, NO_DATABASE, effects);
                continue;
            };
            if now.unix >= joined.expires_at {
                let seconds_ago = now.unix - joined.expires_at;
                self.disbelieve(place, &TokenRefusal::Expired { seconds_ago }, effects);
                continue;
            }
            joined.check_at =
                check_at(now, joined.expires_at).max(now.at + Duration::from_millis(1));
            if joined.retry_at.is_some_and(|retry| retry <= now.at) {
                joined.retry_at = None;
                // A newer token on its way ends in the same lookup, or in the channel's end.
                if channel.work.is_none() {
                    let principal = joined.member.principal();
                    self.bind(place, principal, effects);
                }
            }
            place += 1;
        }
    }

    /// Takes the end of some work to the channel that waits for it, if one still does.
    pub(super) fn on_done(&mut self, now: Now, done: Done, effects: &mut Vec<Effect>) {
        if self.on_aside(done.work, &done.finding, effects) {
            return;
        }
        let waits = |work: Option<u64>| work == Some(done.work);
        let Some(place) = self.channels.iter().position(|channel| waits(channel.work)) else {
            return;
        };
        let Some(channel) = self.channels.get_mut(place) else { return };
        channel.work = None;
        let is_joining = matches!(channel.phase, Phase::Joining(_));
        match done.finding {
            Finding::TooManyJoins => {
                let code = "ClientJoinRateLimitReached";
                self.refuse_joining(place, Refusal::too_many_joins(code), effects);
                effects.push(Effect::Close(GOING_AWAY, "too many joins per second"));
            }
            Finding::Verified(Ok((verified, subject))) if is_joining => {
                match self.sit(now, place, subject.as_ref()) {
                    Ok(()) => self.admitted(now, place, verified, done.member_id, effects),
                    Err(refusal) => self.refuse_joining(place, refusal, effects),
                }
            }
            Finding::Verified(Ok((verified, subject))) => {
                match self.sit(now, place, subject.as_ref()) {
                    Ok(()) => self.renewed(now, place, verified, effects),
                    Err(refusal) => {
                        let text = refusal.reason.split(": ").last().unwrap_or_default();
                        self.shut_for(place, refusal.code, text, effects);
                    }
                }
            }
            Finding::Verified(Err(refusal)) if is_joining => {
                self.refuse_joining(place, refusal.on_join(), effects);
            }
            Finding::Verified(Err(refusal)) => self.disbelieve(place, &refusal, effects),
            Finding::Bound(bound) if is_joining => {
                self.joined_with(now, place, Some(bound), done.member_id, effects);
            }
            Finding::Bound(bound) => self.bound(now, place, bound, effects),
            Finding::Authorised { readable, past } => {
                self.authorised(now, place, readable, past, done.member_id, effects);
            }
            // Asides; see above.
            Finding::MaySay { .. } | Finding::CaughtUp(_) | Finding::Streams(_) => {}
        }
    }

    /// Gives the subject that a channel acts for from now on a place on this socket, and lets it pay.
    fn sit(
        &mut self,
        now: Now,
        place: usize,
        subject: Option<&Arc<Subject>>,
    ) -> Result<(), Refusal> {
        let seat = subject.map(|subject| {
            let seat = self.seat(subject);
            let seat = seat.ok_or_else(|| Refusal::too_many_sockets(TOO_MANY_SOCKETS))?;
            // Who opened the socket has paid already.
            let is_owner = self.owner().is_some_and(|owner| std::ptr::eq(owner, &**subject));
            if !is_owner && !subject.take(Use::Join, 1, now.at) {
                return Err(Refusal::too_many_joins("SubjectJoinRateLimitReached"));
            }
            Ok(seat)
        });
        if let Some(channel) = self.channels.get_mut(place) {
            channel.seat = seat.transpose()?;
        }
        Ok(())
    }

    /// The token of a join was believed.
    fn admitted(
        &mut self,
        now: Now,
        place: usize,
        verified: Verified,
        member_id: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(channel) = self.channels.get_mut(place) else { return };
        let Phase::Joining(joining) = &mut channel.phase else { return };
        let principal = Arc::clone(&verified.principal);
        joining.verified = Some(verified);
        if let Err(refusal) = self.hold_channel(place, &principal) {
            return self.refuse_joining(place, refusal, effects);
        }
        let Some(channel) = self.channels.get(place) else { return };
        if channel.namespace == Namespace::Private {
            self.authorise(place, principal, effects);
        } else {
            self.permitted(now, place, member_id, effects);
        }
    }

    /// Whoever joins may.
    pub(super) fn permitted(
        &mut self,
        now: Now,
        place: usize,
        member_id: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(channel) = self.channels.get(place) else { return };
        let Phase::Joining(joining) = &channel.phase else { return };
        let Some(verified) = &joining.verified else { return };
        if channel.wishes.is_empty() {
            self.joined_with(now, place, None, member_id, effects);
        } else {
            let principal = Arc::clone(&verified.principal);
            self.bind(place, principal, effects);
        }
    }

    /// Answers a join with ok and, in the same turn, subscribes what was granted.
    fn joined_with(
        &mut self,
        now: Now,
        place: usize,
        bound: Option<Result<Vec<Subscription>, Unbound>>,
        member_id: u64,
        effects: &mut Vec<Effect>,
    ) {
        let (dialect, outbox, network) = (self.dialect, Arc::clone(&self.outbox), self.network);
        let Some(channel) = self.channels.get_mut(place) else { return };
        let Phase::Joining(joining) = &mut channel.phase else { return };
        let Some(verified) = joining.verified.take() else { return };
        let refs = (&*channel.join_ref, &*joining.reference);
        let response = format!(r#"{{"postgres_changes":{}}}"#, joining.echo);
        effects.push(Effect::Send(dialect.vsn.reply(refs, &channel.topic, true, &response)));
        for join_ref in &joining.replaced {
            effects.push(Effect::Send(close(dialect.vsn, join_ref, &channel.topic)));
        }
        let newer_token = joining.newer_token.take();
        let past = std::mem::take(&mut joining.past);
        let member = Member::new(
            member_id,
            Arc::clone(&channel.topic),
            channel.join_ref.clone(),
            dialect,
            outbox,
            verified.principal,
        );
        let member = Arc::new(member.coming_from(network));
        // After the reply: nothing on this channel may come before it.
        let wants_past = channel.replay.is_some();
        if wants_past {
            channel.first_told = past.first().map(|kept| kept.id.clone());
            replay(dialect.vsn, &member, past, effects);
        }
        let (room, receives) = (channel.room(), channel.receives());
        effects.push(Effect::Enter { member: Arc::clone(&member), room, receives });
        let (is_legacy, wants_messages) = (channel.is_legacy, channel.wants_messages);
        let expires_at = verified.expires_at;
        channel.phase = Phase::Joined(Joined {
            member: Arc::clone(&member),
            expires_at,
            check_at: check_at(now, expires_at),
            retry_at: None,
        });
        if is_legacy {
            let text = "Joining without a `config` is not supported: update the client library, or send {\"config\":{\"postgres_changes\":[…]}}";
            effects.push(postgres_notice(&member, false, text.to_owned()));
        }
        if let Some(bound) = bound {
            self.bound(now, place, bound, effects);
        }
        self.attend_if_wanted(place, effects);
        if wants_past {
            self.catch_up(place, effects);
        }
        if wants_messages {
            self.await_messages(place, effects);
        }
        if let Some(token) = newer_token {
            self.on_token(now, place, token, effects);
        }
    }

    /// The wishes of a joined channel were looked up.
    fn bound(
        &mut self,
        now: Now,
        place: usize,
        bound: Result<Vec<Subscription>, Unbound>,
        effects: &mut Vec<Effect>,
    ) {
        let jitter = std::hash::BuildHasher::hash_one(&self.hasher, now.at) % RETRY_MS.1;
        let Some(channel) = self.channels.get_mut(place) else { return };
        let Phase::Joined(joined) = &mut channel.phase else { return };
        let member = Arc::clone(&joined.member);
        let ((subscriptions, since, firsts), notice) = match bound {
            Ok(granted) => {
                let granted = granted.into_iter().map(Arc::new);
                let subscriptions = channel.ids.iter().copied().zip(granted).collect();
                let text = "Subscribed to PostgreSQL".to_owned();
                let since = std::mem::take(&mut channel.since);
                let firsts = std::mem::take(&mut channel.firsts);
                ((subscriptions, since, firsts), postgres_notice(&member, true, text))
            }
            Err(Unbound::Refused(text)) => {
                ((Vec::new(), Vec::new(), Vec::new()), postgres_notice(&member, false, text))
            }
            Err(Unbound::Unavailable(text)) => {
                joined.retry_at = Some(now.at + Duration::from_millis(RETRY_MS.0 + jitter));
                return effects.push(postgres_notice(&member, false, text));
            }
        };
        let principal = member.principal();
        effects.push(Effect::Subscribe { member, principal, subscriptions, since, firsts });
        effects.push(notice);
    }

    /// A newer token was believed: it counts from now on, and the wishes are looked up on its behalf.
    fn renewed(&mut self, now: Now, place: usize, verified: Verified, effects: &mut Vec<Effect>) {
        let Some(channel) = self.channels.get_mut(place) else { return };
        let Phase::Joined(joined) = &mut channel.phase else { return };
        joined.use_token(now, verified.expires_at);
        joined.member.set_principal(Arc::clone(&verified.principal));
        joined.retry_at = None;
        if channel.namespace == Namespace::Private {
            self.forget_rights(place, effects);
            self.authorise(place, verified.principal, effects);
        } else {
            self.bind_again(place, verified.principal, effects);
        }
    }

    /// Looks the wishes up once more, if there are any.
    pub(super) fn bind_again(
        &mut self,
        place: usize,
        principal: Arc<Principal>,
        effects: &mut Vec<Effect>,
    ) {
        if self.channels.get(place).is_some_and(|channel| !channel.wishes.is_empty()) {
            self.bind(place, principal, effects);
        }
    }

    /// Closes a channel whose token is not believed any more.
    fn disbelieve(&mut self, place: usize, refusal: &TokenRefusal, effects: &mut Vec<Effect>) {
        self.shut_for(place, refusal.code(), &refusal.on_channel(), effects);
    }

    fn bind(&mut self, place: usize, principal: Arc<Principal>, effects: &mut Vec<Effect>) {
        let Some(channel) = self.channels.get(place) else { return };
        let wishes = Arc::clone(&channel.wishes);
        let work = self.start(Work::Bind { principal, wishes }, effects);
        if let Some(channel) = self.channels.get_mut(place) {
            channel.work = Some(work);
        }
    }
}

/// A `system` message about row changes.
fn postgres_notice(member: &Member, is_ok: bool, message: String) -> Effect {
    let notice = Notice::of_changes(is_ok, message);
    Effect::Send(member.dialect.notice(&member.topic, &member.join_ref, &notice))
}
