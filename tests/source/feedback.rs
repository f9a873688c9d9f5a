//! What Postgres is told: exactly what the log has, in time, whatever the log is doing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Wish, each_once, published};
use crate::support::{Cluster, Database, until};

#[tokio::test]
async fn a_commit_right_behind_an_idle_confirmation_is_received() {
    let cluster = Cluster::start(&[("autovacuum", "off")]);
    let database = published(&cluster).await;
    database.execute("create table other (id int)").await;
    let writer = database.connect().await;
    for id in 1..=20_i64 {
        let mut reader = Wish::on(&database).read();
        reader.streaming().await;
        writer.batch_execute("begin").await.unwrap();
        writer.execute("insert into t values ($1)", &[&id]).await.unwrap();
        // The open transaction's records are confirmed up to the last byte: its commit comes next.
        let idle = format!(
            "select (confirmed_flush_lsn >= pg_current_wal_insert_lsn())::text from pg_replication_slots where slot_name = '{}'",
            database.slot()
        );
        // A commit of something else flushes the WAL up to here.
        database.execute("insert into other values (1)").await;
        until("an idle confirmation", || async {
            (database.text(&idle).await == "true").then_some(())
        })
        .await;
        reader.stop().await;
        assert_eq!(database.text(&idle).await, "true", "something wrote in between");
        writer.batch_execute("commit").await.unwrap();

        let mut reader = Wish::on(&database).read();
        reader.streaming().await;
        assert_eq!(super::inserted(&reader.next().await[0]), [id]);
        reader.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_confirmed_is_a_commit_end_or_a_keepalive_exactly() {
    let database = published(Cluster::shared()).await;
    let proxy = Proxy::start(&database).await;
    let mut reader = Wish { url: proxy.url(&database), ..Wish::on(&database) }.read();
    reader.streaming().await;
    let query = format!(
        "select (confirmed_flush_lsn - '0/0')::text from pg_replication_slots where slot_name = '{}'",
        database.slot()
    );
    let start: u64 = database.text(&query).await.parse().unwrap();
    // Small and large transactions, rolled back ones, and WAL that is not published.
    database.execute("create table other (id int)").await;
    for round in 0..60_i64 {
        let (first, last) = (round * 100 + 1, round * 100 + 100);
        database.execute(&format!("insert into t select generate_series({first}, {last})")).await;
        database.execute("begin; insert into t values (0); rollback").await;
        database.execute("insert into other select generate_series(1, 50)").await;
    }
    assert_eq!(reader.ids_until(6000).await, each_once(6000));
    let end: u64 =
        database.text("select (pg_current_wal_lsn() - '0/0')::text").await.parse().unwrap();
    until("everything to be confirmed", || async {
        let confirmed: u64 = database.text(&query).await.parse().unwrap();
        (confirmed >= end).then_some(())
    })
    .await;
    reader.stop().await;

    let (mut allowed, mut highest, mut told) = (vec![start], start, 0);
    for seen in proxy.seen.lock().unwrap().iter() {
        match *seen {
            Seen::Keepalive(end) | Seen::Commit(end) => allowed.push(end),
            Seen::Confirmed(lsn) => {
                assert!(allowed.contains(&lsn), "{lsn:X} was never an end");
                assert!(lsn >= highest, "{lsn:X} after {highest:X}");
                highest = lsn;
                told += 1;
            }
        }
    }
    assert!(told > 1 && highest >= end, "{told} updates up to {highest:X}");
}

#[tokio::test]
async fn foreign_wal_is_confirmed_so_that_it_can_be_removed() {
    let database = published(Cluster::shared()).await;
    let mut reader = Wish::on(&database).read();
    reader.streaming().await;
    database.execute("create table other as select generate_series(1, 10000) as id").await;
    let end = database.text("select pg_current_wal_lsn()::text").await;
    let query = format!(
        "select (confirmed_flush_lsn >= '{end}')::text from pg_replication_slots where slot_name = '{}'",
        database.slot()
    );
    until("foreign WAL to be confirmed", || async {
        (database.text(&query).await == "true").then_some(())
    })
    .await;
    reader.stop().await;
}

#[tokio::test]
async fn a_full_log_holds_the_stream_but_not_the_connection() {
    let database = published(Cluster::shared()).await;
    let wal_sender_timeout = Duration::from_secs(1);
    let wish = Wish { wal_sender_timeout, log_bytes: 1, ..Wish::on(&database) };
    let mut reader = wish.read();
    reader.streaming().await;
    for id in 1..=5 {
        database.execute(&format!("insert into t values ({id}, repeat('x', 100000))")).await;
    }
    // One transaction fits. The walsender lives on, past several of its timeouts, and hears from us.
    let query = format!(
        "select (now() - r.backend_start > '4 s' and now() - r.reply_time < '1 s')::text
         from pg_stat_replication r join pg_replication_slots s on s.active_pid = r.pid
         where s.slot_name = '{}'",
        database.slot()
    );
    until("the walsender to be older than its timeouts", || async {
        let rows = database.query(&query).await;
        (rows.first()?.get::<_, String>(0) == "true").then_some(())
    })
    .await;
    assert_eq!(reader.ids_until(5).await, each_once(5));
    assert_eq!(reader.metrics.source_connects.get(), 1);
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_connection_is_let_go_by_both_sides() {
    let database = published(Cluster::shared()).await;
    let proxy = Proxy::start(&database).await;
    let wal_sender_timeout = Duration::from_secs(1);
    let url = proxy.url(&database);
    let mut reader = Wish { url, wal_sender_timeout, ..Wish::on(&database) }.read();
    reader.streaming().await;
    database.execute("insert into t values (1)").await;
    let holder = format!(
        "select active_pid from pg_replication_slots where slot_name = '{}'",
        database.slot()
    );
    let first: Option<i32> = database.query(&holder).await[0].get(0);
    proxy.freeze();
    database.execute("insert into t values (2)").await;
    until("Postgres to let go of the slot", || async {
        let now: Option<i32> = database.query(&holder).await[0].get(0);
        (now != first).then_some(())
    })
    .await;
    database.execute("insert into t values (3)").await;
    assert_eq!(reader.ids_until(3).await, each_once(3));
    assert!(reader.metrics.source_connects.get() >= 2);
    reader.stop().await;
}

/// What passed on replication connections, in order.
enum Seen {
    Keepalive(u64),
    Commit(u64),
    Confirmed(u64),
}

/// A relay of bytes that reads along, and can freeze the connections that are open.
struct Proxy {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    frozen: watch::Sender<u32>,
}

impl Proxy {
    async fn start(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = address(&database.url);
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (frozen, watching) = watch::channel(0);
        let proxy = Self { port, seen: Arc::clone(&seen), frozen };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let mine = *watching.borrow();
                let pipe = |from_server_side, from, to| Pipe {
                    from,
                    to,
                    from_server_side,
                    frozen: watching.clone(),
                    mine,
                    seen: Arc::clone(&seen),
                };
                tokio::spawn(pipe(false, from_client, to_server).run());
                tokio::spawn(pipe(true, from_server, to_client).run());
            }
        });
        proxy
    }

    fn url(&self, database: &Database) -> String {
        let (start, end) = database.url.split_once(&address(&database.url)).unwrap();
        format!("{start}127.0.0.1:{}{end}?sslmode=disable", self.port)
    }

    /// Stops moving bytes on the connections that are open now, without closing them.
    fn freeze(&self) {
        self.frozen.send_modify(|frozen| *frozen += 1);
    }
}

