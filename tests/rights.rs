//! Who sees which rows, seen from outside: policies, claims, deletes, revoked rights.

mod taken;

use serde_json::{Value, json};

use crate::support::relay::{QUIET, token, token_of};
use crate::support::{Client, Cluster, Database, Relay, until};

const ONE: &str = "00000000-0000-0000-0000-000000000001";
const TWO: &str = "00000000-0000-0000-0000-000000000002";

const CHAT: &str = "
    create table notes (id int primary key, owner uuid, body text);
    alter table notes enable row level security, replica identity full;
    create policy own on notes for select to authenticated using (owner = (select auth.uid()));
    create table open (id int primary key, body text);
    alter publication supabase_realtime add table notes, open;";

async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database.execute(CHAT).await;
    database
}

async fn watch(relay: &Relay, token: &str) -> Client {
    let mut client = Client::connect(relay, token).await;
    client.subscribe("room", json!([{ "event": "*", "schema": "public" }])).await;
    client
}

/// A row everybody sees: once it arrived, everything before it had its chance.
async fn sentinel(database: &Database, clients: &mut [&mut Client]) -> Vec<Vec<Value>> {
    let next = database.text("select (coalesce(max(id), 0) + 1)::text from open").await;
    let id: u64 = next.parse().unwrap();
    database.execute(&format!("insert into open values ({id})")).await;
    let mut seen = Vec::new();
    for client in clients {
        let mut changes = Vec::new();
        loop {
            let data = client.change().await;
            if data["table"] == "open" && data["record"]["id"] == id {
                break;
            }
            changes.push(data);
        }
        seen.push(changes);
    }
    seen
}

#[tokio::test]
async fn a_row_reaches_only_those_whose_claims_satisfy_the_policy() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut one = watch(&relay, &token_of(ONE)).await;
    let mut two = watch(&relay, &token_of(TWO)).await;
    let mut anon = watch(&relay, &token("anon", &json!({}))).await;
    let mut service = watch(&relay, &token("service_role", &json!({}))).await;
    database
        .execute(&format!("insert into notes values (1, '{ONE}', 'mine'), (2, '{TWO}', 'theirs')"))
        .await;
    let seen = sentinel(&database, &mut [&mut one, &mut two, &mut anon, &mut service]).await;
    let ids = |changes: &[Value]| {
        changes.iter().map(|data| data["record"]["id"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&seen[0]), ["1"]);
    assert_eq!(ids(&seen[1]), ["2"]);
    assert!(seen[2].is_empty());
    assert_eq!(ids(&seen[3]), ["1", "2"]);
}

#[tokio::test]
async fn a_row_that_is_gone_again_was_still_delivered() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut one = watch(&relay, &token_of(ONE)).await;
    for id in 1..=50 {
        database.execute(&format!("insert into notes values ({id}, '{ONE}', 'x')")).await;
        database.execute(&format!("delete from notes where id = {id}")).await;
    }
    let seen = sentinel(&database, &mut [&mut one]).await;
    let inserts = seen[0].iter().filter(|data| data["type"] == "INSERT").count();
    let deletes = seen[0].iter().filter(|data| data["old_record"]["body"] == "x").count();
    assert_eq!((inserts, deletes), (50, 50));
}

#[tokio::test]
async fn an_update_shows_the_old_row_only_to_those_who_could_read_it() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut two = watch(&relay, &token_of(TWO)).await;
    database.execute(&format!("insert into notes values (1, '{ONE}', 'TOP SECRET')")).await;
    database.execute(&format!("update notes set owner = '{TWO}', body = 'shared'")).await;
    database.execute("update notes set body = 'again'").await;
    let seen = sentinel(&database, &mut [&mut two]).await;
    assert_eq!(seen[0].len(), 2);
    assert_eq!(seen[0][0]["record"]["body"], "shared");
    assert_eq!(seen[0][0]["old_record"], json!({ "id": 1 }));
    assert_eq!(seen[0][1]["old_record"]["body"], "shared");
}

