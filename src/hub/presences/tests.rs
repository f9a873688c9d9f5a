//! Whoever attends, tracks and leaves at once: everybody ends up seeing the same, and nothing is left behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Attendee, Presences};
use crate::hub::presence::Payload;
use crate::hub::{
    Broadcast, Dialect, Frame, Member, Namespace, Notice, Outbox, Receives, RoomName, Rooms,
};
use crate::metrics::Metrics;
use crate::model::Principal;
use crate::shutdown::Stage;

const LISTENS: Receives = Receives { broadcast: true, own: false, presence: false };

/// Writes states and diffs as they are.
#[derive(Debug)]
struct Plain;

impl Dialect for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }
    fn change(&self, _topic: &str, _ids: &[u64], data: &str) -> Frame {
        Frame::Text(data.into())
    }
    fn notice(&self, _topic: &str, _join_ref: &str, notice: &Notice) -> Frame {
        Frame::Text(notice.message.as_str().into())
    }
    fn presence_state(&self, _topic: &str, _join_ref: &str, state: &str) -> Frame {
        Frame::Text(format!(r#"{{"state":{state}}}"#).into())
    }
    fn presence_diff(&self, _topic: &str, diff: &str) -> Frame {
        Frame::Text(diff.into())
    }
    fn broadcast(&self, _topic: &str, _broadcast: &Broadcast) -> Option<Frame> {
        None
    }
}

fn presences(grace: Duration) -> Presences {
    let metrics = Metrics::new();
    Presences::new(Arc::new(Rooms::new(metrics.clone())), grace, 7, metrics)
}

fn attendee(id: u64, key: &str) -> Attendee {
    let outbox = Arc::new(Outbox::new(64 << 20, Arc::new(crate::hub::Backlog::new(1 << 30))));
    let principal = Arc::new(Principal::new("anon", "{}"));
    let member = Member::new(id, "x:t".into(), "null".into(), &Plain, outbox, principal);
    let room = RoomName { namespace: Namespace::Public, topic: "t".into() };
    Attendee { member: Arc::new(member), room, key: key.into(), is_named: true }
}

/// What a client makes of everything it is given, by reference, from what it had `seen` before.
fn see(attendee: &Attendee, seen: &mut BTreeMap<String, Value>) {
    let mut frames = Vec::new();
    let metas = |side: &Value| -> Vec<(String, Value)> {
        let entries = side.as_object().into_iter().flatten();
        let metas = entries.flat_map(|(_, entry)| entry["metas"].as_array().unwrap().clone());
        metas.map(|meta| (meta["phx_ref"].as_str().unwrap().to_owned(), meta)).collect()
    };
    while attendee.member.outbox.take(&mut frames).is_some() {
        for frame in frames.drain(..) {
            let Frame::Text(text) = frame else { panic!("a binary frame") };
            let told: Value = serde_json::from_str(&text).unwrap();
            seen.extend(metas(&told["state"]));
            seen.extend(metas(&told["joins"]));
            for (reference, _) in metas(&told["leaves"]) {
                assert!(seen.remove(&reference).is_some(), "{reference} left and was not there");
            }
        }
    }
}

#[test]
fn those_who_attend_while_others_come_and_go_see_the_same_in_the_end() {
    let presences = presences(Duration::from_secs(3600));
    let watchers = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let presences = &presences;
                scope.spawn(move || {
                    let mut watchers = Vec::new();
                    for round in 0..200 {
                        let one = attendee(thread * 1000 + round, &format!("k{}", round % 7));
                        presences.attend(Instant::now(), &one, LISTENS);
                        let payload = Payload::parse(&json!({ "n": round % 3 }).to_string());
                        presences.track(Instant::now(), &one, payload.unwrap(), true);
                        match round % 10 {
                            0 => watchers.push(one),
                            1..5 => presences.lose(Instant::now(), &one),
                            _ => presences.untrack(Instant::now(), &one),
                        }
                    }
                    watchers
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let after = Instant::now() + Duration::from_secs(60);
    let last = attendee(9999, "last");
    presences.attend(after, &last, LISTENS);
    let mut truth = BTreeMap::new();
    see(&last, &mut truth);
    assert_eq!(i64::try_from(truth.len()), Ok(presences.metrics.presences.get()));
    for watcher in &watchers {
        let mut seen = BTreeMap::new();
        see(watcher, &mut seen);
        assert_eq!(seen, truth);
    }
    // Those who were lost go, then those who watched: nothing is left behind.
    let after = after + Duration::from_secs(7200);
    for watcher in &watchers {
        presences.untrack(after, watcher);
    }
    let end = after + Duration::from_secs(60);
    while let Some((alarm, room)) = presences.due(end) {
        presences.look(end, alarm, &room);
    }
    see(&last, &mut truth);
    assert_eq!((truth.len(), presences.metrics.presences.get()), (0, 0));
    assert!(presences.kept().is_empty() && presences.alarms().is_empty());
}

#[test]
fn references_are_unique_opaque_and_of_this_life() {
    let (one, other) = (presences(Duration::ZERO), {
        let metrics = Metrics::new();
        Presences::new(Arc::new(Rooms::new(metrics.clone())), Duration::ZERO, u64::MAX, metrics)
    });
    let references = [one.reference(), one.reference(), other.reference()];
    assert!(references.iter().all(|reference| reference.len() == 16));
    assert!(references[0] != references[1] && references[0] != references[2]);
}

#[tokio::test]
async fn what_gathered_and_who_is_lost_is_told_without_anybody_asking() {
    let presences = Arc::new(presences(Duration::from_millis(100)));
    let stage = Stage::new();
    let (told, stopping) = (Arc::clone(&presences), stage.clone());
    stage.spawn(async move { told.run(stopping).await });
    let (one, two) = (attendee(1, "one"), attendee(2, "two"));
    presences.attend(Instant::now(), &one, LISTENS);
    for attendee in [&one, &two] {
        presences.track(Instant::now(), attendee, Payload::default(), true);
    }
    let told = async |side: &str| {
        let mut frames = Vec::new();
        let is_two = |frame: &Frame| {
            let Frame::Text(text) = frame else { return false };
            serde_json::from_str::<Value>(text).unwrap()[side]["two"].is_object()
        };
        while !frames.iter().any(is_two) {
            one.member.outbox.drain(&mut frames).await.unwrap();
        }
    };
    // Whoever is lost before it was told of is not told of at all.
    told("joins").await;
    presences.lose(Instant::now(), &two);
    told("leaves").await;
    assert!(stage.stop(Duration::from_secs(5)).await);
}
