//! The fan-out and those who catch up, over a log in memory whose transactions change no table, so nothing is judged.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::catchup::{CatchUp, Latecomer};
use super::pass::{self, Pace, Passed};
use super::samples::{Plain, fanout};
use super::{Arrival, Fanout};
use crate::changelog::disk::Settings;
use crate::changelog::{ChangeLog, DiskLog, MemoryLog, Origin, Place, Read};
use crate::hub::{Backlog, Frame, Member, Outbox};
use crate::metrics::Metrics;
use crate::model::time::PgTime;
use crate::model::{
    Cell, Change, ChangeKind, Epoch, Lsn, Position, Principal, Relation, ReplicaIdentity, Row,
    Since, Subscription, Target, Transaction,
};
use crate::source::{Break, SourceState};

const PATIENCE: Duration = Duration::from_secs(600);

fn at(epoch: u64, commit: u64) -> Position {
    Place { commit_lsn: Lsn::new(commit), index: 0 }.of(Epoch::new(epoch))
}

/// A transaction without a change; one that was let go is a gap.
fn transaction(commit: u64, oversized: bool) -> Arc<Transaction> {
    Arc::new(Transaction {
        xid: u32::try_from(commit).unwrap(),
        commit_lsn: Lsn::new(commit),
        end_lsn: Lsn::new(commit + 8),
        committed_at: PgTime::default(),
        first: 0,
        changes: Vec::new(),
        is_last: true,
        oversized,
    })
}

fn begin(log: &MemoryLog, epoch: u64, from: u64) {
    log.begin(Origin { epoch: Epoch::new(epoch), ..Origin::default() }, Lsn::new(from));
}

async fn commit(log: &MemoryLog, commits: impl IntoIterator<Item = u64>) {
    for commit in commits {
        assert!(log.append(transaction(commit, false)).await);
    }
}

/// A member with a wish for everything, and what it is given.
fn member(id: u64) -> (Arc<Member>, Arc<Outbox>) {
    let outbox = Arc::new(Outbox::new(1 << 30, Arc::new(Backlog::new(1 << 30))));
    let (queue, principal) = (Arc::clone(&outbox), Arc::new(Principal::new("anon", "{}")));
    let member = Member::new(id, "t".into(), "null".into(), &Plain, queue, principal);
    member.shut(1 << 20);
    (Arc::new(member), outbox)
}

fn latecomer(member: &Arc<Member>, since: Position) -> Latecomer {
    let wish =
        Subscription { target: Target::All, event: None, filter: Arc::from([]), select: None };
    Latecomer {
        member: Arc::clone(member),
        wishes: vec![(1, Arc::new(wish))],
        since: vec![(1, Since::After(since))],
        firsts: Vec::new(),
    }
}

fn notices(outbox: &Outbox) -> Vec<String> {
    let mut frames = Vec::new();
    while outbox.take(&mut frames).is_some() {}
    let text = |frame: &Frame| match frame {
        Frame::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    };
    frames.iter().map(text).collect()
}

/// Everything that runs on a log.
struct Running {
    fanout: Fanout,
    log: Arc<MemoryLog>,
    latecomers: mpsc::Sender<Latecomer>,
    source: watch::Sender<SourceState>,
}

/// Runs fan-out and catch-up on a log while `test` goes on.
async fn run<T>(log: MemoryLog, hold: Duration, test: impl AsyncFnOnce(Running) -> T) -> T {
    let (source, state) = watch::channel(SourceState::Connecting { reason: None });
    let fanout = Fanout { source: state, hold, ..fanout() };
    let log = Arc::new(log);
    let (arrivals, arrival) = mpsc::channel::<Arrival>(1);
    let (latecomers, requests) = mpsc::channel(10);
    let catch_up = CatchUp { fanout: fanout.clone(), log: Arc::clone(&log), arrivals };
    let running = Running { fanout: fanout.clone(), log: Arc::clone(&log), latecomers, source };
    tokio::select! {
        never = fanout.run(log, arrival) => match never {},
        never = catch_up.run(requests) => match never {},
        done = timeout(PATIENCE, test(running)) => done.expect("it stands still"),
    }
}

