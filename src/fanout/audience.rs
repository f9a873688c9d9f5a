//! For whom changes are matched: everyone who is here, or those who are shown the past together.

use std::collections::HashMap;
use std::sync::Arc;

use crate::changelog::Place;
use crate::fanout::sighting::Sighting;
use crate::hub::{Commit, Frame, Hub, Member, Membership, Notice};

/// Who is asked whether a change is for them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Audience<'a> {
    /// Everyone who is subscribed now.
    Live(&'a Hub),
    /// LateOnes.
    Late(&'a LateOnes),
}

/// Members on their way from the past to the present, and how far each wish of theirs has come before.
#[derive(Debug, Default)]
pub(super) struct LateOnes {
    /// Their wishes.
    pub(super) membership: Membership,
    /// By member and the wish's id in its eyes: the place after which it wants changes.
    pub(super) starts: HashMap<(u64, u64), Place>,
}

impl Audience<'_> {
    /// Uses the membership as it is at this moment.
    pub(super) fn with<T>(self, use_it: impl FnOnce(&Membership) -> T) -> T {
        match self {
            Self::Live(hub) => use_it(&hub.read()),
            Self::Late(late) => use_it(&late.membership),
        }
    }

    /// Whether a wish of a member wants the change at `place`.
    pub(super) fn wants(self, member: u64, id: u64, place: Place) -> bool {
        match self {
            Self::Live(_) => true,
            Self::Late(late) => late.starts.get(&(member, id)).is_some_and(|start| *start < place),
        }
    }
}

/// How members are given what is theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Through the gate of those who have one.
    Live,
    /// Past the gate.
    Late,
}

impl Way {
    /// Gives a member a change; whether it was queued. A closed outbox is noticed by whoever drains it.
    pub(super) fn give(self, member: &Member, sighting: &Sighting, frame: Frame) -> bool {
        let place = Place::from(sighting.id);
        match self {
            Self::Live => member.offer_live(Commit { place, xid: sighting.xid }, frame).is_ok(),
            Self::Late => member.offer_change(place, frame).is_ok(),
        }
    }

    /// Tells a member something. One that cannot be told is being closed, and learns by reconnecting.
    pub(super) fn tell(self, member: &Arc<Member>, notice: &Notice) {
        let _ = match self {
            Self::Live => member.notify_live(notice),
            Self::Late => member.notify(notice),
        };
    }
}
