//! The router by value: interning, targets, events, and what a row does not tell.

use super::*;
use crate::model::filter::{Collation, Condition, Operand, Predicate, Spelling, parse};
use crate::model::{Column, Kind, SqlType};

const ONE: CallerKey = CallerKey(1);
const INT4: u32 = 23;
const TEXT: u32 = 25;

fn sql_type(oid: u32) -> SqlType {
    let (name, kind) = match oid {
        INT4 => ("int4", Kind::Integer),
        _ => ("text", Kind::Text),
    };
    SqlType { oid, name: name.into(), kind }
}

fn condition(predicate: Predicate) -> Condition {
    let oid = if &*predicate.column == "id" { INT4 } else { TEXT };
    let (collation, spelling) = (Collation::Bytes, Spelling::default());
    Condition { predicate, sql_type: sql_type(oid), collation, spelling }
}

fn wish(event: Option<Event>, filter: &str) -> Arc<Subscription> {
    let mut conditions: Vec<_> =
        parse(filter).expect("a good filter").into_iter().map(condition).collect();
    for condition in &mut conditions {
        let Operand::Text(text) = &condition.predicate.operand else { continue };
        if let Some(list) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let elements = list.split(',').map(|element| Some(element.into()));
            condition.predicate.operand = Operand::List(elements.collect());
        }
    }
    let target = Target::Table { schema: "public".into(), table: "t".into() };
    Arc::new(Subscription { target, event, filter: conditions.into(), select: None })
}

fn relation(identity: ReplicaIdentity) -> Relation {
    let column =
        |name: &str, type_oid, is_key| Column { name: name.into(), type_oid, typmod: -1, is_key };
    let columns = Box::new([column("id", INT4, true), column("body", TEXT, false)]);
    let (schema, name) = ("public".into(), "t".into());
    Relation { oid: 1, generation: 1, schema, name, identity, columns }
}

fn row(id: &str, body: Cell) -> Row {
    Row { cells: Box::new([Cell::Text(id.to_owned().into()), body]) }
}

fn text(text: &'static str) -> Cell {
    Cell::Text(text.into())
}

#[track_caller]
fn check(router: &Router, event: Event, row: &Row, expected: &[BindingId]) {
    let mut found = Vec::new();
    let relation = relation(ReplicaIdentity::Default);
    router.candidates(
        ("public", "t"),
        event,
        &relation,
        row,
        &mut StepBudget::of_change(0),
        &mut found,
    );
    let mut bindings: Vec<_> = found.iter().map(|candidate| candidate.binding).collect();
    bindings.sort_unstable();
    assert_eq!(bindings, expected);
    assert!(found.iter().all(|candidate| candidate.undecided.is_empty()));
}

#[test]
fn equal_wishes_are_one_binding_until_the_last_is_removed() {
    let mut router = Router::default();
    let first = router.insert(&wish(None, "id=eq.1"), ONE);
    assert_eq!(router.insert(&wish(None, "id=eq.1"), ONE), first);
    assert_ne!(router.insert(&wish(Some(Event::Insert), "id=eq.1"), ONE), first);
    assert!(!router.remove(first));
    assert!(router.remove(first));
    assert!(!router.remove(first));
    assert!(router.subscription(first).is_none());
    assert!(router.wants("public", "t"));
}

#[test]
fn nothing_is_left_when_everybody_went() {
    let mut router = Router::default();
    let filters = ["", "id=eq.1", "id=eq.2", "id=in.(1,2)", "body=like.a%", "id=gt.1", "body=eq.x"];
    let bindings: Vec<_> =
        filters.iter().map(|filter| router.insert(&wish(None, filter), ONE)).collect();
    for (place, binding) in bindings.iter().enumerate() {
        assert!(router.wants("public", "t"));
        assert!(router.remove(*binding));
        check(&router, Event::Insert, &row("2", text("a")), &{
            let matching = [0, 2, 3, 4, 5];
            let left = matching.into_iter().filter(|index| place < *index);
            left.map(|index| bindings[index]).collect::<Vec<_>>()
        });
    }
    assert!(!router.wants("public", "t"));
    assert!(router.tables.is_empty() && router.ids.is_empty() && router.shared.is_empty());
}

