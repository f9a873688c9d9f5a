//! What clients say to each other: which broadcasts are passed on, and what their senders are told.
//!
//! The sender pays: what is too much, too large or no JSON is refused here, told to whoever asked for replies, and
//! counted. Nobody else notices.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::channel::{Channel, Phase};
use super::effect::{Effect, Now};
use super::frame::ClientMessage;
use super::json;
use super::private::{FORBIDDEN, Said};
use super::session::Session;
use crate::egress::subject::{Allowance, Use};
use crate::hub::{Broadcast, Dialect as _, Member, Notice};

/// Longer broadcasts count as several messages, one for each piece of this size that is begun.
const PIECE: usize = 64 * 1024;

/// A sender that was refused for so long no more is told again when it happens again.
const LULL: Duration = Duration::from_secs(5);

/// Why what was said was not passed on.
const TOO_MANY: &str = "Too many messages per second";

/// Why a broadcast is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    NotJoined,
    /// With the word for the metrics, which tells whose limit it was.
    TooMany(&'static str),
    TooLarge,
    NotAMessage,
    NotJson,
    Forbidden,
}

impl Refused {
    /// The word for the metrics.
    const fn code(self) -> &'static str {
        match self {
            Self::NotJoined => "NotJoined",
            Self::TooMany(code) => code,
            Self::TooLarge => "PayloadSizeExceeded",
            Self::NotAMessage | Self::NotJson => "MalformedBroadcast",
            Self::Forbidden => "Unauthorized",
        }
    }

    /// The response of the reply, as JSON.
    const fn response(self) -> &'static str {
        match self {
            Self::NotJoined => r#"{"reason":"The channel is not joined yet"}"#,
            Self::TooMany(_) => r#"{"reason":"Too many messages per second"}"#,
            // Supabase Realtime answers with this word alone.
            Self::TooLarge => r#""payload_size_exceeded""#,
            Self::NotAMessage => {
                r#"{"reason":"Broadcast payload must be a map, its event a string, and have no ids"}"#
            }
            Self::Forbidden => FORBIDDEN,
            Self::NotJson => r#"{"reason":"Broadcast payload must be valid JSON"}"#,
        }
    }
}

impl Session {
    /// A client says something to everyone in a channel it is in.
    pub(super) fn on_broadcast(
        &mut self,
        now: Now,
        message: &ClientMessage<'_>,
        place: usize,
        effects: &mut Vec<Effect>,
    ) {
        let Some(channel) = self.channels.get(place) else { return };
        let accepted = accept(&self.allowance, self.max_payload, now, message, channel);
        let accepted = match (accepted, channel.rights.may_broadcast()) {
            (Ok(_), Some(false)) => Err(Refused::Forbidden),
            (Ok((_, broadcast)), None) => {
                let (said, bytes) = (Said::Broadcast(broadcast), said_bytes(message).len());
                match self.reserve(place, said, bytes, &message.reference, effects) {
                    Ok(()) => return,
                    Err(code) => Err(Refused::TooMany(code)),
                }
            }
            (accepted, _) => accepted,
        };
        let Some(channel) = self.channels.get(place) else { return };
        let (is_ok, response) = match &accepted {
            Ok(_) => (true, "{}"),
            Err(refused) => (false, refused.response()),
        };
        let refs = channel.refs(&message.reference);
        let reply = || self.dialect.vsn.reply(refs, &channel.topic, is_ok, response);
        let reply = channel.wants_ack.then(reply);
        let refused = match accepted {
            Ok((member, broadcast)) => {
                self.said = self.said.wrapping_add(1);
                effects.push(Effect::Broadcast { member, broadcast });
                None
            }
            Err(refused) => {
                effects.push(Effect::Refused(refused.code()));
                Some(refused)
            }
        };
        effects.extend(reply.map(Effect::Send));
        if matches!(refused, Some(Refused::TooMany(_))) {
            self.scold(now, place, TOO_MANY, effects);
        }
    }

    /// Counts broadcasts that were passed on.
    pub(super) const fn said(&self) -> u64 {
        self.said
    }

    /// Counts a frame that says nothing to anybody; the word for the metrics when the socket must close for it. Where its
    /// subject sends too many, that is a socket that sends many itself.
    pub(super) fn count_frame(&self, now: Instant) -> Result<(), &'static str> {
        let is_loud = !self.quiet.take(1, now);
        match self.allowance.take(self.owner(), Use::Frame, 1, now) {
            Err(code) if is_loud => Err(code),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    /// Tells a channel that it did too much of something, unless it was told lately and goes on.
    pub(super) fn scold(
        &mut self,
        now: Now,
        place: usize,
        text: &'static str,
        effects: &mut Vec<Effect>,
    ) {
        let Some(channel) = self.channels.get(place) else { return };
        let before = self.scolded.replace((text, now.at));
        if before.is_none_or(|(told, at)| told != text || at + LULL <= now.at) {
            let notice = Notice::of_channel(false, text.to_owned());
            let frame = self.dialect.notice(&channel.topic, &channel.join_ref, &notice);
            effects.push(Effect::Send(frame));
        }
    }
}

/// A broadcast that may be passed on, with its address.
fn accept(
    allowance: &Allowance,
    max_payload: usize,
    now: Now,
    message: &ClientMessage<'_>,
    channel: &Channel,
) -> Result<(Arc<Member>, Broadcast), Refused> {
    let Phase::Joined(joined) = &channel.phase else { return Err(Refused::NotJoined) };
    let payload = said_bytes(message);
    let count = pieces(payload.len());
    allowance.take(channel.subject(), Use::Message, count, now.at).map_err(Refused::TooMany)?;
    if max_payload < payload.len() {
        return Err(Refused::TooLarge);
    }
    let broadcast = match &message.said {
        None if !json::is_message(message.payload) => return Err(Refused::NotAMessage),
        None => Broadcast::whole(message.payload),
        Some(said) if said.is_json => {
            let payload = json::read(said.payload).ok_or(Refused::NotJson)?;
            Broadcast::json(said.event, payload)
        }
        Some(said) => Broadcast::binary(said.event, said.payload.to_vec()),
    };
    Ok((Arc::clone(&joined.member), broadcast))
}

/// What counts of a broadcast.
fn said_bytes<'a>(message: &'a ClientMessage<'_>) -> &'a [u8] {
    message.said.as_ref().map_or(message.payload.as_bytes(), |said| said.payload)
}

/// As how many messages a payload counts.
pub(super) fn pieces(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PIECE).max(1)).unwrap_or(u32::MAX)
}
