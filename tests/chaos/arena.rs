//! A scenario's stage: Postgres, the relay, a writer, clients, and the verdict with its evidence.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::crowd::{Crowd, Memory, SENTINEL};
use super::dice::{Dice, seed};
use super::proxy::Proxy;
use super::sdk;
use super::verdict::{ALL, Change, Committed, Story, Verdict};
use super::writer::{Book, Load, SCHEMA, Writer, connect};
use crate::support::{Cluster, Database, Relay};

/// How long a row may take to reach everybody before it counts as lost. Fifteen million rows may be before it.
fn patience() -> Duration {
    Duration::from_secs(size(60, 400))
}

/// Whether this is the long form (`CHAOS=long`).
pub fn is_long() -> bool {
    std::env::var("CHAOS").is_ok_and(|form| form == "long")
}

/// The short form's number, or the long one's.
pub fn size<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}

/// What a scenario needs.
#[derive(Clone, Debug)]
pub struct Plan {
    pub load: Load,
    pub since: usize,
    pub resume: usize,
    /// Whether supabase-js is among the clients.
    pub sdk: bool,
    /// How long clients wait before they come back, in milliseconds.
    pub pause: (u64, u64),
    /// Settings of Postgres.
    pub postgres: Vec<(&'static str, &'static str)>,
    /// Variables of the relay.
    pub relay: Vec<(&'static str, String)>,
    /// Whether there is a network that can misbehave on both sides of the relay.
    pub networked: bool,
    /// How many of the clients can be put to sleep.
    pub sleepy: usize,
    /// Whether the relay lives on when a file may not grow any more.
    pub shielded: bool,
}

impl Plan {
    /// The usual one: short `(clients, transactions per second)`, and long.
    pub fn new(short: (usize, u64), long: (usize, u64)) -> Self {
        let (clients, rate) = size(short, long);
        let load = Load { sessions: 4, rate, seats: 3, two_phase: false };
        let since = clients.div_ceil(2);
        Self {
            load,
            since,
            resume: clients - since,
            sdk: false,
            pause: (20, 200),
            postgres: vec![("max_prepared_transactions", "50")],
            relay: Vec::new(),
            networked: false,
            sleepy: 0,
            shielded: false,
        }
    }

    pub fn with_sdk(mut self) -> Self {
        self.sdk = true;
        self
    }

    pub fn networked(mut self) -> Self {
        self.networked = true;
        self
    }

    pub fn two_phase(mut self) -> Self {
        self.load.two_phase = true;
        self
    }

    pub fn postgres(mut self, name: &'static str, value: &'static str) -> Self {
        self.postgres.push((name, value));
        self
    }

    pub fn relay(mut self, name: &'static str, value: &str) -> Self {
        self.relay.push((name, value.to_owned()));
        self
    }
}

/// A scenario under way.
#[derive(Debug)]
pub struct Arena {
    pub name: &'static str,
    pub seed: u64,
    pub dice: Dice,
    pub database: Database,
    pub relay: Relay,
    pub crowd: Crowd,
    pub cluster: Cluster,
    pub writer: Option<Writer>,
    pub plan: Plan,
    book: Book,
    sentinel: i64,
    /// Figures for the report.
    pub figures: Vec<String>,
    /// Between clients and relay, and between relay and Postgres.
    pub networks: Option<(Proxy, Proxy)>,
}

impl Arena {
    /// Starts everything; everybody is live and the writer writes.
    pub async fn start(name: &'static str, plan: Plan) -> Self {
        let mut arena = Self::prepare(name, plan).await;
        arena.relay.launch();
        arena.relay.ready().await;
        arena.populate();
        arena.begin().await;
        arena
    }

