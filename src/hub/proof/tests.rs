use super::*;
use crate::model::Lsn;

const NOW: Epoch = Epoch::new(1);
const NEXT: Epoch = Epoch::new(2);

fn at(commit: u64, index: u32) -> Place {
    Place { commit_lsn: Lsn::new(commit), index }
}

fn before(commit: u64) -> Place {
    Place::before(Lsn::new(commit))
}

fn in_epoch(epoch: Epoch, place: Place) -> Option<Position> {
    let Place { commit_lsn, index } = place;
    Some(Position { epoch, commit_lsn, index })
}

fn now(place: Place) -> Option<Position> {
    in_epoch(NOW, place)
}

fn next(place: Place) -> Option<Position> {
    in_epoch(NEXT, place)
}

fn live(floor: Place) -> Proof {
    Proof::new(Some(NOW), Some(floor), false)
}

fn waiting(floor: Option<Place>) -> Proof {
    Proof::new(Some(NOW), floor, true)
}

fn ping(proof: &Proof) {
    proof.ask();
    proof.answered();
}

#[test]
fn a_member_that_was_given_nothing_is_as_far_as_everybody() {
    let proof = live(at(5, 0));
    assert_eq!(proof.position(now(at(9, 1))), now(at(9, 1)));
    assert_eq!(proof.position(now(at(3, 0))), now(at(5, 0)), "it never goes back");
    assert!(!proof.wants_ping());
    let proof = waiting(Some(at(5, 0)));
    assert_eq!(
        proof.position(now(at(9, 1))),
        now(at(5, 0)),
        "what waits at its gate was not given"
    );
    proof.arrive(false);
    assert_eq!(proof.position(now(at(9, 1))), now(at(9, 1)));
}

#[test]
fn what_was_delivered_is_unproven_until_a_later_ping_is_answered() {
    let proof = live(at(5, 0));
    proof.deliver_live(at(7, 3), || ());
    proof.deliver_live(at(8, 0), || ());
    assert!(proof.wants_ping());
    assert_eq!(proof.position(now(at(9, 0))), now(at(7, 2)), "just before the first");
    proof.ask();
    proof.deliver_live(at(10, 0), || ());
    assert_eq!(proof.position(now(at(11, 0))), now(at(7, 2)));
    proof.answered();
    assert_eq!(proof.position(now(at(11, 0))), now(before(10)));
    assert!(proof.wants_ping(), "of what came after the ping");
    ping(&proof);
    assert_eq!(proof.position(now(at(9, 0))), now(at(10, 0)));
    assert_eq!(proof.position(now(at(11, 0))), now(at(11, 0)));
}

#[test]
fn one_ping_is_under_way_at_a_time() {
    let proof = live(Place::default());
    proof.deliver_live(at(1, 0), || ());
    proof.ask();
    proof.deliver_live(at(2, 0), || ());
    proof.ask();
    proof.answered();
    assert_eq!(proof.position(now(at(3, 0))), now(before(2)));
}

#[test]
fn a_first_read_is_begun_anew_until_it_is_proven_whole() {
    let proof = waiting(None);
    proof.deliver(at(7, 0), || ());
    ping(&proof);
    assert_eq!(proof.position(now(at(9, 0))), None);
    proof.deliver(at(8, 0), || ());
    proof.ask();
    proof.finish(Some(NOW), at(8, 0), || ());
    proof.arrive(false);
    proof.answered();
    assert_eq!(proof.position(now(at(9, 0))), None, "that ping was before its end");
    proof.ask();
    proof.deliver_live(at(10, 0), || ());
    proof.answered();
    assert_eq!(proof.position(now(at(11, 0))), now(before(10)));
    let unread = waiting(None);
    unread.begin(at(5, 0));
    unread.arrive(false);
    assert_eq!(unread.position(now(at(9, 0))), now(at(9, 0)));
    let unread = waiting(None);
    unread.give_up(at(5, 0), || ());
    unread.arrive(false);
    assert_eq!(unread.position(now(at(9, 0))), None, "that it is not read may not be known");
    ping(&unread);
    assert_eq!(unread.position(now(at(9, 0))), now(at(9, 0)));
}

#[test]
fn whoever_may_not_know_of_a_hole_continues_before_it() {
    let proof = live(at(5, 0));
    proof.settle(Position { epoch: NOW, commit_lsn: Lsn::new(6), index: 0 });
    proof.tell(Telling::Hole, || ());
    assert!(proof.wants_ping());
    proof.deliver_live(at(9, 0), || ());
    assert_eq!(proof.position(now(at(20, 0))), now(at(6, 0)));
    proof.ask();
    proof.tell(Telling::Hole, || ());
    assert_eq!(proof.position(now(at(20, 0))), now(at(6, 0)));
    proof.answered();
    assert_eq!(proof.position(now(at(20, 0))), now(at(9, 0)), "the second is not proven");
    ping(&proof);
    assert_eq!(proof.position(now(at(20, 0))), now(at(20, 0)));
}

#[test]
fn what_the_gate_let_go_is_before_whoever_was_not_told() {
    let proof = waiting(Some(at(5, 0)));
    proof.deliver(at(6, 0), || ());
    ping(&proof);
    // Its gate opened, and something live was faster than the word that something had been let go.
    proof.deliver_live(at(12, 0), || ());
    ping(&proof);
    proof.arrive(true);
    assert_eq!(proof.position(now(at(20, 0))), now(at(6, 0)));
    proof.deliver_live(at(13, 0), || ());
    ping(&proof);
    assert_eq!(proof.position(now(at(20, 0))), now(at(6, 0)), "it was not told yet");
    proof.tell(Telling::Hole, || ());
    assert_eq!(proof.position(now(at(20, 0))), now(at(6, 0)), "it may not know");
    ping(&proof);
    assert_eq!(proof.position(now(at(20, 0))), now(at(20, 0)));
}

