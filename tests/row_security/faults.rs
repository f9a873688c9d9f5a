//! Errors, slowness and lost connections: never a wrong verdict, never anyone else's trouble.

use std::sync::Arc;
use std::time::Duration;

use relay::auth::visibility::Trouble;
use relay::model::Principal;

use super::scene::{Scene, Setup, user};
use crate::support::relay::QUIET;
use crate::support::{Cluster, unique, until};

const ANN: &str = "00000000-0000-4000-8000-00000000000a";

fn one() -> Vec<String> {
    vec![r#"{"id":"1"}"#.to_owned()]
}

#[tokio::test]
async fn a_commit_that_queries_do_not_see_yet_is_waited_for() {
    let cluster = Cluster::start(&[]);
    let scene = Scene::with(&cluster, Setup::default()).await;
    scene
        .db
        .execute(
            "create table rooms (id int primary key, who uuid);
             create table notes (id int primary key, room int);
             alter table notes enable row level security;
             create policy room on notes using (
                 exists (select from rooms where rooms.id = notes.room and rooms.who = auth.uid()));
             create function demand(room int) returns boolean language plpgsql stable as $$
                 begin
                     if not exists (select from rooms where id = $1) then raise 'no such room'; end if;
                     return true;
                 end $$;
             create table strict (id int primary key, room int);
             alter table strict enable row level security;
             create policy room on strict using (demand(room))",
        )
        .await;
    let (notes, strict) = (scene.table("notes").await, scene.table("strict").await);
    let writer = cluster.hold_commits(&scene.db).await;
    writer.batch_execute("begin").await.unwrap();
    let mine = "select (pg_current_xact_id()::text::bigint & 4294967295)::oid, pg_backend_pid()";
    let row = writer.query_one(mine, &[]).await.unwrap();
    let (xid, pid): (u32, i32) = (row.get(0), row.get(1));
    writer
        .batch_execute(&format!(
            "insert into rooms values (7, '{ANN}'); insert into notes values (1, 7)"
        ))
        .await
        .unwrap();
    let committing = tokio::spawn(async move { writer.batch_execute("commit").await });
    let waits =
        format!("select from pg_stat_activity where pid = {pid} and wait_event = 'SyncRep'");
    until("the commit to wait for the standby", || async {
        (!scene.db.query(&waits).await.is_empty()).then_some(())
    })
    .await;

    let scene = Arc::new(scene);
    let asking = |table| {
        let scene = Arc::clone(&scene);
        tokio::spawn(async move {
            let image = r#"{"id":"1","room":"7"}"#.to_owned();
            scene.judge(&user("authenticated", ANN), &table, &[xid], vec![image]).await
        })
    };
    let (asked, asked_strictly) = (asking(notes), asking(strict));
    until("some waiting", || async { (20 <= scene.metrics.check_waits.get()).then_some(()) }).await;
    assert!(!asked.is_finished() && !asked_strictly.is_finished() && !committing.is_finished());

    cluster.release_commits(&scene.db).await;
    assert_eq!(asked.await.unwrap(), Ok(vec![true]));
    assert_eq!(asked_strictly.await.unwrap(), Ok(vec![true]));
    committing.await.unwrap().unwrap();

    let known = scene.metrics.check_waits.get();
    let again = scene.table("notes").await;
    let nobody = Principal::new("authenticated", "{}");
    let image = r#"{"id":"1","room":"7"}"#.to_owned();
    assert_eq!(scene.judge(&nobody, &again, &[xid], vec![image]).await, Ok(vec![false]));
    assert_eq!(scene.metrics.check_waits.get(), known);
}

#[tokio::test]
async fn waiting_for_a_commit_ends_when_the_relay_stops() {
    let scene = Arc::new(Scene::new().await);
    scene
        .db
        .execute(
            "create table notes (id int primary key); alter table notes enable row level security;
             create policy few on notes using (id > 0)",
        )
        .await;
    let notes = scene.table("notes").await;
    let row = scene
        .db
        .query("select ((pg_current_xact_id()::text::bigint + 1000000) & 4294967295)::oid")
        .await;
    let never: u32 = row[0].get(0);
    let asking = {
        let scene = Arc::clone(&scene);
        tokio::spawn(async move {
            scene.judge(&user("authenticated", ANN), &notes, &[never], one()).await
        })
    };
    until("some waiting", || async { (3 <= scene.metrics.check_waits.get()).then_some(()) }).await;
    assert!(scene.stage.stop(Duration::from_secs(20)).await);
    assert_eq!(asking.await.unwrap(), Err(Trouble::Unavailable));
}

#[tokio::test]
async fn a_policy_that_raises_harms_only_the_principal_it_raises_for() {
    let scene = Scene::new().await;
    scene
        .db
        .execute(
            "create table notes (id int primary key, secret text); alter table notes enable row level security;
             create policy own on notes using (auth.uid() is not null);
             create table loud (id int primary key, secret text); alter table loud enable row level security;
             create function shout(secret text) returns boolean language plpgsql stable as
                 $$ begin raise exception 'the secret is %', secret; end $$;
             create policy shouts on loud using (shout(secret))",
        )
        .await;
    let (notes, loud) = (scene.table("notes").await, scene.table("loud").await);
    let image = || vec![r#"{"id":"1","secret":"xyzzy"}"#.to_owned()];
    let (bad, good) = (user("authenticated", "not a uuid"), user("authenticated", ANN));
    for _ in 0..20 {
        let (failed, fine) = tokio::join!(
            scene.judge(&bad, &notes, &[], image()),
            scene.judge(&good, &notes, &[], image())
        );
        let Err(Trouble::Failed { code, message }) = failed else { panic!("{failed:?}") };
        assert_eq!((&*code, &*message), ("22P02", "invalid input syntax for type uuid"));
        assert_eq!(fine, Ok(vec![true]));
    }
    let told = scene.judge(&good, &loud, &[], image()).await;
    let Err(Trouble::Failed { code, message }) = told else { panic!("{told:?}") };
    assert_eq!(code, "P0001");
    assert!(!message.contains("xyzzy"), "{message}");
}

#[tokio::test]
async fn a_slow_policy_times_out_for_those_it_is_slow_for() {
    // Long enough for those who are quick on any machine.
    let setup = Setup { pool: 2, check_timeout: Duration::from_secs(2), ..Setup::default() };
    let scene = Arc::new(Scene::with(Cluster::shared(), setup).await);
    scene
        .db
        .execute(
            "create table notes (id int primary key); alter table notes enable row level security;
             create policy own on notes using (
                 case when auth.jwt() ->> 'sub' like 'slow%' then pg_sleep(600) is not null else true end)",
        )
        .await;
    let notes = scene.table("notes").await;
    let slow = |number: u32| {
        let (scene, notes) = (Arc::clone(&scene), Arc::clone(&notes));
        tokio::spawn(async move {
            let sleeper = user("authenticated", &format!("slow{number}"));
            scene.judge(&sleeper, &notes, &[], one()).await
        })
    };
    // Known as slow from now on, they never hold both connections.
    for asked in [slow(1), slow(2), slow(3)] {
        assert_eq!(asked.await.unwrap(), Err(Trouble::TimedOut));
    }
    let asked = [slow(1), slow(2), slow(3)];
    for number in 0..50 {
        let quick = user("authenticated", &format!("quick{number}"));
        assert_eq!(scene.judge(&quick, &notes, &[], one()).await, Ok(vec![true]));
    }
    assert!(asked.iter().any(|asked| !asked.is_finished()));
    for asked in asked {
        assert_eq!(asked.await.unwrap(), Err(Trouble::TimedOut));
    }
}

#[tokio::test]
async fn a_role_the_relay_may_not_become_is_named_with_the_grant() {
    let foreign = unique("faults_foreign");
    let mut setup = Setup::default();
    setup.roles.extend([foreign.clone()]);
    let scene = Scene::with(Cluster::shared(), setup).await;
    scene
        .db
        .execute(&format!(
            "create role {foreign}; create table notes (id int primary key);
             alter table notes enable row level security;
             create policy few on notes using (id > 0)"
        ))
        .await;
    let notes = scene.table("notes").await;
    let refused = scene.judge(&user(&foreign, ANN), &notes, &[], one()).await;
    let Err(Trouble::Failed { code, message }) = refused else { panic!("{refused:?}") };
    assert_eq!(code, "42501");
    assert!(message.ends_with(&format!(r#"run: grant "{foreign}" to "relay""#)), "{message}");
    assert_eq!(scene.judge(&user("anon", ANN), &notes, &[], one()).await, Ok(vec![true]));
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for() {
    let cluster = Cluster::start(&[]);
    let scene = Scene::with(&cluster, Setup::default()).await;
    scene
        .db
        .execute(
            "create table notes (id int primary key); alter table notes enable row level security;
             create policy few on notes using (id = 1)",
        )
        .await;
    let notes = scene.table("notes").await;
    let ann = user("authenticated", ANN);
    assert_eq!(scene.judge(&ann, &notes, &[], one()).await, Ok(vec![true]));
    cluster.stop("immediate");
    let asking = scene.judge(&ann, &notes, &[], one());
    tokio::pin!(asking);
    assert!(tokio::time::timeout(QUIET, &mut asking).await.is_err(), "answered by nobody");
    cluster.start_again();
    assert_eq!(asking.await, Ok(vec![true]));
    assert!(scene.catalog.find("public", "notes").await.unwrap().is_some());
}
