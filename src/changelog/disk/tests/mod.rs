//! The log against what was put into it.

mod faults;
mod properties;

use tokio::time::timeout;

use super::flaky::Flaky;
use super::*;
use crate::changelog::samples::{piece, sized};
use crate::changelog::{ChangeLog, Gap, NO_EPOCH, Read, Reader};
use crate::model::{Epoch, Position, Transaction};

const PATIENCE: Duration = Duration::from_secs(120);
const EPOCH: Epoch = Epoch::new(0xe);

fn settings() -> Settings {
    let retain_age = Duration::from_hours(1);
    Settings { dir: PathBuf::new(), retain_bytes: 1 << 30, retain_age, memory: 4 << 10 }
}

fn open_with(disk: &Flaky, settings: &Settings, segment_bytes: u64) -> DiskLog {
    let medium = Arc::new(disk.clone());
    DiskLog::on(medium, "a test".into(), settings, segment_bytes, Metrics::new()).unwrap()
}

fn open(disk: &Flaky) -> DiskLog {
    open_with(disk, &settings(), 2 << 10)
}

fn origin() -> Origin {
    Origin { epoch: EPOCH, slot: "relay".into(), database: "app".into(), ..Origin::default() }
}

/// A log of the history [`EPOCH`] that begins at 10.
fn begun(disk: &Flaky) -> DiskLog {
    let log = open(disk);
    if log.recall().is_none() {
        log.begin(origin(), Lsn::new(10));
    }
    log
}

fn at(commit: u64, index: u32) -> Position {
    Position { epoch: EPOCH, commit_lsn: Lsn::new(commit), index }
}

async fn append(log: &DiskLog, piece: Transaction) -> bool {
    timeout(PATIENCE, log.append(Arc::new(piece))).await.expect("the log takes nothing")
}

/// Appends transactions of one piece.
async fn commit(log: &DiskLog, commits: impl IntoIterator<Item = u64>) {
    for commit in commits {
        assert!(append(log, piece(commit, 0, 2, true)).await);
    }
}

async fn durable(log: &DiskLog, end: u64) {
    let mut durable = log.durable();
    let waiting = durable.wait_for(|durable| Lsn::new(end) <= *durable);
    timeout(PATIENCE, waiting).await.expect("never durable").unwrap();
}

/// The fan-out's reader, which was told which history it is.
async fn follow(log: &DiskLog) -> Reader {
    let mut live = log.follow();
    if live.start().epoch == NO_EPOCH {
        let told = timeout(PATIENCE, log.read(&mut live, 1)).await.expect("no history").unwrap();
        assert_eq!(told, Read::Begun(Place::before(Lsn::new(10)).of(EPOCH)));
    }
    live
}

/// What a reader reads up to the change at `last`, as (commit, index).
async fn read_to(
    log: &DiskLog,
    reader: &mut Reader,
    last: (u64, u32),
) -> Result<Vec<(u64, u32)>, Gap> {
    let mut changes = Vec::new();
    while changes.last() != Some(&last) {
        let read = timeout(PATIENCE, log.read(reader, 1)).await.expect("nothing to read")?;
        let Read::Pieces(batch) = read else { panic!("another history") };
        for piece in batch {
            let commit = piece.commit_lsn.bytes();
            for (index, change) in (piece.first..).zip(&piece.changes) {
                let id = change.subject().unwrap().cell(0).unwrap().text().unwrap();
                assert_eq!(id, format!("{commit}/{index}"));
                changes.push((commit, index));
            }
        }
    }
    Ok(changes)
}

async fn from(log: &DiskLog, after: (u64, u32), last: (u64, u32)) -> Result<Vec<(u64, u32)>, Gap> {
    let mut reader = log.read_from(at(after.0, after.1))?;
    read_to(log, &mut reader, last).await
}

fn both(commits: impl IntoIterator<Item = u64>) -> Vec<(u64, u32)> {
    commits.into_iter().flat_map(|commit| [(commit, 0), (commit, 1)]).collect()
}

fn hundreds(from: u64, to: u64) -> impl Iterator<Item = u64> {
    (from..=to).map(|number| number * 100)
}

