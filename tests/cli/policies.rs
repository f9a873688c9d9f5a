//! `relay check` on what judging policies needs.

use crate::cli::{check, healthy, on};

#[tokio::test]
async fn check_names_schemas_that_nobody_may_use_and_settings_that_are_not_the_roles() {
    let database = healthy().await;
    database
        .execute(
            "create schema hidden;
             create function hidden.mine(owner uuid) returns boolean language sql stable as $$ select true $$;
             create table feelings (id int primary key, owner uuid);
             alter table feelings enable row level security;
             create policy own on feelings for select to authenticated using (hidden.mine(owner));
             grant select on feelings to authenticated;
             alter publication supabase_realtime add table feelings;
             do $$ begin
                 execute format('alter role relay in database %I set timezone = %L', current_database(), 'Asia/Tokyo');
             end $$",
        )
        .await;
    let words = [
        "! schema hidden",
        "policies of feelings name it",
        "grant usage on schema hidden to relay;",
        "has a timezone of its own",
        "reset timezone",
    ];
    check(on(&database, &["check"]), 0, &words);
    database
        .execute(
            "grant usage on schema hidden to relay;
             do $$ begin
                 execute format('alter database %I set timezone = %L', current_database(), 'Asia/Tokyo');
             end $$",
        )
        .await;
    let output = on(&database, &["check"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("schema hidden") && !text.contains("of its own"), "{text}");
}
