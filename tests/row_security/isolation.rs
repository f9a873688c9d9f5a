//! Many principals on few connections: nobody is ever judged as somebody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use relay::auth::visibility::Trouble;
use relay::model::Principal;

use super::scene::{Scene, Setup};
use crate::support::Cluster;

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
    let killer = {
        let (is_done, killer) = (Arc::clone(&is_done), scene.db.connect().await);
        tokio::spawn(async move {
            let mut killed = 0;
            while !is_done.load(Ordering::Relaxed) {
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
                tokio::time::sleep(std::time::Duration::from_millis(40)).await;
            }
            killed
        })
    };
    let (right, raised, lost) =
        (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
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
                        Err(Trouble::TimedOut) => panic!("nothing here is slow"),
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
    let open = scene
        .db
        .text(
            "select count(*)::text from pg_stat_activity \
             where application_name = 'relay-check' and datname = current_database()",
        )
        .await;
    assert!(open.parse::<u32>().unwrap() <= 10, "{open} connections for two roles of five");
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
