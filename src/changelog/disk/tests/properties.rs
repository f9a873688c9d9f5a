//! Any history, ended anywhere, by anything: what is read afterwards was written, in order, whole.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

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