fn address(url: &str) -> String {
    url.split(['@', '/']).find(|part| part.starts_with("127.")).unwrap().to_owned()
}

struct Pipe {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    from_server_side: bool,
    frozen: watch::Receiver<u32>,
    mine: u32,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Pipe {
    async fn run(mut self) {
        let mut passed = Vec::new();
        // Only a client's first message has no tag.
        let mut is_tagged = self.from_server_side;
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let mine = self.mine;
            let freezing = async { drop(self.frozen.wait_for(|frozen| *frozen > mine).await) };
            let read = tokio::select! {
                biased;
                () = freezing => None,
                read = self.from.read(&mut chunk) => Some(read.unwrap_or(0)),
            };
            let read = match read {
                None => return std::future::pending().await,
                Some(0) => return,
                Some(read) => read,
            };
            passed.extend_from_slice(&chunk[..read]);
            loop {
                let tag = usize::from(is_tagged);
                let Some(length) = passed.get(tag..tag + 4) else { break };
                let whole = tag + u32::from_be_bytes(length.try_into().unwrap()) as usize;
                if passed.len() < whole {
                    break;
                }
                let message: Vec<u8> = passed.drain(..whole).collect();
                if is_tagged && message[0] == b'd' {
                    self.note(&message[5..]);
                }
                is_tagged = true;
            }
            if self.to.write_all(&chunk[..read]).await.is_err() {
                return;
            }
        }
    }

    fn note(&self, payload: &[u8]) {
        let lsn = |at: usize| u64::from_be_bytes(payload[at..at + 8].try_into().unwrap());
        let seen = match payload[0] {
            b'k' => Seen::Keepalive(lsn(1)),
            b'w' if payload[25] == b'C' => Seen::Commit(lsn(25 + 2 + 8)),
            b'r' => Seen::Confirmed(lsn(9)),
            _ => return,
        };
        self.seen.lock().unwrap().push(seen);
    }
}