    /// Everything is there, nothing runs but Postgres.
    pub async fn prepare(name: &'static str, plan: Plan) -> Self {
        let seed = seed();
        eprintln!("chaos: {name}: SEED={seed}");
        let cluster = Cluster::start(&plan.postgres);
        let database = cluster.database().await.with_roles().await;
        database.execute(SCHEMA).await;
        let mut variables = vec![
            ("RELAY_REALTIME__DELETES", "strict"),
            ("RELAY_LIMITS__SUBJECT_JOINS_PER_SECOND", "10000"),
            ("RELAY_LIMITS__JOINS_PER_SECOND", "10000"),
            ("RUST_LOG", "info"),
        ];
        let behind = if plan.networked { Some(Proxy::start(cluster.port()).await) } else { None };
        let url = behind.as_ref().map(|proxy| {
            let (from, to) = (cluster.port().to_string(), proxy.port().to_string());
            format!("{}?sslmode=disable", database.url_as("relay").replace(&from, &to))
        });
        variables.extend(url.as_deref().map(|url| ("RELAY_POSTGRES__URL", url)));
        variables.extend(plan.relay.iter().map(|(name, value)| (*name, value.as_str())));
        let relay = Relay::prepare(&database, &variables);
        let relay = if plan.shielded { relay.shielded() } else { relay };
        let networks = match behind {
            Some(behind) => Some((Proxy::start(relay.port()).await, behind)),
            None => None,
        };
        let crowd = Crowd::new();
        let dice = Dice::new(seed);
        let (book, figures) = (Book::default(), Vec::new());
        Self {
            name,
            seed,
            dice,
            database,
            relay,
            crowd,
            cluster,
            writer: None,
            plan,
            book,
            sentinel: 0,
            figures,
            networks,
        }
    }

    /// Lets the clients in.
    pub fn populate(&mut self) {
        let port = self.networks.as_ref().map_or(self.relay.port(), |(front, _)| front.port());
        let seats = self.plan.load.seats;
        let seat = |number: usize| 1 + i32::try_from(number).unwrap() % seats;
        for number in 0..self.plan.since {
            self.crowd.enters_sleepy = number < self.plan.sleepy;
            self.crowd.enter(port, seat(number), Memory::Since, self.plan.pause, &self.dice);
        }
        for number in 0..self.plan.resume {
            let memory = Memory::Resume(format!("tab-{number}"));
            self.crowd.enter(port, seat(number), memory, self.plan.pause, &self.dice);
        }
        if self.plan.sdk {
            let (life, task) = sdk::start(port, seat(0));
            self.crowd.add(life, task);
        }
    }

    /// Waits until everybody is live and, with a `resume` id, known on disk; then the writer begins.
    pub async fn begin(&mut self) {
        assert!(self.reach().await.is_some(), "{}: clients do not become live", self.name);
        if self.plan.resume > 0 || self.plan.sdk {
            let expected = (self.plan.resume + usize::from(self.plan.sdk)) as f64;
            crate::support::until("places to be saved", || async {
                (expected <= self.relay.metric("relay_places_saved_total")).then_some(())
            })
            .await;
        }
        self.writer =
            Some(Writer::start(&self.database.url, self.plan.load, &self.dice, &self.book));
    }

    /// A connection, as soon as Postgres takes one.
    pub async fn sql(&self) -> Client {
        connect(&self.database.url).await
    }

    /// Runs a statement, again until Postgres takes it.
    pub async fn execute(&self, sql: &str) {
        while self.sql().await.batch_execute(sql).await.is_err() {}
    }

    /// The process that sends to the relay, if there is one.
    pub async fn sender(&self) -> Option<i32> {
        let sql = format!(
            "select active_pid from pg_replication_slots where slot_name = '{}'",
            self.database.slot()
        );
        let rows = self.sql().await.query(&sql, &[]).await.ok()?;
        rows.first()?.get(0)
    }

    /// Takes down rows of `marks` for everybody that the scenario itself has committed, by key and version.
    pub fn committed(&self, rows: impl Iterator<Item = (i32, i64)>) {
        let kind = (b'm', b'I');
        let rows =
            rows.map(|(key, ver)| Committed { change: Change { kind, key, ver }, owner: ALL });
        self.book.lock().unwrap().extend(rows);
    }

    /// How many changes have been committed.
    pub fn written(&self) -> usize {
        self.book.lock().unwrap().len()
    }

    /// The most memory the relay has had since its start, in MiB.
    pub fn relay_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.relay.pid());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// Every client has been told of a gap by now.
    pub fn everybody_was_told(&self) {
        for life in &self.crowd.lives {
            let life = life.lock().unwrap();
            let Story { name, gaps, told, .. } = &life.story;
            assert!(
                !gaps.is_empty(),
                "{}: {name} was not told of the gap, but {told:?}",
                self.name
            );
        }
    }

    /// Lets everybody work for a while.
    pub async fn work(&mut self, short_ms: u64, long_ms: u64) {
        let middle = size(short_ms, long_ms);
        tokio::time::sleep(self.dice.millis(middle / 2, middle * 3 / 2)).await;
    }

    /// Notes how long it takes from now until a new row is at every client.
    pub async fn note_recovery(&mut self, start: Instant) {
        let took = self.reach_since(start).await;
        let took = took.map_or("never".to_owned(), |took| format!("{} ms", took.as_millis()));
        self.figures.push(format!("a new row at every client after {took}"));
    }

