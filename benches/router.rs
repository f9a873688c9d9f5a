//! One change against many bindings, each with its own filter.
#![allow(clippy::expect_used, missing_docs, reason = "a bench stops by panicking")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use relay::model::filter::{Collation, Condition, Operand, Operator, Predicate, Spelling};
use relay::model::{
    Cell, Column, Event, Kind, Relation, ReplicaIdentity, Row, SqlType, Subscription, Target,
};
use relay::router::{CallerKey, Router, StepBudget};

const INT4: u32 = 23;
const TEXT: u32 = 25;

/// `session_id <operator> <operand>`, as an integer.
fn comparison(operator: Operator, operand: usize) -> Arc<Subscription> {
    let sql_type = SqlType { oid: INT4, name: "int4".into(), kind: Kind::Integer };
    subscription("session_id", sql_type, operator, &operand.to_string())
}

/// `body like '%b<number>%'`.
fn pattern(number: usize) -> Arc<Subscription> {
    let sql_type = SqlType { oid: TEXT, name: "text".into(), kind: Kind::Text };
    subscription("body", sql_type, Operator::Like, &format!("%b{number}%"))
}

fn subscription(
    column: &str,
    sql_type: SqlType,
    operator: Operator,
    operand: &str,
) -> Arc<Subscription> {
    let condition = Condition {
        predicate: Predicate {
            column: column.into(),
            negated: false,
            operator,
            operand: Operand::Text(operand.into()),
        },
        sql_type,
        collation: Collation::Bytes,
        spelling: Spelling::default(),
    };
    Arc::new(Subscription {
        target: Target::Table { schema: "public".into(), table: "chat_messages".into() },
        event: Some(Event::Insert),
        filter: Arc::new([condition]),
        select: None,
    })
}

fn change() -> (Relation, Row) {
    let names = ["id", "sender", "body", "read_at", "session_id"];
    let columns = names.map(|name| Column {
        name: name.into(),
        type_oid: INT4,
        typmod: -1,
        is_key: name == "id",
    });
    let relation = Relation {
        oid: 1,
        generation: 1,
        schema: "public".into(),
        name: "chat_messages".into(),
        identity: ReplicaIdentity::Full,
        columns: Box::new(columns),
    };
    let cells = ["1", "2", "3", "4", "0"].map(|text| Cell::Text(text.into()));
    (relation, Row { cells: Box::new(cells) })
}

/// One caller's filters on a long text, none of which holds: what they cost everybody else's changes.
fn many_patterns(criterion: &mut Criterion) {
    let (mut relation, mut row) = change();
    let mut group = criterion.benchmark_group("one change against patterns of one caller");
    for bytes in [8_000, 60_000] {
        if let (Some(column), Some(cell)) = (relation.columns.get_mut(2), row.cells.get_mut(2)) {
            column.type_oid = TEXT;
            *cell = Cell::Text("a".repeat(bytes).into());
        }
        for count in [10, 10_000] {
            let mut router = Router::default();
            for number in 0..count {
                router.insert(&pattern(number), CallerKey(1));
            }
            let mut found = Vec::new();
            group.bench_function(BenchmarkId::new(format!("{bytes} bytes"), count), |bencher| {
                bencher.iter(|| {
                    found.clear();
                    let name = ("public", "chat_messages");
                    let budget = &mut StepBudget::of_change(row.size());
                    router.candidates(
                        name,
                        Event::Insert,
                        &relation,
                        black_box(&row),
                        budget,
                        &mut found,
                    );
                });
            });
        }
    }
    group.finish();
}

fn one_change(criterion: &mut Criterion) {
    let (relation, row) = change();
    let mut group = criterion.benchmark_group("one change against bindings");
    for (name, operator, counts) in
        [("eq", Operator::Eq, &[1, 1_000, 100_000][..]), ("gte", Operator::Gte, &[1, 1_000][..])]
    {
        for &count in counts {
            let mut router = Router::default();
            for operand in 0..count {
                router.insert(&comparison(operator, operand), CallerKey(1));
            }
            let mut found = Vec::new();
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| {
                    found.clear();
                    let name = ("public", "chat_messages");
                    router.candidates(
                        name,
                        Event::Insert,
                        &relation,
                        black_box(&row),
                        &mut StepBudget::of_change(row.size()),
                        &mut found,
                    );
                    assert_eq!(found.len(), 1);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, one_change, many_patterns);
criterion_main!(benches);
