//! The test stand: a throwaway cluster with one table, a relay process on it, clients, and a clock for all.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::floor::Floor;
use crate::cli::client::token::mint;
use crate::cli::client::{Address, Client};
use crate::cli::cluster::{Cluster, SUPERUSER, free_port, migrate, set_password};
use crate::cli::migrate::script;
use crate::cli::process::Process;
use crate::cli::random;
use crate::cli::slot::state::Slot;
use crate::error::{Error, ErrorKind};
use crate::postgres::{Sql, Target, connect};
use crate::secret::Secret;
use crate::shutdown::Stage;

/// The slot that the floor reads.
const FLOOR_SLOT: &str = "bench_floor";

/// Where the bench's table is published.
pub(super) const PUBLICATION: &str = "supabase_realtime";

/// The relay's slot.
pub(super) const SLOT: &str = "relay";

/// A cluster, and what is needed to load a relay on it.
#[derive(Debug)]
pub(super) struct Stand {
    /// A superuser's connection.
    pub(super) sql: Sql,
    /// The user whose token the clients have and to whom the rows belong.
    pub(super) owner: String,
    /// Where tasks of the load run.
    pub(super) stage: Stage,
    secret: Secret<String>,
    relay_url: String,
    cluster: Cluster,
}

/// Whether a commit waits until its WAL is written, which is when the slot may send it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Commit {
    /// As applications do.
    Flushed,
    /// Faster, for a backlog that nobody waits for.
    Unflushed,
}

/// When each row was written, on the clock that its receipt is measured with.
#[derive(Debug)]
pub(super) struct Stamps {
    start: Instant,
    first: u64,
    nanoseconds: Vec<AtomicU64>,
}

impl Stand {
    /// Starts a cluster with the bench's table.
    ///
    /// # Errors
    /// What failed to start.
    pub(super) async fn build(is_rls: bool) -> Result<Self, Error> {
        let settings = ["shared_buffers = '256MB'", "max_connections = 60", "max_wal_size = '8GB'"];
        let cluster = Cluster::start("bench", &settings).await?;
        let stage = Stage::new();
        let target = Target::parse(&cluster.local_url(SUPERUSER))?;
        let sql = connect(&target, "relay-bench", &[], &stage).await?;
        migrate(&sql, include_str!("../../../sql/SUPABASE_COMPAT.sql")).await?;
        migrate(&sql, include_str!("../../../sql/queries/bench_schema.sql")).await?;
        if is_rls {
            migrate(&sql, include_str!("../../../sql/queries/bench_policy.sql")).await?;
        }
        migrate(&sql, include_str!("../../../sql/RELAY_ROLE.sql")).await?;
        let password = random::hex(16);
        set_password(&sql, "relay", &password).await?;
        let relay_url = cluster.tcp_url("relay", &password);
        let secret = Secret::new(random::hex(32));
        Ok(Self { sql, owner: random::uuid(), stage, secret, relay_url, cluster })
    }

    /// Makes what broadcasts from the database need.
    ///
    /// # Errors
    /// What Postgres answered.
    pub(super) async fn migrate(&self) -> Result<(), Error> {
        migrate(&self.sql, &script("relay")).await
    }

    /// Starts a relay and waits until it streams.
    ///
    /// # Errors
    /// What failed to start.
    pub(super) async fn relay(&self) -> Result<Process, Error> {
        self.relay_with(&[]).await
    }

