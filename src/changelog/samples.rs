//! Transactions for the tests of the log.

use std::sync::Arc;

use proptest::prelude::*;

use crate::model::time::PgTime;
use crate::model::{
    Cell, Change, ChangeKind, Column, Lsn, OldRow, Relation, ReplicaIdentity, Row, Transaction,
};

/// `public.t(id, body)`.
pub(super) fn relation() -> Arc<Relation> {
    let column =
        |name: &str| Column { name: name.into(), type_oid: 25, typmod: -1, is_key: name == "id" };
    Arc::new(Relation {
        oid: 7,
        generation: 3,
        schema: "public".into(),
        name: "t".into(),
        identity: ReplicaIdentity::Default,
        columns: ["id", "body"].map(column).into(),
    })
}

/// A piece of the transaction that commits at `commit`: rows `first..first + count`.
pub(super) fn piece(commit: u64, first: u32, count: u32, is_last: bool) -> Transaction {
    sized(commit, first, count, is_last, 8)
}

/// The same with bodies of `bytes` bytes.
pub(super) fn sized(
    commit: u64,
    first: u32,
    count: u32,
    is_last: bool,
    bytes: usize,
) -> Transaction {
    let relation = relation();
    let change = |index: u32| {
        let id = Cell::Text(format!("{commit}/{index}").into());
        let new = Row { cells: [id, Cell::Text("x".repeat(bytes).into())].into() };
        Change { relation: Arc::clone(&relation), kind: ChangeKind::Insert { new } }
    };
    Transaction {
        xid: 1,
        commit_lsn: Lsn::new(commit),
        end_lsn: if is_last { Lsn::new(commit + 8) } else { Lsn::ZERO },
        committed_at: PgTime::from_pg_micros(5),
        first,
        changes: (first..first + count).map(change).collect(),
        is_last,
        oversized: false,
    }
}

fn cells() -> impl Strategy<Value = Row> {
    let cell = prop_oneof![
        Just(Cell::Null),
        Just(Cell::Unchanged),
        prop_oneof![".{0,12}", "[a-z]{120,140}"].prop_map(|text| Cell::Text(text.into()))
    ];
    prop::collection::vec(cell, 0..4).prop_map(|cells| Row { cells: cells.into() })
}

fn kinds() -> impl Strategy<Value = ChangeKind> {
    let old = || {
        prop_oneof![
            Just(OldRow::Absent),
            cells().prop_map(OldRow::Key),
            cells().prop_map(OldRow::Full)
        ]
    };
    prop_oneof![
        cells().prop_map(|new| ChangeKind::Insert { new }),
        (old(), cells()).prop_map(|(old, new)| ChangeKind::Update { old, new }),
        old().prop_map(|old| ChangeKind::Delete { old }),
        Just(ChangeKind::Truncate),
    ]
}

fn relations() -> impl Strategy<Value = Arc<Relation>> {
    let column = (".{0,8}", any::<u32>(), any::<i32>(), any::<bool>());
    let identity = prop_oneof![
        Just(ReplicaIdentity::Default),
        Just(ReplicaIdentity::Index),
        Just(ReplicaIdentity::Full),
        Just(ReplicaIdentity::Nothing)
    ];
    let names = (".{0,8}", ".{0,8}");
    let columns = prop::collection::vec(column, 0..4);
    (any::<u32>(), any::<u64>(), names, identity, columns).prop_map(
        |(oid, generation, (schema, name), identity, columns)| {
            let column = |(name, type_oid, typmod, is_key): (String, _, _, _)| Column {
                name: name.into(),
                type_oid,
                typmod,
                is_key,
            };
            let columns = columns.into_iter().map(column).collect();
            let (schema, name) = (schema.into(), name.into());
            Arc::new(Relation { oid, generation, schema, name, identity, columns })
        },
    )
}

/// Pieces of every form.
pub(super) fn pieces() -> impl Strategy<Value = Transaction> {
    let change = (relations(), kinds()).prop_map(|(relation, kind)| Change { relation, kind });
    let numbers = (any::<u32>(), any::<u64>(), any::<u64>(), any::<i64>(), any::<u32>());
    let flags = (any::<bool>(), any::<bool>());
    (numbers, flags, prop::collection::vec(change, 0..6)).prop_map(
        |((xid, commit, end, time, first), (is_last, oversized), changes)| Transaction {
            xid,
            commit_lsn: Lsn::new(commit),
            end_lsn: Lsn::new(end),
            committed_at: PgTime::from_pg_micros(time),
            first,
            changes,
            is_last,
            oversized,
        },
    )
}
