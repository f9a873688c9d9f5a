//! A scenario's stage: Postgres, the relay, a writer, clients, and the verdict with its evidence.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::crowd::{Crowd, Memory, SENTINEL};
use super::dice::{Dice, seed};
use super::sdk;
use super::verdict::{Story, Verdict};
use super::writer::{Book, Load, SCHEMA, Writer, connect};
use crate::support::{Cluster, Database, Relay, free_port};

/// How long a row may take to reach everybody before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);

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
    /// Where clients connect, when not to the relay itself.
    pub door: Option<u16>,
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
            door: None,
        }
    }

    pub fn with_sdk(mut self) -> Self {
        self.sdk = true;
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
        println!("chaos: {name}: SEED={seed}");
        let cluster = Cluster::start(&plan.postgres);
        let database = cluster.database().await.with_roles().await;
        database.execute(SCHEMA).await;
        let mut variables = vec![
            ("RELAY_REALTIME__DELETES", "strict"),
            ("RELAY_LIMITS__SUBJECT_JOINS_PER_SECOND", "10000"),
            ("RELAY_LIMITS__JOINS_PER_SECOND", "10000"),
            ("RUST_LOG", "info"),
        ];
        variables.extend(plan.relay.iter().map(|(name, value)| (*name, value.as_str())));
        let relay = Relay::prepare(&database, &variables);
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
        }
    }

    /// Lets the clients in.
    pub fn populate(&mut self) {
        let port = self.plan.door.unwrap_or_else(|| self.relay.port());
        let seats = self.plan.load.seats;
        let seat = |number: usize| 1 + i32::try_from(number).unwrap() % seats;
        for number in 0..self.plan.since {
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

    /// Writes a row for everybody; how long it took from now until it reached every client.
    pub async fn reach(&mut self) -> Option<Duration> {
        self.reach_since(Instant::now()).await
    }

    /// The same, counted from `start`.
    pub async fn reach_since(&mut self, start: Instant) -> Option<Duration> {
        self.sentinel += 1;
        let sql = format!(
            "insert into marks (key, ver, owner) values ({SENTINEL}, {}, 0)",
            self.sentinel
        );
        while self.sql().await.batch_execute(&sql).await.is_err() {}
        // Who joins for the first time may miss it and sees the next one.
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let patience = if self.writer.is_some() { PATIENCE } else { Duration::from_secs(1) };
            if self.crowd.reached(self.sentinel, patience).await {
                return Some(start.elapsed());
            }
            if self.writer.is_none() {
                self.sentinel += 1;
                let sql = format!(
                    "insert into marks (key, ver, owner) values ({SENTINEL}, {}, 0)",
                    self.sentinel
                );
                while self.sql().await.batch_execute(&sql).await.is_err() {}
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
        println!("chaos: {}: {verdict}. {figures}", self.name);
        let (name, seed) = (self.name, self.seed);
        println!(
            "chaos: {name}: to repeat: CHAOS={} SEED={seed} cargo test --test main chaos:: -- --nocapture",
            size("short", "long")
        );
        let is_resync_fine = match resync {
            Resync::None => verdict.resync == 0,
            Resync::Once => verdict.resync > 0,
        };
        let is_whole = match resync {
            Resync::None => verdict.is_clean() && reached.is_some(),
            Resync::Once => {
                let Verdict { duplicate, unstable, reordered, leaked, .. } = verdict;
                duplicate + unstable + reordered + leaked == 0 && reached.is_some()
            }
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
    fn keep_evidence(
        &self,
        verdict: &Verdict,
        book: &[super::verdict::Committed],
        stories: &[Story],
    ) -> PathBuf {
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
}

/// A port for something that stands before the relay.
pub fn door() -> u16 {
    free_port()
}

/// What clients of a kind share.
pub type Shared<T> = Arc<Mutex<T>>;
