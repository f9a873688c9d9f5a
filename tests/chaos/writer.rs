//! Sessions that write rows with numbers, roll some back, and know what was committed.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::dice::Dice;
use super::verdict::{ALL, Change, Committed, NOBODY};
use crate::support::PATIENCE;
use crate::support::database::try_connect;

/// What has been committed, by all sessions.
pub type Book = Arc<Mutex<Vec<Committed>>>;

/// Rows of `states` that one session changes.
const KEYS: i32 = 20;

/// Keys of `marks` of one session begin here, of the next one so much further.
const STRIDE: i32 = 1000;

/// Tables, policies, and where ambiguous commits are looked up.
pub const SCHEMA: &str = "
    create table marks (id bigint generated always as identity primary key, key int not null, ver bigint not null,
      owner int not null, pad text);
    create table states (key int primary key, ver bigint not null, owner int not null, pad text);
    alter table states replica identity full;
    create table ledger (tx text primary key);
    create table foreign_rows (id bigint generated always as identity primary key, pad text);
    alter table marks enable row level security;
    alter table states enable row level security;
    create policy seats on marks for select to authenticated
      using (owner = 0 or owner = (auth.jwt() ->> 'seat')::int);
    create policy seats on states for select to authenticated
      using (owner = 0 or owner = (auth.jwt() ->> 'seat')::int);
    grant select on marks, states to authenticated;
    create table bulk (id bigint primary key, pad text);
    alter publication supabase_realtime add table marks, states, bulk;";

/// How much is written.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub sessions: u64,
    /// Transactions per second of all sessions together.
    pub rate: u64,
    pub seats: i32,
    /// Whether some transactions commit in two phases.
    pub two_phase: bool,
}

/// Sessions at work.
#[derive(Debug)]
pub struct Writer {
    stop: watch::Sender<bool>,
    sessions: Vec<JoinHandle<()>>,
}

impl Writer {
    pub fn start(url: &str, load: Load, dice: &Dice, book: &Book) -> Self {
        let (stop, stopped) = watch::channel(false);
        let sessions = (1..=load.sessions)
            .map(|number| {
                let session = Session {
                    url: url.to_owned(),
                    load,
                    number: i32::try_from(number).unwrap(),
                    dice: dice.of(number),
                    book: Arc::clone(book),
                    states: vec![None; usize::try_from(KEYS).unwrap()],
                    ver: 0,
                    transactions: 0,
                    stopped: stopped.clone(),
                };
                tokio::spawn(session.run())
            })
            .collect();
        Self { stop, sessions }
    }

    /// Stops them, and waits until each knows what became of its last transaction.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for session in self.sessions {
            session.await.unwrap();
        }
    }
}

struct Session {
    url: String,
    load: Load,
    number: i32,
    dice: Dice,
    book: Book,
    /// The rows of `states` that exist: their version and owner.
    states: Vec<Option<(i64, i32)>>,
    /// Rises with each change, also of those rolled back.
    ver: i64,
    transactions: u64,
    stopped: watch::Receiver<bool>,
}

/// What a transaction will have done if it commits.
struct Draft {
    sql: String,
    /// The second of two phases.
    second: Option<String>,
    name: String,
    changes: Vec<Committed>,
    states: Vec<Option<(i64, i32)>>,
    is_rolled_back: bool,
}

impl Session {
    async fn run(mut self) {
        let mut client = connect(&self.url).await;
        let every = Duration::from_micros(1_000_000 * self.load.sessions / self.load.rate);
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !*self.stopped.borrow() {
            ticks.tick().await;
            let draft = self.draft();
            let mut done = client.batch_execute(&draft.sql).await;
            if let (Ok(()), Some(second)) = (&done, &draft.second) {
                done = client.batch_execute(second).await;
            }
            if let Err(error) = done {
                assert!(
                    error.as_db_error().is_none_or(|said| said.code().code().starts_with("57")),
                    "{error:?}\n{}",
                    draft.sql
                );
                client = connect(&self.url).await;
                if !was_committed(&mut client, &self.url, &draft.name).await {
                    continue;
                }
            }
            if !draft.is_rolled_back {
                self.states = draft.states;
                self.book.lock().unwrap().extend(draft.changes);
            }
        }
    }

