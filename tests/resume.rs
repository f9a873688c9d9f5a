//! Continuing where one was: after a position, or under a `resume` id. What was missed comes, in order, and then what is
//! live; what cannot come is told.

mod away;
mod rights;
mod unproven;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::client::Received;
use crate::support::relay::{QUIET, anon, token};
use crate::support::{Client, Cluster, Database, PATIENCE, Relay, until};

const WISH: &str = "notes";

/// A published table of notes that everybody may read, and a relay.
async fn start(environment: &[(&str, &str)]) -> (Database, Relay) {
    let database = prepare().await;
    let relay = Relay::start_with(&database, environment).await;
    (database, relay)
}

async fn prepare() -> Database {
    prepare_on(Cluster::shared()).await
}

async fn prepare_on(cluster: &Cluster) -> Database {
    let database = cluster.database().await.with_roles().await;
    database
        .execute(
            "create table notes (id int primary key, owner text not null default 'ann', body text);
             alter publication supabase_realtime add table notes;
             grant select on notes to anon, authenticated",
        )
        .await;
    database
}

fn wishes(since: &Value) -> Value {
    let mut wish = json!({ "event": "*", "schema": "public", "table": WISH });
    if !since.is_null() {
        wish["since"] = since.clone();
    }
    json!([wish])
}

async fn insert(database: &Database, ids: std::ops::RangeInclusive<i32>) {
    for id in ids {
        database.execute(&format!("insert into notes (id) values ({id})")).await;
    }
}

/// The rows that come, until the one with this id.
async fn until_row(client: &mut Client, last: i64) -> Vec<Value> {
    let mut rows = Vec::new();
    loop {
        let data = client.change().await;
        let id = data["record"]["id"].as_i64().unwrap();
        rows.push(data);
        if id == last {
            return rows;
        }
    }
}

fn ids(rows: &[Value]) -> Vec<i64> {
    rows.iter().map(|data| data["record"]["id"].as_i64().unwrap()).collect()
}

fn gap(received: &Received) -> &Value {
    assert_eq!(received.payload["status"], "error", "{received:?}");
    assert_eq!(received.payload["extension"], "postgres_changes");
    &received.payload["gap"]
}

