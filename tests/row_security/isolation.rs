//! Many principals on few connections: nobody is ever judged as somebody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;

use relay::auth::visibility::Trouble;
use relay::model::Principal;

use super::scene::{Scene, Setup};
use crate::support::{Cluster, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_users_on_five_connections_are_never_mistaken_for_each_other() {
    let setup = Setup { pool: 5, ..Setup::default() };
    let scene = Arc::new(Scene::with(Cluster::shared(), setup).await);
    // The image says who is expected to ask, in every way a policy can know it; for rows divisible by seven it raises.
    scene
        .db
        .execute(
            "create table probe (id int primary key, who text, role text, claims text);
             alter table probe enable row level security;
             create policy same on probe using (
                 case when id % 7 = 0 then 1 / (id - id) = 1 else
                     who = auth.jwt() ->> 'sub' and who = current_setting('request.jwt.claim.sub')
                     and role = current_user and role = current_setting('request.jwt.claim.role')
                     and claims = current_setting('request.jwt.claims')
                     and current_setting('transaction_read_only') = 'on'
                 end)",
        )
        .await;
    let probe = scene.table("probe").await;
    let is_done = Arc::new(AtomicBool::new(false));
    let (right, raised, lost) =
        (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let killer = {
        let (is_done, killer) = (Arc::clone(&is_done), scene.db.connect().await);
        let (right, raised) = (Arc::clone(&right), Arc::clone(&raised));
        tokio::spawn(async move {
            let (mut killed, mut next) = (0, 0);
            while !is_done.load(Ordering::Relaxed) {
                // So many answers apart, and not so much time: a slow machine would have more killed than answered.
                let answered = right.load(Ordering::Relaxed) + raised.load(Ordering::Relaxed);
                if answered < next {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    continue;
                }
                next = answered + 100;
                let rows = killer
                    .query(
                        "select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity \
                         where application_name = 'relay-check' and datname = current_database() \
                         order by random() limit 1) as victim",
                        &[],
                    )
                    .await
                    .unwrap();
                killed += rows[0].get::<_, i64>(0);
            }
            killed
        })
    };
    let users: Vec<_> = (0..50u32)
        .map(|number| {
            let (scene, probe) = (Arc::clone(&scene), Arc::clone(&probe));
            let (right, raised, lost) =
                (Arc::clone(&right), Arc::clone(&raised), Arc::clone(&lost));
            tokio::spawn(async move {
                let role = ["anon", "authenticated"][usize::from(number % 2 == 0)];
                let claims = format!(r#"{{"sub":"user{number}","role":"{role}"}}"#);
                let me = Principal::new(role, claims.as_str());
                let quoted = serde_json::Value::from(claims.as_str()).to_string();
                let other = (number + 1) % 50;
                for id in 1..=200u32 {
                    let image = |who: u32| {
                        format!(
                            r#"{{"id":"{id}","who":"user{who}","role":"{role}","claims":{quoted}}}"#
                        )
                    };
                    let images = vec![image(number), image(other), image(number)];
                    match scene.judge(&me, &probe, &[], images).await {
                        Ok(verdicts) => {
                            assert_ne!(id % 7, 0);
                            assert_eq!(verdicts, [true, false, true]);
                            right.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(Trouble::Failed { code, .. }) => {
                            assert_eq!((&*code, id % 7), ("22012", 0));
                            raised.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(Trouble::Unavailable) => {
                            lost.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(other) => panic!("{other:?}: nothing here is slow, nor changes"),
                    }
                }
            })
        })
        .collect();
    for user in users {
        user.await.unwrap();
    }
    is_done.store(true, Ordering::Relaxed);
    let killed = killer.await.unwrap();
    let count = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
    let counts = (count(&right), count(&raised), count(&lost), killed);
    assert_eq!(count(&right) + count(&raised) + count(&lost), 10_000, "{counts:?}");
    assert!(8_000 < count(&right) && 1_000 < count(&raised) && 1 <= killed, "{counts:?}");
    // One that was just killed may not be gone yet.
    until("no more connections than two roles of five have", || async {
        let open = scene
            .db
            .text(
                "select count(*)::text from pg_stat_activity \
                 where application_name = 'relay-check' and datname = current_database()",
            )
            .await;
        (open.parse::<u32>().unwrap() <= 10).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_user_with_many_tokens_has_some_of_the_connections_and_never_all() {
    let setup = Setup { pool: 3, check_timeout: Duration::from_secs(600), ..Setup::default() };
    let scene = Scene::with(Cluster::shared(), setup).await;
    scene
        .db
        .execute(
            "create table notes (id int primary key);
             alter table notes enable row level security;
             create policy patient on notes using (case when auth.jwt() ->> 'sub' = 'ann'
                 then pg_advisory_xact_lock_shared(7) is not null else true end)",
        )
        .await;
    let notes = scene.table("notes").await;
    let image = || vec![r#"{"id":"1"}"#.to_owned()];
    let ann =
        |number: u32| Principal::new("authenticated", format!(r#"{{"sub":"ann","iat":{number}}}"#));
    let ben = Principal::new("authenticated", r#"{"sub":"ben"}"#);
    scene.db.execute("select pg_advisory_lock(7)").await;
    let judge = |number| {
        let (scene, notes) = (&scene, &notes);
        async move { scene.judge(&ann(number), notes, &[], image()).await }
    };
    let mut all_of_ann = std::pin::pin!(join_all((0..30).map(judge)));
    let waiting = async |count: &str| {
        until("checks to wait for the lock", || async {
            let sql = "select count(*)::text from pg_locks where locktype = 'advisory' and not granted
                       and database = (select oid from pg_database where datname = current_database())";
            (scene.db.text(sql).await == count).then_some(())
        })
        .await;
    };
    tokio::select! {
        _ = &mut all_of_ann => panic!("a check did not wait for the lock"),
        () = waiting("2") => {}
    }
    let verdicts = tokio::select! {
        _ = &mut all_of_ann => panic!("a check did not wait for the lock"),
        verdicts = scene.judge(&ben, &notes, &[], image()) => verdicts,
    };
    assert_eq!(verdicts, Ok(vec![true]));
    scene.db.execute("select pg_advisory_unlock(7)").await;
    for verdicts in all_of_ann.await {
        assert_eq!(verdicts, Ok(vec![true]));
    }
}

#[tokio::test]
async fn a_function_that_falsely_claims_to_be_immutable_is_computed_for_each_principal() {
    let setup = Setup { pool: 1, ..Setup::default() };
    let scene = Scene::with(Cluster::shared(), setup).await;
    scene
        .db
        .execute(
            "create function whoami() returns text language sql immutable as
                 $$ select current_setting('request.jwt.claims')::json ->> 'sub' $$;
             create table notes (id int primary key, owner text);
             alter table notes enable row level security;
             create policy own on notes using (owner = whoami())",
        )
        .await;
    let notes = scene.table("notes").await;
    let image = || vec![r#"{"id":"1","owner":"ann"}"#.to_owned()];
    for _ in 0..10 {
        let as_user = |sub: &str| Principal::new("anon", format!(r#"{{"sub":"{sub}"}}"#));
        assert_eq!(scene.judge(&as_user("ann"), &notes, &[], image()).await, Ok(vec![true]));
        assert_eq!(scene.judge(&as_user("bob"), &notes, &[], image()).await, Ok(vec![false]));
    }
}

/// A function that lies about what it reads.
const WHOAMI: &str = "create function whoami() returns text language sql immutable as
    $$ select current_setting('request.jwt.claims')::json ->> 'sub' $$;";

/// A table whose rows say how their check is planned.
const NOTES: &str = "create table notes (id int primary key, owner text, mode text);
    alter table notes enable row level security;
    create policy mode on notes as restrictive using (mode = current_setting('plan_cache_mode'));";

const REPLANNED: &str = "force_custom_plan";
const KEPT: &str = "force_generic_plan";

/// Ann and Bob ask in turns on one connection about a note of Ann's whose check is planned in `mode`.
async fn assert_only_ann_reads(scene: &Scene, mode: &str, why: &str) {
    let notes = scene.table("notes").await;
    let image = || vec![format!(r#"{{"id":"1","owner":"ann","mode":"{mode}"}}"#)];
    let as_user = |sub: &str| Principal::new("anon", format!(r#"{{"sub":"{sub}"}}"#));
    for _ in 0..3 {
        let ann = scene.judge(&as_user("ann"), &notes, &[], image()).await;
        let bob = scene.judge(&as_user("bob"), &notes, &[], image()).await;
        assert_eq!((ann, bob), (Ok(vec![true]), Ok(vec![false])), "{why}");
    }
}

#[tokio::test]
async fn such_a_function_is_found_wherever_a_policy_reaches_it() {
    let ways = [
        (
            "through the policy of another table",
            "create table sessions (owner text primary key);
             insert into sessions values ('ann'), ('bob');
             alter table sessions enable row level security;
             create policy own on sessions using (owner = whoami());
             create policy own on notes using (exists (select from sessions s where s.owner = notes.owner))",
        ),
        (
            "through the text of a function that is inlined",
            "create function can(who text) returns boolean language sql stable as
                 $$ select who = public.WhoAmI() $$;
             create policy own on notes using (can(owner))",
        ),
        (
            "through what a function of SQL is made of",
            "create function can(who text) returns boolean language sql stable return who = whoami();
             create policy own on notes using (can(owner))",
        ),
        (
            "through a view",
            "create view me as select whoami() as sub;
             create policy own on notes using (owner = (select sub from me))",
        ),
        (
            "through a view that the text of a function names",
            "create view me as select whoami() as sub;
             create function can(who text) returns boolean language sql stable as
                 $$ select who = (select sub from me) $$;
             create policy own on notes using (can(owner))",
        ),
        (
            "through the plan that a procedural function keeps",
            "create function me() returns text language plpgsql stable as $$ begin return whoami(); end $$;
             create policy own on notes using (owner = me())",
        ),
        (
            "through an operator",
            "create function is_mine(text, text) returns boolean language sql stable as
                 $$ select $1 = whoami() $$;
             create operator ?? (leftarg = text, rightarg = text, function = is_mine);
             create policy own on notes using (owner ?? '')",
        ),
        (
            "through an operator that the text of a function uses",
            "create function is_mine(text, text) returns boolean language sql stable as
                 $$ select $1 = whoami() $$;
             create operator ?? (leftarg = text, rightarg = text, function = is_mine);
             create function can(who text) returns boolean language sql stable as $$ select who ?? '' $$;
             create policy own on notes using (can(owner))",
        ),
        (
            "through a name written in escapes",
            "create function can(who text) returns boolean language sql stable as
                 $$ select who = U&\"\\0077hoami\"() $$;
             create policy own on notes using (can(owner))",
        ),
    ];
    for (why, sql) in ways {
        let scene = Scene::with(Cluster::shared(), Setup { pool: 1, ..Setup::default() }).await;
        scene.db.execute(&format!("{WHOAMI} {NOTES} {sql}")).await;
        assert_only_ann_reads(&scene, REPLANNED, why).await;
    }
}

#[tokio::test]
async fn a_function_that_becomes_immutable_is_noticed_by_the_next_answer() {
    let scene = Scene::with(Cluster::shared(), Setup { pool: 1, ..Setup::default() }).await;
    let sql = "create function can(who text) returns boolean language sql stable as
                   $$ select who = whoami() $$;
               create table sessions (owner text primary key);
               insert into sessions values ('ann'), ('bob');
               alter table sessions enable row level security;
               create policy own on sessions using (can(owner));
               create policy own on notes using (exists (select from sessions s where s.owner = notes.owner))";
    let stable = "alter function whoami() stable";
    scene.db.execute(&format!("{WHOAMI} {NOTES} {stable}; {sql}")).await;
    assert_only_ann_reads(&scene, KEPT, "nothing is immutable").await;
    for (change, undo) in [
        ("alter function whoami() immutable", stable),
        (
            "create function new() returns text language sql immutable as
                 $$ select current_setting('request.jwt.claims')::json ->> 'sub' $$;
             create or replace function can(who text) returns boolean language sql stable as
                 $$ select who = new() $$",
            "alter function new() stable",
        ),
        (
            "alter function new() immutable; alter policy own on sessions using (owner = new())",
            "alter function new() stable; alter policy own on sessions using (can(owner))",
        ),
    ] {
        scene.db.execute(change).await;
        assert_only_ann_reads(&scene, REPLANNED, change).await;
        scene.db.execute(undo).await;
        // The first answer after a change is planned anew in any case.
        let notes = scene.table("notes").await;
        let image = r#"{"id":"1","owner":"ann","mode":"any"}"#.to_owned();
        let ann = Principal::new("anon", r#"{"sub":"ann"}"#);
        assert_eq!(scene.judge(&ann, &notes, &[], vec![image]).await, Ok(vec![false]));
        assert_only_ann_reads(&scene, KEPT, undo).await;
    }
}

#[tokio::test]
async fn plans_are_kept_for_ordinary_policies_whatever_else_claims_to_be_immutable() {
    let scene = Scene::with(Cluster::shared(), Setup { pool: 1, ..Setup::default() }).await;
    scene
        .db
        .execute(&format!(
            "{WHOAMI} {NOTES}
             create function slug(title text) returns text language sql immutable as $$ select lower(title) $$;
             create table agents (user_id text primary key);
             create table sessions (id text primary key, user_id text);
             insert into sessions values ('ann', 'ann'), ('bob', 'bob');
             alter table agents enable row level security;
             alter table sessions enable row level security;
             create function is_support_agent() returns boolean language sql stable security definer
                 set search_path = '' as
                 $$ select exists (select from public.agents a where a.user_id = auth.jwt() ->> 'sub') $$;
             create policy own on sessions using (user_id = (select auth.jwt() ->> 'sub'));
             create policy agents on sessions using ((select is_support_agent()));
             create policy own on notes
                 using (owner in (select id from sessions where user_id = (select auth.jwt() ->> 'sub')));
             create policy agents on notes using ((select is_support_agent()))"
        ))
        .await;
    assert_only_ann_reads(&scene, KEPT, "ordinary").await;
}