    fn draft(&mut self) -> Draft {
        self.transactions += 1;
        let name = format!("{}-{}", self.number, self.transactions);
        let mut draft = Draft {
            sql: format!("begin; insert into ledger values ('{name}');"),
            second: None,
            name,
            changes: Vec::new(),
            states: self.states.clone(),
            is_rolled_back: self.dice.chance(5),
        };
        for _ in 0..=self.dice.below(3) {
            match self.dice.below(100) {
                0..60 => self.mark(&mut draft),
                60..90 => self.state(&mut draft),
                90..95 => {
                    // What a savepoint takes back never was.
                    let (changes, states) = (draft.changes.clone(), draft.states.clone());
                    draft.sql.push_str("savepoint s;");
                    self.mark(&mut draft);
                    self.state(&mut draft);
                    draft.sql.push_str("rollback to s;");
                    (draft.changes, draft.states) = (changes, states);
                }
                _ => {
                    draft.sql.push_str("savepoint r;");
                    self.mark(&mut draft);
                    draft.sql.push_str("release r;");
                }
            }
        }
        if self.dice.chance(3) {
            draft.sql.push_str("select pg_sleep(0.01);");
        }
        let is_two_phase = self.load.two_phase && self.dice.chance(20);
        let (commit, name) =
            (if draft.is_rolled_back { "rollback" } else { "commit" }, &draft.name);
        if is_two_phase {
            write!(draft.sql, "prepare transaction '{name}'").unwrap();
            draft.second = Some(format!("{commit} prepared '{name}'"));
        } else {
            draft.sql.push_str(commit);
        }
        draft
    }

    fn mark(&mut self, draft: &mut Draft) {
        self.ver += 1;
        let key = self.number * STRIDE + i32::try_from(self.dice.below(50)).unwrap();
        let (ver, owner) = (self.ver, self.owner());
        write!(draft.sql, "insert into marks (key, ver, owner, pad) values ({key}, {ver}, {owner}, repeat('x', {}));",
            self.dice.below(200)).unwrap();
        draft.changes.push(Committed { change: Change { kind: (b'm', b'I'), key, ver }, owner });
    }

    fn state(&mut self, draft: &mut Draft) {
        self.ver += 1;
        let place = self.dice.below(KEYS.unsigned_abs().into());
        let place = usize::try_from(place).unwrap();
        let key = self.number * STRIDE + i32::try_from(place).unwrap();
        let (kind, ver, owner) = match draft.states[place] {
            Some((ver, owner)) if self.dice.chance(20) => {
                write!(draft.sql, "delete from states where key = {key};").unwrap();
                draft.states[place] = None;
                (b'D', ver, owner)
            }
            before => {
                let ver = self.ver;
                let owner = before.map_or_else(|| self.owner(), |(_, owner)| owner);
                write!(
                    draft.sql,
                    "insert into states values ({key}, {ver}, {owner}, 'x') on conflict (key) do update set ver = {ver};"
                )
                .unwrap();
                draft.states[place] = Some((ver, owner));
                (if before.is_some() { b'U' } else { b'I' }, ver, owner)
            }
        };
        draft.changes.push(Committed { change: Change { kind: (b's', kind), key, ver }, owner });
    }

    fn owner(&mut self) -> i32 {
        match self.dice.below(10) {
            0..2 => ALL,
            2 => NOBODY,
            _ => 1 + i32::try_from(self.dice.below(self.load.seats.unsigned_abs().into())).unwrap(),
        }
    }
}

/// A connection, as soon as Postgres takes one.
pub async fn connect(url: &str) -> Client {
    let deadline = tokio::time::Instant::now() + PATIENCE * 4;
    loop {
        if let Some(client) = try_connect(url).await {
            return client;
        }
        assert!(tokio::time::Instant::now() < deadline, "Postgres does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether a transaction whose answer never came did commit.
async fn was_committed(client: &mut Client, url: &str, name: &str) -> bool {
    loop {
        // One that was prepared and never finished is taken back here; a server that comes back keeps it.
        let query = format!(
            "select exists (select from ledger where tx = '{name}'),
                    exists (select from pg_prepared_xacts where gid = '{name}')"
        );
        if let Ok(row) = client.query_one(&query, &[]).await {
            if !row.get::<_, bool>(1) {
                return row.get(0);
            }
            let _ = client.batch_execute(&format!("rollback prepared '{name}'")).await;
            continue;
        }
        *client = connect(url).await;
    }
}