async fn deletes_under(mode: &str) -> [Vec<Value>; 3] {
    let database = database().await;
    database.execute(&format!("insert into notes values (1, '{ONE}', 'x')")).await;
    let relay = Relay::start_with(&database, &[("RELAY_REALTIME__DELETES", mode)]).await;
    let mut one = watch(&relay, &token_of(ONE)).await;
    let mut two = watch(&relay, &token_of(TWO)).await;
    let mut anon = watch(&relay, &token("anon", &json!({}))).await;
    database.execute("update notes set body = 'x'; delete from notes").await;
    let mut seen = sentinel(&database, &mut [&mut one, &mut two, &mut anon]).await;
    assert_eq!(seen[0].remove(0)["type"], "UPDATE");
    let old = |changes: &Vec<Value>| {
        assert!(changes.iter().all(|data| data["type"] == "DELETE"), "{changes:?}");
        changes.iter().map(|data| data["old_record"].clone()).collect()
    };
    [old(&seen[0]), old(&seen[1]), old(&seen[2])]
}

#[tokio::test]
async fn deletes_are_told_as_configured() {
    let whole = json!({ "id": 1, "owner": ONE, "body": "x" });
    let key = json!({ "id": 1 });
    let authorised = deletes_under("authorised").await;
    // The old row is there and was judged: who may not read it hears nothing.
    assert_eq!(authorised, [vec![whole.clone()], vec![], vec![]]);
    assert_eq!(deletes_under("strict").await, [vec![whole], vec![], vec![]]);
    assert_eq!(deletes_under("supabase").await, [vec![key.clone()], vec![key.clone()], vec![key]]);
}

#[tokio::test]
async fn rights_given_and_taken_act_on_the_next_change() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut anon = watch(&relay, &token("anon", &json!({}))).await;
    database.execute("insert into notes values (1, null, 'x')").await;
    assert!(sentinel(&database, &mut [&mut anon]).await[0].is_empty());
    database.execute("create policy everyone on notes for select to anon using (true)").await;
    database.execute("insert into notes values (2, null, 'x')").await;
    assert_eq!(sentinel(&database, &mut [&mut anon]).await[0].len(), 1);
    database.execute("drop policy everyone on notes").await;
    database.execute("insert into notes values (3, null, 'x')").await;
    assert!(sentinel(&database, &mut [&mut anon]).await[0].is_empty());
    database.execute("alter table notes disable row level security").await;
    database.execute("insert into notes values (4, null, 'x')").await;
    assert_eq!(sentinel(&database, &mut [&mut anon]).await[0][0]["record"]["body"], "x");
    database.execute("revoke select on notes from anon; grant select (id) on notes to anon").await;
    database.execute("insert into notes values (5, null, 'x')").await;
    assert_eq!(sentinel(&database, &mut [&mut anon]).await[0][0]["record"], json!({ "id": 5 }));
    database.execute("alter table notes enable row level security").await;
    database.execute("insert into notes values (6, null, 'x')").await;
    assert!(sentinel(&database, &mut [&mut anon]).await[0].is_empty());
}

#[tokio::test]
async fn a_refreshed_token_changes_what_is_seen_and_keeps_the_order() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut client = watch(&relay, &token_of(ONE)).await;
    database.execute(&format!("insert into notes values (1, '{ONE}', 'x')")).await;
    assert_eq!(client.change().await["record"]["id"], 1);
    let refresh = json!({ "access_token": token_of(TWO) });
    client.push(&json!("1"), "realtime:room", "access_token", refresh).await;
    let system = client.expect("system").await;
    assert_eq!(system.payload["message"], "Subscribed to PostgreSQL");
    database
        .execute(&format!("insert into notes values (2, '{ONE}', 'x'), (3, '{TWO}', 'x')"))
        .await;
    let seen = sentinel(&database, &mut [&mut client]).await;
    assert_eq!(seen[0].len(), 1);
    assert_eq!(seen[0][0]["record"]["id"], 3);
}