/// The next `system` message that tells of a gap.
async fn expect_gap(client: &mut Client) -> Received {
    client.find("a gap", |received| received.payload.get("gap").is_some()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_with_a_position_gets_what_was_missed_and_then_what_is_live() {
    let (database, relay) = start(&[]).await;
    let mut first = Client::connect(&relay, &anon()).await;
    first.subscribe("room", wishes(&Value::Null)).await;
    insert(&database, 1..=5).await;
    let rows = until_row(&mut first, 5).await;
    assert_eq!(ids(&rows), [1, 2, 3, 4, 5]);
    let since = rows[1]["id"].clone();
    drop(first);
    insert(&database, 6..=8).await;
    let mut second = Client::connect(&relay, &anon()).await;
    let bindings = second.subscribe("room", wishes(&since)).await;
    assert_eq!(bindings[0]["since"], since, "the element is echoed as it was sent");
    insert(&database, 9..=10).await;
    let again = until_row(&mut second, 10).await;
    assert_eq!(ids(&again), [3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(again[..3], rows[2..], "the same changes have the same ids and content");
    assert!(second.flush().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missed_is_judged_by_the_rights_of_now_and_filtered() {
    let database = prepare().await;
    database
        .execute(
            "alter table notes enable row level security;
             create policy own on notes for select to authenticated
               using (owner = auth.jwt() ->> 'name')",
        )
        .await;
    let relay = Relay::start(&database).await;
    let named = |name: &str| token("authenticated", &json!({ "name": name }));
    let mut watcher = Client::connect(&relay, &token("service_role", &json!({}))).await;
    watcher.subscribe("room", wishes(&Value::Null)).await;
    database.execute("insert into notes values (1, 'ann'), (2, 'bob'), (3, 'ann')").await;
    let rows = until_row(&mut watcher, 3).await;
    database
        .execute("insert into notes values (4, 'ann', 'x'), (5, 'bob', 'x'), (6, 'ann', 'y')")
        .await;
    until_row(&mut watcher, 6).await;
    let mut ann = Client::connect(&relay, &named("ann")).await;
    let mut wish = wishes(&rows[0]["id"]);
    wish[0]["filter"] = json!("body=eq.x");
    ann.subscribe("room", wish).await;
    assert_eq!(ids(&until_row(&mut ann, 4).await), [4]);
    // A right that is gone by now is gone for the past as well.
    database.execute("alter policy own on notes using (owner = 'bob')").await;
    let mut late = Client::connect(&relay, &named("ann")).await;
    until("the policy to be known", || async {
        let mut client = Client::connect(&relay, &named("ann")).await;
        client.subscribe("probe", wishes(&rows[0]["id"])).await;
        (client.change().await["record"]["id"] == 2).then_some(())
    })
    .await;
    late.subscribe("room", wishes(&rows[0]["id"])).await;
    assert_eq!(ids(&until_row(&mut late, 5).await), [2, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_means_nothing_here_is_told_as_a_gap() {
    let (database, relay) = start(&[]).await;
    insert(&database, 1..=1).await;
    let mut client = Client::connect(&relay, &anon()).await;
    for (since, reason) in [
        (json!("no position"), "unknown_position"),
        (json!(7), "unknown_position"),
        (json!("1234:0000000000000001:0"), "history_lost"),
    ] {
        let room = format!("room {since}");
        client.subscribe(&room, wishes(&since)).await;
        let received = expect_gap(&mut client).await;
        assert_eq!(gap(&received)["reason"], reason, "{received:?}");
        assert!(gap(&received)["to"].is_string(), "{received:?}");
        client.leave(&room).await;
    }
    assert!(relay.metric("relay_gaps_total{reason=\"unknown_position\"}") >= 2.0);
    client.subscribe("live", wishes(&json!("no position"))).await;
    expect_gap(&mut client).await;
    insert(&database, 2..=2).await;
    assert_eq!(ids(&until_row(&mut client, 2).await), [2], "and then it is live");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_writes_nothing_falls_between_the_past_and_the_present() {
    // Room for whatever is written while one joins, however long that takes.
    let (database, relay) = start(&[("RELAY_LIMITS__OUTBOX", "64 MiB")]).await;
    let mut first = Client::connect(&relay, &anon()).await;
    first.subscribe("room", wishes(&Value::Null)).await;
    insert(&database, 1..=1).await;
    let since = until_row(&mut first, 1).await[0]["id"].clone();
    let writer = database.connect().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writing = tokio::spawn(async move {
        let mut last = 1;
        while !*stopped.borrow() {
            last += 1;
            writer.execute("insert into notes (id) values ($1)", &[&last]).await.unwrap();
        }
        writer.execute("insert into notes (id) values (0)", &[]).await.unwrap();
        i64::from(last)
    });
    let mut joins = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(&relay, &anon()).await;
        client.subscribe("room", wishes(&since)).await;
        joins.push(tokio::spawn(async move { ids(&until_row(&mut client, 0).await) }));
    }
    stop.send(true).unwrap();
    let last = writing.await.unwrap();
    let expected: Vec<i64> = (2..=last).chain([0]).collect();
    for rows in joins {
        assert_eq!(rows.await.unwrap(), expected);
    }
}

async fn resuming(relay: &Relay, id: &str, token: &str) -> Client {
    let query = format!("apikey={token}&vsn=2.0.0&resume={id}");
    Client::try_connect(relay, &query, "2.0.0").await.unwrap()
}

/// Reads, and so answers pings, until the counter has counted once more.
async fn read_until(client: &mut Client, relay: &Relay, counter: &str) {
    let before = relay.metric(counter);
    let reading = async {
        while relay.metric(counter) <= before {
            client.flush().await;
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("no more {counter}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_resume_id_continues_by_itself() {
    let (database, relay) = start(&[]).await;
    let mut first = resuming(&relay, "tab-1", &anon()).await;
    first.subscribe("room", wishes(&Value::Null)).await;
    insert(&database, 1..=3).await;
    assert_eq!(ids(&until_row(&mut first, 3).await), [1, 2, 3]);
    drop(first);
    insert(&database, 4..=6).await;
    let mut second = resuming(&relay, "tab-1", &anon()).await;
    second.subscribe("room", wishes(&Value::Null)).await;
    insert(&database, 7..=7).await;
    let rows = ids(&until_row(&mut second, 7).await);
    let news: Vec<i64> = rows.iter().copied().filter(|id| *id > 3).collect();
    assert_eq!(news, [4, 5, 6, 7], "{rows:?}");
    assert!(rows.is_sorted(), "what is repeated comes first: {rows:?}");
    // Another id, another subject and another topic begin now.
    for (id, who, room) in [
        ("tab-2", anon(), "room"),
        ("tab-1", token("authenticated", &json!({ "sub": "1" })), "room"),
        ("tab-1", anon(), "other"),
    ] {
        let mut stranger = resuming(&relay, id, &who).await;
        stranger.subscribe(room, wishes(&Value::Null)).await;
        let told = stranger.flush().await;
        assert!(told.len() == 1 && told[0].payload["resume"] == "new", "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pong_proved_is_not_repeated() {
    let (database, relay) = start(&[]).await;
    let mut first = resuming(&relay, "tab", &anon()).await;
    first.subscribe("room", wishes(&Value::Null)).await;
    insert(&database, 1..=3).await;
    until_row(&mut first, 3).await;
    read_until(&mut first, &relay, "relay_proofs_total").await;
    drop(first);
    insert(&database, 4..=4).await;
    let mut second = resuming(&relay, "tab", &anon()).await;
    second.subscribe("room", wishes(&Value::Null)).await;
    assert_eq!(ids(&until_row(&mut second, 4).await), [4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_not_gone_yet_gives_its_place_to_the_next() {
    let (database, relay) = start(&[]).await;
    let mut first = resuming(&relay, "tab", &anon()).await;
    first.subscribe("room", wishes(&Value::Null)).await;
    insert(&database, 1..=2).await;
    until_row(&mut first, 2).await;
    let mut second = resuming(&relay, "tab", &anon()).await;
    second.subscribe("room", wishes(&Value::Null)).await;
    insert(&database, 3..=4).await;
    let rows = ids(&until_row(&mut second, 4).await);
    assert!(rows.ends_with(&[3, 4]), "{rows:?}");
    // The first one goes late, and takes nothing back.
    drop(first);
    until("the first socket to be gone", || async {
        (relay.metric("relay_connections") < 2.0).then_some(())
    })
    .await;
    read_until(&mut second, &relay, "relay_proofs_total").await;
    drop(second);
    let mut third = resuming(&relay, "tab", &anon()).await;
    third.subscribe("room", wishes(&Value::Null)).await;
    insert(&database, 5..=5).await;
    assert_eq!(ids(&until_row(&mut third, 5).await), [5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn places_and_history_survive_a_relay_that_is_killed() {
    let (database, mut relay) = start(&[]).await;
    let mut first = resuming(&relay, "tab", &anon()).await;
    first.subscribe("room", wishes(&Value::Null)).await;
    insert(&database, 1..=3).await;
    let rows = until_row(&mut first, 3).await;
    read_until(&mut first, &relay, "relay_places_saved_total").await;
    relay.kill();
    insert(&database, 4..=6).await;
    relay.launch();
    relay.ready().await;
    let mut second = resuming(&relay, "tab", &anon()).await;
    second.subscribe("room", wishes(&Value::Null)).await;
    let mut third = Client::connect(&relay, &anon()).await;
    third.subscribe("room", wishes(&rows[0]["id"])).await;
    insert(&database, 7..=7).await;
    let seen: BTreeSet<i64> = ids(&until_row(&mut second, 7).await).into_iter().collect();
    assert!((4..=7).all(|id| seen.contains(&id)), "{seen:?}");
    let again = until_row(&mut third, 7).await;
    assert_eq!(ids(&again), [2, 3, 4, 5, 6, 7]);
    assert_eq!(again[0]["id"], rows[1]["id"], "ids outlive the process");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_saw_what_a_crash_took_does_not_see_it_again() {
    let database = prepare().await;
    let mut relay = Relay::prepare(&database, &[("RELAY_REALTIME__HOLD", "200ms")]).shielded();
    relay.launch();
    relay.ready().await;
    let mut client = Client::connect(&relay, &anon()).await;
    client.subscribe("room", wishes(&Value::Null)).await;
    insert(&database, 1..=1).await;
    until_row(&mut client, 1).await;
    // Less than one of the rows: they are delivered, but neither kept nor confirmed.
    let limit = ["--pid", &relay.pid().to_string(), "--fsize=1000000:unlimited"];
    assert!(std::process::Command::new("prlimit").args(limit).status().unwrap().success());
    for id in 2..=16 {
        let sql = format!("insert into notes (id, body) values ({id}, repeat('x', 1200000))");
        database.execute(&sql).await;
    }
    let last = until_row(&mut client, 16).await.pop().unwrap()["id"].clone();
    relay.kill();
    relay.launch();
    relay.ready().await;
    // Each row is more than is handed out at once, so this goes on for seconds.
    let mut joins = Vec::new();
    for name in 0..6 {
        let mut again = Client::connect(&relay, &anon()).await;
        again.subscribe(&format!("room {name}"), wishes(&last)).await;
        joins.push(again);
        tokio::time::sleep(QUIET).await;
    }
    insert(&database, 17..=17).await;
    for mut again in joins {
        assert_eq!(ids(&until_row(&mut again, 17).await), [17]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_that_say_nothing_continue_beside_one_that_says_where() {
    let (database, relay) = start(&[]).await;
    let two = |since: Value| {
        let mut wishes = json!([wishes(&since)[0], wishes(&Value::Null)[0]]);
        wishes[0]["filter"] = json!("owner=eq.ann");
        wishes[1]["filter"] = json!("owner=eq.bob");
        wishes
    };
    let mut first = resuming(&relay, "tab", &anon()).await;
    first.subscribe("room", two(Value::Null)).await;
    database.execute("insert into notes values (1, 'ann'), (2, 'bob'), (3, 'ann')").await;
    let rows = until_row(&mut first, 3).await;
    read_until(&mut first, &relay, "relay_proofs_total").await;
    drop(first);
    database.execute("insert into notes values (4, 'bob'), (5, 'ann')").await;
    let mut second = resuming(&relay, "tab", &anon()).await;
    second.subscribe("room", two(rows[0]["id"].clone())).await;
    assert_eq!(ids(&until_row(&mut second, 5).await), [3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_was_refused_continues_where_it_was_once_it_is_not() {
    let (database, relay) = start(&[]).await;
    let mut first = resuming(&relay, "tab", &anon()).await;
    first.subscribe("room", wishes(&Value::Null)).await;
    insert(&database, 1..=1).await;
    until_row(&mut first, 1).await;
    read_until(&mut first, &relay, "relay_proofs_total").await;
    drop(first);
    insert(&database, 2..=2).await;
    database.execute("alter table notes rename to elsewhere").await;
    let config = json!({ "config": { "postgres_changes": wishes(&Value::Null) } });
    let becomes = async |expected: &str| {
        until("the relay to know", || async {
            let mut probe = Client::connect(&relay, &anon()).await;
            probe.join("probe", config.clone()).await;
            (probe.expect("system").await.payload["status"] == *expected).then_some(())
        })
        .await;
    };
    becomes("error").await;
    let mut second = resuming(&relay, "tab", &anon()).await;
    let reply = second.join("room", config.clone()).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    assert_eq!(second.expect("system").await.payload["status"], "error");
    database.execute("alter table elsewhere rename to notes").await;
    becomes("ok").await;
    let payload = json!({ "access_token": token("anon", &json!({ "jti": 1 })) });
    second.push(&json!("1"), "realtime:room", "access_token", payload).await;
    assert_eq!(second.expect("system").await.payload["status"], "ok");
    insert(&database, 3..=3).await;
    assert_eq!(ids(&until_row(&mut second, 3).await), [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_id_that_is_too_long_is_refused() {
    let (_database, relay) = start(&[]).await;
    let query = format!("apikey={}&vsn=2.0.0&resume={}", anon(), "x".repeat(129));
    assert!(Client::try_connect(&relay, &query, "2.0.0").await.is_err());
}
