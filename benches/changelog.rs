//! The change log's own files beside a well-kept embedded store (redb), on the same bytes and the same disk.
//!
//! Each writes transactions of one row of about 300 bytes. The store is used as a log would use it: keys that only
//! grow, one commit for many records, the oldest removed by a range.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench stops by panicking"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use redb::{Database, ReadableDatabase, TableDefinition};
use relay::changelog::codec::{Decoder, encode};
use relay::changelog::disk::Settings;
use relay::changelog::{ChangeLog, DiskLog, Origin, Read};
use relay::metrics::Metrics;
use relay::model::time::PgTime;
use relay::model::{
    Cell, Change, ChangeKind, Column, Epoch, Lsn, Position, Relation, ReplicaIdentity, Row,
    Transaction,
};
use tokio::runtime::Runtime;

const EPOCH: Epoch = Epoch::new(1);
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
/// Transactions written, and read again.
const MANY: u64 = 20_000;
/// Transactions that share a commit of the store.
const GROUP: u64 = 4096;

fn transaction(relation: &Arc<Relation>, number: u64) -> Transaction {
    let id = Cell::Text(number.to_string().into());
    let body = Cell::Text("x".repeat(300).into());
    let kind = ChangeKind::Insert { new: Row { cells: [id, body].into() } };
    Transaction {
        xid: 1,
        commit_lsn: Lsn::new(number * 100),
        end_lsn: Lsn::new(number * 100 + 8),
        committed_at: PgTime::default(),
        first: 0,
        changes: vec![Change { relation: Arc::clone(relation), kind }],
        is_last: true,
        oversized: false,
    }
}

fn relation() -> Arc<Relation> {
    let column =
        |name: &str| Column { name: name.into(), type_oid: 25, typmod: -1, is_key: name == "id" };
    Arc::new(Relation {
        oid: 1,
        generation: 1,
        schema: "public".into(),
        name: "chat_messages".into(),
        identity: ReplicaIdentity::Default,
        columns: ["id", "body"].map(column).into(),
    })
}

fn log(dir: &Path) -> DiskLog {
    let settings = Settings {
        dir: dir.join("log"),
        retain_bytes: 1 << 30,
        retain_age: Duration::from_hours(24),
        memory: 64 << 20,
    };
    let log = DiskLog::open(&settings, Metrics::new()).unwrap();
    if log.recall().is_none() {
        log.begin(Origin { epoch: EPOCH, ..Origin::default() }, Lsn::new(1));
    }
    log
}

/// Appends `numbers` and waits until the last is on disk.
async fn append(log: &DiskLog, relation: &Arc<Relation>, numbers: std::ops::Range<u64>) {
    let end = Lsn::new((numbers.end - 1) * 100 + 8);
    for number in numbers {
        log.append(Arc::new(transaction(relation, number))).await;
    }
    log.durable().wait_for(|durable| end <= *durable).await.unwrap();
}

fn store(dir: &Path) -> Database {
    Database::create(dir.join("store")).unwrap()
}

/// Puts `numbers` in one durable commit.
fn put(store: &Database, relation: &Arc<Relation>, numbers: std::ops::Range<u64>) {
    let write = store.begin_write().unwrap();
    {
        let mut table = write.open_table(ENTRIES).unwrap();
        let mut bytes = Vec::new();
        for number in numbers {
            bytes.clear();
            encode(&transaction(relation, number), &mut bytes);
            table.insert(number, &*bytes).unwrap();
        }
    }
    write.commit().unwrap();
}

fn fill(store: &Database, relation: &Arc<Relation>, first: u64) {
    for group in (first..first + MANY).step_by(usize::try_from(GROUP).unwrap()) {
        put(store, relation, group..(group + GROUP).min(first + MANY));
    }
}