    /// The same with flags of `relay run`.
    ///
    /// # Errors
    /// What failed to start.
    pub(super) async fn relay_with(&self, flags: &[&str]) -> Result<Process, Error> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let variables = vec![
            ("RELAY_POSTGRES__URL", self.relay_url.clone()),
            ("RELAY_POSTGRES__SLOT", SLOT.to_owned()),
            // A bench stops the sender for a while; it is not to be taken for dead.
            ("RELAY_POSTGRES__WAL_SENDER_TIMEOUT", "10m".to_owned()),
            ("RELAY_LOG__DIR", self.cluster.dir().join("relay-log").display().to_string()),
            ("RELAY_AUTH__JWT_SECRET", self.secret.reveal().clone()),
            ("RELAY_LIMITS__JOINS_PER_SECOND", "100000".to_owned()),
            // All clients are one user.
            ("RELAY_LIMITS__SUBJECT_JOINS_PER_SECOND", "100000".to_owned()),
            ("RELAY_LIMITS__SUBJECT_CONNECTIONS", "100000".to_owned()),
            ("RELAY_LIMITS__MEMORY", "16 GiB".to_owned()),
        ];
        Process::start(address, flags, &variables, &self.log()).await
    }

    /// A client that has joined with this filter.
    ///
    /// # Errors
    /// `PeerUnreachable` or the relay's refusal.
    pub(super) async fn join(
        &self,
        relay: &Process,
        filter: Option<&str>,
    ) -> Result<Client, Error> {
        let address = Address::parse(&format!("ws://{}", relay.address()))?;
        let mut client = Client::connect(&address, &self.token()?).await?;
        let mut wish = json!({ "event": "*", "schema": "public", "table": "bench_rows" });
        if let (Some(filter), Some(map)) = (filter, wish.as_object_mut()) {
            map.insert("filter".to_owned(), Value::from(filter));
        }
        client.join("bench", &[wish]).await?;
        Ok(client)
    }

    /// The clients' token.
    ///
    /// # Errors
    /// `Bug`: it cannot be signed.
    pub(super) fn token(&self) -> Result<String, Error> {
        let day = Duration::from_secs(24 * 3600);
        mint(&self.secret, "authenticated", Some(&self.owner), day)
    }

    /// A further connection that writes.
    ///
    /// # Errors
    /// As [`connect`].
    pub(super) async fn writer(&self) -> Result<Sql, Error> {
        let target = Target::parse(&self.cluster.local_url(SUPERUSER))?;
        connect(&target, "relay-bench", &[], &self.stage).await
    }

    /// Writes rows `first` to `last`, each in a transaction of its own, as fast as one connection can.
    ///
    /// # Errors
    /// What Postgres answered.
    pub(super) async fn fill(
        &self,
        first: u64,
        last: u64,
        rooms: usize,
        commit: Commit,
    ) -> Result<(), Error> {
        let call = format!("call public.bench_fill({first}, {last}, '{}', {rooms})", self.owner);
        let setting = match commit {
            Commit::Flushed => "set synchronous_commit = on",
            Commit::Unflushed => "set synchronous_commit = off",
        };
        self.sql.client.batch_execute(setting).await.map_err(failed)?;
        self.sql.client.batch_execute(&call).await.map_err(failed)
    }

    /// Makes the slot that the floor will read; what is written from now on is in it.
    ///
    /// # Errors
    /// What Postgres answered.
    pub(super) async fn prepare_floor(&self) -> Result<(), Error> {
        let text = include_str!("../../../sql/queries/bench_slot_create.sql");
        self.sql.client.query(text, &[&FLOOR_SLOT]).await.map(|_| ()).map_err(failed)
    }

    /// Starts to read that slot, what is published in `publication`.
    ///
    /// # Errors
    /// `SourceUnreachable`.
    pub(super) async fn floor(&self, publication: &str) -> Result<Floor, Error> {
        Floor::start(&self.cluster.socket(), FLOOR_SLOT, publication).await
    }

    /// Drops that slot, waiting until its reader is gone.
    ///
    /// # Errors
    /// What Postgres answered.
    pub(super) async fn drop_floor(&self) -> Result<(), Error> {
        let text = include_str!("../../../sql/queries/slot_drop.sql");
        while Slot::read(&self.sql, FLOOR_SLOT).await?.is_some_and(|slot| slot.pid.is_some()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.sql.client.query(text, &[&FLOOR_SLOT]).await.map(|_| ()).map_err(failed)
    }

    /// Sends a signal to the process that streams to the relay.
    ///
    /// # Errors
    /// `SourceUnreachable` when there is none.
    pub(super) async fn signal_sender(&self, signal: &str) -> Result<(), Error> {
        let slot = Slot::read(&self.sql, SLOT).await?;
        let pid = slot.and_then(|slot| slot.pid).ok_or_else(|| {
            Error::new(ErrorKind::SourceUnreachable, "the relay does not read its slot")
        })?;
        let sent =
            std::process::Command::new("kill").args(["-s", signal, &pid.to_string()]).status();
        if sent.is_ok_and(|status| status.success()) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Bug, "could not stop the sender of the relay's slot for a while"))
    }

    /// The version of Postgres.
    ///
    /// # Errors
    /// What Postgres answered.
    pub(super) async fn version(&self) -> Result<String, Error> {
        let row = self.sql.client.query_one("show server_version", &[]).await.map_err(failed)?;
        Ok(row.get(0))
    }

    /// Stops everything.
    pub(super) async fn tear_down(self) {
        drop(self.sql);
        self.stage.stop(Duration::from_secs(2)).await;
        self.cluster.stop();
    }

    fn log(&self) -> PathBuf {
        self.cluster.dir().join("relay.log")
    }
}

impl Stamps {
    /// Room for `count` rows from `first` on.
    pub(super) fn new(first: u64, count: usize) -> Self {
        let nanoseconds = std::iter::repeat_with(AtomicU64::default).take(count).collect();
        Self { start: Instant::now(), first, nanoseconds }
    }

    /// Notes that row `id` is being committed now.
    pub(super) fn mark(&self, id: u64) {
        if let Some(cell) = self.cell(id) {
            let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            cell.store(now, Ordering::Release);
        }
    }

    /// Time from the mark of row `id` until now; `None` for a row without one.
    pub(super) fn since(&self, id: u64) -> Option<Duration> {
        let marked = self.cell(id)?.load(Ordering::Acquire);
        (marked > 0).then(|| self.start.elapsed().saturating_sub(Duration::from_nanos(marked)))
    }

    fn cell(&self, id: u64) -> Option<&AtomicU64> {
        self.nanoseconds.get(usize::try_from(id.checked_sub(self.first)?).ok()?)
    }
}

/// The id of the row in a frame, found without parsing the frame; `None` for other messages.
pub(super) fn row_id(frame: &str) -> Option<u64> {
    let (_, record) = frame.split_once("\"record\":{")?;
    let (_, value) = record.split_once("\"id\":")?;
    let digits = value.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

/// What Postgres answered.
pub(super) fn failed(error: tokio_postgres::Error) -> Error {
    Error::new(ErrorKind::SourceRejected, "the bench could not write").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_row_in_a_frame() {
        let frame = r#"[null,null,"realtime:bench","postgres_changes",{"ids":[7],"data":{"type":"INSERT","record":{"id":4711,"room":1}}}]"#;
        assert_eq!(row_id(frame), Some(4711));
        assert_eq!(row_id(r#"["1","1","realtime:bench","phx_reply",{}]"#), None);
    }

    #[test]
    fn a_row_without_a_mark_has_no_latency() {
        let stamps = Stamps::new(10, 2);
        stamps.mark(10);
        assert!(stamps.since(10).is_some());
        assert!(stamps.since(11).is_none());
        assert!(stamps.since(9).is_none());
        assert!(stamps.since(12).is_none());
    }
}
