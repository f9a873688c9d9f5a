//! Lanes whose Postgres never answers.

use bytes::Bytes;

use super::*;
use crate::changelog::NO_EPOCH;
use crate::fanout::samples::{Plain, fanout};
use crate::fanout::sighting::Layout;
use crate::fanout::sighting::tests::{relation, table};
use crate::hub::{Backlog, Outbox};
use crate::model::table::{Names, Policy, Reads, Rows};
use crate::model::{
    Cell, Event, Lsn, OldRow, Position, ReplicaIdentity, Row, Subscription, Target,
};
use crate::router::CallerKey;

fn lanes() -> Lanes {
    Lanes::new(fanout(), Way::Live)
}

fn ask() -> (Ask, Arc<Outbox>) {
    ask_of(1)
}

fn ask_of(id: u64) -> (Ask, Arc<Outbox>) {
    let outbox = Arc::new(Outbox::new(1 << 20, Arc::new(Backlog::new(1 << 30))));
    let principal = Arc::new(Principal::new("anon", "{}"));
    let queue = Arc::clone(&outbox);
    let member = Arc::new(Member::new(id, "t".into(), "null".into(), &Plain, queue, principal));
    let wish =
        Subscription { target: Target::All, event: None, filter: Arc::from([]), select: None };
    (Ask { member, id: 1, wish: Arc::new(wish), undecided: SmallVec::new(), apart: None }, outbox)
}

/// An insertion that must be judged.
fn insertion(body: Bytes) -> Arc<Sighting> {
    let (reads, names) = (Reads::default(), Names::Own);
    let policy = Policy { expression: "auth.uid() is not null".into(), reads, names };
    let table = table(Rows::Policy(Arc::new(policy)), ReplicaIdentity::Default);
    let cells = [Cell::Text(Bytes::from_static(b"1")), Cell::Text(body)];
    Arc::new(Sighting {
        id: Position { epoch: NO_EPOCH, commit_lsn: Lsn::new(1), index: 0 },
        first: None,
        xid: 1,
        committed_at: Default::default(),
        event: Event::Insert,
        new: Some(Row { cells: cells.into() }),
        old: OldRow::Absent,
        layout: Arc::new(Layout::new(&relation(ReplicaIdentity::Default), table)),
        rendered: Default::default(),
    })
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_stands_still_lets_its_changes_go_and_says_so() {
    let (mut lanes, (ask, outbox)) = (lanes(), ask());
    let body = Bytes::from(vec![b'x'; HELD_LIMIT / 8]);
    for _ in 0..8 {
        lanes.take(insertion(body.clone()), vec![ask.clone()]);
        lanes.make_room().await;
    }
    assert!(lanes.held.total() <= HELD_LIMIT / 4, "{}", lanes.held.total());
    assert!(outbox.take(&mut Vec::new()).is_none(), "the notice waits for what came before it");
    let lane = lanes.lanes.values().next().unwrap();
    let Some(Piece::Notice(notice, members)) = lane.queue.front().map(|queued| &queued.piece)
    else {
        panic!("nobody is told")
    };
    assert!(notice.message.starts_with("Changes are missing"), "{}", notice.message);
    assert_eq!(members.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_wrote_takes_a_part_of_the_memory_and_no_time() {
    let (mut lanes, (mut ask, outbox), (other, _)) = (lanes(), ask(), ask_of(2));
    let principal = Arc::new(Principal::new("anon", r#"{"sub":"other"}"#));
    other.member.set_principal(principal);
    lanes.take(insertion(Bytes::from_static(b"x")), vec![other]);
    ask.apart = Some(LaneScope::Caller(CallerKey(1)));
    let body = Bytes::from(vec![b'x'; APART_LIMIT / 8]);
    for _ in 0..20 {
        lanes.take(insertion(body.clone()), vec![ask.clone()]);
        lanes.pump();
        assert!(lanes.apart_bytes <= APART_LIMIT, "{}", lanes.apart_bytes);
    }
    assert!(outbox.take(&mut Vec::new()).is_none(), "the notice waits for what came before it");
    let is_notice = |queued: &Queued| matches!(queued.piece, Piece::Notice(..));
    let own = lanes.lanes.iter().find(|(whose, _)| whose.is_apart()).unwrap().1;
    assert!(own.queue.iter().any(is_notice), "nobody is told");
    let others = lanes.lanes.iter().find(|(whose, _)| !whose.is_apart()).unwrap().1;
    assert!(others.judging.is_some() && others.queue.is_empty(), "nothing of it was let go");
}

#[tokio::test]
async fn members_that_wait_no_longer_are_forgotten() {
    let mut lanes = lanes();
    for id in 0..10 * REMEMBERED as u64 {
        let (mut ask, _) = ask();
        let principal = Arc::new(Principal::new("anon", format!("{id}")));
        let outbox = Arc::clone(&ask.member.outbox);
        ask.member = Arc::new(Member::new(
            id,
            "t".into(),
            "null".into(),
            &Plain,
            outbox,
            Arc::clone(&principal),
        ));
        lanes.take(insertion(Bytes::new()), vec![ask]);
        // As when its round has ended.
        lanes.lanes.remove(&LaneKey { principal, scope: LaneScope::Everyone });
    }
    assert!(lanes.last.len() <= REMEMBERED + 1, "{}", lanes.last.len());
}
