//! Who is present: what a channel says of itself, and when it is told of others.
//!
//! A channel is told who is present when its join asked for it, or from the first time it tracks: the state once,
//! then every diff. On a private channel that takes the right to hear of presence, and tracking the right to say so;
//! see `private`. Whoever says more than it may loses the channel, and nobody else notices.

use std::borrow::Cow;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::channel::Phase;
use super::effect::{Effect, Now};
use super::frame::ClientMessage;
use super::payload::present;
use super::private::Said;
use super::session::Session;
use crate::config::Limits;
use crate::egress::subject::Use;
use crate::hub::Attendee;
use crate::hub::presence::Payload;

/// What a client is told that says too much of itself on all its channels together; none of them closes for that.
const TOO_MANY: &str = "Too many presence messages per second";

/// The response to each message more, as JSON.
const TOO_MANY_RESPONSE: &str = r#"{"reason":"Too many presence messages per second"}"#;

/// What a channel may say of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct PresenceLimits {
    calls: u32,
    window: Duration,
    payload: usize,
}

/// A channel's part in presence.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    /// It wants to be told from the start.
    pub(super) is_wanted: bool,
    /// As whom it tracks, when the client said.
    pub(super) key: Option<Arc<str>>,
    /// As whom it is present, once it was told or tracked.
    pub(super) attendee: Option<Arc<Attendee>>,
    /// It is told who comes and goes.
    pub(super) is_told: bool,
    /// Messages in the window that began then.
    calls: Option<(Instant, u32)>,
}

/// What a presence message asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asks {
    Nothing,
    Track(Payload),
    TrackNoMap,
    /// There is no memory for what is tracked.
    TooMuch,
    Untrack,
    Unknown,
}

/// The keys that are looked at.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    event: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
}

impl PresenceLimits {
    pub(super) const fn of(limits: &Limits) -> Self {
        let (calls, window) = (limits.presence_calls, limits.presence_window);
        Self { calls, window, payload: limits.presence_payload }
    }
}

impl Asks {
    /// Whether it changes what others are told.
    const fn needs_permission(&self) -> bool {
        matches!(self, Self::Track(_) | Self::Untrack)
    }
}

impl Attendance {
    /// A channel that is not told yet.
    pub(super) fn new(is_wanted: bool, key: Option<String>) -> Self {
        Self { is_wanted, key: key.map(Arc::from), ..Self::default() }
    }

    /// Counts one message; false when it is one too many.
    fn may_call(&mut self, now: Instant, limits: PresenceLimits) -> bool {
        let window = self.calls.filter(|(from, _)| now < *from + limits.window);
        let (from, calls) = window.unwrap_or((now, 0));
        self.calls = Some((from, calls.saturating_add(1)));
        calls < limits.calls
    }
}

impl Session {
    /// A channel is told who is present, if it wants and may be.
    pub(super) fn attend_if_wanted(&mut self, place: usize, effects: &mut Vec<Effect>) {
        let Some(channel) = self.channels.get(place) else { return };
        let Attendance { is_wanted, attendee, .. } = &channel.attendance;
        if (*is_wanted || attendee.is_some()) && channel.rights.may_hear_presence() {
            self.attend(place, effects);
        }
    }

    /// A client says something of itself.
    pub(super) fn on_presence(
        &mut self,
        now: Now,
        message: &ClientMessage<'_>,
        place: usize,
        effects: &mut Vec<Effect>,
    ) {
        let limits = self.presence;
        let Some(channel) = self.channels.get_mut(place) else { return };
        if matches!(channel.phase, Phase::Joining(_)) {
            return;
        }
        let fault = if !channel.attendance.may_call(now.at, limits) {
            Some(("ClientPresenceRateLimitReached", "Client presence rate limit exceeded"))
        } else if limits.payload < message.payload.len() {
            Some(("TrackMessageSizeExceeded", "Track message size exceeded"))
        } else {
            None
        };
        if let Some((code, text)) = fault {
            return self.shut_for(place, code, text, effects);
        }
        if let Err(code) = self.allowance.take(channel.subject(), Use::Presence, 1, now.at) {
            let (refs, response) = (channel.refs(&message.reference), TOO_MANY_RESPONSE);
            let frame = self.dialect.vsn.reply(refs, &channel.topic, false, response);
            effects.extend([Effect::Refused(code), Effect::Send(frame)]);
            return self.scold(now, place, TOO_MANY, effects);
        }
        let asks = read(message.payload);
        let (reference, bytes) = (&*message.reference, message.payload.len());
        if asks.needs_permission() && !channel.rights.knows_presence() {
            if self.reserve(place, Said::Presence(asks), bytes, reference, effects).is_err() {
                self.present(place, Asks::Unknown, reference, effects);
            }
        } else {
            self.present(place, asks, reference, effects);
        }
    }

