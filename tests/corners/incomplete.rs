//! What the log does not repeat: it matters only to what reads it, and then it is judged rightly or told.

use serde_json::json;

use super::{ANN, BOB, Seen, Stand};

/// A table whose `long` is stored out of line, so that updates of other columns do not repeat it.
const NOTES: &str = "
    create table notes (id int primary key, owner uuid, body text, long text);
    alter table notes alter column long set storage external;
    alter table notes enable row level security;
    alter publication supabase_realtime add table notes;";

fn insert(id: i32, owner: &str) -> String {
    format!("insert into notes values ({id}, '{owner}', 'x', '{owner}' || repeat('y', 5000));")
}

fn bodies(seen: &Seen) -> Vec<String> {
    seen.values("body").iter().map(|body| body.as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn an_unchanged_value_that_the_policy_does_not_read_does_not_matter() {
    let own = "create policy own on notes using (owner = auth.uid())";
    let stand = Stand::new(&format!("{NOTES}{own};{}", insert(1, ANN))).await;
    let (mut ann, mut bob) = (stand.ann().await, stand.bob().await);
    let updates = |range: std::ops::Range<i32>| {
        range.map(|n| format!("update notes set body = 'b{n}';")).collect::<String>()
    };
    stand.execute(&format!("begin;{}commit", updates(0..5))).await;
    stand.execute("begin; update notes set body = 'last'; delete from notes; commit").await;
    let [of_ann, of_bob] = stand.seen([&mut ann, &mut bob]).await;
    assert_eq!(bodies(&of_ann)[..6], ["b0", "b1", "b2", "b3", "b4", "last"]);
    assert!(of_ann.troubles.is_empty());
    assert!(bodies(&of_bob).iter().all(String::is_empty), "{of_bob:?}");
}

#[tokio::test]
async fn an_unchanged_value_that_the_policy_reads_is_judged_in_the_table_or_reported() {
    let own = "create policy own on notes using (long like auth.uid() || '%')";
    let stand = Stand::new(&format!("{NOTES}{own};{}{}", insert(1, ANN), insert(2, BOB))).await;
    let mut ann = stand.ann().await;
    // Still so: hers is shown, and nothing is told of the other.
    stand.execute("update notes set body = 'now'").await;
    let [seen] = stand.seen([&mut ann]).await;
    assert_eq!(seen.ids(), [1]);
    // Not any more: what cannot be judged is told, whoever's it is.
    let withheld = stand.relay.metric("relay_withheld_total");
    stand.execute("begin; update notes set body = 'a' where id = 1; update notes set body = 'b' where id = 1; commit").await;
    let [seen] = stand.seen([&mut ann]).await;
    assert_eq!(bodies(&seen), ["b"]);
    assert_eq!(seen.troubles.len(), 1, "{seen:?}");
    assert!(seen.troubles[0].contains("notes are withheld"), "{seen:?}");
    assert!(withheld < stand.relay.metric("relay_withheld_total"));
    // With the whole old row in the log nothing is missing.
    stand.execute("alter table notes replica identity full").await;
    stand
        .execute("begin; update notes set body = 'c' where id = 1; delete from notes; commit")
        .await;
    let [seen] = stand.seen([&mut ann]).await;
    assert_eq!((bodies(&seen), seen.troubles.len()), (vec!["c".to_owned(), String::new()], 0));
}

#[tokio::test]
async fn what_lies_in_a_private_schema_is_judged_on_the_image() {
    let stand = Stand::new(&format!(
        "create schema private;
         create type private.mood as enum ('low', 'high');
         create function private.is_owner(owner uuid) returns boolean language sql stable security definer as
             $$ select owner = auth.uid() $$;
         grant usage on schema private to relay;
         create table notes (id int primary key, owner uuid, mood private.mood);
         alter table notes enable row level security;
         create policy own on notes using (private.is_owner(owner) and mood > 'low'::private.mood);
         alter publication supabase_realtime add table notes;;
         insert into notes values (1000, '{ANN}', 'high')"
    ))
    .await;
    let (mut ann, mut bob) = (stand.ann().await, stand.bob().await);
    for id in 1..=20 {
        stand
            .execute(&format!(
                "begin; insert into notes values ({id}, '{ANN}', 'high'); update notes set owner = '{BOB}' where id = {id}; commit"
            ))
            .await;
        if id == 10 {
            // What was prepared is parsed again after such as this.
            stand.execute("analyze notes; alter table notes add column more int").await;
        }
    }
    let [of_ann, of_bob] = stand.seen([&mut ann, &mut bob]).await;
    let ids: Vec<i64> = (1..=20).collect();
    assert_eq!((of_ann.ids(), of_bob.ids()), (ids.clone(), ids));
    assert!(of_ann.changes.iter().all(|data| data["type"] == "INSERT"));
    assert!(of_bob.changes.iter().all(|data| data["type"] == "UPDATE"));
}

#[tokio::test]
async fn what_nobody_can_name_is_judged_in_the_table_or_reported() {
    let stand = Stand::new(&format!(
        "create schema private;
         create function private.is_owner(owner uuid) returns boolean language sql stable security definer as
             $$ select owner = auth.uid() $$;
         create table notes (id int primary key, owner uuid);
         alter table notes enable row level security;
         create policy own on notes using (private.is_owner(owner));
         alter publication supabase_realtime add table notes;;
         insert into notes values (1000, '{ANN}')"
    ))
    .await;
    let (mut ann, mut bob) = (stand.ann().await, stand.bob().await);
    stand.execute(&format!("insert into notes values (1, '{ANN}')")).await;
    let [of_ann, of_bob] = stand.seen([&mut ann, &mut bob]).await;
    assert_eq!(of_ann.ids(), [1]);
    of_bob.assert_nothing();
    stand
        .execute(&format!(
            "begin; insert into notes values (2, '{ANN}'); update notes set owner = '{BOB}' where id = 2; commit"
        ))
        .await;
    let [of_ann, of_bob] = stand.seen([&mut ann, &mut bob]).await;
    assert_eq!((of_ann.changes.len(), of_ann.troubles.len()), (0, 1), "{of_ann:?}");
    assert_eq!((of_bob.values("id"), of_bob.troubles.len()), (vec![json!(2)], 1), "{of_bob:?}");
}

#[tokio::test]
async fn json_and_the_tables_oid_are_read_from_the_image() {
    let stand = Stand::new(
        "create table notes (id int primary key, doc jsonb, plain json, body text);
         alter table notes enable row level security;
         create policy shown on notes using (doc = 'null' and body like 'a%' and tableoid = 'notes'::regclass);
         alter publication supabase_realtime add table notes",
    )
    .await;
    let mut ann = stand.ann().await;
    for id in 1..=10 {
        let row = r#"'null', '{"a": "\u0000"}', 'a'"#;
        let other = r#"null, '{"a": "\u0000"}', 'a'"#;
        stand
            .execute(&format!(
                "begin; insert into notes values ({id}, {row}), ({}, {other}); update notes set body = 'gone'; commit",
                100 + id
            ))
            .await;
    }
    let [seen] = stand.seen([&mut ann]).await;
    assert_eq!(seen.ids(), (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_column_that_is_not_published_is_read_in_the_table_or_reported() {
    let stand = Stand::new(
        "create table notes (id int primary key, owner uuid, body text);
         alter table notes enable row level security;
         create policy own on notes using (owner = auth.uid());
         alter publication supabase_realtime add table notes (id, body)",
    )
    .await;
    let mut ann = stand.ann().await;
    stand.execute(&format!("insert into notes values (1, '{ANN}', 'x'), (2, '{BOB}', 'x')")).await;
    assert_eq!(stand.seen([&mut ann]).await[0].ids(), [1]);
    stand
        .execute(&format!(
            "begin; insert into notes values (3, '{ANN}', 'x'); update notes set body = 'y' where id = 3; commit"
        ))
        .await;
    let [seen] = stand.seen([&mut ann]).await;
    assert_eq!((seen.values("body"), seen.troubles.len()), (vec![json!("y")], 1), "{seen:?}");
}

#[tokio::test]
async fn a_key_that_is_stored_out_of_line_is_known() {
    let stand = Stand::new(&format!(
        "create table notes (id text primary key, owner uuid, body text);
         create table tagged (id int primary key, tag text not null unique, owner uuid, body text);
         alter table notes alter column id set storage external;
         alter table tagged alter column tag set storage external;
         alter table tagged replica identity using index tagged_tag_key;
         alter table notes enable row level security;
         alter table tagged enable row level security;
         create policy own on notes using (owner = auth.uid() and id like 'k%');
         create policy own on tagged using (owner = auth.uid() and tag like 'k%');
         alter publication supabase_realtime add table notes, tagged;;
         insert into notes values ('k' || repeat('1', 2500), '{ANN}', 'x');
         insert into tagged values (1, 'k' || repeat('2', 2500), '{ANN}', 'x')"
    ))
    .await;
    let key = format!("k{}", "1".repeat(2500));
    let tag = format!("k{}", "2".repeat(2500));
    let wish = |table: &str, filter: String| json!({ "event": "UPDATE", "schema": "public", "table": table, "filter": filter });
    let marker = json!({ "event": "*", "schema": "public", "table": "marker" });
    let wishes = json!([
        wish("notes", format!("id=eq.{key}")),
        wish("tagged", format!("tag=eq.{tag}")),
        marker
    ]);
    let mut filtered = stand.watch_with("authenticated", &json!({ "sub": ANN }), wishes).await;
    let mut ann = stand.ann().await;
    for body in ["a", "b"] {
        let both = ["notes", "tagged"].map(|table| format!("update {table} set body = '{body}';"));
        // Together, so that neither row is in its table as the first update left it.
        stand
            .execute(&format!(
                "begin;{}{} update notes set body = 'z'; update tagged set body = 'z'; commit",
                both[0], both[1]
            ))
            .await;
    }
    let [of_ann, of_filtered] = stand.seen([&mut ann, &mut filtered]).await;
    for seen in [of_ann, of_filtered] {
        assert_eq!(bodies(&seen), ["a", "a", "z", "z", "b", "b", "z", "z"]);
        let of = |table: &str, column: &str| {
            let rows = seen.changes.iter().filter(|data| data["table"] == table);
            rows.map(|data| data["record"][column].clone()).collect::<Vec<_>>()
        };
        assert_eq!(of("notes", "id"), vec![json!(key); 4]);
        assert_eq!(of("tagged", "tag"), vec![json!(tag); 4]);
        assert!(seen.troubles.is_empty());
    }
}
