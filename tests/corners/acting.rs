//! Acting as a role: never as anybody else, never by what is not so any more, and holding up nobody.

use serde_json::json;

use super::Stand;
use crate::support::{Client, unique, until};

/// `auth.roles` with one more.
fn roles(role: &str) -> String {
    format!("anon,authenticated,service_role,{role}")
}

#[tokio::test]
async fn who_may_not_act_as_a_role_any_more_judges_nothing_as_itself() {
    let [login, role] = ["acting_login", "acting_role"].map(unique);
    let stand = Stand::with(
        &format!(
            "create role {role}; create role {login} login replication bypassrls noinherit;
             grant {role}, anon to {login};
             create schema side;
             create function side.is_public(text) returns boolean language sql stable as $$ select $1 = 'public' $$;
             grant usage on schema side to {login}; grant usage on schema public to {role};
             create table first (id int primary key);
             create table leak (id int primary key, owner text);
             create table after (id int primary key, owner text);
             grant select on first, leak, after, marker to {role}, {login};
             alter table first enable row level security;
             alter table leak enable row level security;
             alter table after enable row level security;
             create policy p on first using (true);
             create policy p on leak using (side.is_public(owner));
             create policy p on after using (owner = 'public' and xmin is not null);
             alter publication supabase_realtime add table first, leak, after"
        ),
        |database| vec![
            ("RELAY_POSTGRES__URL", database.url_as(&login)),
            ("RELAY_POSTGRES__POOL", "1".to_owned()),
            ("RELAY_AUTH__ROLES", roles(&role)),
        ],
    )
    .await;
    let mut client = stand.watch(&role, &json!({})).await;
    stand.execute("insert into first values (1)").await;
    assert_eq!(stand.seen([&mut client]).await[0].ids(), [1]);
    stand
        .execute(&format!("revoke {role} from {login}; insert into leak values (1, 'secret')"))
        .await;
    let [seen] = stand.seen([&mut client]).await;
    assert!(seen.changes.is_empty(), "{seen:?}");
    stand
        .execute(&format!(
            "grant {role} to {login}; insert into after values (2, 'secret'), (3, 'public')"
        ))
        .await;
    let [seen] = stand.seen([&mut client]).await;
    assert!(seen.changes.iter().all(|data| data["record"]["owner"] == "public"), "{seen:?}");
}

#[tokio::test]
async fn a_snapshot_follows_the_settings_of_now() {
    let role = unique("acting_level");
    let stand = Stand::with(
        &format!(
            "create role {role}; grant {role} to relay; grant usage on schema public to {role};
         create table levels (id int primary key, level int);
         grant select on levels, marker to {role};
         insert into levels values (1, 1), (2, 9);
         alter table levels enable row level security;
         create policy low on levels using (level <= current_setting('app.level')::int);
         alter publication supabase_realtime add table levels;
         alter role {role} set app.level = '10'"
        ),
        |_| vec![("RELAY_AUTH__ROLES", roles(&role))],
    )
    .await;
    let rows = async |expected: i64| {
        let wish = json!([{ "event": "*", "schema": "public", "table": "levels", "snapshot": { "limit": 9 } }]);
        let mut client = stand.watch_with(&role, &json!({}), wish).await;
        let complete = |received: &crate::support::client::Received| {
            received.payload.get("snapshot").is_some()
        };
        let told = client.find("the end of the snapshot", complete).await;
        assert_eq!(told.payload["snapshot"]["rows"], expected, "{told:?}");
    };
    rows(2).await;
    stand.execute(&format!("alter role {role} set app.level = '5'")).await;
    rows(1).await;
    stand.execute(&format!("alter role {role} set app.level = '0'")).await;
    rows(0).await;
}

#[tokio::test]
async fn settings_are_switched_for_every_row_of_a_snapshot() {
    let role = unique("acting_zone");
    let stand = Stand::with(&format!(
        "create role {role}; grant {role} to relay; grant usage on schema public to {role};
         create table shifts (room int, id int, at timestamptz, primary key (room, id));
         grant select on shifts to {role};
         insert into shifts select n % 3, n, '2026-05-01 12:00+00' from generate_series(1, 800) as n;
         analyze shifts;
         alter publication supabase_realtime add table shifts;
         alter role {role} set timezone = 'Europe/Berlin'"
    ), |_| vec![("RELAY_AUTH__ROLES", roles(&role))])
    .await;
    let wish = json!([{ "event": "*", "schema": "public", "table": "shifts", "snapshot": { "limit": 500 } }]);
    let mut client = stand.watch_with(&role, &json!({}), wish).await;
    let is_row = |received: &crate::support::client::Received| received.event == "postgres_changes";
    for _ in 0..500 {
        let row = client.find("a row", is_row).await;
        assert_eq!(row.payload["data"]["record"]["at"], "2026-05-01T12:00:00+00:00");
    }
}

