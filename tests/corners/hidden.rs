//! What filters cost must not tell of rows that whoever asks may not read.

use serde_json::json;

use super::{ANN, BOB, Stand};

#[tokio::test]
async fn a_condition_is_asked_about_readable_rows_only() {
    let stand = Stand::new(
        "create table notes (id int primary key, owner uuid, body text);
         alter table notes enable row level security;
         create policy own on notes using (owner = auth.uid());
         alter publication supabase_realtime add table notes",
    )
    .await;
    // Only Postgres can decide it, and on a text that begins so it takes very long.
    let filter = r"body=match.^secret(.+)x\1..\1$";
    let wish = json!([
        { "event": "*", "schema": "public", "table": "notes", "filter": filter },
        { "event": "*", "schema": "public", "table": "marker" }
    ]);
    let mut spy = stand.watch_with("authenticated", &json!({ "sub": BOB }), wish).await;
    let long = "ab".repeat(20_000);
    stand.execute(&format!("insert into notes values (1, '{ANN}', 'secret{long}')")).await;
    let checks = || stand.relay.metric("relay_checks_total");
    let [seen] = stand.seen([&mut spy]).await;
    seen.assert_nothing();
    let before = checks();
    // One judgement of the row, and none of the condition.
    stand.execute(&format!("insert into notes values (2, '{ANN}', 'secret{long}')")).await;
    stand.seen([&mut spy]).await[0].assert_nothing();
    assert!(checks() - before < 1.5, "{} checks", checks() - before);
    // Of one's own row the condition is asked.
    let before = checks();
    stand.execute(&format!("insert into notes values (3, '{BOB}', 'other')")).await;
    stand.seen([&mut spy]).await[0].assert_nothing();
    assert!(1.5 < checks() - before, "{} checks", checks() - before);
}
