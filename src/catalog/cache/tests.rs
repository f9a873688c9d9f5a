//! What is remembered, by a clock that the tests move.

use std::collections::HashMap;

use super::*;
use crate::model::sqltype::{Composite, Kind};
use crate::model::table::TableColumn;
use crate::model::{ReplicaIdentity, SqlType};

fn table(oid: u32, name: &str, has_row_security: bool) -> Option<Table> {
    Some(Table {
        is_partitioned: false,
        oid,
        schema: "public".into(),
        name: name.into(),
        is_published: true,
        has_row_security,
        identity: ReplicaIdentity::Default,
        columns: Box::default(),
        ancestors: Box::default(),
        access: HashMap::new(),
    })
}

/// A clock that goes on by milliseconds.
fn clock() -> impl Fn(u64, u64) -> Span {
    let start = Instant::now();
    let at = move |millis| start + Duration::from_millis(millis);
    move |began, ended| Span { began: at(began), ended: at(ended) }
}

#[test]
fn of_two_answers_at_the_same_time_neither_is_believed_unless_they_are_the_same() {
    let (mut cache, span) = (Cache::default(), clock());
    cache.put(1, 0, table(1, "a", false), span(0, 10));
    cache.put(1, 0, table(1, "a", false), span(5, 15));
    assert_ne!(cache.by_oid(1, 0, span(20, 20).began), Known::Unknown);
    let answered = cache.put(1, 7, table(1, "a", true), span(8, 12));
    assert!(answered.is_some_and(|table| table.has_row_security), "it is an answer");
    assert_eq!(cache.by_oid(1, 7, span(20, 20).began), Known::Unknown, "but is it the newer?");
    cache.put(1, 0, table(1, "a", true), span(13, 14));
    assert_eq!(cache.by_oid(1, 7, span(20, 20).began), Known::Unknown, "nor is it confirmed");
    cache.put(1, 7, table(1, "a", true), span(16, 17));
    assert_ne!(cache.by_oid(1, 7, span(20, 20).began), Known::Unknown);
}

#[test]
fn a_name_that_means_another_table_takes_the_first_one_s_answer_away() {
    let (mut cache, span) = (Cache::default(), clock());
    let name = ("public".into(), "a".into());
    cache.found(&name, table(1, "a", false), span(0, 1));
    cache.found(&name, table(2, "a", true), span(2, 3));
    let now = span(4, 4).began;
    assert_eq!(cache.by_oid(1, 0, now), Known::Unknown);
    let Known::Fresh(Some(found)) = cache.by_name("public", "a", now) else { panic!("unknown") };
    assert_eq!(found.oid, 2);
    cache.found(&name, None, span(5, 6));
    assert_eq!(cache.by_name("public", "a", span(7, 7).began), Known::Fresh(None));
    assert_eq!(cache.by_oid(2, 0, span(7, 7).began), Known::Unknown);
}

/// A table with a column of the composite type 9001, made of these attributes.
fn of_composite(oid: u32, names: &[&str]) -> Table {
    let text = SqlType { oid: 25, name: "text".into(), kind: Kind::Text };
    let attributes = names.iter().map(|&name| (name.into(), text.clone())).collect();
    let kind = Kind::Composite(Composite { attributes, earlier: Arc::default() });
    let column = TableColumn {
        cast: "text".into(),
        name: "spot".into(),
        sql_type: SqlType { oid: 9001, name: "spot".into(), kind },
        is_primary_key: false,
        generated: None,
    };
    Table { columns: [column].into(), ..table(oid, "a", false).unwrap() }
}

