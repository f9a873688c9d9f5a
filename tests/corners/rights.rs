//! Rights that change without the written table being described anew act on the next change.

use serde_json::{Value, json};

use super::{ANN, Stand};

const LOG: &str = "
    create table log (id int primary key, owner uuid) partition by range (id);
    create table log_1 partition of log for values from (0) to (1000000);
    alter table log enable row level security;
    alter table log_1 enable row level security;
    create policy own on log using (owner = auth.uid());
    grant select on log to authenticated;
    create schema side;
    grant usage on schema side to authenticated, service_role;
    create table side.notes (id int primary key, owner uuid);
    grant select on side.notes to authenticated, service_role;
    alter table side.notes enable row level security;
    create policy own on side.notes using (owner = auth.uid());
    alter publication supabase_realtime add table log, side.notes;";

fn subscriptions() -> Value {
    json!([
        { "event": "*", "schema": "public", "table": "log" },
        { "event": "*", "schema": "side", "table": "notes" },
        { "event": "*", "schema": "public", "table": "marker" }
    ])
}

#[tokio::test]
async fn what_is_taken_or_given_acts_on_the_next_change() {
    let stand = Stand::new(LOG).await;
    let mut ann = stand.watch_with("authenticated", &json!({ "sub": ANN }), subscriptions()).await;
    let cases: &[(&str, &str, [bool; 2])] = &[
        ("select 1", "select 1", [true, true]),
        (
            "create policy none on log as restrictive using (false)",
            "drop policy none on log",
            [false, true],
        ),
        (
            "alter policy own on log using (false)",
            "alter policy own on log using (owner = auth.uid())",
            [false, true],
        ),
        (
            "drop policy own on log",
            "create policy own on log using (owner = auth.uid())",
            [false, true],
        ),
        (
            "revoke select on log from authenticated",
            "grant select on log to authenticated",
            [false, true],
        ),
        (
            "revoke usage on schema side from authenticated",
            "grant usage on schema side to authenticated",
            [true, false],
        ),
        (
            "revoke select on side.notes from authenticated",
            "grant select on side.notes to authenticated",
            [true, false],
        ),
        (
            "create or replace function auth.uid() returns uuid language sql stable as $$ select null::uuid $$",
            "create or replace function auth.uid() returns uuid language sql stable as $$ select nullif(auth.jwt() ->> 'sub', '')::uuid $$",
            [false, false],
        ),
    ];
    let mut id = 0;
    for (take, give, expected) in cases {
        for (change, shown) in [(take, *expected), (give, [true, true])] {
            id += 1;
            stand.execute(change).await;
            stand
                .execute(&format!("insert into log values ({id}, '{ANN}'); insert into side.notes values ({id}, '{ANN}')"))
                .await;
            let [seen] = stand.seen([&mut ann]).await;
            let rows = |table: &str| {
                let own = seen.changes.iter().filter(|data| data["table"] == table);
                own.filter(|data| data["record"]["id"] == id).count() == 1
            };
            assert_eq!([rows("log"), rows("notes")], shown, "{change}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn an_attribute_or_a_membership_that_a_role_loses_acts_on_the_next_change() {
    let cluster = crate::support::Cluster::start(&[]);
    let database = cluster.database().await.with_roles().await;
    database
        .execute(&format!(
            "create table marker (id int primary key); alter publication supabase_realtime add table marker; {LOG}
             create role team; alter role authenticated inherit; grant team to authenticated;
             create policy team on log to team using (true)"
        ))
        .await;
    let relay = crate::support::Relay::start(&database).await;
    let stand = Stand { database, relay };
    let mut service = stand.watch_with("service_role", &json!({}), subscriptions()).await;
    let mut bob =
        stand.watch_with("authenticated", &json!({ "sub": super::BOB }), subscriptions()).await;
    let insert = |id: i32| {
        format!(
            "insert into log values ({id}, '{ANN}'); insert into side.notes values ({id}, '{ANN}')"
        )
    };
    stand.execute(&insert(1)).await;
    let [of_service, of_bob] = stand.seen([&mut service, &mut bob]).await;
    assert_eq!((of_service.ids(), of_bob.ids()), (vec![1, 1], vec![1]));
    stand.execute("alter role service_role nobypassrls; revoke team from authenticated").await;
    stand.execute(&insert(2)).await;
    let [of_service, of_bob] = stand.seen([&mut service, &mut bob]).await;
    of_service.assert_nothing();
    of_bob.assert_nothing();
}
