//! Generated columns and domains.

use serde_json::{Value, json};

use super::Stand;

const NEVER: &str = "create domain never as int not null check (value > 0);";

#[tokio::test]
async fn a_generated_column_of_a_domain_that_is_never_null_is_shown_and_judged() {
    let stand = Stand::new(&format!(
        "{NEVER}
         create table open (id int primary key, n never, twice never generated always as (n * 2) stored);
         create table notes (id int primary key, n never, twice never generated always as (n * 2) stored);
         alter table notes enable row level security;
         create policy small on notes using (twice < 10 and n > 1);
         alter publication supabase_realtime add table open, notes"
    ))
    .await;
    let mut ann = stand.ann().await;
    stand.execute("insert into open values (1, 2)").await;
    stand.execute("insert into notes values (2, 3), (3, 30), (4, 1)").await;
    let [seen] = stand.seen([&mut ann]).await;
    assert_eq!(seen.ids(), [1, 2]);
    assert_eq!(seen.values("twice"), [json!(4), json!(6)]);
}

#[tokio::test]
async fn a_row_that_is_older_than_its_domains_check_is_judged_as_any_other() {
    let stand = Stand::new(
        "create domain small as int;
         create table notes (id int primary key, n small, body text);
         alter table notes enable row level security;
         create policy any_n on notes using (n > 0);
         alter publication supabase_realtime add table notes;;
         insert into notes values (1, 5000, 'x'), (2, -1, 'x');
         alter domain small add check (value < 1000) not valid",
    )
    .await;
    let mut ann = stand.ann().await;
    stand.execute("update notes set body = 'y'").await;
    let [seen] = stand.seen([&mut ann]).await;
    assert_eq!(seen.ids(), [1]);
}

#[tokio::test]
async fn a_policy_on_the_whole_row_finds_one_that_is_older_than_its_domains_check() {
    let stand = Stand::new(
        "create domain small as int;
         create table notes (id int primary key, n small, body text);
         create function sees(notes) returns boolean language sql stable as $$ select $1.n > 0 $$;
         alter table notes enable row level security;
         create policy any_n on notes using (sees(notes));
         alter publication supabase_realtime add table notes;;
         insert into notes values (1, 5000, 'x'), (2, -1, 'x'), (3, 5, 'x');
         alter domain small add check (value between 0 and 999) not valid",
    )
    .await;
    let mut ann = stand.ann().await;
    stand.execute("update notes set body = 'y'").await;
    let [seen] = stand.seen([&mut ann]).await;
    assert_eq!(seen.ids(), [1, 3]);
}

#[tokio::test]
async fn any_number_of_generated_columns_can_be_judged() {
    let generated: Vec<String> =
        (0..120).map(|n| format!("g{n} int generated always as (a + {n}) stored")).collect();
    let generated = generated.join(", ");
    let stand = Stand::new(&format!(
        "create table by_column (id int primary key, a int, {generated});
         create table by_row (id int primary key, a int, {generated});
         create function sees(by_row) returns boolean language sql stable as $$ select $1.g119 < 200 $$;
         alter table by_column enable row level security;
         alter table by_row enable row level security;
         create policy small on by_column using (g0 + g60 + g119 < 400);
         create policy small on by_row using (sees(by_row));
         alter publication supabase_realtime add table by_column, by_row"
    ))
    .await;
    let mut ann = stand.ann().await;
    stand.execute("insert into by_column values (1, 5), (2, 500); insert into by_row values (3, 5), (4, 500)").await;
    let [seen] = stand.seen([&mut ann]).await;
    assert_eq!(seen.ids(), [1, 3]);
    assert!(seen.changes.iter().all(|data| data["record"]["g119"] == 124), "{seen:?}");
}

#[tokio::test]
async fn what_is_made_of_a_value_that_the_log_lacks_is_absent_and_not_wrong() {
    let stand = Stand::new(
        "create table notes (id int primary key, body text, long text,
             size int generated always as (coalesce(length(long), 0)) stored,
             label text generated always as (body || '!') stored);
         alter table notes alter column long set storage external;
         alter publication supabase_realtime add table notes;;
         insert into notes values (1, 'x', repeat('y', 5000))",
    )
    .await;
    let wish = |filter: &str| {
        json!([
            { "event": "*", "schema": "public", "table": "notes", "filter": filter },
            { "event": "*", "schema": "public", "table": "marker" }
        ])
    };
    let mut anon = stand.watch("anon", &json!({})).await;
    let mut by_size = stand.watch_with("anon", &json!({}), wish("size=gt.10")).await;
    let mut by_label = stand.watch_with("anon", &json!({}), wish("label=eq.z!")).await;
    stand.execute("update notes set body = 'z'").await;
    let [of_anon, of_size, of_label] = stand.seen([&mut anon, &mut by_size, &mut by_label]).await;
    let record = |seen: &super::Seen| -> Value { seen.changes[0]["record"].clone() };
    assert_eq!(record(&of_anon), json!({ "id": 1, "body": "z", "label": "z!" }));
    assert_eq!(record(&of_label), json!({ "id": 1, "body": "z", "label": "z!" }));
    // Whether it matches cannot be said, so that is told.
    assert_eq!((of_size.changes.len(), of_size.troubles.len()), (0, 1), "{of_size:?}");
}
