//! The log against what was put into it: restarts, power failures, damage, full disks.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tokio::time::timeout;

use super::flaky::Flaky;
use super::*;
use crate::changelog::samples::{piece, sized};
use crate::changelog::{ChangeLog, Gap, Reader};
use crate::model::{Position, Transaction};

const PATIENCE: Duration = Duration::from_secs(20);
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

/// What a reader reads up to the change at `last`, as (commit, index).
async fn read_to(
    log: &DiskLog,
    reader: &mut Reader,
    last: (u64, u32),
) -> Result<Vec<(u64, u32)>, Gap> {
    let mut changes = Vec::new();
    while changes.last() != Some(&last) {
        let batch = timeout(PATIENCE, log.read(reader, 1)).await.expect("nothing to read")?;
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
    let mut live = log.follow();
    commit(&log, [200]).await;
    assert_eq!(read_to(&log, &mut live, (200, 1)).await.unwrap(), both([200]));
}

#[tokio::test]
async fn a_mark_is_durable_and_remembered() {
    let disk = Flaky::default();
    let log = begun(&disk);
    assert_eq!(*log.durable().borrow(), Lsn::ZERO);
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
    let mut live = log.follow();
    for first in (0..1000).step_by(10) {
        append(&log, piece(100, first, 10, false)).await;
    }
    assert_eq!(log.bounds().newest.commit_lsn, Lsn::new(9), "not seen yet");
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
async fn a_transaction_that_never_ended_is_cut_off_wherever_it_began() {
    let disk = Flaky::default();
    let log = begun(&disk);
    commit(&log, [100]).await;
    for first in (0..500).step_by(10) {
        append(&log, piece(200, first, 10, false)).await;
    }
    let synced = || log.shared.state().synced;
    let next = log.shared.state().tail.next();
    timeout(PATIENCE, async {
        while synced() < next {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    let disk = disk.after_kill();
    assert!(disk.lengths().len() > 2);
    let log = begun(&disk);
    assert_eq!(disk.lengths().len(), 1);
    commit(&log, [150, 200]).await;
    assert_eq!(from(&log, (10, 0), (200, 1)).await.unwrap(), both([100, 150, 200]));
}

#[tokio::test]
async fn what_is_over_the_limit_goes_and_older_readers_are_told() {
    let disk = Flaky::default();
    let settings = Settings { retain_bytes: 10 << 10, ..settings() };
    let log = open_with(&disk, &settings, 2 << 10);
    log.begin(origin(), Lsn::new(10));
    let mut live = log.follow();
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
    let mut live = log.follow();
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
    let mut live = log.follow();
    for first in (0..1000).step_by(10) {
        append(&log, piece(100, first, 10, false)).await;
    }
    append(&log, piece(100, 1000, 1, true)).await;
    commit(&log, [200]).await;
    let batch = timeout(PATIENCE, log.read(&mut live, 1)).await.unwrap().unwrap();
    assert!(batch[0].oversized && batch[0].changes.is_empty());
    assert_eq!(read_to(&log, &mut live, (200, 1)).await.unwrap(), both([200]));
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
async fn a_full_disk_stops_confirmations_and_not_readers_and_heals() {
    let disk = Flaky::default();
    let log = begun(&disk);
    let mut live = log.follow();
    commit(&log, [100]).await;
    durable(&log, 108).await;
    for (refuse, commits) in [(false, [200, 300]), (true, [400, 500])] {
        if refuse {
            disk.refuse_sync(true);
        } else {
            disk.leave(Some(5));
        }
        let before = *log.durable().borrow();
        commit(&log, commits).await;
        assert_eq!(
            read_to(&log, &mut live, (commits[1], 1)).await.unwrap().last(),
            Some(&(commits[1], 1))
        );
        let mut trouble = log.trouble();
        let told = timeout(PATIENCE, trouble.wait_for(Option::is_some)).await.unwrap();
        assert!(told.unwrap().as_deref().unwrap().contains("cannot be written"));
        assert_eq!(*log.durable().borrow(), before);
        // Up to the limit of memory; then the source waits.
        let mut extra = commits[1] + 1;
        loop {
            let large = Arc::new(sized(extra, 0, 1, true, 1000));
            if timeout(Duration::from_millis(50), log.append(large)).await.is_err() {
                break;
            }
            extra += 1;
            assert!(extra < commits[1] + 20, "memory has no bound");
        }
        assert_eq!(*log.durable().borrow(), before);
        disk.leave(None);
        disk.refuse_sync(false);
        durable(&log, extra + 7).await;
        timeout(PATIENCE, log.trouble().wait_for(Option::is_none)).await.unwrap().unwrap();
        let seen = from(&log, (100, 1), (extra - 1, 0)).await.unwrap();
        let reopened = begun(&disk.after_power_failure(|| false));
        assert_eq!(from(&reopened, (100, 1), (extra - 1, 0)).await.unwrap(), seen);
        read_to(&log, &mut live, (extra - 1, 0)).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_segment_is_given_up_with_what_is_before_it() {
    let disk = Flaky::default();
    let log = begun(&disk);
    commit(&log, hundreds(1, 100)).await;
    durable(&log, 10_008).await;
    drop(log);
    let disk = disk.after_kill();
    let files = disk.lengths();
    let (middle, length) = &files[files.len() / 2];
    disk.bend(middle, |bytes| bytes[length / 2] ^= 1);
    let log = begun(&disk);
    // Found in the background, or by the first who reads it.
    let told = from(&log, (10, 0), (10_000, 1)).await;
    assert!(matches!(told, Err(Gap::Forgotten { .. })), "{told:?}");
    let oldest = log.bounds().oldest;
    let (commit_, index) = (oldest.commit_lsn.bytes(), oldest.index);
    assert!((2_000..8_000).contains(&commit_), "{oldest:?}");
    assert_eq!(
        from(&log, (commit_, index), (10_000, 1)).await.unwrap(),
        both(hundreds(commit_ / 100 + 1, 100))
    );
    commit(&log, [10_100]).await;
    durable(&log, 10_108).await;
    assert!(!disk.lengths().contains(&files[0]), "what is of no use is removed");
    assert_eq!(log.shared.metrics.log_damages.get(), 1);
}

#[tokio::test]
async fn damage_in_the_newest_segment_is_told_from_a_torn_tail() {
    let disk = Flaky::default();
    let log = open_with(&disk, &settings(), 1 << 20);
    log.begin(origin(), Lsn::new(10));
    for number in hundreds(1, 20) {
        commit(&log, [number]).await;
        durable(&log, number + 8).await;
    }
    drop(log);
    let [(name, length)] = &disk.lengths()[..] else { panic!("one segment") };

    let torn = disk.after_kill();
    torn.bend(name, |bytes| bytes.truncate(length - 37));
    let log = begun(&torn);
    assert_eq!(log.recall().unwrap().end, Lsn::new(1_908));
    commit(&log, [2_000]).await;
    assert_eq!(from(&log, (10, 0), (2_000, 1)).await.unwrap(), both(hundreds(1, 20)));

    let rotten = disk.after_kill();
    rotten.bend(name, |bytes| bytes[length / 2] ^= 1);
    let log = begun(&rotten);
    assert_eq!(log.recall().unwrap().end, Lsn::new(2_008), "the end is known");
    assert!(!append(&log, piece(2_000, 0, 2, true)).await, "so nothing comes twice");
    commit(&log, [2_100]).await;
    assert!(matches!(log.read_from(at(1_000, 0)), Err(Gap::Forgotten { .. })));
    assert_eq!(from(&log, (2_000, 1), (2_100, 1)).await.unwrap(), both([2_100]));
    durable(&log, 2_108).await;
    let log = begun(&rotten.after_kill());
    assert_eq!(from(&log, (2_000, 1), (2_100, 1)).await.unwrap(), both([2_100]));
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
    assert!(told.contains("in use by another relay"), "{told}");
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

/// What a test does to a log.
#[derive(Clone, Debug)]
enum Step {
    /// A transaction of so many pieces of so many changes.
    Commit { pieces: u32, count: u32 },
    /// A transaction whose end never comes.
    Abandon { pieces: u32 },
    /// An idle server.
    Mark,
    /// Waits until everything is on disk.
    Sync,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..4_u32, 1..6_u32).prop_map(|(pieces, count)| Step::Commit { pieces, count }),
        1 => (1..4_u32).prop_map(|pieces| Step::Abandon { pieces }),
        1 => Just(Step::Mark),
        1 => Just(Step::Sync),
    ];
    prop::collection::vec(step, 1..40)
}

/// Runs the steps; answers the changes of each commit, and what was said to be durable.
async fn run(log: &DiskLog, steps: &[Step]) -> (BTreeMap<u64, u32>, Lsn) {
    let mut commits = BTreeMap::new();
    let mut lsn = 100;
    let mut last_end = 0;
    for step in steps {
        lsn += 100;
        match step {
            Step::Commit { pieces, count } => {
                for number in 0..*pieces {
                    let is_last = number + 1 == *pieces;
                    append(log, piece(lsn, number * count, *count, is_last)).await;
                }
                commits.insert(lsn, pieces * count);
                last_end = lsn + 8;
            }
            Step::Abandon { pieces } => {
                for number in 0..*pieces {
                    append(log, piece(lsn, number * 3, 3, false)).await;
                }
            }
            Step::Mark => {
                log.mark(Lsn::new(lsn));
                last_end = lsn;
            }
            Step::Sync if last_end > 0 => durable(log, last_end).await,
            Step::Sync => {}
        }
    }
    (commits, *log.durable().borrow())
}

fn all(commits: &BTreeMap<u64, u32>) -> Vec<(u64, u32)> {
    let changes = commits.iter();
    changes.flat_map(|(commit, count)| (0..*count).map(|index| (*commit, index))).collect()
}

/// What a log has from the beginning on, or the gap it tells.
async fn everything(log: &DiskLog) -> Result<Vec<(u64, u32)>, Gap> {
    let newest = log.bounds().newest;
    if newest.commit_lsn <= Lsn::new(10) {
        return Ok(Vec::new());
    }
    from(log, (10, 0), (newest.commit_lsn.bytes(), newest.index)).await
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_power_failure_takes_nothing_that_was_durable_and_leaves_whole_transactions(
        steps in steps(), segment in 300..3000_u64, seed in any::<u64>()
    ) {
        block_on(async {
            let disk = Flaky::default();
            let log = open_with(&disk, &settings(), segment);
            log.begin(origin(), Lsn::new(10));
            let (commits, durable) = run(&log, &steps).await;
            let mut random = seed;
            let after = disk.after_power_failure(|| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                random >> 63 == 1
            });
            let log = open(&after);
            let Some(past) = log.recall() else {
                assert!(durable <= Lsn::new(10));
                return;
            };
            assert!(durable <= past.end, "{durable} was confirmed, and {} is there", past.end);
            let expected = all(&commits);
            let found = everything(&log).await.unwrap();
            assert!(expected.starts_with(&found), "{found:?}");
            let last = found.last().map_or(0, |last| last.0);
            assert_eq!(found, all(&commits.into_iter().filter(|(commit, _)| *commit <= last).collect()));
            // It goes on.
            commit(&log, [1_000_000]).await;
            assert_eq!(everything(&log).await.unwrap().len(), found.len() + 2);
        });
    }

    #[test]
    fn cut_anywhere_the_last_segment_is_a_prefix_of_whole_transactions(
        steps in steps(), part in 0.0..1.0_f64
    ) {
        block_on(async {
            let disk = Flaky::default();
            let log = open_with(&disk, &settings(), 1 << 20);
            log.begin(origin(), Lsn::new(10));
            let (commits, _) = run(&log, &steps).await;
            log.close();
            let (name, length) = disk.lengths().pop().unwrap();
            #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a share of a length")]
            disk.bend(&name, |bytes| bytes.truncate((length as f64 * part) as usize));
            let log = open(&disk);
            let found = everything(&log).await.unwrap();
            let last = found.last().map_or(0, |last| last.0);
            assert_eq!(found, all(&commits.into_iter().filter(|(commit, _)| *commit <= last).collect()));
        });
    }

    #[test]
    fn a_changed_byte_anywhere_never_shows_anything_wrong(
        steps in steps(), segment in 300..3000_u64, file in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(), bit in 0..8_u32
    ) {
        block_on(async {
            let disk = Flaky::default();
            let log = open_with(&disk, &settings(), segment);
            log.begin(origin(), Lsn::new(10));
            let (commits, _) = run(&log, &steps).await;
            log.close();
            let (name, length) = disk.lengths()[file.index(disk.lengths().len())].clone();
            disk.bend(&name, |bytes| bytes[byte.index(length)] ^= 1 << bit);
            let log = open(&disk);
            if log.recall().is_none() {
                return;
            }
            let (mut after, mut reads) = ((10, 0), Vec::new());
            let newest = log.bounds().newest;
            let last = (newest.commit_lsn.bytes(), newest.index);
            if newest.commit_lsn <= Lsn::new(10) {
                return;
            }
            let expected = all(&commits);
            // A gap is told; what is shown behind it is right, and reaches to the end.
            for _ in 0..5 {
                if after >= last {
                    break;
                }
                match from(&log, after, last).await {
                    Ok(found) => {
                        let begin = expected.iter().position(|change| *change == found[0]).unwrap();
                        assert_eq!(&expected[begin..begin + found.len()], &found[..]);
                        reads = found;
                        break;
                    }
                    Err(Gap::Forgotten { oldest }) => {
                        after = (oldest.commit_lsn.bytes(), oldest.index);
                    }
                    Err(gap) => panic!("{gap}"),
                }
            }
            assert!(after >= last || reads.last() == Some(&last));
            commit(&log, [1_000_000]).await;
        });
    }
}