    /// Does what a presence message asks for, and answers it.
    pub(super) fn present(
        &mut self,
        place: usize,
        mut asks: Asks,
        reference: &str,
        effects: &mut Vec<Effect>,
    ) {
        let Some(channel) = self.channels.get(place) else { return };
        if asks.needs_permission() && !channel.rights.may_say_presence() {
            effects.push(Effect::Refused("Unauthorized"));
            asks = Asks::Unknown;
        }
        if let Asks::Track(payload) = asks {
            asks = match self.hold_tracked(place, payload) {
                Ok(payload) => Asks::Track(payload),
                Err(full) => {
                    effects.push(Effect::Refused(full.code));
                    Asks::TooMuch
                }
            };
        }
        let (is_ok, response) = match &asks {
            Asks::TooMuch => (false, r#"{"reason":"Too much is tracked"}"#),
            Asks::TrackNoMap => (false, r#"{"reason":"Presence track payload must be a map"}"#),
            Asks::Unknown => (false, "{}"),
            Asks::Nothing | Asks::Track(_) | Asks::Untrack => (true, "{}"),
        };
        let refs = channel.refs(reference);
        effects.push(Effect::Send(self.dialect.vsn.reply(refs, &channel.topic, is_ok, response)));
        match asks {
            Asks::Track(payload) => {
                if let Some((attendee, is_told)) = self.attend(place, effects) {
                    effects.push(Effect::Track { attendee, payload, is_told });
                }
            }
            Asks::Untrack => {
                let attendee = channel.attendance.attendee.as_ref().map(Arc::clone);
                effects.extend(attendee.map(Effect::Untrack));
            }
            Asks::Nothing | Asks::TrackNoMap | Asks::TooMuch | Asks::Unknown => {}
        }
    }

    /// From now on a joined channel is somebody who may be present, and told who is, if it was not before and may be.
    fn attend(&mut self, place: usize, effects: &mut Vec<Effect>) -> Option<(Arc<Attendee>, bool)> {
        let hasher = &self.hasher;
        let channel = self.channels.get_mut(place)?;
        let Phase::Joined(joined) = &channel.phase else { return None };
        let room = channel.room();
        let Attendance { key, attendee, is_told, .. } = &mut channel.attendance;
        let attendee = attendee.get_or_insert_with(|| {
            let member = Arc::clone(&joined.member);
            let (key, is_named) = match key.take() {
                Some(key) => (key, true),
                None => (unique_key(hasher.hash_one(member.id), member.id), false),
            };
            Arc::new(Attendee { member, room, key, is_named })
        });
        let attendee = Arc::clone(attendee);
        if !*is_told && channel.rights.may_hear_presence() {
            *is_told = true;
            let receives = channel.receives();
            effects.push(Effect::Attend { attendee: Arc::clone(&attendee), receives });
        }
        Some((attendee, channel.attendance.is_told))
    }
}

/// What a presence message asks for.
fn read(payload: &str) -> Asks {
    if !payload.trim_start().starts_with('{') {
        return Asks::Unknown;
    }
    let Ok(message) = serde_json::from_str::<Message<'_>>(payload) else { return Asks::Unknown };
    let Some(event) = message.event else { return Asks::Nothing };
    let event = serde_json::from_str::<Cow<'_, str>>(event.get()).unwrap_or_default();
    if event.eq_ignore_ascii_case("untrack") {
        Asks::Untrack
    } else if event.eq_ignore_ascii_case("track") {
        match message.payload.map(|payload| Payload::parse(payload.get())) {
            None => Asks::Track(Payload::default()),
            Some(payload) => payload.map_or(Asks::TrackNoMap, Asks::Track),
        }
    } else {
        Asks::Unknown
    }
}

/// A key for a member that has none, in the form of a UUID: unlike any other of this relay, and not to be guessed
/// from one of another.
fn unique_key(random: u64, member: u64) -> Arc<str> {
    let [a, b, c] = [random >> 32, random >> 16 & 0xffff, random & 0xfff];
    let [d, e] = [member >> 48 & 0xfff, member & 0xffff_ffff_ffff];
    format!("{a:08x}-{b:04x}-8{c:03x}-8{d:03x}-{e:012x}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_message_asks_for() {
        let track = |json: &str| Asks::Track(Payload::parse(json).unwrap());
        for (message, asks) in [
            (r#"{"type":"presence","event":"track","payload":{"a":1}}"#, track(r#"{"a":1}"#)),
            (r#"{"event":"TRACK"}"#, track("{}")),
            (r#"{"event":"Track","payload":null}"#, Asks::TrackNoMap),
            (r#"{"event":"track","payload":[]}"#, Asks::TrackNoMap),
            (r#"{"event":"unTrack","payload":7}"#, Asks::Untrack),
            (r#"{"payload":{}}"#, Asks::Nothing),
            (r#"{"event":null}"#, Asks::Unknown),
            (r#"{"event":7}"#, Asks::Unknown),
            (r#"["track",{}]"#, Asks::Unknown),
            ("null", Asks::Unknown),
        ] {
            assert_eq!(read(message), asks, "{message}");
        }
    }

    #[test]
    fn made_keys_look_like_uuids_and_differ_by_member() {
        assert_eq!(&*unique_key(u64::MAX, 7), "ffffffff-ffff-8fff-8000-000000000007");
        assert_ne!(unique_key(1, u64::MAX), unique_key(1, u64::MAX - 1));
    }
}