#[tokio::test]
async fn what_was_logged_is_read_from_disk_then_from_memory_without_a_hole() {
    let log = begun(&Flaky::default());
    commit(&log, hundreds(1, 200)).await;
    durable(&log, 20_008).await;
    let expected = both(hundreds(1, 200));
    for (after, skip) in
        [((10, 0), 0), ((100, 0), 1), ((100, 1), 2), ((150, 7), 2), ((19_900, 1), 398)]
    {
        assert_eq!(from(&log, after, (20_000, 1)).await.unwrap(), expected[skip..], "{after:?}");
    }
    // While it is read, more comes.
    let mut reader = log.read_from(at(10, 0)).unwrap();
    let mut read = read_to(&log, &mut reader, (5_000, 1)).await.unwrap();
    commit(&log, hundreds(201, 300)).await;
    read.extend(read_to(&log, &mut reader, (30_000, 1)).await.unwrap());
    assert_eq!(read, both(hundreds(1, 300)));
    assert!(log.shared.shelf().len() > 10, "the test is about many segments");
}

#[tokio::test]
async fn a_killed_log_goes_on_where_it_was_and_takes_nothing_twice() {
    let mut disk = Flaky::default();
    for round in 0..5_u64 {
        let log = begun(&disk);
        let (first, last) = (round * 20 + 1, round * 20 + 20);
        if round > 0 {
            assert!(!append(&log, piece(round * 2000, 0, 2, true)).await, "the last one again");
            let past = log.recall().unwrap();
            assert_eq!(
                (past.origin, past.end, past.relations),
                (origin(), Lsn::new(round * 2000 + 8), 3)
            );
        }
        commit(&log, hundreds(first, last)).await;
        durable(&log, last * 100 + 8).await;
        assert_eq!(from(&log, (10, 0), (last * 100, 1)).await.unwrap(), both(hundreds(1, last)));
        // Half a transaction, as a kill leaves it.
        append(&log, piece(last * 100 + 50, 0, 3, false)).await;
        disk = disk.after_kill();
    }
}

#[tokio::test]
async fn the_fan_out_begins_with_what_is_new() {
    let disk = Flaky::default();
    let log = begun(&disk);
    commit(&log, [100]).await;
    log.close();
    let log = begun(&disk);
    let mut live = follow(&log).await;
    commit(&log, [200]).await;
    assert_eq!(read_to(&log, &mut live, (200, 1)).await.unwrap(), both([200]));
}

#[tokio::test]
async fn a_mark_is_durable_and_remembered() {
    let disk = Flaky::default();
    let log = begun(&disk);
    // Where the log begins is durable by now, or will be.
    assert!(*log.durable().borrow() <= Lsn::new(10));
    commit(&log, [100]).await;
    log.mark(Lsn::new(150));
    durable(&log, 150).await;
    log.mark(Lsn::new(120));
    append(&log, piece(200, 0, 1, false)).await;
    log.close();
    assert_eq!(open(&disk).recall().unwrap().end, Lsn::new(150));
    assert_eq!(*open(&disk).durable().borrow(), Lsn::new(150));
}

#[tokio::test]
async fn a_transaction_larger_than_memory_is_read_whole_and_only_when_it_is_whole() {
    let disk = Flaky::default();
    let log = begun(&disk);
    let mut live = follow(&log).await;
    for first in (0..1000).step_by(10) {
        append(&log, piece(100, first, 10, false)).await;
    }
    assert_eq!(log.bounds().newest.commit_lsn, Lsn::new(9), "not seen yet");
    assert!(log.shared.state().tail.first() > live.next, "its beginning has left memory");
    {
        let mut reading = std::pin::pin!(log.read(&mut live, 1));
        let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(reading.as_mut().poll(&mut nobody).is_pending());
    }
    assert!(live.under_way.is_none(), "it reads from disk what it may not see");
    // The connection broke; it comes again from the start, cut otherwise.
    for first in (0..900).step_by(30) {
        append(&log, piece(100, first, 30, false)).await;
    }
    append(&log, piece(100, 900, 5, true)).await;
    commit(&log, [200]).await;
    let expected: Vec<_> = (0..905).map(|index| (100, index)).chain(both([200])).collect();
    assert_eq!(read_to(&log, &mut live, (200, 1)).await.unwrap(), expected);
    assert_eq!(from(&log, (100, 777), (200, 1)).await.unwrap(), expected[778..]);
    durable(&log, 208).await;
    let log = begun(&disk.after_kill());
    assert_eq!(from(&log, (10, 0), (200, 1)).await.unwrap(), expected);
}