#[tokio::test]
async fn a_policy_that_fails_harms_only_its_principal() {
    let database = database().await;
    database
        .execute(
            "create policy strange on notes for select to authenticated
             using (1 / (case when auth.jwt() ->> 'sub' = 'broken' then 0 else 1 end) = 1 and body = 'x');
             drop policy own on notes;",
        )
        .await;
    let relay = Relay::start(&database).await;
    let mut broken = watch(&relay, &token_of("broken")).await;
    let mut fine = watch(&relay, &token_of("fine")).await;
    database.execute("insert into notes values (1, null, 'x'), (2, null, 'x')").await;
    database.execute("insert into notes values (3, null, 'x')").await;
    let seen = sentinel(&database, &mut [&mut broken, &mut fine]).await;
    assert!(seen[0].is_empty());
    assert_eq!(seen[1].len(), 3);
    let told: Vec<_> =
        broken.flush().await.into_iter().filter(|message| message.event == "system").collect();
    assert!(
        !told.is_empty() && told.iter().all(|message| message.payload["status"] == "error"),
        "{told:?}"
    );
    let text = told[0].payload["message"].as_str().unwrap();
    assert!(text.contains("public.notes") && text.contains("22012"), "{text}");
    assert!(relay.metric("relay_withheld_total{reason=\"check_failed\"}") >= 3.0);
}

#[tokio::test]
async fn a_policy_that_sleeps_delays_nobody_else() {
    let database = database().await;
    database
        .execute(
            "create policy slow on notes for select to authenticated
             using (case when auth.jwt() ->> 'sub' = 'slow' then pg_sleep(60) is not null else true end);
             drop policy own on notes;",
        )
        .await;
    let relay = Relay::start(&database).await;
    let mut slow = watch(&relay, &token_of("slow")).await;
    let mut fine = watch(&relay, &token_of("fine")).await;
    for id in 1..=5 {
        database.execute(&format!("insert into notes values ({id}, null, 'x')")).await;
        assert_eq!(fine.change().await["record"]["id"], id);
    }
    let told = slow.expect("system").await;
    assert_eq!(told.payload["status"], "error");
    assert!(told.payload["message"].as_str().unwrap().contains("took too long"), "{told:?}");
}

