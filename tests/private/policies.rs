//! What the relay answers is what SELECT and INSERT do as that role.

use std::sync::Arc;
use std::time::Duration;

use relay::auth::denial::Denial;
use relay::auth::policy::{Asking, Extension, Policies};
use relay::config::Postgres;
use relay::model::{CallerIdentity, Network, Principal};
use relay::postgres::Target;
use relay::secret::Secret;
use relay::shutdown::Stage;
use serde_json::json;

use crate::support::{Cluster, Database};

const BOTH: [Extension; 2] = [Extension::Broadcast, Extension::Presence];

struct Scene {
    db: Database,
    policies: Arc<Policies>,
}

impl Scene {
    async fn new(sql: &str) -> Self {
        let db = Cluster::shared().database().await.with_roles().await.with_realtime();
        db.execute(sql).await;
        let policies = policies(&db);
        Self { db, policies }
    }

    async fn may(&self, principal: &Principal, topic: &str, headers: &str) -> [Vec<bool>; 2] {
        let asking = Asking { principal, topic, headers, caller: &CALLER };
        [
            self.policies.may_read(asking, &BOTH).await.unwrap(),
            self.policies.may_write(asking, &BOTH).await.unwrap(),
        ]
    }

    /// The same, put to Postgres by a superuser who becomes the role.
    async fn does(&self, principal: &Principal, topic: &str, headers: &str) -> [Vec<bool>; 2] {
        let mut client = self.db.connect().await;
        let mut does = [Vec::new(), Vec::new()];
        for extension in BOTH {
            for (at, is_read) in [true, false].into_iter().enumerate() {
                let act = client.transaction().await.unwrap();
                let insert = "insert into realtime.messages (topic, extension) values ($1, $2)";
                let count = "select count(*) from realtime.messages";
                if is_read {
                    act.execute(insert, &[&topic, &extension.word()]).await.unwrap();
                }
                let claims: serde_json::Value = serde_json::from_str(principal.claims()).unwrap();
                for (name, value) in [
                    ("role", principal.role()),
                    ("realtime.topic", topic),
                    ("request.headers", headers),
                    ("request.jwt.claims", principal.claims()),
                    ("request.jwt.claim.sub", claims["sub"].as_str().unwrap_or_default()),
                    ("request.jwt.claim.role", principal.role()),
                ] {
                    act.execute("select set_config($1, $2, true)", &[&name, &value]).await.unwrap();
                }
                does[at].push(if is_read {
                    act.query_one(count, &[]).await.unwrap().get::<_, i64>(0) == 1
                } else {
                    act.execute(insert, &[&topic, &extension.word()]).await.is_ok()
                });
            }
        }
        does
    }
}

/// The caller whose share of the connections is used, where a test is not about callers.
const CALLER: CallerIdentity = CallerIdentity::Stranger(Network::UNKNOWN);

fn policies(db: &Database) -> Arc<Policies> {
    policies_with(db, 2)
}

fn policies_with(db: &Database, pool: usize) -> Arc<Policies> {
    let settings = Postgres {
        url: Secret::new(db.url_as("relay")),
        publication: "supabase_realtime".to_owned(),
        slot: "unused".to_owned(),
        pool,
        check_timeout: Duration::from_secs(20),
        wal_sender_timeout: Duration::from_secs(5),
        max_transaction: 1 << 20,
        max_backlog: 1 << 20,
        heartbeat: Duration::ZERO,
        max_slot_lag: 0,
    };
    Policies::new(Target::parse(settings.url.reveal()).unwrap(), &settings, Stage::new())
}

fn user(sub: &str) -> Principal {
    principal("authenticated", sub)
}

fn principal(role: &str, sub: &str) -> Principal {
    Principal::new(role, json!({ "sub": sub, "role": role, "team": 7 }).to_string())
}

