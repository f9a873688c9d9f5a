//! Clients that join while many write: each ends with exactly the table, change by change. On a machine that is too busy for
//! that, the relay may give a snapshot up; then it says so, and whoever is told begins anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::RwLock;

use crate::support::client::Received;
use crate::support::relay::token;
use crate::support::{Client, Cluster, Database, PATIENCE, Relay, until};

const WRITERS: i32 = 4;
const ROUNDS: i32 = 10;
const CLIENTS: i32 = 20;

/// Rows of one writer.
const ROWS: i32 = 60;

/// Writes transactions of all sorts to its own rows, while `gate` lets it.
async fn write(database: &Database, writer: i32, gate: Arc<RwLock<()>>, stop: Arc<AtomicBool>) {
    let client = database.connect().await;
    let mut random = 0x9e37_79b9_u32.wrapping_mul(writer.cast_unsigned() + 1);
    let mut draw = |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % below
    };
    while !stop.load(Ordering::Relaxed) {
        let _open = gate.read().await;
        let mut sql = String::from("begin;");
        for _ in 0..=draw(4) {
            let id = writer * ROWS + i32::try_from(draw(ROWS.cast_unsigned())).unwrap();
            sql += &match draw(3) {
                0 => format!("insert into busy values ({id}, 0) on conflict do nothing;"),
                1 => format!("update busy set n = n + 1 where id = {id};"),
                _ => format!("delete from busy where id = {id};"),
            };
        }
        if draw(4) == 0 {
            sql += "savepoint s; insert into busy values (-1, 0); rollback to s;";
        }
        sql += if draw(8) == 0 { "rollback" } else { "commit" };
        client.batch_execute(&sql).await.unwrap();
    }
}

/// What a client makes of what it is told.
#[derive(Default)]
struct Copy {
    rows: BTreeMap<i64, i64>,
    /// The changes it was given for each of its wishes.
    given: HashMap<i64, HashSet<String>>,
}

impl Copy {
    /// Takes a message; true for the one that ends the round.
    fn take(&mut self, received: &Received, with_rows: i64, sentinel: i64) -> bool {
        let data = &received.payload["data"];
        let is_snapshot = data["snapshot"] == true;
        let ids = received.payload["ids"].as_array().unwrap();
        for id in ids {
            let given = self.given.entry(id.as_i64().unwrap()).or_default();
            let change = data["id"].as_str().unwrap().to_owned();
            assert!(given.insert(change), "given twice: {data}");
        }
        let record = if data["type"] == "DELETE" { &data["old_record"] } else { &data["record"] };
        let (id, n) = (record["id"].as_i64().unwrap(), record["n"].as_i64().unwrap());
        if ids.contains(&json!(with_rows)) {
            match data["type"].as_str().unwrap() {
                "INSERT" => assert_eq!(self.rows.insert(id, n), None, "there already: {data}"),
                "UPDATE" => assert_eq!(self.rows.insert(id, n), Some(n - 1), "missed: {data}"),
                _ => assert_eq!(self.rows.remove(&id), Some(n), "missed: {data}"),
            }
        } else {
            assert!(!is_snapshot, "for another wish: {data}");
        }
        id == sentinel
    }
}

/// Every change there is, as one who was always there is told.
type History = Arc<Mutex<Vec<(String, i64)>>>;

async fn watch(mut client: Client, history: History) {
    let busy = json!([{ "event": "*", "schema": "public", "table": "busy" }]);
    client.subscribe("room", busy).await;
    while let Some(received) = client.receive().await {
        let data = &received.payload["data"];
        let record = if data["type"] == "DELETE" { &data["old_record"] } else { &data["record"] };
        let change = (data["id"].as_str().unwrap().to_owned(), record["id"].as_i64().unwrap());
        history.lock().unwrap().push(change);
    }
}

/// What a copy ends with: the rows, and the changes its other wish was given.
type Copied = (BTreeMap<i64, i64>, HashSet<String>);