#[test]
fn another_history_is_entered_once_its_beginning_is_proven_to_be_told() {
    for lower in [3, 300] {
        let proof = live(at(5, 0));
        proof.deliver_live(at(100, 0), || ());
        ping(&proof);
        let settled = next(at(lower + 1, 0));
        assert_eq!(proof.position(settled), now(at(100, 0)), "it was not told yet");
        proof.tell(Telling::History(None), || ());
        assert_eq!(proof.position(settled), now(at(100, 0)), "it may not know");
        proof.ask();
        proof.deliver_live(at(lower, 7), || ());
        assert_eq!(proof.position(settled), now(at(100, 0)));
        proof.answered();
        assert_eq!(proof.position(settled), next(at(lower, 6)), "what came after it is unproven");
        ping(&proof);
        assert_eq!(proof.position(settled), settled);
        // And it goes on as before.
        proof.deliver_live(at(lower + 5, 0), || ());
        assert_eq!(proof.position(next(at(lower + 9, 0))), next(before(lower + 5)));
        ping(&proof);
        assert_eq!(proof.position(next(at(lower + 9, 0))), next(at(lower + 9, 0)));
    }
}

#[test]
fn a_history_is_not_entered_while_the_end_of_another_is_unproven() {
    let proof = live(at(5, 0));
    proof.tell(Telling::History(None), || ());
    proof.ask();
    proof.tell(Telling::History(None), || ());
    proof.tell(Telling::Hole, || ());
    proof.answered();
    let settled = next(at(9, 0));
    assert_eq!(proof.position(settled).map(|position| position.epoch), Some(NOW));
    ping(&proof);
    assert_eq!(proof.position(settled), settled);
}

#[test]
fn a_history_that_is_known_when_it_is_told_is_entered_at_once() {
    let proof = waiting(Some(at(50, 0)));
    proof.tell(Telling::History(Some(NEXT)), || ());
    proof.arrive(false);
    proof.deliver_live(at(7, 0), || ());
    assert_eq!(proof.position(next(at(9, 0))), now(at(50, 0)));
    ping(&proof);
    assert_eq!(proof.position(next(at(9, 0))), next(at(9, 0)));
    // What is told of the history it is in already is a hole like any other.
    proof.tell(Telling::History(Some(NEXT)), || ());
    assert_eq!(proof.position(next(at(9, 0))), next(at(7, 0)));
}

#[test]
fn what_waited_at_the_gate_may_have_been_the_end_of_a_history() {
    let proof = waiting(Some(at(50, 0)));
    proof.wait_to_tell(Telling::History(None));
    proof.tell_waiting(|| ());
    proof.arrive(false);
    assert_eq!(proof.position(next(at(9, 0))), now(at(50, 0)));
    ping(&proof);
    assert_eq!(proof.position(next(at(9, 0))), next(at(9, 0)));
    // It was told by the pass already.
    let proof = waiting(Some(at(50, 0)));
    proof.tell(Telling::History(Some(NEXT)), || ());
    ping(&proof);
    proof.wait_to_tell(Telling::History(Some(NEXT)));
    proof.tell_waiting(|| ());
    proof.arrive(false);
    assert_eq!(proof.position(next(at(9, 0))).map(|position| position.epoch), Some(NEXT));
    ping(&proof);
    assert_eq!(proof.position(next(at(9, 0))), next(at(9, 0)));
    let proof = waiting(Some(at(50, 0)));
    proof.tell_waiting(|| ());
    proof.arrive(false);
    ping(&proof);
    assert_eq!(
        proof.position(next(at(9, 0))),
        now(at(50, 0)),
        "it was not told of another history"
    );
}

#[test]
fn who_came_before_any_history_is_in_the_first_one() {
    let proof = Proof::new(None, Some(Place::default()), false);
    assert_eq!(proof.position(None), None);
    proof.deliver_live(at(3, 0), || ());
    assert_eq!(proof.position(now(at(4, 0))), now(before(3)));
    ping(&proof);
    assert_eq!(proof.position(now(at(4, 0))), now(at(4, 0)));
    let told = Proof::new(None, Some(Place::default()), false);
    told.tell(Telling::History(None), || ());
    assert_eq!(told.position(now(at(4, 0))).map(|position| position.epoch), Some(NOWHERE));
}

#[test]
fn who_is_new_is_so_until_it_knows() {
    let proof = live(at(5, 0)).of_newcomer();
    proof.deliver_live(at(6, 0), || ());
    proof.ask();
    proof.tell(Telling::Newcomer, || ());
    proof.answered();
    assert!(proof.is_new(), "that ping was before the word");
    assert_eq!(proof.position(now(at(9, 0))), now(at(9, 0)), "and it has a place nevertheless");
    assert!(proof.wants_ping());
    ping(&proof);
    assert!(!proof.is_new());
    let reading = waiting(None).of_newcomer();
    reading.tell(Telling::Newcomer, || ());
    reading.finish(Some(NOW), at(8, 0), || ());
    ping(&reading);
    assert!(!reading.is_new());
}

#[test]
fn places_of_two_histories_never_mix() {
    let proof = live(at(5, 0));
    proof.tell(Telling::History(Some(NEXT)), || ());
    proof.deliver_live(at(3, 0), || ());
    ping(&proof);
    // What waits for others is still of the history before.
    let before = now(at(900, 0));
    before.into_iter().for_each(|settled| proof.settle(settled));
    assert_eq!(proof.position(before), next(at(3, 0)));
    assert_eq!(proof.position(next(at(4, 0))), next(at(4, 0)));
}