#[test]
fn events_targets_and_conditions_select() {
    let mut router = Router::default();
    let mut add = |subscription: Subscription| router.insert(&Arc::new(subscription), ONE);
    let plain =
        |target| Subscription { target, event: None, filter: Vec::new().into(), select: None };
    let everything = add(plain(Target::All));
    let schema = add(plain(Target::Schema("public".into())));
    add(plain(Target::Schema("other".into())));
    let updates = add((*wish(Some(Event::Update), "id=eq.7,body=like.a%")).clone());
    let either = add((*wish(None, "id=in.(1,2)")).clone());
    check(&router, Event::Update, &row("7", text("abc")), &[everything, schema, updates]);
    check(&router, Event::Insert, &row("7", text("abc")), &[everything, schema]);
    check(&router, Event::Update, &row("7", text("x")), &[everything, schema]);
    check(&router, Event::Insert, &row("2", Cell::Null), &[everything, schema, either]);
}

#[test]
fn what_the_row_does_not_tell_passes_nothing() {
    let mut router = Router::default();
    for filter in ["body=eq.a", "body=like.a", "missing=eq.1"] {
        router.insert(&wish(None, filter), ONE);
    }
    let mut null = (*wish(None, "body=eq.a")).clone();
    let mut conditions = null.filter.to_vec();
    conditions[0].predicate.operator = crate::model::filter::Operator::Is;
    conditions[0].predicate.operand = Operand::Keyword(crate::model::filter::Keyword::Null);
    null.filter = conditions.into();
    let is_null = router.insert(&Arc::new(null), ONE);
    check(&router, Event::Update, &row("1", Cell::Unchanged), &[]);
    check(&router, Event::Update, &row("1", Cell::Null), &[is_null]);
    // A key-only old row says null for every other column, and means nothing by it.
    check(&router, Event::Delete, &row("1", Cell::Null), &[]);
}

#[test]
fn a_column_of_another_type_is_left_to_postgres() {
    let mut router = Router::default();
    let (keyed, scanned) =
        (router.insert(&wish(None, "id=eq.1"), ONE), router.insert(&wish(None, "id=gt.1"), ONE));
    let mut relation = relation(ReplicaIdentity::Full);
    relation.columns[0].type_oid = 20;
    let mut found = Vec::new();
    let row = row("5", Cell::Null);
    router.candidates(
        ("public", "t"),
        Event::Insert,
        &relation,
        &row,
        &mut StepBudget::of_change(0),
        &mut found,
    );
    found.sort_by_key(|candidate| candidate.binding);
    let undecided: SmallVec<[usize; 2]> = SmallVec::from_slice(&[0]);
    let expected =
        [keyed, scanned].map(|binding| Candidate { binding, undecided: undecided.clone() });
    assert_eq!(found, expected);
}

#[test]
fn a_pattern_too_costly_for_its_text_is_left_to_postgres() {
    let mut router = Router::default();
    let far = "_".repeat(8_000);
    let costly = [
        format!("body=like.%{far}Z"),
        format!("body=not.like.%{far}Z"),
        format!("body=ilike.%{far}z"),
        "body=match.^(a|b)*a(a|b){100}c".to_owned(),
        "body=not.imatch.^(a|b)*a(a|b){100}c".to_owned(),
    ];
    let bindings: Vec<_> =
        costly.iter().map(|filter| router.insert(&wish(None, filter), ONE)).collect();
    let long = row("1", Cell::Text("a".repeat(16_000).into()));
    let relation = relation(ReplicaIdentity::Default);
    let mut found = Vec::new();
    router.candidates(
        ("public", "t"),
        Event::Insert,
        &relation,
        &long,
        &mut StepBudget::of_change(0),
        &mut found,
    );
    let undecided: SmallVec<[usize; 2]> = SmallVec::from_slice(&[0]);
    let expected: Vec<_> = bindings
        .iter()
        .map(|&binding| Candidate { binding, undecided: undecided.clone() })
        .collect();
    assert_eq!(found, expected);
    // The same patterns are decided for an ordinary text.
    check(&router, Event::Insert, &row("1", text("aab")), &[bindings[1], bindings[4]]);
}