#[tokio::test]
async fn a_custom_role_works_when_it_is_allowed() {
    let database = database().await;
    database
        .execute(
            "do $$ begin create role custom_reader nologin; exception when duplicate_object then null; end $$;
             grant custom_reader to relay;
             grant usage on schema public to custom_reader;
             grant select on notes, open to custom_reader;
             create policy custom on notes for select to custom_reader using (body = 'custom');",
        )
        .await;
    let allowed = [("RELAY_AUTH__ROLES", "custom_reader,anon")];
    let relay = Relay::start_with(&database, &allowed).await;
    let mut custom = watch(&relay, &token("custom_reader", &json!({}))).await;
    database.execute("insert into notes values (1, null, 'x'), (2, null, 'custom')").await;
    let seen = sentinel(&database, &mut [&mut custom]).await;
    assert_eq!(seen[0].len(), 1);
    let refused =
        Client::try_connect(&relay, &format!("apikey={}&vsn=2.0.0", token_of(ONE)), "2.0.0").await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_role_that_does_not_exist_is_named_with_the_fix_and_harms_nobody_else() {
    let database = database().await;
    let ghost = format!("ghost_{}", database.name);
    let roles = format!("anon,{ghost}");
    let relay = Relay::start_with(&database, &[("RELAY_AUTH__ROLES", &roles)]).await;
    let logged = until("the relay to name the role", || async {
        relay.log_text().lines().find(|line| line.contains(&ghost)).map(str::to_owned)
    })
    .await;
    assert!(logged.contains("WARN") && logged.contains("take it out of auth.roles"), "{logged}");

    let mut anon = watch(&relay, &token("anon", &json!({}))).await;
    let mut nobody = Client::connect(&relay, &token(&ghost, &json!({}))).await;
    let all = json!({ "event": "*", "schema": "public" });
    let one = json!({ "event": "*", "schema": "public", "table": "open" });
    for (name, wish) in [("all", all), ("one", one)] {
        let reply = nobody.join(name, json!({ "config": { "postgres_changes": [wish] } })).await;
        assert_eq!(reply["status"], "ok");
        let told = nobody.expect("system").await;
        assert_eq!(told.payload["status"], "error");
        let text = told.payload["message"].as_str().unwrap();
        let end =
            format!("role \"{ghost}\" does not exist; create it, or take it out of auth.roles");
        assert!(text.ends_with(&end), "{text}");
    }
    database.execute("insert into open values (1, 'x')").await;
    assert_eq!(anon.change().await["record"]["id"], 1);
    assert!(nobody.flush().await.is_empty());

    database
        .execute(&format!("create role {ghost}; grant {ghost} to relay; grant select on open to {ghost}; grant usage on schema public to {ghost}"))
        .await;
    // What is known of roles is a second old at most; no restart is needed.
    let wishes = json!([{ "event": "*", "schema": "public", "table": "open" }]);
    let nobody = tokio::sync::Mutex::new(nobody);
    until("the role to be known", || async {
        let mut nobody = nobody.lock().await;
        let wishes = json!({ "config": { "postgres_changes": wishes } });
        nobody.join("one", wishes).await;
        (nobody.expect("system").await.payload["status"] == "ok").then_some(())
    })
    .await;
    let mut nobody = nobody.into_inner();
    database.execute("insert into open values (2, 'x')").await;
    assert_eq!(nobody.change().await["record"]["id"], 2);
    database.execute(&format!("drop owned by {ghost}; drop role {ghost}")).await;
}

#[tokio::test]
async fn a_commit_held_back_by_synchronous_replication_is_judged_once_it_is_visible() {
    let cluster = Cluster::start(&[]);
    let database = cluster.database().await.with_roles().await;
    database.execute(CHAT).await;
    database.execute("create table members (id uuid primary key)").await;
    database
        .execute(
            "drop policy own on notes;
             create policy members on notes for select to authenticated
             using (exists (select from members where id = (select auth.uid())));",
        )
        .await;
    let relay = Relay::start(&database).await;
    let mut one = watch(&relay, &token_of(ONE)).await;
    let writer = cluster.hold_commits(&database).await;
    let write = format!(
        "begin; insert into members values ('{ONE}'); insert into notes values (1, '{ONE}', 'x'); commit"
    );
    let held = tokio::spawn(async move { writer.batch_execute(&write).await });
    until("the relay to have judged and waited", || async {
        (relay.metric("relay_check_waits_total") > 0.0).then_some(())
    })
    .await;
    assert!(one.flush().await.is_empty());
    cluster.release_commits(&database).await;
    held.await.unwrap().unwrap();
    assert_eq!(one.change().await["record"]["id"], 1);
}

#[tokio::test]
async fn a_transaction_that_hides_its_table_shows_none_of_its_rows() {
    let cluster = Cluster::start(&[]);
    let database = cluster.database().await.with_roles().await;
    database.execute(CHAT).await;
    database.execute("create table plain (id int primary key)").await;
    database.execute("alter publication supabase_realtime add table plain").await;
    let relay = Relay::start(&database).await;
    let mut anon = watch(&relay, &token("anon", &json!({}))).await;
    database.execute("insert into open values (1, 'x')").await;
    assert_eq!(anon.change().await["record"]["id"], 1);
    let read = relay.metric("relay_changes_total");
    let writer = cluster.hold_commits(&database).await;
    let write = "begin; alter table open enable row level security; insert into open values (2, 'secret'); commit";
    let held = tokio::spawn(async move { writer.batch_execute(write).await });
    until("the relay to have read the row", || async {
        (relay.metric("relay_changes_total") > read).then_some(())
    })
    .await;
    tokio::time::sleep(QUIET).await;
    assert!(anon.flush().await.is_empty());
    cluster.release_commits(&database).await;
    held.await.unwrap().unwrap();
    database.execute("insert into plain values (3)").await;
    assert_eq!(anon.change().await["table"], "plain");
}

#[tokio::test]
async fn a_deleted_row_answers_only_filters_on_its_key_to_those_who_could_not_read_it() {
    let database = database().await;
    // Of the old row the WAL has its key, which does not say whose it was.
    database.execute("alter table notes replica identity default").await;
    database.execute(&format!("insert into notes values (1, '{ONE}', 'secret')")).await;
    let relay = Relay::start(&database).await;
    let subscribe = async |user: &str, filter: &str| {
        let mut client = Client::connect(&relay, &token_of(user)).await;
        let filtered =
            json!({ "event": "*", "schema": "public", "table": "notes", "filter": filter });
        let open = json!({ "event": "*", "schema": "public", "table": "open" });
        client.subscribe("room", json!([filtered, open])).await;
        client
    };
    let mut reader = subscribe(ONE, "body=eq.secret").await;
    let mut oracle = subscribe(TWO, "body=eq.secret").await;
    let mut by_key = subscribe(TWO, "id=eq.1").await;
    database.execute("delete from notes").await;
    let seen = sentinel(&database, &mut [&mut reader, &mut oracle, &mut by_key]).await;
    assert!(seen[0].is_empty() && seen[1].is_empty(), "{seen:?}");
    assert_eq!(seen[2][0]["old_record"], json!({ "id": 1 }));
    database.execute("alter table notes replica identity full").await;
    database.execute(&format!("insert into notes values (1, '{ONE}', 'secret')")).await;
    database.execute("delete from notes").await;
    let seen = sentinel(&database, &mut [&mut reader, &mut oracle, &mut by_key]).await;
    assert_eq!(seen[0][1]["old_record"]["body"], "secret");
    assert!(seen[1].is_empty() && seen[2].is_empty(), "{seen:?}");
}

#[tokio::test]
async fn a_filter_on_a_column_that_became_unreadable_tells_nothing() {
    let database = database().await;
    database.execute("create table plain (id int primary key, secret text)").await;
    database.execute("alter publication supabase_realtime add table plain").await;
    let relay = Relay::start(&database).await;
    let mut anon = Client::connect(&relay, &token("anon", &json!({}))).await;
    let filtered =
        json!({ "event": "*", "schema": "public", "table": "plain", "filter": "secret=eq.x" });
    let open = json!({ "event": "*", "schema": "public", "table": "open" });
    anon.subscribe("room", json!([filtered, open])).await;
    database.execute("insert into plain values (1, 'x')").await;
    assert_eq!(anon.change().await["record"]["secret"], "x");
    database.execute("revoke select on plain from anon; grant select (id) on plain to anon").await;
    database.execute("insert into plain values (2, 'x')").await;
    let seen = sentinel(&database, &mut [&mut anon]).await;
    assert!(seen[0].is_empty(), "{seen:?}");
}

#[tokio::test]
async fn json_that_jsonb_would_not_take_is_judged_all_the_same() {
    let database = database().await;
    database
        .execute(
            "create table docs (id int primary key, owner uuid, doc json);
             alter table docs enable row level security;
             create policy own on docs for select to authenticated using (owner = (select auth.uid()));
             alter publication supabase_realtime add table docs;",
        )
        .await;
    let relay = Relay::start(&database).await;
    let mut one = watch(&relay, &token_of(ONE)).await;
    database
        .execute(&format!(
            r#"insert into docs values (1, '{ONE}', '{{"a": "\u0000"}}'), (2, '{ONE}', '{{"a": 1}}')"#
        ))
        .await;
    let seen = sentinel(&database, &mut [&mut one]).await;
    assert_eq!(seen[0].len(), 2, "{seen:?}");
}

#[tokio::test]
async fn a_json_null_is_not_taken_for_an_sql_null() {
    let database = database().await;
    database
        .execute(
            "create table marked (id int primary key, mark jsonb, plain json);
             alter table marked enable row level security;
             create policy unmarked on marked for select to anon using (mark is null and plain is null);
             alter publication supabase_realtime add table marked;",
        )
        .await;
    let relay = Relay::start(&database).await;
    let mut anon = watch(&relay, &token("anon", &json!({}))).await;
    let rows = "(1, 'null', null), (2, null, null), (3, null, ' null ')";
    database.execute(&format!("insert into marked values {rows}")).await;
    let seen = sentinel(&database, &mut [&mut anon]).await;
    let ids: Vec<_> = seen[0].iter().map(|data| &data["record"]["id"]).collect();
    assert_eq!(ids, [2]);
}
