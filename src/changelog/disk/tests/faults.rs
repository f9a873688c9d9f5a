//! What happens to a disk: full, refusing, torn, rotten.

use super::*;

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
async fn a_full_disk_stops_confirmations_and_not_readers_and_heals() {
    let disk = Flaky::default();
    let log = begun(&disk);
    let mut live = follow(&log).await;
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
