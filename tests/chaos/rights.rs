//! Rights taken away under load: nothing that commits afterwards is seen. And histories of every kind, many of them.

use serde_json::json;

use super::arena::{Arena, Plan, Resync, size};
use super::dice::seed;
use crate::row_security::histories;
use crate::support::Client;
use crate::support::relay::token;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_seen_that_commits_after_the_right_to_it_is_gone() {
    let mut arena = Arena::prepare("rights taken away", Plan::new((4, 100), (20, 200))).await;
    arena
        .database
        .execute(
            "create table membership (seat int primary key);
             create table secrets (id bigint generated always as identity primary key, trial int, is_after boolean);
             create table ends (trial int primary key);
             alter table secrets enable row level security;
             create policy members on secrets for select to authenticated
               using (exists (select from membership where seat = (auth.jwt() ->> 'seat')::int));
             grant select on secrets, membership, ends to authenticated;
             alter publication supabase_realtime add table secrets, ends",
        )
        .await;
    arena.relay.launch();
    arena.relay.ready().await;
    arena.populate();
    arena.begin().await;
    let eyes = token("authenticated", &json!({ "sub": "seat-1", "seat": 1 }));
    let mut client = Client::connect(&arena.relay, &eyes).await;
    let wish = |table| json!({ "event": "*", "schema": "public", "table": table });
    client.subscribe("room", json!([wish("secrets"), wish("ends")])).await;
    let writer = arena.sql().await;
    let (mut seen, trials) = (0, size(40, 10_000));
    for trial in 0..trials {
        for sql in [
            "insert into membership values (1)".to_owned(),
            format!("insert into secrets (trial, is_after) values ({trial}, false)"),
            "delete from membership".to_owned(),
            format!("insert into secrets (trial, is_after) values ({trial}, true)"),
            format!("insert into ends values ({trial})"),
        ] {
            writer.batch_execute(&sql).await.unwrap();
            if arena.dice.chance(50) {
                tokio::task::yield_now().await;
            }
        }
        loop {
            let change = client.change().await;
            if change["table"] == "ends" {
                break;
            }
            seen += 1;
            assert_eq!(change["record"]["is_after"], false, "SEED={}: {change}", arena.seed);
        }
    }
    arena.figures.push(format!("{trials} trials, {seen} rows seen while it was allowed, 0 after"));
    arena.verdict(Resync::None).await;
}

/// Random histories with other seeds every time, or those of a run that `SEED` repeats.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_select_shows_is_what_arrives_in_any_history() {
    let first = seed();
    eprintln!("chaos: histories of row security: SEED={first}");
    histories::play(first..first + size(40, 20_000)).await;
}