#[tokio::test]
async fn what_is_over_the_limit_goes_and_older_readers_are_told() {
    let disk = Flaky::default();
    let settings = Settings { retain_bytes: 10 << 10, ..settings() };
    let log = open_with(&disk, &settings, 2 << 10);
    log.begin(origin(), Lsn::new(10));
    let mut live = follow(&log).await;
    commit(&log, hundreds(1, 50)).await;
    let mut slow = log.read_from(at(10, 0)).unwrap();
    read_to(&log, &mut live, (5_000, 1)).await.unwrap();
    commit(&log, hundreds(51, 60)).await;
    read_to(&log, &mut live, (6_000, 1)).await.unwrap();
    commit(&log, hundreds(61, 61)).await;
    durable(&log, 6_108).await;
    let bytes: usize = disk.lengths().iter().map(|(_, bytes)| bytes).sum();
    assert!(bytes <= 13 << 10, "{bytes}");
    let oldest = log.bounds().oldest;
    assert!(oldest > Place::before(Lsn::new(1000)), "{oldest:?}");
    let gone = Gap::Forgotten { oldest };
    assert_eq!(log.read_from(at(100, 1)).unwrap_err(), gone);
    assert_eq!(log.read(&mut slow, 1).await, Err(gone));
    let (commit, index) = (oldest.commit_lsn.bytes(), oldest.index);
    let rest = from(&log, (commit, index), (6_100, 1)).await.unwrap();
    assert_eq!(rest, both(hundreds(commit / 100 + 1, 61)));
    assert_eq!(read_to(&log, &mut slow, (6_100, 1)).await.unwrap(), rest);
}

#[tokio::test]
async fn what_is_too_old_goes_even_when_nothing_is_written() {
    let disk = Flaky::default();
    let settings = Settings { retain_age: Duration::from_millis(80), ..settings() };
    let log = open_with(&disk, &settings, 1 << 20);
    log.begin(origin(), Lsn::new(10));
    let mut live = follow(&log).await;
    commit(&log, [100]).await;
    read_to(&log, &mut live, (100, 1)).await.unwrap();
    timeout(PATIENCE, async {
        // What comes from an idle server every few seconds.
        for end in 200.. {
            log.mark(Lsn::new(end));
            durable(&log, end).await;
            if log.read_from(at(10, 0)).is_err() {
                return;
            }
        }
    })
    .await
    .unwrap();
    assert!(log.read_from(at(100, 1)).is_ok(), "who has everything misses nothing");
}

#[tokio::test]
async fn a_transaction_over_the_limit_is_let_go_and_says_so() {
    let disk = Flaky::default();
    let settings = Settings { retain_bytes: 16 << 10, ..settings() };
    let log = open_with(&disk, &settings, 2 << 10);
    log.begin(origin(), Lsn::new(10));
    let mut live = follow(&log).await;
    for first in (0..1000).step_by(10) {
        append(&log, piece(100, first, 10, false)).await;
    }
    append(&log, piece(100, 1000, 1, true)).await;
    commit(&log, [200]).await;
    let read = timeout(PATIENCE, log.read(&mut live, 1)).await.unwrap().unwrap();
    let Read::Pieces(batch) = read else { panic!("another history") };
    assert!(batch[0].oversized && batch[0].changes.is_empty());
    assert_eq!(read_to(&log, &mut live, (200, 1)).await.unwrap(), both([200]));
}

#[tokio::test]
async fn a_place_behind_a_transaction_that_was_let_go_is_there_after_a_restart() {
    let disk = Flaky::default();
    let settings = Settings { retain_bytes: 4 << 10, ..settings() };
    let log = open_with(&disk, &settings, 2 << 10);
    log.begin(origin(), Lsn::new(10));
    for first in (0..1000).step_by(10) {
        append(&log, piece(100, first, 10, false)).await;
    }
    append(&log, piece(100, 1000, 1, true)).await;
    durable(&log, 108).await;
    let newest = log.bounds().newest;
    assert_eq!(newest, Place { commit_lsn: Lsn::new(100), index: u32::MAX });
    log.close();
    let log = open_with(&disk, &settings, 2 << 10);
    assert_eq!(log.bounds().newest, newest);
    let mut who_has_it = log.read_from(newest.of(EPOCH)).unwrap();
    let mut who_has_a_part = log.read_from(at(100, 0)).unwrap();
    commit(&log, [200]).await;
    assert_eq!(read_to(&log, &mut who_has_it, (200, 1)).await.unwrap(), both([200]));
    let read = timeout(PATIENCE, log.read(&mut who_has_a_part, 1)).await.unwrap().unwrap();
    assert!(matches!(read, Read::Pieces(batch) if batch[0].oversized), "it is told of the gap");
}

