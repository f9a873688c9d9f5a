//! Whatever members do, a client that applies state and diffs as the SDKs do sees what is tracked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Payload, Presence, Tracked};

const GRACE: Duration = Duration::from_secs(3);
const GATHER: Duration = Duration::from_millis(50);

fn payload(value: &Value) -> Payload {
    Payload::parse(&value.to_string()).unwrap()
}

/// A presence, its clock and its references.
struct Room {
    presence: Presence,
    now: Instant,
    references: u32,
}

impl Room {
    fn new(grace: Duration) -> Self {
        let now = Instant::now();
        Self { presence: Presence::new(now, grace, GATHER), now, references: 0 }
    }

    fn track(&mut self, member: u64, key: &str, value: &Value) -> Tracked {
        self.references += 1;
        let reference = format!("r{}", self.references).into();
        self.presence.track(member, &Arc::from(key), payload(value), reference)
    }

    fn lose(&mut self, member: u64, key: &str) {
        self.presence.lose(self.now, member, key);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.presence.expire(self.now);
    }

    /// What is told now.
    fn told(&mut self) -> Option<Value> {
        let diff = self.presence.take_diff(self.now)?;
        Some(serde_json::from_str(&diff.to_json()).unwrap())
    }

    /// What is told once diffs have gathered.
    fn told_later(&mut self) -> Option<Value> {
        self.wait(GATHER);
        self.told()
    }

    fn state(&mut self) -> Value {
        serde_json::from_str(&self.presence.state()).unwrap()
    }
}

#[test]
fn tracking_is_told_and_stays_in_the_state() {
    let mut room = Room::new(GRACE);
    assert_eq!(room.state(), json!({}));
    assert_eq!(room.track(1, "ann", &json!({ "at": 1 })), Tracked::News);
    let metas = json!({ "ann": { "metas": [{ "at": 1, "phx_ref": "r1" }] } });
    assert_eq!(room.told(), Some(json!({ "joins": metas, "leaves": {} })));
    assert_eq!(room.state(), metas);
    assert_eq!(room.told_later(), None);
}

