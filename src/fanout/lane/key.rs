//! LaneKey lane a change waits in.
//!
//! Promises: what one client wrote holds up that client alone, and those who wrote the same. So a lane that is shared by
//! more never waits for one that is shared by fewer, and a member that waits in one of these goes on waiting there.
//!
//! What is asked of Postgres and is the same for all who have a role is asked once for them, on behalf of
//! [`Principal::of_role`].

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::auth::requester::Requester;
use crate::fanout::sighting::Sighting;
use crate::fanout::work::{Ask, group, is_decided_by_role};
use crate::hub::Member;
use crate::model::Principal;
use crate::router::CallerKey;

/// LaneKey a lane is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::fanout) struct LaneKey {
    /// For whom its rows are judged.
    pub(in crate::fanout) principal: Arc<Principal>,
    /// Which of those who act for it.
    pub(in crate::fanout) scope: LaneScope,
}

/// Which of those who act for a principal share a lane; those that more may share come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::fanout) enum LaneScope {
    /// Everyone who acts for it: what is asked was written by no client.
    Everyone,
    /// Those with the same wishes, by a digest of them, where several callers have them.
    SameFilters(u64),
    /// One caller.
    Caller(CallerKey),
    /// One member, which waits for what it was given before.
    Member(u64),
}

impl LaneScope {
    /// How few may share it.
    const fn rank(self) -> u8 {
        match self {
            Self::Everyone => 0,
            Self::SameFilters(_) => 1,
            Self::Caller(_) => 2,
            Self::Member(_) => 3,
        }
    }
}

impl LaneKey {
    /// Whether it is a lane of what clients wrote.
    pub(in crate::fanout) fn is_apart(&self) -> bool {
        self.scope != LaneScope::Everyone
    }

    /// LaneKey turn at Postgres is used for it; `member` is one that waits in it. Wishes are no caller: whoever writes many
    /// in two places would have as many turns.
    pub(in crate::fanout) fn requester(&self, member: Option<&Member>) -> Requester {
        let of_subject = Requester::of(&self.principal);
        match (self.scope, member) {
            _ if of_subject != Requester::Role => of_subject,
            (
                LaneScope::SameFilters(_) | LaneScope::Caller(_) | LaneScope::Member(_),
                Some(member),
            ) => Requester::Caller(member.caller()),
            (
                LaneScope::Everyone
                | LaneScope::SameFilters(_)
                | LaneScope::Caller(_)
                | LaneScope::Member(_),
                _,
            ) => Requester::Role,
        }
    }

    /// Whether it is the lane of all who have a role.
    pub(in crate::fanout) fn is_of_role(&self) -> bool {
        self.scope == LaneScope::Everyone
            && *self.principal == Principal::of_role(self.principal.role())
    }

    /// Where a member that acts for `own` waits, for which this would be the lane if it did not wait in `held`.
    fn behind(self, held: Option<&Self>, own: &Arc<Principal>, member: u64) -> Self {
        let Some(held) = held.filter(|held| **held != self) else { return self };
        let rank = |key: &Self| (key.scope.rank(), key.principal == *own);
        let is_wider = rank(held) < rank(&self);
        let is_narrower = rank(&self) < rank(held);
        if held.principal == *own && is_narrower {
            held.clone()
        } else if (held.principal == *own || held.is_of_role()) && is_wider {
            self
        } else {
            Self { principal: Arc::clone(own), scope: LaneScope::Member(member) }
        }
    }
}

/// Groups who asked by the lane they wait in. `waiting` says in which one a member waits already.
pub(super) fn by_lane<'a>(
    sighting: &Sighting,
    asks: Vec<Ask>,
    waiting: impl Fn(u64) -> Option<&'a LaneKey>,
) -> Vec<(LaneKey, Vec<Ask>)> {
    let mut role_principals: SmallVec<[Arc<Principal>; 2]> = SmallVec::new();
    let may_be_shared = sighting.table().has_row_security || sighting.layout.is_of_ancestor();
    let apart = apart(&asks);
    group(asks, |ask| {
        let (own, member) = (ask.member.principal(), ask.member.id);
        let scope = apart.get(&member).copied().unwrap_or(LaneScope::Everyone);
        let role = own.role();
        let is_of_role =
            scope == LaneScope::Everyone && may_be_shared && is_decided_by_role(sighting, role);
        let principal = match role_principals.iter().find(|known| known.role() == role) {
            _ if !is_of_role => Arc::clone(&own),
            Some(known) => Arc::clone(known),
            None => {
                let principal = Arc::new(Principal::of_role(role));
                role_principals.push(Arc::clone(&principal));
                principal
            }
        };
        LaneKey { principal, scope }.behind(waiting(member), &own, member)
    })
}

/// The members that ask for something which they wrote to be decided, each with the lane that the fewest share of those
/// that its asks would wait in.
fn apart(asks: &[Ask]) -> HashMap<u64, LaneScope> {
    let mut apart: HashMap<u64, LaneScope> = HashMap::new();
    for ask in asks {
        let Some(scope) = ask.apart else { continue };
        let known = apart.entry(ask.member.id).or_insert(scope);
        if known.rank() < scope.rank() {
            *known = scope;
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(claims: &str, scope: LaneScope) -> LaneKey {
        LaneKey { principal: Arc::new(Principal::new("anon", claims)), scope }
    }

    #[test]
    fn what_more_share_never_waits_for_what_fewer_share() {
        let own = Arc::new(Principal::new("anon", "{}"));
        let [all, crowd, caller, member] = [
            LaneScope::Everyone,
            LaneScope::SameFilters(1),
            LaneScope::Caller(CallerKey(1)),
            LaneScope::Member(7),
        ]
        .map(|of| key("{}", of));
        let role =
            LaneKey { principal: Arc::new(Principal::of_role("anon")), scope: LaneScope::Everyone };
        let elsewhere = key("other", LaneScope::Everyone);
        for (wanted, held, expected) in [
            (&all, None, &all),
            (&all, Some(&all), &all),
            // It goes on where it waits, and with it nobody who waits there not.
            (&all, Some(&crowd), &crowd),
            (&role, Some(&all), &all),
            (&role, Some(&caller), &caller),
            (&crowd, Some(&member), &member),
            // What fewer share may wait for what more share.
            (&all, Some(&role), &all),
            (&caller, Some(&all), &caller),
            (&caller, Some(&crowd), &caller),
            (&crowd, Some(&role), &crowd),
            // It waits for something of somebody else, or of others with other wishes: nobody waits with it.
            (&all, Some(&elsewhere), &member),
            (&role, Some(&elsewhere), &member),
            (&caller, Some(&elsewhere), &member),
            (&crowd, Some(&key("{}", LaneScope::SameFilters(2))), &member),
        ] {
            let found = wanted.clone().behind(held, &own, 7);
            assert_eq!(&found, expected, "{wanted:?} behind {held:?}");
        }
    }

    #[test]
    fn strangers_take_turns_by_where_they_come_from_and_everybody_else_by_subject() {
        assert_eq!(key("{}", LaneScope::Everyone).requester(None), Requester::Role);
        let ann =
            |further: &str, of| key(&format!(r#"{{"sub":"ann"{further}}}"#), of).requester(None);
        assert_eq!(ann("", LaneScope::Everyone), ann(r#","iat":1"#, LaneScope::SameFilters(3)));
        assert_ne!(ann("", LaneScope::Everyone), Requester::Role);
    }
}