#[test]
fn composite_types_are_right_for_the_transactions_that_a_look_has_seen() {
    let (mut cache, span) = (Cache::default(), clock());
    let now = span(10, 10).began;
    let table = cache.put(1, 0, Some(of_composite(1, &["x"])), span(0, 1)).unwrap();
    cache.put(2, 0, Some(of_composite(2, &["x"])), span(0, 1));
    cache.set_right_for(1, 50);
    assert_eq!(cache.of_row(1, 0, 50, now), Known::Fresh(Some(Arc::clone(&table))));
    assert_eq!(cache.of_row(1, 0, 51, now), Known::Composed(Arc::clone(&table)));
    // Nothing changed: the pointer is the same, and all that the snapshot sees is settled.
    let seen = |text: &str| text.parse::<Snapshot>().ok();
    let same = cache.retype(&table, of_composite(1, &["x"]), seen("60:60:"));
    assert!(Arc::ptr_eq(&same, &table));
    assert_eq!(cache.of_row(1, 0, 59, now), Known::Fresh(Some(Arc::clone(&table))));
    assert_eq!(cache.of_row(1, 0, 60, now), Known::Composed(Arc::clone(&table)));
    // It changed: the other table is made of it as well.
    let other = cache.retype(&table, of_composite(1, &["y"]), seen("61:61:"));
    assert_eq!(cache.of_row(1, 0, 60, now), Known::Fresh(Some(Arc::clone(&other))));
    assert_eq!(cache.by_oid(2, 0, now), Known::Unknown);
    let Kind::Composite(spot) = &other.columns[0].sql_type.kind else { panic!("no composite") };
    assert_eq!(spot.earlier.len(), 1);
}

#[test]
fn a_commit_that_nobody_sees_is_waited_for_once_and_not_for_long() {
    let (mut cache, span) = (Cache::default(), clock());
    let at = |millis| span(millis, millis).began;
    let table = cache.put(1, 0, Some(of_composite(1, &["x"])), span(0, 1)).unwrap();
    assert!(cache.wait(1, at(10)) && cache.wait(1, at(200)));
    assert!(!cache.wait(1, at(260)) && !cache.wait(1, at(300)));
    cache.retype(&table, of_composite(1, &["x"]), "60:60:".parse().ok());
    assert!(cache.wait(1, at(400)));
}

#[test]
fn what_nobody_uses_is_not_kept_by_being_renewed() {
    let (mut cache, span) = (Cache::default(), clock());
    cache.put(1, 0, table(1, "a", false), span(0, 1));
    for seconds in 1..=60 {
        cache.renew(1, table(1, "a", false), span(seconds * 1000, seconds * 1000 + 1));
    }
    assert_eq!(cache.in_use(span(59_000, 0).began), [1]);
    assert!(cache.in_use(span(61_000, 0).began).is_empty());
}

#[test]
fn a_fingerprint_confirms_what_was_found_out_after_it_was_read_and_nothing_else() {
    let (mut cache, span) = (Cache::default(), clock());
    let at = |millis| span(millis, millis).began;
    let is_known = |cache: &mut Cache, millis| cache.by_oid(1, 0, at(millis)) != Known::Unknown;
    cache.put(1, 0, table(1, "a", false), span(0, 1));
    assert!(
        !cache.confirm(1, Fingerprint(7), span(1000, 1001)),
        "nothing is known of its fingerprint"
    );
    cache.renew(1, table(1, "a", false), span(1002, 1003));
    cache.fingerprint(1, Fingerprint(7));
    assert!(cache.confirm(1, Fingerprint(7), span(3000, 3001)) && is_known(&mut cache, 5000));
    assert!(!cache.confirm(1, Fingerprint(8), span(4000, 4001)), "something changed");
    // Somebody else found out that it is another.
    cache.put(1, 0, table(1, "a", true), span(5000, 5001));
    assert!(!cache.confirm(1, Fingerprint(7), span(5002, 5003)));
    cache.renew(1, table(1, "a", true), span(5004, 5005));
    cache.fingerprint(1, Fingerprint(8));
    cache.doubt(1);
    assert!(!cache.confirm(1, Fingerprint(8), span(6000, 6001)), "it is doubted");
    assert!(!is_known(&mut cache, 6002));
    // What was asked before an answer came may be older than that.
    cache.renew(1, table(1, "a", true), span(7000, 7005));
    assert!(!cache.confirm(1, Fingerprint(8), span(7004, 7006)));
}
