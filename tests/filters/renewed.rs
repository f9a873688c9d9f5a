//! A join looks at the catalog itself: what was remembered of a name before it is no answer.

use std::sync::Arc;

use relay::catalog::Catalog;
use relay::catalog::bind::Wish;

use super::{catalog, try_bind, wish};
use crate::support::{Cluster, Database};

async fn database(sql: &str) -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database.execute(sql).await;
    database
}

/// Asked for again and again, so that the name is known when it comes to mean something else.
async fn known(catalog: &Arc<Catalog>, table: &str, filter: &str) {
    for _ in 0..2 {
        try_bind(catalog, &[wish(table, filter)]).await.unwrap();
    }
}

#[tokio::test]
async fn a_table_made_again_under_its_name_is_bound_at_once() {
    let made = "create table notes (id int primary key, body text);
                alter publication supabase_realtime add table notes;";
    let again =
        "drop table notes; create table notes (body text, state text, id bigint primary key);
                 alter publication supabase_realtime add table notes;";
    let database = database(made).await;
    let catalog = catalog(&database);
    for transaction in [again.to_owned(), format!("begin; {again} commit")] {
        known(&catalog, "notes", "id=eq.1").await;
        database.execute(&transaction).await;
        let bound = try_bind(&catalog, &[wish("notes", "id=eq.3000000000,state=eq.new")]).await;
        assert_eq!(bound.unwrap()[0].filter.len(), 2);
        database.execute("drop table notes").await;
        let refused = try_bind(&catalog, &[wish("notes", "id=eq.1")]).await.unwrap_err();
        assert!(refused.contains("Please check Realtime is enabled"), "{refused}");
        database.execute(made).await;
    }
}

#[tokio::test]
async fn tables_that_change_names_are_bound_by_the_names_they_have() {
    let database = database(
        "create table blue (id int primary key, old text);
         create table green (id int primary key, new text);
         alter publication supabase_realtime add table blue, green;",
    )
    .await;
    let catalog = catalog(&database);
    known(&catalog, "blue", "old=eq.x").await;
    known(&catalog, "green", "new=eq.x").await;
    database
        .execute(
            "begin; alter table blue rename to grey; alter table green rename to blue;
             alter table grey rename to green; commit",
        )
        .await;
    try_bind(&catalog, &[wish("blue", "new=eq.x"), wish("green", "old=eq.x")]).await.unwrap();
    let text = try_bind(&catalog, &[wish("blue", "old=eq.x")]).await.unwrap_err();
    assert!(text.ends_with("invalid column for filter old"), "{text}");
    // The same by a table that comes from another schema.
    database
        .execute(
            "create schema next; create table next.green (id int, newest text);
             alter publication supabase_realtime add table next.green;
             grant select on next.green to anon; drop table green;
             alter table next.green set schema public",
        )
        .await;
    try_bind(&catalog, &[wish("green", "newest=eq.x")]).await.unwrap();
}

#[tokio::test]
async fn what_was_granted_published_or_added_a_moment_ago_counts() {
    let database = database(
        "create table notes (id int primary key, secret text);
         revoke select on notes from anon; grant select (id) on notes to anon;
         create schema empty; grant usage on schema empty to anon;
         create table parent (id int primary key) partition by range (id);
         create table leaf partition of parent for values from (0) to (10);
         alter publication supabase_realtime add table notes;",
    )
    .await;
    let catalog = catalog(&database);
    let everything_in_empty =
        || Wish { schema: Some("empty".to_owned()), table: None, ..Wish::default() };
    try_bind(&catalog, &[wish("notes", "id=eq.1")]).await.unwrap();
    try_bind(&catalog, &[wish("notes", "secret=eq.x")]).await.unwrap_err();
    try_bind(&catalog, &[wish("parent", "")]).await.unwrap_err();
    try_bind(&catalog, &[everything_in_empty()]).await.unwrap_err();
    database
        .execute(
            "grant select on notes to anon; create table empty.first (id int primary key);
             alter publication supabase_realtime add table empty.first, leaf",
        )
        .await;
    try_bind(&catalog, &[wish("notes", "secret=eq.x")]).await.unwrap();
    try_bind(&catalog, &[wish("parent", "")]).await.unwrap();
    try_bind(&catalog, &[everything_in_empty()]).await.unwrap();
    database.execute("revoke select on notes from anon; grant select (id) on notes to anon").await;
    try_bind(&catalog, &[wish("notes", "secret=eq.x")]).await.unwrap_err();
}

#[tokio::test]
async fn many_who_ask_for_one_name_share_a_look_that_began_after_they_asked() {
    let database = database(
        "create table notes (id int primary key);
         alter publication supabase_realtime add table notes;",
    )
    .await;
    let catalog = catalog(&database);
    let wishes = [wish("notes", "")];
    let asking: Vec<_> = (0..200).map(|_| try_bind(&catalog, &wishes)).collect();
    for bound in futures_util::future::join_all(asking).await {
        bound.unwrap();
    }
}
