//! Once a second one prepared statement tells whether anything has changed of what the catalog says of tables in use.

use serde_json::json;

use crate::support::relay::token;
use crate::support::{Client, Cluster, Database, Relay, until};

const FINGERPRINTS: &str = include_str!("../sql/queries/catalog_fingerprints.sql");

const TABLES: &str = "
    create type mood as enum ('sad', 'ok');
    create type spot as (x int, moods mood[]);
    create domain place as spot;
    create function opened(room text) returns boolean language sql stable as $$ select true $$;
    create table rooms (id int primary key, name text);
    create table notes (id int primary key, room text, at place, twice int generated always as (id * 2) stored);
    alter table notes enable row level security;
    create policy own on notes for select using (
      opened(room) and exists (select from rooms where rooms.name = notes.room));
    create table parts (id int primary key, room text) partition by range (id);
    create table part partition of parts for values from (0) to (10);
    create table other (id int primary key);
    create schema elsewhere;
    alter publication supabase_realtime add table notes, parts;";

async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database.execute(TABLES).await;
    database
}

/// The fingerprints of `notes` and of `part`, a partition of `parts`.
async fn fingerprints(database: &Database) -> [i64; 2] {
    let client = database.connect().await;
    client.batch_execute("set search_path = pg_catalog").await.unwrap();
    let oids = "select array['public.notes'::regclass::oid, 'public.part'::regclass::oid]";
    let oids: Vec<u32> = client.query_one(oids, &[]).await.unwrap().get(0);
    let roles: &[&str] = &["anon", "authenticated"];
    let rows = client.query(FINGERPRINTS, &[&oids, &"supabase_realtime", &roles]).await.unwrap();
    let of = |oid: u32| {
        let row = rows.iter().find(|row| row.get::<_, u32>("oid") == oid).expect("a row per table");
        row.get("fingerprint")
    };
    [of(oids[0]), of(oids[1])]
}

#[tokio::test]
async fn a_fingerprint_changes_with_everything_that_is_said_of_a_table_and_with_no_row() {
    let database = database().await;
    let group = crate::support::unique("group");
    database.execute(&format!("create role {group}; grant {group} to anon")).await;
    let before = fingerprints(&database).await;
    let rows = "insert into rooms values (1, 'x'); insert into notes values (1, 'x');
                update notes set room = 'y'; delete from notes; insert into part values (1);
                create table unrelated (id int); analyze notes; create temporary table t (id int)";
    database.execute(rows).await;
    assert_eq!(fingerprints(&database).await, before, "rows and other tables are no news");
    let mut last = before;
    for (statement, is_of_partition) in [
        ("create policy more on notes for select using (true)", false),
        ("drop policy more on notes", false),
        ("alter policy own on notes using (opened(room))", false),
        (
            "alter policy own on notes using (opened(room) and exists (select from rooms where name = notes.room))",
            false,
        ),
        ("alter table rooms rename column name to called", false),
        ("alter table rooms rename to chambers", false),
        ("alter function opened(text) rename to open_now", false),
        ("alter function open_now(text) set schema elsewhere", false),
        (
            "create or replace function elsewhere.open_now(room text) returns boolean language sql stable as 'select false'",
            false,
        ),
        ("alter table notes disable row level security", false),
        ("alter table notes force row level security", false),
        ("alter table notes replica identity full", false),
        ("grant select (id) on notes to anon", false),
        ("revoke all on notes from anon", false),
        ("alter table notes add column more text", false),
        ("alter table notes drop constraint notes_pkey", false),
        ("alter table notes alter column id set default 7", false),
        ("alter type mood add value 'glad'", false),
        ("alter type mood rename value 'sad' to 'blue'", false),
        ("alter type spot add attribute y int", false),
        ("alter type spot rename to location", false),
        ("alter table notes rename to remarks; alter table remarks rename to notes", false),
        ("alter table parts enable row level security", true),
        ("alter table parts rename column room to chamber", true),
        ("alter publication supabase_realtime drop table parts", true),
        ("alter publication supabase_realtime add table parts", true),
        ("alter publication supabase_realtime set (publish = 'insert')", true),
        ("alter publication supabase_realtime add tables in schema public", true),
        ("alter table parts detach partition part", true),
        ("revoke usage on schema public from public", true),
        ("grant usage on schema public to public", true),
        ("alter schema elsewhere rename to nowhere", true),
        (&*format!("revoke {group} from anon"), true),
        (&*format!("grant {group} to anon"), true),
        (&*format!("alter role {group} bypassrls"), true),
        (&*format!("alter role {group} rename to {group}_two"), true),
    ] {
        database.execute(statement).await;
        let now = fingerprints(&database).await;
        assert_ne!(
            now[usize::from(is_of_partition)],
            last[usize::from(is_of_partition)],
            "{statement}"
        );
        last = now;
    }
    database.execute(&format!("drop role {group}_two")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_a_subscriber_asks_nothing_else_as_long_as_nothing_changes() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut client = Client::connect(&relay, &token("service_role", &json!({}))).await;
    client.subscribe("room", json!([{ "event": "*", "schema": "public", "table": "parts" }])).await;
    database.execute("insert into parts values (1)").await;
    assert_eq!(client.change().await["record"]["id"], 1);
    let asked = || async {
        let sql = "select concat_ws(E'\\n', query_start, query) from pg_stat_activity
                   where application_name = 'relay-catalog' and datname = current_database()";
        database.text(sql).await
    };
    let is_of_fingerprints = |asked: &String| asked.contains(FINGERPRINTS.lines().next().unwrap());
    let after = |last: String| {
        let asked = &asked;
        async move {
            until("the next question", || async {
                Some(asked().await).filter(|next| *next != last)
            })
            .await
        }
    };
    // What a join found out is asked for once more, with its fingerprint. A statement may be seen when it is prepared, too.
    let (mut last, mut in_a_row) = (asked().await, 0);
    while in_a_row < 6 {
        last = after(last).await;
        in_a_row = if is_of_fingerprints(&last) { in_a_row + 1 } else { 0 };
    }
    for _ in 0..3 {
        last = after(last).await;
        assert!(is_of_fingerprints(&last), "{last}");
    }
    // A right that is taken is noticed all the same.
    database.execute("revoke usage on schema public from public, service_role").await;
    // Of the partition only so many keys.
    database.execute("create table rest partition of parts default").await;
    for id in 2..200 {
        database.execute(&format!("insert into parts values ({id})")).await;
        let received = client.flush().await;
        if received.iter().all(|received| received.event != "postgres_changes") {
            return;
        }
    }
    panic!("rows are shown without the right to name their table");
}