impl Running {
    async fn told(&self, position: Position) {
        while self.fanout.told.position() != Some(position) {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn open(member: &Member) {
    while !member.is_live() {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_keeps_its_history_whatever_the_source_does() {
    run(MemoryLog::new(1 << 20, 1 << 20), Duration::from_millis(100), async |running| {
        let Running { fanout, log, source, .. } = &running;
        let streaming = |epoch, begun_by| SourceState::Streaming {
            epoch: Epoch::new(epoch),
            has_messages: false,
            begun_by,
        };
        begin(log, 1, 10);
        source.send_replace(streaming(1, None));
        commit(log, [900]).await;
        running.told(at(1, 900)).await;
        let (live, outbox) = member(1);
        fanout.hub.attach(&live, latecomer(&live, at(1, 900)).wishes);
        live.open(None);
        // What follows is all there before the fan-out has read anything of it.
        commit(log, [1000]).await;
        source.send_replace(SourceState::Connecting { reason: None });
        begin(log, 2, 500);
        source.send_replace(streaming(2, Some(Break::Rewound)));
        commit(log, [600]).await;
        let begun = Place::before(Lsn::new(500)).of(Epoch::new(2));
        let way = [at(1, 900), at(1, 1000), begun, at(2, 600)];
        let mut came = 0;
        while came < 3 {
            let settled = fanout.hub.resumes().settled();
            for position in [fanout.told.position(), settled].into_iter().flatten() {
                let place = way.iter().position(|known| *known == position);
                came = came.max(place.unwrap_or_else(|| panic!("{position} was never there")));
            }
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*fanout.told.unseen(), [600], "transactions of another history say nothing");
        let notices = notices(&outbox);
        assert!(notices.len() == 1 && notices[0].contains(Break::Rewound.words()), "{notices:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_history_whose_reason_is_not_known_is_told_all_the_same() {
    run(MemoryLog::new(1 << 20, 1 << 20), Duration::ZERO, async |running| {
        let Running { fanout, log, .. } = &running;
        begin(log, 1, 10);
        running.told(Place::before(Lsn::new(10)).of(Epoch::new(1))).await;
        let (live, outbox) = member(1);
        fanout.hub.attach(&live, latecomer(&live, at(1, 10)).wishes);
        live.open(None);
        begin(log, 2, 500);
        commit(log, [600]).await;
        running.told(at(2, 600)).await;
        let notices = notices(&outbox);
        assert!(notices.len() == 1 && notices[0].contains("another history"), "{notices:?}");
    })
    .await;
}

/// A transaction of one large message of the database, which makes no sense and is passed to nobody.
fn large(commit: u64) -> Arc<Transaction> {
    let relation = Arc::new(Relation {
        oid: 7,
        generation: 0,
        schema: "realtime".into(),
        name: "messages".into(),
        identity: ReplicaIdentity::Default,
        columns: [].into(),
    });
    let new = Row { cells: [Cell::Text(vec![b'x'; 1 << 20].into())].into() };
    let change = Change { relation, kind: ChangeKind::Insert { new } };
    let mut transaction = Transaction::clone(&transaction(commit, false));
    transaction.changes = vec![change];
    Arc::new(transaction)
}

#[tokio::test(start_paused = true)]
async fn who_arrives_behind_a_gap_of_the_fan_out_begins_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        dir: directory.path().to_owned(),
        retain_bytes: 8 << 20,
        retain_age: Duration::from_hours(1),
        memory: 1 << 20,
    };
    let log = DiskLog::open(&settings, Metrics::new()).unwrap();
    log.begin(Origin { epoch: Epoch::new(1), ..Origin::default() }, Lsn::new(10));
    let begun = log.bounds().oldest;
    // The history is known to the fan-out, and nothing of it was read.
    assert!(matches!(log.read(&mut log.follow(), 1).await, Ok(Read::Begun(_))));
    let mut durable = log.durable();
    for commit in (1..=64).map(|number| number * 100) {
        assert!(log.append(large(commit)).await);
    }
    durable.wait_for(|end| Lsn::new(6_400) <= *end).await.unwrap();
    let oldest = log.bounds().oldest;
    assert!(begun < oldest, "nothing is missing");
    let fanout = Fanout { hold: Duration::from_secs(1), ..fanout() };
    let (told, (_arrivals, arrival)) = (Arc::clone(&fanout.told), mpsc::channel(1));
    let begins = async {
        loop {
            let position = told.position().filter(|position| begun < Place::from(*position));
            match position {
                Some(position) => return position,
                None => sleep(Duration::from_millis(1)).await,
            }
        }
    };
    let log = Arc::new(log);
    let first = tokio::select! {
        never = fanout.run(Arc::clone(&log), arrival) => match never {},
        first = timeout(PATIENCE, begins) => first.unwrap(),
    };
    // Perhaps more has gone meanwhile.
    assert!((oldest..=log.bounds().oldest).contains(&first.into()), "{first}");
}

#[tokio::test(start_paused = true)]
async fn who_is_ahead_of_the_log_waits_a_moment_and_holds_up_nobody() {
    run(MemoryLog::new(1 << 20, 1 << 20), Duration::ZERO, async |running| {
        let Running { log, latecomers, .. } = &running;
        begin(log, 1, 10);
        commit(log, [100]).await;
        running.told(at(1, 100)).await;
        let (ahead, to_ahead) = member(1);
        let (nowhere, to_nowhere) = member(2);
        let (behind, to_behind) = member(3);
        let began = Instant::now();
        latecomers.send(latecomer(&ahead, at(1, 200))).await.unwrap();
        latecomers.send(latecomer(&nowhere, at(1, u64::MAX))).await.unwrap();
        latecomers.send(latecomer(&behind, at(1, 10))).await.unwrap();
        open(&behind).await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "it waited {took:?} for others");
        assert!(!ahead.is_live() && !nowhere.is_live());
        commit(log, [200]).await;
        open(&ahead).await;
        open(&nowhere).await;
        assert!(notices(&to_nowhere)[0].contains("past the newest change"));
        assert!(notices(&to_ahead).is_empty() && notices(&to_behind).is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_is_ahead_of_the_fan_out_waits_for_it_as_long_as_it_takes() {
    let hold = Duration::from_secs(60);
    run(MemoryLog::new(1 << 30, 1 << 30), hold, async |running| {
        let Running { fanout, log, latecomers, .. } = &running;
        begin(log, 1, 10);
        running.told(Place::before(Lsn::new(10)).of(Epoch::new(1))).await;
        // More than is handed out at once.
        let last = 40_000;
        commit(log, 100..=last).await;
        let mut members = Vec::new();
        for id in 0..8 {
            let (ahead, outbox) = member(id);
            latecomers.send(latecomer(&ahead, at(1, last))).await.unwrap();
            members.push((ahead, outbox));
            sleep(hold / 2).await;
        }
        while fanout.told.position() != Some(at(1, last)) {
            assert!(members.iter().all(|(member, _)| !member.is_live()), "it would get it again");
            sleep(Duration::from_secs(1)).await;
        }
        for (member, outbox) in &members {
            open(member).await;
            assert!(notices(outbox).is_empty());
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_a_gap_was_told_is_given() {
    let log = MemoryLog::new(1 << 20, 1 << 20);
    begin(&log, 1, 10);
    commit(&log, [100]).await;
    let (arrivals, mut arrival) = mpsc::channel::<Arrival>(1);
    let desk = CatchUp { fanout: fanout(), log: Arc::new(log), arrivals };
    let Fanout { hub, told, .. } = &desk.fanout;
    told.reach(at(1, 100));
    let (lost, outbox) = member(1);
    let group =
        vec![Latecomer { since: vec![(1, Since::Unreadable)], ..latecomer(&lost, at(1, 10)) }];
    let admitting = async {
        let arrival = arrival.recv().await.unwrap();
        assert!(notices(&outbox)[0].contains("not the id of a change"));
        // It may have read the table by now, and is not let in yet.
        desk.log.append(transaction(200, true)).await;
        told.reach(Place::last_of(&transaction(200, true)).of(Epoch::new(1)));
        arrival.admit(hub, told.position().unwrap(), told);
    };
    tokio::join!(pass::run(&desk, group, Pace::Together), admitting);
    let notices = notices(&outbox);
    assert!(notices.len() == 1 && notices[0].contains("too large to hold"), "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_reads_slowly_is_left_behind_and_goes_on_where_it_was() {
    let log = MemoryLog::new(1 << 30, 1 << 30);
    begin(&log, 1, 10);
    commit(&log, [100]).await;
    log.append(transaction(200, true)).await;
    let (arrivals, mut arrival) = mpsc::channel::<Arrival>(1);
    let fanout = fanout();
    fanout.told.reach(Place::last_of(&transaction(200, true)).of(Epoch::new(1)));
    let desk = CatchUp { fanout, log: Arc::new(log), arrivals };
    let members: Vec<_> = (0..10).map(member).collect();
    // All but the first have much in their queues, and nobody takes it.
    for (_, outbox) in &members[1..] {
        outbox.offer(Frame::Binary(vec![0; 2 * pass::AHEAD].into())).unwrap();
    }
    let group = members.iter().map(|(member, _)| latecomer(member, at(1, 10))).collect();
    let admitting = async {
        while let Some(arrival) = arrival.recv().await {
            arrival.admit(
                &desk.fanout.hub,
                desk.fanout.told.position().unwrap(),
                &desk.fanout.told,
            );
        }
    };
    let mut admitting = pin!(admitting);
    let began = Instant::now();
    let Passed { slow, .. } = tokio::select! {
        passed = pass::run(&desk, group, Pace::Together) => passed,
        () = &mut admitting => unreachable!(),
    };
    assert!(members[0].0.is_live() && notices(&members[0].1).len() == 1);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "those that read waited {took:?}");
    assert_eq!(slow.len(), 9);
    for one in &slow {
        assert!(!one.member.is_live());
        assert_eq!(one.since, [(1, Since::After(at(1, 10)))], "nothing was handed out to it");
    }
    // They have each other to wait for, and all together.
    let began = Instant::now();
    tokio::select! {
        passed = pass::run(&desk, slow, Pace::Slow) => assert!(passed.slow.is_empty()),
        () = &mut admitting => unreachable!(),
    }
    let took = began.elapsed();
    assert!(
        took < pass::PATIENCE + Duration::from_secs(3),
        "they waited one after another: {took:?}"
    );
    for (member, outbox) in &members[1..] {
        assert!(member.is_live());
        assert_eq!(notices(outbox).len(), 2, "what was queued, and the gap");
    }
}
