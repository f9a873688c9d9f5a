//! Rights that are taken away without a word in the WAL about the relation that is written to: the next change is judged
//! without them, however soon it comes.

use serde_json::{Value, json};

use super::sentinel;
use crate::support::relay::token;
use crate::support::{Client, Cluster, Database, Relay, unique, until};

/// What is watched: a table, its schema, and who is asked about.
struct Scene {
    database: Database,
    client: Client,
    table: &'static str,
    next: i32,
    _relay: Relay,
}

impl Scene {
    /// A relay whose tokens may name `role`, which watches `table` by its name.
    async fn new(sql: &str, table: &'static str, role: &str) -> Self {
        let database = Cluster::shared().database().await.with_roles().await;
        database
            .execute(
                "create table open (id int primary key, body text);
                 alter publication supabase_realtime add table open;",
            )
            .await;
        database.execute(sql).await;
        let roles = format!("anon,authenticated,service_role,{role}");
        let relay = Relay::start_with(&database, &[("RELAY_AUTH__ROLES", &roles)]).await;
        let mut client = Client::connect(&relay, &token(role, &json!({}))).await;
        let (schema, name) = table.split_once('.').unwrap();
        let wishes = json!([
            { "event": "*", "schema": schema, "table": name },
            { "event": "*", "schema": "public", "table": "open" },
        ]);
        client.subscribe("room", wishes).await;
        Self { database, client, table, next: 0, _relay: relay }
    }

    /// Runs a statement, writes a row at once, and says whether it arrived.
    async fn arrives_after(&mut self, statement: &str) -> bool {
        self.next += 1;
        let (id, table) = (self.next, self.table);
        // As separate transactions, and with nothing between them.
        self.database
            .execute(&format!("{statement}; commit; insert into {table} values ({id})"))
            .await;
        let seen = sentinel(&self.database, &mut [&mut self.client]).await;
        seen[0].iter().any(|data: &Value| data["record"]["id"] == id)
    }

    /// Each statement hides the next row, and its opposite shows the one after.
    async fn check(&mut self, pairs: &[(&str, &str)]) {
        for (take, give) in pairs {
            assert!(self.arrives_after("begin").await, "before {take}");
            for round in 0..4 {
                let taken = format!("begin; {take}");
                assert!(!self.arrives_after(&taken).await, "{take}, round {round}");
                self.database.execute(give).await;
                let scene = tokio::sync::Mutex::new(&mut *self);
                until("the right to be back", || async {
                    scene.lock().await.arrives_after("begin").await.then_some(())
                })
                .await;
            }
        }
    }
}

#[tokio::test]
async fn rights_on_a_partitioned_table_act_on_the_next_change_of_its_partitions() {
    let mut scene = Scene::new(
        &format!(
            "{PARTS} alter table parts enable row level security;
             create policy own on parts for select to authenticated using (true)"
        ),
        "public.parts",
        "authenticated",
    )
    .await;
    let create = "create policy own on parts for select to authenticated using (true)";
    scene
        .check(&[
            ("alter policy own on parts using (false)", "alter policy own on parts using (true)"),
            ("alter policy own on parts to anon", "alter policy own on parts to authenticated"),
            ("drop policy own on parts", create),
            (
                "create policy never on parts as restrictive for select using (false)",
                "drop policy never on parts",
            ),
            ("revoke select on parts from authenticated", "grant select on parts to authenticated"),
        ])
        .await;
}

#[tokio::test]
async fn a_schema_that_may_not_be_used_any_more_hides_the_next_change() {
    let mut scene = in_schema("enable").await;
    scene.check(&[USAGE]).await;
}

#[tokio::test]
async fn a_membership_that_is_gone_hides_the_next_change() {
    let (role, group) = (unique("taken_role"), unique("taken_group"));
    let setup =
        format!("create role {group}; create role {role} in role {group}; {}", notes(&role));
    let mut scene = Scene::new(
        &format!("{setup}; create policy members on notes for select to {group} using (true)"),
        "public.notes",
        &role,
    )
    .await;
    let revoke = (format!("revoke {group} from {role}"), format!("grant {group} to {role}"));
    let detach = (format!("alter role {role} noinherit"), format!("alter role {role} inherit"));
    scene.check(&[(&revoke.0, &revoke.1)]).await;
    // Since version 16 it only decides how memberships of the future are inherited.
    let version = scene.database.text("select current_setting('server_version_num')").await;
    if version.parse::<u32>().unwrap() < 160_000 {
        scene.check(&[(&detach.0, &detach.1)]).await;
    }
}

/// Every row is visible, and yet something is asked of Postgres.
#[tokio::test]
async fn rights_to_tables_whose_rows_are_all_visible_act_on_the_next_change() {
    let mut scene = Scene::new(PARTS, "public.parts", "authenticated").await;
    let (enable, disable) = (
        "alter table parts enable row level security",
        "alter table parts disable row level security",
    );
    let (revoke, grant) =
        ("revoke select on parts from authenticated", "grant select on parts to authenticated");
    scene.check(&[(enable, disable), (revoke, grant)]).await;
    let role = unique("taken_role");
    let setup = format!("create role {role} bypassrls; {}", notes(&role));
    let mut scene = Scene::new(&setup, "public.notes", &role).await;
    let (lose, gain) =
        (format!("alter role {role} nobypassrls"), format!("alter role {role} bypassrls"));
    scene.check(&[(&lose, &gain)]).await;
}

/// Nothing is asked of Postgres for these rows, and before version 16 the WAL tells nothing of schemas.
#[tokio::test]
async fn a_schema_that_may_not_be_used_hides_rows_that_are_not_judged_soon() {
    let mut scene = in_schema("disable").await;
    let (take, give) = USAGE;
    for statement in [take, give] {
        scene.database.execute(statement).await;
        let scene = tokio::sync::Mutex::new(&mut scene);
        until("the change of rights to be noticed", || async {
            let arrives = scene.lock().await.arrives_after("begin").await;
            (arrives == (statement == give)).then_some(())
        })
        .await;
    }
}

const USAGE: (&str, &str) =
    ("revoke usage on schema app from authenticated", "grant usage on schema app to authenticated");

const PARTS: &str = "
    create table parts (id int primary key) partition by range (id);
    create table leaf partition of parts for values from (0) to (1000000);
    alter publication supabase_realtime add table parts;";

/// A table in a schema of its own, whose rows everybody may read.
async fn in_schema(security: &str) -> Scene {
    let setup = format!(
        "create schema app; grant usage on schema app to authenticated;
         create table app.notes (id int primary key);
         grant select on app.notes to authenticated;
         alter table app.notes {security} row level security;
         create policy own on app.notes for select to authenticated using (true);
         alter publication supabase_realtime add table app.notes"
    );
    Scene::new(&setup, "app.notes", "authenticated").await
}

/// A table with row security that a role may read, and that the relay may act as.
fn notes(role: &str) -> String {
    format!(
        "grant {role} to relay; grant usage on schema public to {role};
         create table notes (id int primary key); grant select on notes, open to {role};
         alter table notes enable row level security;
         alter publication supabase_realtime add table notes"
    )
}