/// What is found for a row with a long body, as (binding, is it undecided).
fn found(router: &Router, row: &Row) -> Vec<(BindingId, bool)> {
    let (relation, mut found) = (relation(ReplicaIdentity::Default), Vec::new());
    let budget = &mut StepBudget::of_change(row.size());
    router.candidates(("public", "t"), Event::Insert, &relation, row, budget, &mut found);
    found.iter().map(|found| (found.binding, !found.undecided.is_empty())).collect()
}

#[test]
fn what_one_payer_s_conditions_cost_is_bounded_and_leaves_the_others_theirs() {
    let mut router = Router::default();
    let long = row("1", Cell::Text("a".repeat(8_000).into()));
    for number in 0..10_000 {
        router.insert(&wish(None, &format!("body=like.%b{number}%")), ONE);
    }
    let own = router.insert(&wish(None, "body=like.%a"), CallerKey(2));
    let first_of_both = router.insert(&wish(None, "body=like.a%"), CallerKey(2));
    router.insert(&wish(None, "body=like.a%"), ONE);
    let found = found(&router, &long);
    assert!(found.contains(&(own, false)) && found.contains(&(first_of_both, false)));
    let undecided = found.iter().filter(|(_, is_undecided)| *is_undecided).count();
    // None of the conditions holds. Some were evaluated, and by far the most were not.
    assert!((9_900..10_000).contains(&undecided), "{undecided}");
}

#[test]
fn equal_conditions_are_evaluated_once_whoever_has_them() {
    let mut router = Router::default();
    let long = row("1", Cell::Text("a".repeat(8_000).into()));
    for number in 0..10_000 {
        let filter = format!("id=neq.{},body=like.%b%", number + 2);
        router.insert(&wish(None, &filter), ONE);
    }
    let last = router.insert(&wish(None, "id=neq.7,body=not.like.%b%"), ONE);
    assert_eq!(found(&router, &long), [(last, false)]);
}

#[test]
fn conditions_that_cost_little_are_always_evaluated_and_come_first() {
    let mut router = Router::default();
    let long = row("1", Cell::Text("a".repeat(8_000).into()));
    for number in 0..1_000 {
        router.insert(&wish(None, &format!("body=like.%b{number}%,id=gt.1")), ONE);
    }
    let cheap = router.insert(&wish(None, "id=eq.1"), ONE);
    assert_eq!(found(&router, &long), [(cheap, false)]);
}

#[test]
fn a_pattern_is_kept_while_one_binding_keeps_it() {
    let mut router = Router::default();
    let first = router.insert(&wish(None, "body=match.^a"), ONE);
    let second = router.insert(&wish(Some(Event::Insert), "body=match.^a"), ONE);
    let bytes = router.pattern_bytes(first);
    assert!(bytes > 0);
    router.drop_patterns(second);
    router.drop_patterns(second);
    assert_eq!(router.pattern_bytes(second), bytes, "the first keeps it");
    router.remove(first);
    assert_eq!(router.pattern_bytes(second), 0, "nobody keeps it");
    let third = router.insert(&wish(None, "body=match.^a"), ONE);
    assert_eq!(router.pattern_bytes(third), bytes, "it is compiled again");
    router.remove(second);
    check(&router, Event::Insert, &row("1", text("ab")), &[third]);
    router.remove(third);
    assert!(router.shared.is_empty());
}
