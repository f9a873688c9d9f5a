//! Reading the slot: nothing is lost, nothing comes twice, and what is wrong is said.

mod budget;
mod feedback;
mod heartbeat;
mod interruption;
mod promotion;
mod proxy;
mod slot;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use relay::changelog::{self, ChangeLog, Gap, MemoryLog, Read};
use relay::config;
use relay::metrics::Metrics;
use relay::model::{ChangeKind, Epoch, Transaction};
use relay::postgres::Target;
use relay::secret::Secret;
use relay::shutdown::Stage;
use relay::source::{self, Break, SourceState};
use tokio::sync::watch::Receiver;

use crate::support::{Cluster, Database, PATIENCE};

/// A source reading into a log of its own.
pub struct Reader {
    stage: Stage,
    state: Receiver<SourceState>,
    log: Arc<MemoryLog>,
    follower: tokio::sync::Mutex<changelog::Reader>,
    metrics: Metrics,
}

/// What a test may want otherwise.
pub struct Wish {
    pub url: String,
    pub slot: String,
    pub wal_sender_timeout: Duration,
    pub heartbeat: Duration,
    pub max_slot_lag: usize,
    pub log_bytes: usize,
}

impl Wish {
    pub fn on(database: &Database) -> Self {
        Self {
            url: database.url.clone(),
            slot: database.slot(),
            wal_sender_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(10),
            max_slot_lag: 0,
            log_bytes: 64 << 20,
        }
    }

    pub fn read(self) -> Reader {
        let settings = config::Postgres {
            url: Secret::new(self.url.clone()),
            publication: "supabase_realtime".into(),
            slot: self.slot,
            pool: 1,
            check_timeout: Duration::from_secs(1),
            wal_sender_timeout: self.wal_sender_timeout,
            heartbeat: self.heartbeat,
            max_slot_lag: self.max_slot_lag,
            max_transaction: 64 << 20,
            max_backlog: 64 << 20,
        };
        let (sender, state) = tokio::sync::watch::channel(SourceState::Connecting { reason: None });
        let (stage, metrics) = (Stage::new(), Metrics::new());
        let log = Arc::new(MemoryLog::new(self.log_bytes, 64 << 20));
        let follower = tokio::sync::Mutex::new(log.follow());
        let target = Target::parse(&self.url).unwrap();
        let running =
            source::run(target, settings, Arc::clone(&log), sender, metrics.clone(), stage.clone());
        stage.spawn(async move { running.await.unwrap() });
        Reader { stage, state, log, follower, metrics }
    }
}

impl Reader {
    /// Waits until it streams.
    async fn streaming(&mut self) -> Epoch {
        let fits = |state: &SourceState| matches!(state, SourceState::Streaming { .. });
        let SourceState::Streaming { epoch, .. } = self.state("streaming", fits).await else {
            unreachable!()
        };
        epoch
    }

    /// Waits until it is blocked, and says why.
    async fn blocked(&mut self) -> String {
        let fits = |state: &SourceState| matches!(state, SourceState::Blocked { .. });
        let SourceState::Blocked { reason } = self.state("blocked", fits).await else {
            unreachable!()
        };
        reason
    }

    /// Waits until it stands by, and says for whom.
    async fn standing_by(&mut self) -> String {
        let fits = |state: &SourceState| matches!(state, SourceState::Standby { .. });
        let SourceState::Standby { reason } = self.state("standing by", fits).await else {
            unreachable!()
        };
        reason
    }

    /// Why the history it streams began.
    fn begun_by(&self) -> Option<Break> {
        match &*self.state.borrow() {
            SourceState::Streaming { begun_by, .. } => *begun_by,
            other => panic!("not streaming, but {other:?}"),
        }
    }

    /// Waits until it is blocked for a reason that contains `words`.
    async fn blocked_by(&mut self, words: &str) {
        let fits = |state: &SourceState| matches!(state, SourceState::Blocked { reason } if reason.contains(words));
        self.state(&format!("blocked by {words:?}"), fits).await;
    }

    /// Waits until it streams another history than `old`.
    async fn streaming_anew(&mut self, old: Epoch) {
        let fits = |state: &SourceState| matches!(state, SourceState::Streaming { epoch, .. } if *epoch != old);
        self.state("streaming another history", fits).await;
    }

    /// Waits until it tries to connect again, and says why.
    async fn connecting(&mut self) -> String {
        let fits =
            |state: &SourceState| matches!(state, SourceState::Connecting { reason: Some(_) });
        let SourceState::Connecting { reason } = self.state("connecting", fits).await else {
            unreachable!()
        };
        reason.unwrap()
    }

    async fn state(&self, what: &str, fits: impl Fn(&SourceState) -> bool) -> SourceState {
        let mut watching = self.state.clone();
        let waiting = tokio::time::timeout(PATIENCE, watching.wait_for(fits)).await;
        if let Ok(state) = waiting {
            return state.unwrap().clone();
        }
        panic!("never {what}, but {:?}", *self.state.borrow());
    }

    /// What the first attempt came to: streaming, or why not.
    pub async fn outcome(&mut self) -> Result<Epoch, String> {
        let fits = |state: &SourceState| match state {
            SourceState::Connecting { reason: Some(reason) } => !reason.starts_with("creating"),
            SourceState::Connecting { reason: None } => false,
            SourceState::Streaming { .. }
            | SourceState::Standby { .. }
            | SourceState::Blocked { .. } => true,
        };
        match self.state("trying", fits).await {
            SourceState::Streaming { epoch, .. } => Ok(epoch),
            SourceState::Blocked { reason } | SourceState::Standby { reason } => Err(reason),
            SourceState::Connecting { reason } => Err(reason.unwrap_or_default()),
        }
    }

    /// The next transactions, at least one.
    pub async fn next(&self) -> Vec<Arc<Transaction>> {
        let mut follower = self.follower.lock().await;
        let reading = async {
            loop {
                if let Read::Pieces(next) = self.log.read(&mut follower, 1).await? {
                    return Ok::<_, Gap>(next);
                }
            }
        };
        let next = tokio::time::timeout(PATIENCE, reading).await;
        next.expect("no transaction came").expect("nothing is missing")
    }

    /// Reads until a row with id `last` came, and answers how often each id came.
    async fn ids_until(&self, last: i64) -> BTreeMap<i64, u32> {
        let mut ids = BTreeMap::new();
        while !ids.contains_key(&last) {
            for transaction in self.next().await {
                for id in inserted(&transaction) {
                    *ids.entry(id).or_default() += 1;
                }
            }
        }
        ids
    }

    /// Stops it and waits until it has let go of the slot.
    pub async fn stop(self) {
        assert!(self.stage.stop(PATIENCE).await, "the source does not stop");
    }
}

/// The first columns of a transaction's inserted rows.
fn inserted(transaction: &Transaction) -> Vec<i64> {
    let id = |kind: &ChangeKind| match kind {
        ChangeKind::Insert { new } => new.cell(0)?.text()?.parse().ok(),
        _ => None,
    };
    transaction.changes.iter().filter_map(|change| id(&change.kind)).collect()
}

/// A database with a published table `t`.
pub async fn published(cluster: &Cluster) -> Database {
    let database = cluster.database().await;
    database.execute("create table t (id bigint primary key, body text)").await;
    database.execute("create publication supabase_realtime for table t").await;
    database
}

/// Each id from 1 to `last`, once.
fn each_once(last: i64) -> BTreeMap<i64, u32> {
    (1..=last).map(|id| (id, 1)).collect()
}
