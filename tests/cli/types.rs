//! `relay check` on types that roles may not name.

use crate::cli::{check, healthy, on};

#[tokio::test]
async fn check_names_the_schema_of_a_type_that_a_role_may_not_use() {
    let database = healthy().await;
    database
        .execute(
            "create schema hidden; create type hidden.mood as enum ('sad');
             create domain moods as hidden.mood[];
             create table feelings (id int primary key, one hidden.mood, many moods);
             alter table feelings enable row level security;
             create policy everybody on feelings for select to authenticated using (true);
             revoke all on feelings from anon, service_role;
             grant select on feelings to authenticated;
             alter publication supabase_realtime add table feelings",
        )
        .await;
    let words = [
        "! role authenticated",
        "has no USAGE on schema hidden: its filters on feelings.many, feelings.one are refused",
        "grant usage on schema hidden to authenticated",
    ];
    check(on(&database, &["check"]), 0, &words);
    database.execute("grant usage on schema hidden to authenticated").await;
    let output = on(&database, &["check"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("schema hidden"), "{text}");
}