#[test]
fn payloads_are_the_same_when_every_reader_takes_them_for_the_same() {
    let is_same = |one: &str, other: &str| Payload::parse(one) == Payload::parse(other);
    for (one, other) in [
        (r#"{"a":1,"b":[1,{"c":null}]}"#, r#"{ "b" : [ 1, { "c":null } ] ,"a":1}"#),
        (r#"{"a":"\u00e9"}"#, r#"{"\u0061":"é"}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
    ] {
        assert!(is_same(one, other), "{one} {other}");
    }
    for (one, other) in [
        (r#"{"a":123456789012345678901}"#, r#"{"a":123456789012345678902}"#),
        (r#"{"a":[0.1]}"#, r#"{"a":[0.10000000000000000001]}"#),
        (r#"{"a":1}"#, r#"{"a":"1"}"#),
        (r#"{"a":1}"#, r#"{"b":1}"#),
        (r#"{"a":[]}"#, r#"{"a":{}}"#),
        (r#"{"a":[1]}"#, r#"{"a":[1,2]}"#),
        (r#"{"a":null}"#, "{}"),
    ] {
        assert!(!is_same(one, other), "{one} {other}");
    }
}

#[test]
fn another_payload_is_a_join_and_a_leave_and_the_same_one_is_nothing() {
    let mut room = Room::new(GRACE);
    room.track(1, "ann", &json!({ "at": 1, "on": true }));
    room.told();
    let same = Payload::parse(r#" { "on" : true, "at" : 1 } "#).unwrap();
    assert_eq!(room.presence.track(1, &Arc::from("ann"), same, "unused".into()), Tracked::Same);
    assert_eq!(room.told_later(), None);
    assert_eq!(room.track(1, "ann", &json!({})), Tracked::News);
    assert_eq!(
        room.told_later(),
        Some(json!({
            "joins": { "ann": { "metas": [{ "phx_ref": "r2", "phx_ref_prev": "r1" }] } },
            "leaves": { "ann": { "metas": [{ "at": 1, "on": true, "phx_ref": "r1" }] } },
        }))
    );
}

#[test]
fn one_key_has_a_meta_for_each_member() {
    let mut room = Room::new(GRACE);
    room.track(1, "ann", &json!({ "tab": 1 }));
    room.track(2, "ann", &json!({ "tab": 2 }));
    room.told();
    assert_eq!(room.state()["ann"]["metas"].as_array().unwrap().len(), 2);
    assert!(room.presence.untrack(1, "ann") && !room.presence.untrack(1, "ann"));
    let left = room.told_later().unwrap();
    assert_eq!(left["leaves"]["ann"]["metas"][0]["tab"], 1);
    assert_eq!(
        (room.state()["ann"]["metas"][0]["tab"].take(), room.presence.tracked()),
        (json!(2), 1)
    );
}

#[test]
fn diffs_gather_and_who_came_and_went_is_not_mentioned() {
    let mut room = Room::new(GRACE);
    room.track(1, "ann", &json!({}));
    assert!(room.told().is_some());
    room.track(2, "ben", &json!({ "at": 1 }));
    room.track(2, "ben", &json!({ "at": 2 }));
    room.track(3, "cleo", &json!({}));
    room.presence.untrack(3, "cleo");
    assert_eq!(room.told(), None);
    assert_eq!(room.presence.deadline(), Some(room.now + GATHER));
    let metas = json!({ "ben": { "metas": [{ "at": 2, "phx_ref": "r3" }] } });
    assert_eq!(room.told_later(), Some(json!({ "joins": metas, "leaves": {} })));
}

#[test]
fn a_change_back_and_forth_before_it_is_told_refers_to_what_clients_know() {
    let mut room = Room::new(GRACE);
    room.track(1, "ann", &json!({ "at": 1 }));
    room.told();
    room.track(1, "ann", &json!({ "at": 2 }));
    room.track(1, "ann", &json!({ "at": 3 }));
    let told = room.told_later().unwrap();
    let metas = json!([{ "at": 3, "phx_ref": "r3", "phx_ref_prev": "r1" }]);
    assert_eq!(told["joins"]["ann"]["metas"], metas);
    assert_eq!(told["leaves"]["ann"]["metas"], json!([{ "at": 1, "phx_ref": "r1" }]));
}

#[test]
fn a_lost_member_leaves_when_its_grace_ends() {
    let mut room = Room::new(GRACE);
    room.track(1, "ann", &json!({}));
    room.told();
    room.lose(1, "ann");
    room.wait(GRACE - GATHER);
    assert_eq!(room.told(), None);
    assert_eq!(room.told_later().unwrap()["leaves"]["ann"]["metas"][0]["phx_ref"], "r1");
    assert!(room.presence.is_empty() && room.presence.deadline().is_none());
}

#[test]
fn who_comes_back_within_the_grace_never_left() {
    let mut room = Room::new(GRACE);
    room.track(1, "ann", &json!({ "at": 1 }));
    room.told();
    room.lose(1, "ann");
    let Tracked::Resumed(own) = room.track(2, "ann", &json!({ "at": 1 })) else {
        panic!("it came back");
    };
    assert_eq!(own.joins[0].1.reference, "r1".into());
    room.wait(GRACE * 2);
    assert_eq!((room.told(), room.presence.tracked()), (None, 1));

    // What nobody was told yet is told to everybody instead.
    room.track(7, "ben", &json!({}));
    room.lose(7, "ben");
    assert_eq!(room.track(8, "ben", &json!({})), Tracked::News);
    assert!(room.presence.untrack(8, "ben"));
    assert_eq!(room.told_later(), None);

    room.lose(2, "ann");
    assert_eq!(room.track(3, "ann", &json!({ "at": 2 })), Tracked::News);
    let told = room.told_later().unwrap();
    assert_eq!(told["joins"]["ann"]["metas"][0]["phx_ref_prev"], "r1");
    room.wait(GRACE * 2);
    assert_eq!((room.told(), room.presence.tracked()), (None, 1));
}

#[test]
fn without_a_grace_a_lost_member_leaves_at_once() {
    let mut room = Room::new(Duration::ZERO);
    room.track(1, "ann", &json!({}));
    room.told();
    room.lose(1, "ann");
    assert!(room.told_later().unwrap()["leaves"]["ann"].is_object());
}

#[test]
fn a_payload_is_an_object_and_cannot_forge_its_references() {
    for no_object in ["1", "[]", "null", "\"{}\"", "{", "", r#"{"a":1}{"b":2}"#] {
        assert!(Payload::parse(no_object).is_none(), "{no_object}");
    }
    let mut room = Room::new(GRACE);
    let forged = json!({ "phx_ref": "forged", "\"k\"": "{\"" });
    room.track(1, "a \"quoted\" {key[", &forged);
    let metas = json!([{ "\"k\"": "{\"", "phx_ref": "r1" }]);
    room.told();
    assert_eq!(room.state()["a \"quoted\" {key["]["metas"], metas);
}

/// What the SDKs do: metas are known by their reference.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen(BTreeMap<String, BTreeMap<String, Value>>);

impl Seen {
    fn of(state: &Value) -> Self {
        let mut seen = Self::default();
        seen.join(state);
        seen
    }

    fn apply(&mut self, diff: &Value) {
        self.join(&diff["joins"]);
        for (key, reference, _) in metas(&diff["leaves"]) {
            let Some(known) = self.0.get_mut(&key) else { continue };
            known.remove(&reference);
            if known.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    fn join(&mut self, joins: &Value) {
        for (key, reference, meta) in metas(joins) {
            self.0.entry(key).or_default().insert(reference, meta);
        }
    }

    /// Which payloads each key shows.
    fn payloads(&self) -> BTreeMap<&str, BTreeSet<i64>> {
        let of = |metas: &BTreeMap<String, Value>| {
            metas.values().map(|meta| meta["at"].as_i64().unwrap()).collect()
        };
        self.0.iter().map(|(key, metas)| (key.as_str(), of(metas))).collect()
    }
}

fn metas(side: &Value) -> impl Iterator<Item = (String, String, Value)> + '_ {
    side.as_object().unwrap().iter().flat_map(|(key, entry)| {
        entry["metas"]
            .as_array()
            .unwrap()
            .iter()
            .map(|meta| (key.clone(), meta["phx_ref"].as_str().unwrap().to_owned(), meta.clone()))
    })
}

#[derive(Clone, Debug)]
enum Act {
    Track(u64, i64),
    Untrack(u64),
    Lose(u64),
    Wait(u64),
    Enter,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..5_u64, 0..3_i64).prop_map(|(member, at)| Act::Track(member, at)),
        1 => (0..5_u64).prop_map(Act::Untrack),
        2 => (0..5_u64).prop_map(Act::Lose),
        3 => (1..1500_u64).prop_map(Act::Wait),
        1 => Just(Act::Enter),
    ]
}

proptest! {
    #[test]
    fn a_client_that_applies_state_and_diffs_sees_what_is_tracked(
        acts in prop::collection::vec(act(), 1..80),
    ) {
        let mut room = Room::new(GRACE);
        // Five people with three keys between them; a lost one comes back as another member.
        let mut members = [0_u64, 1, 2, 3, 4];
        let mut next = 5;
        // What is tracked, by an independent account: member, key, payload, and when it was lost.
        let mut tracked: BTreeMap<u64, (String, i64, Option<Instant>)> = BTreeMap::new();
        let mut clients = vec![Seen::of(&room.state())];
        for act in acts {
            match act {
                Act::Track(person, at) => {
                    let member = members[person as usize];
                    let key = format!("k{}", person % 3);
                    room.track(member, &key, &json!({ "at": at }));
                    let ghosts = tracked.iter().filter(|(_, (held, ..))| *held == key);
                    let ghosts = ghosts.filter_map(|(ghost, (_, of, lost))| Some((*of != at, (*lost)?, *ghost)));
                    if let Some((.., ghost)) = ghosts.min().filter(|_| !tracked.contains_key(&member)) {
                        tracked.remove(&ghost);
                    }
                    tracked.insert(member, (key, at, None));
                }
                Act::Untrack(person) => {
                    let member = members[person as usize];
                    room.presence.untrack(member, &format!("k{}", person % 3));
                    tracked.remove(&member);
                }
                Act::Lose(person) => {
                    // Which of two that were lost at the same moment is replaced is nobody's business.
                    room.wait(Duration::from_millis(1));
                    tracked.retain(|_, (_, _, lost)| lost.is_none_or(|at| room.now < at + GRACE));
                    let member = std::mem::replace(&mut members[person as usize], next);
                    next += 1;
                    room.lose(member, &format!("k{}", person % 3));
                    if let Some((_, _, lost)) = tracked.get_mut(&member) {
                        *lost = Some(room.now);
                    }
                }
                Act::Wait(ms) => {
                    room.wait(Duration::from_millis(ms));
                    tracked.retain(|_, (_, _, lost)| lost.is_none_or(|at| room.now < at + GRACE));
                }
                Act::Enter => {
                    let state = room.state();
                    clients.push(Seen::of(&state));
                }
            }
            if let Some(diff) = room.told() {
                clients.iter_mut().for_each(|client| client.apply(&diff));
            }
            let state = Seen::of(&room.state());
            for client in &clients {
                prop_assert_eq!(client, &state);
            }
            prop_assert_eq!(room.presence.tracked(), tracked.len());
        }
        if let Some(diff) = room.told_later() {
            clients.iter_mut().for_each(|client| client.apply(&diff));
        }
        tracked.retain(|_, (_, _, lost)| lost.is_none_or(|at| room.now < at + GRACE));
        let mut present: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
        for (key, at, lost) in tracked.values() {
            if lost.is_none() {
                present.entry(key).or_default().insert(*at);
            }
        }
        let seen = clients[0].payloads();
        for (key, payloads) in present {
            prop_assert!(payloads.is_subset(&seen[key]), "{:?} in {:?}", payloads, seen);
        }
        // Every ghost is gone in the end, and the clients know it.
        room.wait(GRACE);
        if let Some(diff) = room.told_later() {
            clients.iter_mut().for_each(|client| client.apply(&diff));
        }
        let alive = tracked.values().filter(|(_, _, lost)| lost.is_none());
        let mut expected: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
        for (key, at, _) in alive {
            expected.entry(key).or_default().insert(*at);
        }
        prop_assert_eq!(clients[0].payloads(), expected);
    }
}