#[tokio::test]
async fn what_is_left_of_a_history_is_read_before_the_next_one_is_told() {
    let log = begun(&Flaky::default());
    let mut live = follow(&log).await;
    commit(&log, [100, 200]).await;
    let mut late = log.read_from(at(100, 1)).unwrap();
    log.begin(Origin { epoch: Epoch::new(2), ..origin() }, Lsn::new(50));
    let next = Read::Begun(Place::before(Lsn::new(50)).of(Epoch::new(2)));
    assert_eq!(log.read(&mut late, 1).await.unwrap(), next, "others are told at once");
    commit(&log, [150]).await;
    let left = [100, 200].map(|commit| Arc::new(piece(commit, 0, 2, true)));
    let read = log.read(&mut live, usize::MAX).await.unwrap();
    assert_eq!(read, Read::Pieces(left.into()), "and nothing of the next one");
    assert_eq!(log.read(&mut live, usize::MAX).await.unwrap(), next);
    assert_eq!(read_to(&log, &mut live, (150, 1)).await.unwrap(), both([150]));
    assert_eq!(read_to(&log, &mut late, (150, 1)).await.unwrap(), both([150]));
    // Who waits is woken, though nothing is appended.
    let mut waiting = std::pin::pin!(log.read(&mut live, 1));
    let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut nobody).is_pending());
    log.begin(Origin { epoch: Epoch::new(3), ..origin() }, Lsn::new(300));
    let told = timeout(PATIENCE, waiting).await.expect("nobody was told").unwrap();
    assert_eq!(told, Read::Begun(Place::before(Lsn::new(300)).of(Epoch::new(3))));
}

#[tokio::test]
async fn a_new_history_begins_with_nothing_and_survives() {
    let disk = Flaky::default();
    let log = begun(&disk);
    commit(&log, hundreds(1, 30)).await;
    durable(&log, 3_008).await;
    let next = Origin { epoch: Epoch::new(2), generation: 77, ..origin() };
    log.begin(next.clone(), Lsn::new(50));
    assert_eq!(log.read_from(at(200, 0)).unwrap_err(), Gap::OtherEpoch);
    assert!(append(&log, piece(60, 0, 2, true)).await, "its positions are its own");
    durable(&log, 68).await;
    let here = |commit, index| Position { epoch: Epoch::new(2), ..at(commit, index) };
    assert!(matches!(log.read_from(here(40, 0)), Err(Gap::Forgotten { .. })));
    let mut reader = log.read_from(here(50, 0)).unwrap();
    assert_eq!(read_to(&log, &mut reader, (60, 1)).await.unwrap(), both([60]));
    log.close();
    assert_eq!(disk.lengths().len(), 1, "the old one is gone");
    let past = open(&disk).recall().unwrap();
    assert_eq!((past.origin, past.end), (next, Lsn::new(68)));
}

#[tokio::test]
async fn a_history_without_a_change_knows_where_it_began() {
    let disk = Flaky::default();
    let log = begun(&disk);
    log.close();
    assert_eq!(open(&disk).recall().unwrap().end, Lsn::new(10));
}

#[tokio::test]
async fn a_directory_has_one_relay_and_outlives_it() {
    let directory = tempfile::tempdir().unwrap();
    let settings =
        Settings { dir: directory.path().join("deep/log"), memory: 1 << 20, ..settings() };
    let log = DiskLog::open(&settings, Metrics::new()).unwrap();
    log.begin(origin(), Lsn::new(10));
    commit(&log, hundreds(1, 20)).await;
    let told = DiskLog::open(&settings, Metrics::new()).unwrap_err().to_string();
    assert!(told.ends_with(&format!("is in use by process {}", std::process::id())), "{told}");
    log.close();
    drop(log);
    let log = DiskLog::open(&settings, Metrics::new()).unwrap();
    assert_eq!(from(&log, (10, 0), (2_000, 1)).await.unwrap(), both(hundreds(1, 20)));
    std::fs::write(directory.path().join("file"), "").unwrap();
    let nowhere = Settings { dir: directory.path().join("file"), ..settings };
    let told = DiskLog::open(&nowhere, Metrics::new()).unwrap_err().to_string();
    assert!(told.contains("log.dir"), "{told}");
}

#[test]
fn a_log_of_another_database_is_foreign() {
    let ours = Origin { system: "1".into(), database_oid: 5, ..origin() };
    assert_eq!(
        ours.is_foreign_to(&Origin { timeline: "2".into(), generation: 4, ..ours.clone() }),
        None
    );
    assert_eq!(ours.is_foreign_to(&Origin { database: "renamed".into(), ..ours.clone() }), None);
    assert_eq!(ours.is_foreign_to(&Origin { database_oid: 6, ..ours.clone() }), None, "made again");
    for other in [
        Origin { system: "2".into(), ..ours.clone() },
        Origin { slot: "other".into(), ..ours.clone() },
        Origin { database: "shop".into(), database_oid: 6, ..ours.clone() },
    ] {
        let told = ours.is_foreign_to(&other).unwrap();
        assert!(told.contains("\"app\"") && told.contains(&format!("{:?}", other.slot)), "{told}");
    }
}
