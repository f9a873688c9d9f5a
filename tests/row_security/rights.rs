//! What a role may read, as the catalog knows it, and how soon it knows better.

use std::sync::Arc;

use relay::catalog::Seen;
use relay::model::table::{Access, Columns, Rows};
use relay::model::{Column, Relation, ReplicaIdentity, Table};

use super::scene::{Scene, Setup};
use crate::support::{Cluster, unique, until};

/// A transaction that every query sees.
const LONG_AGO: u32 = 3;

fn known(seen: Seen) -> Arc<Table> {
    let Seen::Table(table) = seen else { panic!("no table: {seen:?}") };
    table
}

fn names(columns: &Columns) -> Vec<&str> {
    match columns {
        Columns::All => vec!["*"],
        Columns::Only(names) => names.iter().map(AsRef::as_ref).collect(),
    }
}

#[tokio::test]
async fn columns_and_rows_follow_grants_ownership_and_membership() {
    let [group, inheriting, separate, owner] =
        ["group", "inheriting", "separate", "owner"].map(|role| unique(&format!("rights_{role}")));
    let mut setup = Setup::default();
    setup.roles.extend([&inheriting, &separate, &owner].map(String::clone));
    setup.roles.push("no_such_role".to_owned());
    let scene = Scene::with(Cluster::shared(), setup).await;
    scene
        .db
        .execute(&format!(
            "create role {group}; create role {inheriting} inherit in role {group};
             create role {separate} noinherit in role {group}; create role {owner};
             grant usage on schema public to {group}, {separate}; grant create on schema public to {owner};
             create table notes (id int primary key, a text, b text);
             revoke all on notes from anon, authenticated, service_role;
             grant select on notes to {group}, service_role;
             grant select (id, b) on notes to anon;
             alter table notes owner to {owner};
             alter table notes enable row level security;
             create policy members on notes to {group} using (id > 1);
             create policy restricted on notes as restrictive using (a is not null)"
        ))
        .await;
    let notes = scene.table("notes").await;
    let access = |role: &str| notes.access.get(role).unwrap();
    let policy = |access: &Access| match &access.rows {
        Rows::Policy(policy) => policy.expression.to_string(),
        other => format!("{other:?}"),
    };
    let bound = "((a IS NOT NULL)) and (((id > 1)))";
    assert_eq!(names(&access("anon").columns), ["id", "b"]);
    assert_eq!(policy(access("anon")), "None");
    assert!(names(&access("authenticated").columns).is_empty());
    assert_eq!(names(&access("service_role").columns), ["*"]);
    assert_eq!(access("service_role").rows, Rows::All);
    assert_eq!(names(&access(&inheriting).columns), ["*"]);
    assert_eq!(policy(access(&inheriting)), bound);
    assert!(names(&access(&separate).columns).is_empty());
    assert_eq!(policy(access(&separate)), "None");
    assert_eq!(access(&owner).rows, Rows::All);
    assert!(!notes.access.contains_key("no_such_role"));

    scene.db.execute("alter table notes force row level security").await;
    until("force to bind the owner", || async {
        let notes = scene.table("notes").await;
        (notes.access[&*owner].rows == Rows::None).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_schema_the_role_cannot_use_hides_every_column() {
    let scene = Scene::new().await;
    scene
        .db
        .execute(
            "create schema shut; create table shut.notes (id int);
             grant select on shut.notes to anon, authenticated; grant usage on schema shut to anon",
        )
        .await;
    let notes = scene.catalog.find("shut", "notes").await.unwrap().unwrap();
    assert_eq!(names(&notes.access["anon"].columns), ["*"]);
    assert!(names(&notes.access["authenticated"].columns).is_empty());
}

#[tokio::test]
async fn changed_rights_are_known_within_about_a_second_without_any_relation_message() {
    let scene = Scene::new().await;
    scene.db.execute("create table notes (id int primary key, a text)").await;
    let relation = Relation {
        oid: scene.table("notes").await.oid,
        generation: 1,
        schema: "public".into(),
        name: "notes".into(),
        identity: ReplicaIdentity::Default,
        columns: Box::new([]),
    };
    let anon = || async {
        let notes = known(scene.catalog.table(&relation, LONG_AGO).await.unwrap());
        (notes.is_published, notes.access["anon"].clone())
    };
    let (is_published, before) = anon().await;
    assert_eq!((is_published, before.columns, before.rows), (false, Columns::All, Rows::All));

    type IsSeen<'a> = &'a dyn Fn(&(bool, Access)) -> bool;
    let steps: [(&str, IsSeen<'_>); 6] = [
        ("revoke select on notes from anon", &|(_, anon)| names(&anon.columns).is_empty()),
        ("grant select (id) on notes to anon", &|(_, anon)| names(&anon.columns) == ["id"]),
        ("alter table notes enable row level security", &|(_, anon)| anon.rows == Rows::None),
        (
            "create policy few on notes using (id = 1)",
            &|(_, anon)| matches!(&anon.rows, Rows::Policy(policy) if policy.expression.contains("id = 1")),
        ),
        ("alter publication supabase_realtime add table notes", &|(is_published, _)| *is_published),
        ("alter table notes disable row level security", &|(_, anon)| anon.rows == Rows::All),
    ];
    for (statement, is_seen) in steps {
        scene.db.execute(statement).await;
        until(statement, || async { is_seen(&anon().await).then_some(()) }).await;
    }
    scene.db.execute("drop table notes").await;
    until("the table to be gone", || async {
        let seen = scene.catalog.table(&relation, LONG_AGO).await.unwrap();
        (seen == Seen::Gone).then_some(())
    })
    .await;
    assert!(scene.catalog.find("public", "notes").await.unwrap().is_none());
}

#[tokio::test]
async fn a_newer_relation_is_looked_up_at_once() {
    let scene = Scene::new().await;
    scene.db.execute("create type mood as enum ('low', 'high'); create table notes (id int)").await;
    let before = scene.table("notes").await;
    scene.db.execute("alter table notes add column feeling mood; alter type mood add value 'mid' before 'high'").await;
    let feeling: u32 = scene.db.query("select 'mood'::regtype::oid").await[0].get(0);
    let column =
        |name: &str, type_oid| Column { name: name.into(), type_oid, typmod: -1, is_key: false };
    let relation = Relation {
        oid: before.oid,
        generation: 2,
        schema: "public".into(),
        name: "notes".into(),
        identity: ReplicaIdentity::Default,
        columns: Box::new([column("id", 23), column("feeling", feeling)]),
    };
    let notes = known(scene.catalog.table(&relation, LONG_AGO).await.unwrap());
    let kind = &notes.column("feeling").unwrap().sql_type.kind;
    assert!(format!("{kind:?}").contains(r#"["low", "mid", "high"]"#), "{kind:?}");
}

#[tokio::test]
async fn publications_publish_by_table_by_schema_by_parent_and_all() {
    let scene = Scene::new().await;
    scene
        .db
        .execute(
            "create schema app; create table app.one (id int); create table two (id int);
             create table parent (id int) partition by list (id);
             create table child partition of parent for values in (1);
             create unlogged table fleeting (id int)",
        )
        .await;
    let published = || async {
        let mut names = Vec::new();
        for (schema, name) in [
            ("app", "one"),
            ("public", "two"),
            ("public", "parent"),
            ("public", "child"),
            ("public", "fleeting"),
        ] {
            if scene.catalog.find(schema, name).await.unwrap().unwrap().is_published {
                names.push(name);
            }
        }
        let schemas = (
            scene.catalog.look_around(None).await.unwrap(),
            scene.catalog.look_around(Some("app")).await.unwrap(),
            scene.catalog.look_around(Some("public")).await.unwrap(),
        );
        (names, schemas)
    };
    assert_eq!(published().await, (vec![], (false, false, false)));
    type Step = (&'static str, &'static [&'static str], (bool, bool, bool));
    let steps: [Step; 4] = [
        (
            "alter publication supabase_realtime add table parent",
            &["parent", "child"],
            (true, false, true),
        ),
        (
            "alter publication supabase_realtime set tables in schema app",
            &["one"],
            (true, true, false),
        ),
        ("alter publication supabase_realtime set table two", &["two"], (true, false, true)),
        (
            "drop publication supabase_realtime; create publication supabase_realtime for all tables",
            &["one", "two", "parent", "child"],
            (true, true, true),
        ),
    ];
    for (statement, names, schemas) in steps {
        scene.db.execute(statement).await;
        until(statement, || async {
            (published().await == (names.to_vec(), schemas)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_table_that_is_locked_does_not_hold_up_what_is_known_of_others() {
    let scene = Scene::new().await;
    scene
        .db
        .execute(
            "create table notes (id int primary key); create policy p on notes using (id = 1);
             create table other (id int primary key)",
        )
        .await;
    let (_, other) = (scene.table("notes").await, scene.table("other").await);
    scene.db.execute("begin; lock table notes in access exclusive mode").await;
    let observer = scene.db.connect().await;
    let asked = "select coalesce(max(query_start)::text, ''), coalesce(bool_or(wait_event_type = 'Lock'), false)
                 from pg_stat_activity where application_name = 'relay-catalog' and datname = current_database()";
    let mut rounds = std::collections::HashSet::new();
    while rounds.len() < 4 {
        let row = observer.query_one(asked, &[]).await.unwrap();
        assert!(!row.get::<_, bool>(1), "the catalog waits for a lock");
        rounds.insert(row.get::<_, String>(0));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(scene.catalog.table_by_oid(other.oid).await.unwrap().is_some());
    scene.db.execute("commit").await;
}
