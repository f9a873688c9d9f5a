//! What a session makes the relay hold, and that it is refused when there is no memory for it.

use super::channel::{Channel, Phase};
use super::refusal::Refusal;
use super::session::Session;
use crate::egress::subject::Subject;
use crate::hub::presence::Payload;
use crate::memory::{Full, Kind, MemoryReservation};
use crate::model::{CallerIdentity, Principal};

/// Bytes of a channel that asks for nothing: its own, its member's, and its place in the room.
const CHANNEL: usize = 1024;

/// Bytes of a wish beside its text: as it was written, as it was bound, and where it is indexed.
const WISH: usize = 512;

/// Times that the text of wishes is kept: as it was written, as it is echoed, as it was bound, and as keys of the index.
const COPIES: usize = 4;

/// Bytes of a tracked payload beside its text and its key.
const TRACKED: usize = 512;

/// Times that a payload and its key are kept: for themselves, and in the state that newcomers are given.
const TRACKED_COPIES: usize = 2;

impl Channel {
    /// Bytes of what it asked for, as it keeps them.
    fn bytes(&self) -> usize {
        let Phase::Joining(joining) = &self.phase else { return CHANNEL };
        let names = self.topic.len() + self.join_ref.len();
        CHANNEL + 2 * names + WISH * self.wishes.len() + COPIES * joining.echo.len()
    }
}

impl Session {
    /// The caller that the socket was opened for.
    pub(super) fn owner(&self) -> Option<&Subject> {
        self.seat.as_ref().map(|seat| &**seat.subject())
    }

    /// Takes memory for a channel whose token was believed.
    pub(super) fn hold_channel(
        &mut self,
        place: usize,
        principal: &Principal,
    ) -> Result<(), Refusal> {
        let caller = CallerIdentity::of(principal, self.network);
        let Some(channel) = self.channels.get_mut(place) else { return Ok(()) };
        let bytes = channel.bytes();
        let held = self.memory.reserve(Kind::Subscriptions, &caller, bytes);
        channel.held = Some(held.map_err(Refusal::no_memory)?);
        Ok(())
    }

    /// Takes memory for what a joined channel tracks or says, on behalf of whom it acts for.
    fn reserve_for(
        &self,
        place: usize,
        kind: Kind,
        bytes: usize,
    ) -> Result<MemoryReservation, Full> {
        let joined = self.channels.get(place).and_then(|channel| match &channel.phase {
            Phase::Joined(joined) => Some(joined.member.caller()),
            Phase::Joining(_) => None,
        });
        let caller = joined.unwrap_or(CallerIdentity::Stranger(self.network));
        self.memory.reserve(kind, &caller, bytes)
    }

    /// The payload with the memory that it takes.
    pub(super) fn hold_tracked(&self, place: usize, payload: Payload) -> Result<Payload, Full> {
        let channel = self.channels.get(place);
        let key =
            channel.and_then(|channel| channel.attendance.key.as_ref()).map_or(0, |key| key.len());
        let bytes = TRACKED + TRACKED_COPIES * (payload.as_str().len() + key);
        Ok(payload.holding(self.reserve_for(place, Kind::Presences, bytes)?))
    }

    /// Takes memory for something that waits for the policies' answer.
    pub(super) fn reserve_unsaid(
        &self,
        place: usize,
        bytes: usize,
    ) -> Result<MemoryReservation, Full> {
        self.reserve_for(place, Kind::Unsaid, bytes)
    }
}