/// The client was closed because it did not read.
const TOO_SLOW: &str = "too slow";

/// Why the relay may give up under load what a join asks for.
const OVERLOADED: [&str; 6] = [
    TOO_SLOW,
    "snapshot_behind",
    "snapshot_early",
    "snapshot_timed_out",
    "snapshot_unavailable",
    "catch_up_behind",
];

/// Who copies, and what became of all copies so far.
struct Scribe {
    relay: Arc<Relay>,
    token: String,
    /// How many have had a whole snapshot.
    complete: Arc<AtomicUsize>,
    /// What was told that could not be done, by reason.
    told: Arc<Mutex<HashMap<String, u32>>>,
}

/// Copies until the round ends, anew as often as it is told that something is missing.
async fn copy(scribe: Scribe, since: Option<String>, sentinel: i64) -> Copied {
    let mut is_counted = false;
    loop {
        let client = Client::connect(&scribe.relay, &scribe.token).await;
        let complete = || {
            if !std::mem::replace(&mut is_counted, true) {
                scribe.complete.fetch_add(1, Ordering::Relaxed);
            }
        };
        match attempt(client, since.as_deref(), sentinel, complete).await {
            Ok(copied) => return copied,
            Err(gap) => {
                let reason = gap["reason"].as_str().unwrap().to_owned();
                assert!(OVERLOADED.contains(&&*reason), "{gap}");
                // A socket that is closed is no gap to the relay.
                if reason != TOO_SLOW {
                    *scribe.told.lock().unwrap().entry(reason).or_default() += 1;
                }
            }
        }
    }
}