fn compare(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let relation = relation();
    let mut group = criterion.benchmark_group("change log");
    group.sample_size(10);

    group.bench_function(BenchmarkId::new("one transaction until it is on disk", "files"), |b| {
        let dir = tempfile::tempdir().unwrap();
        let (log, mut next) = (log(dir.path()), 1);
        b.iter(|| {
            runtime.block_on(append(&log, &relation, next..next + 1));
            next += 1;
        });
    });
    group.bench_function(BenchmarkId::new("one transaction until it is on disk", "store"), |b| {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut next) = (store(dir.path()), 1);
        b.iter(|| {
            put(&store, &relation, next..next + 1);
            next += 1;
        });
    });

    group.throughput(Throughput::Elements(MANY));
    group.bench_function(BenchmarkId::new("append", "files"), |b| {
        let dir = tempfile::tempdir().unwrap();
        let (log, mut next) = (log(dir.path()), 1);
        b.iter(|| {
            runtime.block_on(append(&log, &relation, next..next + MANY));
            next += MANY;
        });
    });
    group.bench_function(BenchmarkId::new("append", "store"), |b| {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut next) = (store(dir.path()), 1);
        b.iter(|| {
            fill(&store, &relation, next);
            next += MANY;
        });
    });

    group.bench_function(BenchmarkId::new("read", "files"), |b| {
        let dir = tempfile::tempdir().unwrap();
        {
            let log = log(dir.path());
            runtime.block_on(append(&log, &relation, 1..MANY + 1));
            log.close();
        }
        // Opened anew, so that nothing is in memory.
        let log = log(dir.path());
        b.iter(|| {
            let from = Position { epoch: EPOCH, commit_lsn: Lsn::new(1), index: 0 };
            let mut reader = log.read_from(from).unwrap();
            let mut count = 0;
            while count < MANY {
                let read = runtime.block_on(log.read(&mut reader, 1 << 20)).unwrap();
                count += if let Read::Pieces(batch) = read { batch.len() as u64 } else { 0 };
            }
        });
    });
    group.bench_function(BenchmarkId::new("read", "store"), |b| {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        fill(&store, &relation, 1);
        b.iter(|| {
            let read = store.begin_read().unwrap();
            let table = read.open_table(ENTRIES).unwrap();
            let mut decoder = Decoder::default();
            for entry in table.range(1..).unwrap() {
                let bytes = bytes::Bytes::copy_from_slice(entry.unwrap().1.value());
                decoder.decode(bytes).unwrap();
            }
        });
    });

    group.bench_function(BenchmarkId::new("forget the oldest", "store"), |b| {
        b.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                let dir = tempfile::tempdir().unwrap();
                let store = store(dir.path());
                fill(&store, &relation, 1);
                let began = Instant::now();
                let write = store.begin_write().unwrap();
                write.open_table(ENTRIES).unwrap().retain_in(..MANY, |_, _| false).unwrap();
                write.commit().unwrap();
                took += began.elapsed();
            }
            took
        });
    });
    group.bench_function(BenchmarkId::new("forget the oldest", "files"), |b| {
        b.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("segment");
                std::fs::write(&path, vec![0; 8 << 20]).unwrap();
                let began = Instant::now();
                std::fs::remove_file(&path).unwrap();
                std::fs::File::open(dir.path()).unwrap().sync_all().unwrap();
                took += began.elapsed();
            }
            took
        });
    });
    group.finish();
}

/// What criterion does not count: processor time, bytes on disk, and whether a changed byte is noticed.
fn facts(_: &mut Criterion) {
    const LOT: u64 = 20 * MANY;
    let (runtime, relation) = (Runtime::new().unwrap(), relation());
    let dir = tempfile::tempdir().unwrap();
    let before = cpu();
    let files = log(dir.path());
    runtime.block_on(append(&files, &relation, 1..LOT + 1));
    files.close();
    report("files", cpu() - before, &dir.path().join("log"), LOT);
    drop(files);
    let before = cpu();
    {
        let store = store(dir.path());
        for first in (1..=LOT).step_by(usize::try_from(MANY).unwrap()) {
            fill(&store, &relation, first);
        }
    }
    report("store", cpu() - before, &dir.path().join("store"), LOT);
    let mut unnoticed = 0;
    for flip in 1..=20 {
        let path = dir.path().join("store");
        let mut bytes = std::fs::read(&path).unwrap();
        // In the row's text, where nothing but a checksum can tell.
        let from = bytes.len() / 30 * flip;
        let run = bytes[from..].windows(64).position(|window| window == [b'x'; 64]).unwrap();
        bytes[from + run + 32] = b'y';
        std::fs::write(&path, bytes).unwrap();
    }
    let store = Database::open(dir.path().join("store")).unwrap();
    let read = store.begin_read().unwrap();
    for entry in read.open_table(ENTRIES).unwrap().range(0..).unwrap() {
        unnoticed += u64::from(entry.unwrap().1.value().windows(3).any(|three| three == b"xyx"));
    }
    println!("store: 20 bytes changed on disk, {unnoticed} wrong rows read without an error");
}

/// Processor time of this process so far, in seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let mut fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(11);
    let mut next = || fields.next().unwrap().parse::<f64>().unwrap();
    (next() + next()) / 100.0
}

fn report(name: &str, cpu: f64, path: &Path, count: u64) {
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    let bytes: u64 = match std::fs::read_dir(path) {
        Ok(entries) => entries.map(|entry| size(&entry.unwrap().path())).sum(),
        Err(_) => size(path),
    };
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    let each = cpu * 1e6 / count as f64;
    println!("{name}: {each:.2} us of processor time and {} bytes a transaction", bytes / count);
}

criterion_group!(benches, compare, facts);
criterion_main!(benches);