#[tokio::test]
async fn a_permission_is_what_select_and_insert_do() {
    let scene = Scene::new(
        "create schema hidden;
         create function hidden.is_ann() returns boolean language sql stable
           as $$ select current_setting('request.jwt.claim.sub', true) = 'ann' $$;
         create table members (room text, who text);
         grant select on members to authenticated;
         insert into members values ('club', 'bob');
         create policy a on realtime.messages for select to authenticated
           using (realtime.topic() = 'read' and extension = 'broadcast');
         create policy b on realtime.messages for insert to authenticated
           with check (realtime.topic() = 'write' and topic = 'write' and extension = 'presence');
         create policy c on realtime.messages for all to authenticated
           using (realtime.topic() = 'hers' and hidden.is_ann());
         create policy d on realtime.messages for select to authenticated
           using (exists (select from public.members m where m.room = realtime.topic() and m.who = auth.jwt() ->> 'sub'));
         create policy e on realtime.messages for all to authenticated, anon
           using (realtime.topic() = 'headers' and current_setting('request.headers', true)::json ->> 'x-team' = '7');
         create policy f on realtime.messages for all to anon using (true);
         create policy g on realtime.messages as restrictive for all to anon
           using (private is false and payload is null and event is null) with check (extension = 'broadcast');
         create policy h on realtime.messages for all to authenticated
           using (realtime.topic() = 'role' and auth.jwt() ->> 'role' = current_user and (auth.jwt() ->> 'team')::int = 7);",
    )
    .await;
    let none = [vec![false, false], vec![false, false]];
    let all = [vec![true, true], vec![true, true]];
    let cases = [
        (user("ann"), "read", "{}", [vec![true, false], vec![false, false]]),
        (user("ann"), "write", "{}", [vec![false, false], vec![false, true]]),
        (user("ann"), "hers", "{}", all.clone()),
        (user("bob"), "hers", "{}", none.clone()),
        (user("bob"), "club", "{}", [vec![true, true], vec![false, false]]),
        (user("ann"), "club", "{}", none.clone()),
        (user("ann"), "headers", r#"{"x-team":"7"}"#, all.clone()),
        (user("ann"), "headers", "{}", none.clone()),
        (user("ann"), "role", "{}", all.clone()),
        (user("ann"), "it's \\ \"odd\" ☃", "{}", none),
        (principal("anon", ""), "any", "{}", [vec![true, true], vec![true, false]]),
        (principal("service_role", ""), "any", "{}", all),
    ];
    for (principal, topic, headers, expected) in cases {
        let may = scene.may(&principal, topic, headers).await;
        assert_eq!(may, expected, "{principal:?} {topic}");
        assert_eq!(may, scene.does(&principal, topic, headers).await, "{principal:?} {topic}");
    }
    assert_eq!(scene.db.text("select count(*)::text from realtime.messages").await, "0");
}

#[tokio::test]
async fn sending_needs_no_right_to_read() {
    let scene = Scene::new(
        "create policy a on realtime.messages for insert to authenticated with check (true)",
    )
    .await;
    let may = scene.may(&user("ann"), "t", "{}").await;
    assert_eq!(may, [vec![false, false], vec![true, true]]);
}

#[tokio::test]
async fn a_policy_takes_effect_at_once() {
    let scene = Scene::new("select").await;
    let ann = user("ann");
    assert_eq!(scene.may(&ann, "t", "{}").await[0], [false, false]);
    scene.db.execute("create policy a on realtime.messages for select using (true)").await;
    assert_eq!(scene.may(&ann, "t", "{}").await[0], [true, true]);
    scene.db.execute("drop policy a on realtime.messages").await;
    assert_eq!(scene.may(&ann, "t", "{}").await[0], [false, false]);
}

#[tokio::test]
async fn what_cannot_be_tried_is_a_denial_in_the_original_s_words() {
    let scene = Scene::new(
        "create policy a on realtime.messages for select using ((1 / (length(realtime.topic()) - 1)) = 1);",
    )
    .await;
    let ann = user("ann");
    let asking = Asking { principal: &ann, topic: "x", headers: "{}", caller: &CALLER };
    let denial = scene.policies.may_read(asking, &BOTH).await.unwrap_err();
    assert_eq!(
        denial.of_join("x"),
        "Unauthorized: You do not have permissions to read from this Channel topic: x"
    );
    let nobody = Principal::new("nobody_at_all", "{}");
    let asking = Asking { principal: &nobody, topic: "x", headers: "{}", caller: &CALLER };
    assert_eq!(scene.policies.may_read(asking, &BOTH).await, Err(Denial::Failed));

    let partitions =
        "select string_agg('drop table ' || i.inhrelid::regclass, ';') from pg_inherits i
                      where i.inhparent = 'realtime.messages'::regclass";
    scene.db.execute(&scene.db.text(partitions).await).await;
    let asking = Asking { principal: &ann, topic: "abc", headers: "{}", caller: &CALLER };
    let denial = scene.policies.may_read(asking, &BOTH).await.unwrap_err();
    assert_eq!(
        denial.of_join("abc"),
        "MissingPartition: Realtime was unable to find the expected messages partition"
    );
    scene.policies.keep_partitions().await.unwrap();
    assert_eq!(scene.may(&ann, "abc", "{}").await[1], [false, false]);
}

#[tokio::test]
async fn a_database_without_the_schema_keeps_private_topics_closed() {
    let db = Cluster::shared().database().await.with_roles().await;
    let ann = user("ann");
    let asking = Asking { principal: &ann, topic: "x", headers: "{}", caller: &CALLER };
    assert_eq!(policies(&db).may_read(asking, &BOTH).await, Err(Denial::Failed));
    assert_eq!(policies(&db).may_write(asking, &BOTH).await, Err(Denial::Failed));
}

#[tokio::test]
async fn a_lost_connection_is_opened_again() {
    let scene = Scene::new("create policy a on realtime.messages for select using (true)").await;
    let ann = user("ann");
    assert_eq!(scene.may(&ann, "t", "{}").await[0], [true, true]);
    let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity
               where application_name = 'relay-policy' and datname = current_database()";
    scene.db.query(end).await;
    assert_eq!(scene.may(&ann, "t", "{}").await[0], [true, true]);
}

#[tokio::test]
async fn the_past_is_the_newest_messages_oldest_first() {
    let scene = Scene::new(
        "insert into realtime.messages (topic, extension, event, private, payload, binary_payload, inserted_at)
         select 't', 'broadcast', 'e' || n, true, case n when 2 then null else '{\"n\": 1.50}'::jsonb end,
           case n when 2 then '\\x00ff'::bytea end, timezone('utc', now()) - n * interval '1 second'
         from generate_series(1, 3) n",
    )
    .await;
    let kept = scene.policies.replay(&CALLER, "t", 0, 2).await.unwrap().messages;
    let events: Vec<&str> = kept.iter().map(|kept| &*kept.event).collect();
    assert_eq!(events, ["e2", "e1"]);
    assert_eq!(kept[0].payload, Err(vec![0, 255]));
    assert_eq!(kept[1].payload.as_deref(), Ok("{\"n\": 1.50}"));
    assert!(scene.policies.replay(&CALLER, "t", i64::MAX, 2).await.unwrap().messages.is_empty());
    assert_eq!(scene.policies.replay(&CALLER, "t", i64::MIN, 25).await.unwrap().messages.len(), 3);
    assert!(scene.policies.replay(&CALLER, "other", 0, 2).await.unwrap().messages.is_empty());
}

#[tokio::test]
async fn a_large_past_is_read_only_as_far_as_its_newest_messages_fit() {
    let scene = Scene::new(
        "insert into realtime.messages (topic, extension, event, private, payload, inserted_at)
         select 't', 'broadcast', 'e' || n, true, to_jsonb(repeat('x', 1 << 20)),
           timezone('utc', now()) - n * interval '1 second'
         from generate_series(1, 20) n",
    )
    .await;
    let kept = scene.policies.replay(&CALLER, "t", 0, 10_000).await.unwrap().messages;
    let events: Vec<String> = kept.iter().map(|kept| kept.event.to_string()).collect();
    let newest: Vec<String> = (1..=15).rev().map(|n| format!("e{n}")).collect();
    assert_eq!(events, newest);
}

#[tokio::test]
async fn one_principal_is_never_tried_with_what_was_planned_for_another() {
    let scene = Scene::new(
        "create function whoami() returns text language sql immutable as
           $$ select current_setting('request.jwt.claims')::json ->> 'sub' $$;
         create function me() returns text language plpgsql stable as $$ begin return whoami(); end $$;
         create policy own on realtime.messages for all to authenticated
           using (topic = me()) with check (topic = me())",
    )
    .await;
    let policies = policies_with(&scene.db, 1);
    for name in ["ann", "bob", "ann"] {
        let principal = user(name);
        for topic in ["ann", "bob"] {
            let asking = Asking { principal: &principal, topic, headers: "{}", caller: &CALLER };
            let expected = Ok(vec![topic == name; 2]);
            assert_eq!(policies.may_read(asking, &BOTH).await, expected, "{name} hears {topic}");
            assert_eq!(policies.may_write(asking, &BOTH).await, expected, "{name} says {topic}");
        }
    }
}

#[tokio::test]
async fn nothing_of_one_question_is_left_for_the_next() {
    // Whatever a probe finds set before anybody was acted for is a leak; and so is acting for somebody already.
    let scene = Scene::new(
        "create function leaks() returns trigger language plpgsql as $$
         begin
           if current_user = 'postgres' and concat(
             current_setting('realtime.topic', true), current_setting('request.headers', true),
             current_setting('request.jwt.claims', true), current_setting('request.jwt.claim.sub', true)) <> ''
           then
             raise exception 'left behind';
           end if;
           return new;
         end
         $$;
         create trigger leaks before insert on realtime.messages for each row execute function leaks();
         create policy a on realtime.messages for all to authenticated
           using (realtime.topic() = 'open' or realtime.topic() = 'broken' and 1 / (length(topic) - 6) = 1);",
    )
    .await;
    let policies = policies_with(&scene.db, 1);
    let (ann, nobody) = (user("ann"), Principal::new("nobody_at_all", "{}"));
    let pid = "select string_agg(pid || state, ' ') from pg_stat_activity
               where application_name = 'relay-policy' and datname = current_database()";
    let mut pids = Vec::new();
    for (principal, topic, expected) in [
        (&ann, "open", Ok(vec![true, true])),
        (&ann, "closed", Ok(vec![false, false])),
        (&ann, "broken", Err(Denial::Failed)),
        (&nobody, "open", Err(Denial::Failed)),
        (&ann, "a\0b", Err(Denial::Failed)),
    ] {
        let asking = Asking { principal, topic, headers: r#"{"x-team":"7"}"#, caller: &CALLER };
        let open = Asking { principal: &ann, topic: "open", headers: "{}", caller: &CALLER };
        assert_eq!(policies.may_read(asking, &BOTH).await, expected, "{topic}");
        assert_eq!(policies.may_read(open, &BOTH).await, Ok(vec![true, true]), "after {topic}");
        assert_eq!(policies.may_write(asking, &BOTH).await, expected, "{topic}");
        assert_eq!(policies.may_read(open, &BOTH).await, Ok(vec![true, true]), "after {topic}");
        // Only the relay's own role may.
        assert_eq!(
            policies.replay(&CALLER, topic, 0, 1).await.is_ok(),
            !topic.contains('\0'),
            "{topic}"
        );
        assert_eq!(policies.keep_partitions().await, Ok(()), "{topic}");
        pids.push(scene.db.text(pid).await);
        assert_eq!(scene.db.text("select count(*)::text from realtime.messages").await, "0");
    }
    assert!(pids[0].ends_with("idle") && !pids[0].contains(' '), "{pids:?}");
    assert!(
        pids[..4].iter().all(|pid| *pid == pids[0]),
        "a failed question costs no connection: {pids:?}"
    );
}

#[tokio::test]
async fn a_function_that_claims_to_be_immutable_is_asked_for_everybody() {
    let scene = Scene::new(
        "create function is_ann() returns boolean language sql immutable
           as $$ select current_setting('request.jwt.claim.sub', true) = 'ann' $$;
         create policy a on realtime.messages for all to authenticated using (is_ann());",
    )
    .await;
    let policies = policies_with(&scene.db, 1);
    for _ in 0..8 {
        for (who, may) in [("ann", true), ("bob", false)] {
            let principal = user(who);
            let asking =
                Asking { principal: &principal, topic: "t", headers: "{}", caller: &CALLER };
            assert_eq!(policies.may_read(asking, &BOTH).await, Ok(vec![may, may]), "{who}");
            assert_eq!(policies.may_write(asking, &BOTH).await, Ok(vec![may, may]), "{who}");
        }
    }
}

#[tokio::test]
async fn one_caller_whose_policies_are_slow_leaves_a_connection_for_the_others() {
    let scene = Scene::new(
        "create policy slow on realtime.messages for select to authenticated using (
           case when auth.jwt() ->> 'sub' = 'ann' then pg_advisory_xact_lock_shared(7) is not null else true end);",
    )
    .await;
    let may_read = |sub: &'static str| {
        let policies = &scene.policies;
        async move {
            let (principal, caller) = (user(sub), CallerIdentity::Subject(sub.into()));
            let asking =
                Asking { principal: &principal, topic: "t", headers: "{}", caller: &caller };
            policies.may_read(asking, &BOTH).await
        }
    };
    scene.db.execute("select pg_advisory_lock(7)").await;
    let mut all_of_ann =
        std::pin::pin!(futures_util::future::join_all((0..5).map(|_| may_read("ann"))));
    tokio::select! {
        _ = &mut all_of_ann => panic!("a policy did not wait for the lock"),
        () = scene.db.waits_for_lock() => {}
    }
    tokio::select! {
        biased;
        _ = &mut all_of_ann => panic!("somebody else waited for ann"),
        may = may_read("ben") => assert_eq!(may, Ok(vec![true, true])),
    }
    scene.db.execute("select pg_advisory_unlock(7)").await;
    for may in all_of_ann.await {
        assert_eq!(may, Ok(vec![true, true]));
    }
}