/// Joins and copies until the round ends, or a gap is told. Another wish continues after a change, if it is given.
async fn attempt(
    mut client: Client,
    since: Option<&str>,
    sentinel: i64,
    mut complete: impl FnMut(),
) -> Result<Copied, Value> {
    let busy = json!({ "event": "*", "schema": "public", "table": "busy" });
    let mut first = busy.clone();
    first["snapshot"] = json!({ "limit": 1000, "order": "n.desc" });
    let mut wishes = vec![first];
    wishes.extend(since.map(|since| {
        let mut other = busy;
        other["since"] = json!(since);
        other
    }));
    let bindings = client.subscribe("room", json!(wishes)).await;
    let wish = |place: usize| bindings[place]["id"].as_i64();
    let mut copy = Copy::default();
    let mut is_complete = false;
    let mut waiting: HashSet<i64> = [wish(0), wish(1)].into_iter().flatten().collect();
    while !waiting.is_empty() || !is_complete {
        let next = match tokio::time::timeout(PATIENCE, client.receive_or_close()).await.unwrap() {
            Ok(next) => next,
            // A client that is kept from reading is closed for it: the code tells.
            Err(code) => {
                assert_eq!(code, Some(1008));
                return Err(json!({ "reason": TOO_SLOW }));
            }
        };
        match &*next.event {
            "postgres_changes" => {
                if copy.take(&next, wish(0).unwrap(), sentinel) {
                    for id in next.payload["ids"].as_array().unwrap() {
                        waiting.remove(&id.as_i64().unwrap());
                    }
                }
            }
            "system" => {
                if let Some(gap) = next.payload.get("gap") {
                    assert_eq!(next.payload["status"], "error", "{next:?}");
                    return Err(gap.clone());
                }
                assert_eq!(next.payload["status"], "ok", "{next:?}");
                is_complete = next.payload.get("snapshot").is_some();
                complete();
            }
            other => panic!("{other}"),
        }
    }
    let other = wish(1).and_then(|other| copy.given.remove(&other)).unwrap_or_default();
    Ok((copy.rows, other))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_joins_while_many_write_ends_with_exactly_the_table() {
    let database = Arc::new(Cluster::shared().database().await.with_roles().await);
    database
        .execute(
            "create table busy (id int primary key, n int not null);
             alter table busy replica identity full;
             alter table busy enable row level security;
             create policy even on busy for select to authenticated using (id % 2 = 0);
             alter publication supabase_realtime add table busy;
             grant select on busy to authenticated",
        )
        .await;
    // So that whoever may not read a row is not told that it is gone either.
    let strict = [("RELAY_REALTIME__DELETES", "strict")];
    let relay = Arc::new(Relay::start_with(&database, &strict).await);
    let history = History::default();
    let watcher = Client::connect(&relay, &token("service_role", &json!({}))).await;
    tokio::spawn(watch(watcher, Arc::clone(&history)));
    let told = async |row: i64| {
        until("the watcher to be told", || async {
            let history = history.lock().unwrap();
            let place = history.iter().position(|(_, id)| *id == row)?;
            history.get(place).map(|(id, _)| (place, id.clone()))
        })
        .await
    };
    until("the watcher to be there", || async {
        (relay.metric("relay_bindings") > 0.5).then_some(())
    })
    .await;
    database.execute("insert into busy values (99999, 0)").await;
    let (mut from, mut since) = told(99_999).await;
    let (complete, given_up) =
        (Arc::<AtomicUsize>::default(), Arc::<Mutex<HashMap<_, _>>>::default());
    let (gate, stop) = (Arc::new(RwLock::new(())), Arc::new(AtomicBool::new(false)));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (database, gate, stop) = (Arc::clone(&database), Arc::clone(&gate), Arc::clone(&stop));
        writers.push(tokio::spawn(async move { write(&database, writer, gate, stop).await }));
    }
    for round in 0..ROUNDS {
        let sentinel = i64::from(100_000 + 2 * round);
        let mut copies = Vec::new();
        for client in 0..CLIENTS {
            let role = if client % 2 == 0 { "service_role" } else { "authenticated" };
            let claims =
                if client % 4 < 2 { json!({}) } else { json!({ "sub": client.to_string() }) };
            let scribe = Scribe {
                relay: Arc::clone(&relay),
                token: token(role, &claims),
                complete: Arc::clone(&complete),
                told: Arc::clone(&given_up),
            };
            let since = (client % 4 == 0).then(|| since.clone());
            let continues = since.is_some();
            copies.push((role, continues, tokio::spawn(copy(scribe, since, sentinel))));
        }
        let joined = usize::try_from((round + 1) * CLIENTS).unwrap();
        until("all snapshots", || async {
            (complete.load(Ordering::Relaxed) == joined).then_some(())
        })
        .await;
        let closed = gate.write().await;
        database.execute(&format!("insert into busy values ({sentinel}, 0)")).await;
        let rows = database.query("select id, n from busy").await;
        let table: BTreeMap<i64, i64> = rows
            .iter()
            .map(|row| (row.get::<_, i32>(0).into(), row.get::<_, i32>(1).into()))
            .collect();
        let (to, last) = told(sentinel).await;
        let missed: HashSet<String> = {
            let history = history.lock().unwrap();
            history[from + 1..=to].iter().map(|(id, _)| id.clone()).collect()
        };
        for (role, continues, copy) in copies {
            let mut expected = table.clone();
            if role == "authenticated" {
                expected.retain(|id, _| id % 2 == 0);
            }
            let (rows, given) = copy.await.unwrap();
            assert_eq!(rows, expected, "{role} in round {round}");
            assert!(!continues || given == missed, "the wish without a snapshot, in round {round}");
        }
        (from, since) = (to, last);
        drop(closed);
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    // Whoever had not everything was told so: else it would have missed a change, or waited for ever. Each was counted.
    for (reason, told) in &*given_up.lock().unwrap() {
        let counted = relay.metric(&format!("relay_gaps_total{{reason=\"{reason}\"}}"));
        assert!(f64::from(*told) <= counted, "{reason}: {counted}, told {told}");
    }
}