    /// Writes a row for everybody; how long it took from now until it reached every client.
    pub async fn reach(&mut self) -> Option<Duration> {
        self.reach_since(Instant::now()).await
    }

    /// The same, counted from `start`.
    pub async fn reach_since(&mut self, start: Instant) -> Option<Duration> {
        // Who joins for the first time, or after a gap, may miss a row and sees the next one.
        let first = self.sentinel + 1;
        let deadline = Instant::now() + patience();
        while Instant::now() < deadline {
            self.sentinel += 1;
            let (key, ver) = (SENTINEL, self.sentinel);
            self.execute(&format!("insert into marks (key, ver, owner) values ({key}, {ver}, 0)"))
                .await;
            if self.crowd.reached(first, Duration::from_secs(1)).await {
                return Some(start.elapsed());
            }
        }
        None
    }

    /// Stops the writer, waits until everybody has everything, and compares. `resync` says whether gaps may be told.
    pub async fn verdict(mut self, resync: Resync) {
        if let Some(writer) = self.writer.take() {
            writer.stop().await;
        }
        let reached = self.reach().await;
        // What comes now is too much.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let book = self.book.lock().unwrap().clone();
        let crowd = std::mem::replace(&mut self.crowd, Crowd::new());
        let stories = crowd.leave();
        let verdict = Verdict::of(&book, &stories);
        let figures = self.figures.join("; ");
        eprintln!("chaos: {}: {verdict}. {figures}", self.name);
        let (name, seed) = (self.name, self.seed);
        eprintln!(
            "chaos: {name}: to repeat: CHAOS={} SEED={seed} cargo test --test main chaos:: -- --nocapture",
            size("short", "long")
        );
        let is_resync_fine = match resync {
            Resync::None => verdict.resync == 0,
            Resync::Once | Resync::Rewritten => verdict.resync > 0,
            Resync::Told => true,
        };
        let is_whole = match resync {
            Resync::None => verdict.is_clean() && reached.is_some(),
            Resync::Once | Resync::Told => {
                let Verdict { duplicate, unstable, reordered, leaked, silent, .. } = verdict;
                duplicate + unstable + reordered + leaked + silent == 0 && reached.is_some()
            }
            Resync::Rewritten => verdict.lost + verdict.leaked == 0 && reached.is_some(),
        };
        if !is_resync_fine || !is_whole || verdict.committed == 0 {
            let place = self.keep_evidence(&verdict, &book, &stories);
            panic!(
                "{name}: {verdict}\nlast row reached everybody: {}\n{}\nevidence: {}",
                reached.is_some(),
                verdict.examples.join("\n"),
                place.display()
            );
        }
    }

    /// Writes down all that is known, where the next run does not remove it.
    fn keep_evidence(&self, verdict: &Verdict, book: &[Committed], stories: &[Story]) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/chaos");
        let place = root.join(format!("{}-{}", self.name.replace(' ', "-"), self.seed));
        std::fs::create_dir_all(&place).unwrap();
        let write = |name: &str, text: &str| std::fs::write(place.join(name), text).unwrap();
        write(
            "verdict",
            &format!("SEED={}\n{verdict}\n{}\n", self.seed, verdict.examples.join("\n")),
        );
        let lines = |lines: &mut dyn Iterator<Item = String>| {
            lines.fold(String::new(), |mut text, line| {
                writeln!(text, "{line}").unwrap();
                text
            })
        };
        write("committed", &lines(&mut book.iter().map(|one| format!("{one:?}"))));
        for story in stories {
            let seen = story
                .seen
                .iter()
                .map(|seen| format!("{} {} {:?}", seen.connection, seen.id, seen.change));
            let told = story.gaps.iter().chain(&story.told).cloned();
            write(&story.name, &lines(&mut told.chain(seen)));
        }
        write("relay.log", &self.relay.log_text());
        write("postgres.log", &std::fs::read_to_string(self.cluster.log()).unwrap_or_default());
        let copy = |from: &Path, to: &str| {
            let _ =
                std::process::Command::new("cp").arg("-r").arg(from).arg(place.join(to)).status();
        };
        copy(self.relay.directory(), "log");
        copy(&self.cluster.data().join("pg_wal"), "pg_wal");
        place
    }
}

/// Whether clients may be told of gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resync {
    /// Nothing may be missing.
    None,
    /// History is gone, and that must be told.
    Once,
    /// History may be gone, and if it is, that must be told.
    Told,
    /// History was rewritten: what it still has comes again, as another history.
    Rewritten,
}