#[tokio::test]
async fn a_role_that_is_made_again_is_served() {
    let role = unique("acting_again");
    let make = format!(
        "create role {role}; grant {role} to relay; grant usage on schema public to {role}; grant select on notes, marker to {role}"
    );
    let stand = Stand::with(
        &format!(
            "create table notes (id int primary key);
         alter table notes enable row level security;
         create policy p on notes using (true);
         alter publication supabase_realtime add table notes; {make}"
        ),
        |_| vec![("RELAY_AUTH__ROLES", roles(&role))],
    )
    .await;
    let mut client = stand.watch(&role, &json!({})).await;
    stand.execute("insert into notes values (1)").await;
    assert_eq!(stand.seen([&mut client]).await[0].ids(), [1]);
    stand.execute(&format!("drop owned by {role}; drop role {role}; {make}")).await;
    let stand = &stand;
    let next = std::cell::Cell::new(1);
    let client = tokio::sync::Mutex::new(client);
    until("the role's rows", || async {
        next.set(next.get() + 1);
        stand.execute(&format!("insert into notes values ({})", next.get())).await;
        let [seen] = stand.seen([&mut *client.lock().await]).await;
        (seen.values("id") == [json!(next.get())]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_namesake_function_withholds_nothing_from_those_who_see_everything() {
    let other = unique("acting_other");
    let stand = Stand::new(&format!(
        "create role {other}; grant create, usage on schema public to {other};
         create function can(int) returns boolean language sql stable as $$ select true $$;
         create table notes (id int primary key);
         alter table notes enable row level security;
         create policy p on notes using (can(id));
         alter publication supabase_realtime add table notes;;
         set role {other}; create function public.can(text) returns boolean language sql stable as $$ select true $$; reset role"
    ))
    .await;
    let mut service = stand.watch("service_role", &json!({})).await;
    let mut ann = stand.ann().await;
    stand.execute("insert into notes values (1)").await;
    let [of_service, of_ann] = stand.seen([&mut service, &mut ann]).await;
    assert_eq!((of_service.ids(), of_ann.ids()), (vec![1], vec![1]));
}

#[tokio::test]
async fn names_that_look_like_ours_and_patterns_mean_what_they_say() {
    let stand = Stand::new(
        "create table \"relay image\" (id int primary key, owner text);
         alter table \"relay image\" enable row level security;
         create policy p on \"relay image\" using (owner = 'public' and xmin is not null);
         create table rooms (room text primary key, v int);
         alter table rooms enable row level security;
         create policy p on rooms using (room ~ '^a.*');
         alter publication supabase_realtime add table \"relay image\", rooms;;
         insert into rooms values ('a1', 1), ('b1', 1)",
    )
    .await;
    let mut ann = stand.ann().await;
    stand
        .execute("insert into \"relay image\" values (1, 'bob'), (2, 'public'); delete from rooms")
        .await;
    let [seen] = stand.seen([&mut ann]).await;
    let told: Vec<_> = seen
        .changes
        .iter()
        .map(|data| (&data["record"]["id"], &data["old_record"]["room"]))
        .collect();
    assert_eq!(told, [(&json!(2), &json!(null)), (&json!(null), &json!("a1"))], "{seen:?}");
}

#[tokio::test]
async fn a_policy_that_takes_long_for_one_holds_up_nobody_of_its_role() {
    let stand = Stand::new(&format!(
        "create table slow (id int primary key);
         alter table slow enable row level security;
         create policy p on slow using (auth.uid() <> '{}' or pg_advisory_xact_lock_shared(71) is not null);
         create table root (id int primary key) partition by range (id);
         create table leaf partition of root for values from (0) to (1000000);
         alter publication supabase_realtime add table slow, root",
        super::ANN
    ))
    .await;
    let on = |table: &str| json!({ "event": "*", "schema": "public", "table": table });
    let mut ann = stand
        .watch_with("authenticated", &json!({ "sub": super::ANN }), json!([on("slow"), on("root")]))
        .await;
    let mut bob =
        stand.watch_with("authenticated", &json!({ "sub": super::BOB }), json!([on("root")])).await;
    let holder = stand.database.connect().await;
    holder.batch_execute("select pg_advisory_lock(71)").await.unwrap();
    stand.execute("insert into slow values (1)").await;
    stand.execute("insert into root values (7)").await;
    let row = async |client: &mut Client, id: i64| {
        assert_eq!(client.change().await["record"]["id"], id);
    };
    row(&mut bob, 7).await;
    holder.batch_execute("select pg_advisory_unlock(71)").await.unwrap();
    row(&mut ann, 1).await;
    row(&mut ann, 7).await;
}

#[tokio::test]
async fn what_was_prepared_for_a_role_that_sees_everything_answers_no_more_when_it_does_not() {
    let role = unique("acting_bypass");
    let stand = Stand::with(
        &format!(
            "create role {role} bypassrls; grant {role} to relay; grant usage on schema public to {role};
             create table notes (id int primary key, owner text);
             grant select on notes, marker to {role};
             alter table notes enable row level security;
             create policy p on notes using (owner = 'public' and xmin is not null);
             alter publication supabase_realtime add table notes;
             revoke all on notes from service_role"
        ),
        |_| vec![("RELAY_AUTH__ROLES", roles(&role))],
    )
    .await;
    // Rows that others do not see are looked for by the one who sees all of them.
    let mut ann = stand.ann().await;
    let mut all = stand.watch(&role, &json!({})).await;
    stand.execute("insert into notes values (1, 'secret'), (2, 'public')").await;
    let [of_ann, of_all] = stand.seen([&mut ann, &mut all]).await;
    assert_eq!((of_ann.ids(), of_all.ids()), (vec![2], vec![1, 2]));
    stand
        .execute(&format!(
            "alter role {role} nobypassrls; insert into notes values (3, 'secret'), (4, 'public')"
        ))
        .await;
    let [_, of_all] = stand.seen([&mut ann, &mut all]).await;
    assert!(of_all.changes.iter().all(|data| data["record"]["id"] != 3), "{of_all:?}");
}
