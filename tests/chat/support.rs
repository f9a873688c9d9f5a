//! The support chat at `/chat/v1`.

use serde_json::{Value, json};

use super::{ANN, BEA, MALLORY, Person, VERA, id, read, relay, support_database, with_id};
use crate::support::relay::{now, sign, token};
use crate::support::{Client, Cluster};

const SESSIONS: &str = "/chat/v1/sessions";

fn of(session: u32, what: &str) -> String {
    format!("{SESSIONS}/{}{what}", id(session))
}

#[tokio::test]
async fn a_chat_goes_from_waiting_to_rated() {
    let database = support_database().await;
    let relay = relay(&database, "support", &[]).await;
    let (vera, ann) = (Person::new(&relay, VERA), Person::new(&relay, ANN));
    let opened =
        vera.post(SESSIONS, &with_id(1, json!({ "name": "Vera", "subject": "Parcel" })), 201);
    assert_eq!(
        (&opened["status"], &opened["visitor_id"], &opened["visitor_name"], &opened["subject"]),
        (&json!("waiting"), &json!(VERA), &json!("Vera"), &json!("Parcel"))
    );
    let said = vera.post(
        &of(1, "/messages"),
        &with_id(2, json!({ "body": "Hello", "sender_name": "Vera" })),
        201,
    );
    assert_eq!((&said["sender_type"], &said["body"]), (&json!("visitor"), &json!("Hello")));
    assert_eq!((&said["client_id"], &said["sender_id"]), (&json!(id(2)), &json!(VERA)));

    assert_eq!(ann.get(SESSIONS, 200)[0]["id"], json!(id(1)));
    let taken = ann.post(&of(1, "/assign"), &Value::Null, 200);
    assert_eq!(taken["status"], "active");
    let agents = ann.get("/chat/v1/agents", 200);
    assert_eq!(agents[0]["display_name"], "Ann");
    assert_eq!(taken["assigned_agent_id"], agents[0]["id"]);
    let said = ann.post(&of(1, "/messages"), &with_id(3, json!({ "body": "Hello Vera" })), 201);
    assert_eq!(said["sender_type"], "agent");

    assert_eq!(vera.ask("POST", &of(1, "/read"), &json!({})).status, 204);
    let history = vera.get(&of(1, "/messages"), 200);
    assert_eq!(history.as_array().unwrap().len(), 2);
    assert!(history[0]["read_at"].is_null() && !history[1]["read_at"].is_null(), "{history}");

    let closed = ann.post(&of(1, "/close"), &Value::Null, 200);
    assert!(closed["status"] == "closed" && !closed["closed_at"].is_null(), "{closed}");
    let rated = vera.post(&of(1, "/rating"), &json!({ "rating": 4, "feedback": "quick" }), 200);
    assert_eq!((&rated["rating"], &rated["feedback"]), (&json!(4), &json!("quick")));
    assert_eq!(ann.get(SESSIONS, 200), json!([]));
    assert_eq!(ann.get(&format!("{SESSIONS}?status=closed"), 200)[0], vera.get(&of(1, ""), 200));
}

#[tokio::test]
async fn sending_twice_stores_once() {
    let database = support_database().await;
    let relay = relay(&database, "support", &[]).await;
    let (vera, ann) = (Person::new(&relay, VERA), Person::new(&relay, ANN));
    let session = with_id(1, json!({ "name": "Vera" }));
    assert_eq!(vera.post(SESSIONS, &session, 201), vera.post(SESSIONS, &session, 200));
    let message = with_id(2, json!({ "body": "Once" }));
    let first = vera.post(&of(1, "/messages"), &message, 201);
    assert_eq!(first, vera.post(&of(1, "/messages"), &message, 200));
    for _ in 0..2 {
        ann.post(&of(1, "/assign"), &Value::Null, 200);
        ann.post(&of(1, "/close"), &Value::Null, 200);
    }
    // Also when the chat was closed before the answer to the first was missed.
    assert_eq!(first, vera.post(&of(1, "/messages"), &message, 200));
    assert_eq!(database.text("select count(*)::text from chat_messages").await, "1");
    assert_eq!(database.text("select count(*)::text from live_chat_sessions").await, "1");
}

#[tokio::test]
async fn what_is_acknowledged_is_stored_and_told_to_the_other_side() {
    let database = support_database().await;
    let relay = relay(&database, "support", &[]).await;
    let vera = Person::new(&relay, VERA);
    vera.post(SESSIONS, &with_id(1, json!({})), 201);
    let mut listener = Client::connect(&relay, &crate::support::relay::token_of(ANN)).await;
    let changes = [json!({ "event": "INSERT", "schema": "public", "table": "chat_messages" })];
    let config = json!({ "config": { "postgres_changes": changes } });
    assert_eq!(listener.join("desk", config).await["status"], "ok");
    listener.expect("system").await;
    let said = vera.post(&of(1, "/messages"), &with_id(2, json!({ "body": "Hi" })), 201);
    assert_eq!(database.text("select body from chat_messages").await, "Hi");
    let told = listener.expect("postgres_changes").await.payload;
    for column in ["id", "body", "created_at", "sender_type"] {
        assert_eq!(told["data"]["record"][column], said[column], "{column}");
    }
}

#[tokio::test]
async fn a_stranger_sees_and_writes_nothing() {
    let database = support_database().await;
    let relay = relay(&database, "support", &[]).await;
    let (vera, mallory) = (Person::new(&relay, VERA), Person::new(&relay, MALLORY));
    vera.post(SESSIONS, &with_id(1, json!({})), 201);
    vera.post(&of(1, "/messages"), &with_id(2, json!({ "body": "secret" })), 201);
    assert_eq!(mallory.get(SESSIONS, 200), json!([]));
    assert_eq!(mallory.get("/chat/v1/agents", 200), json!([]));
    for what in ["", "/messages"] {
        mallory.get(&of(1, what), 404);
    }
    let message = with_id(3, json!({ "body": "let me in" }));
    for (what, body) in [
        ("/messages", &message),
        ("/assign", &json!({})),
        ("/close", &json!({})),
        ("/read", &json!({})),
        ("/rating", &json!({ "rating": 1 })),
    ] {
        mallory.post(&of(1, what), body, 404);
    }
    // An id that is taken by what cannot be seen.
    mallory.post(SESSIONS, &with_id(1, json!({})), 409);
    mallory.post(SESSIONS, &with_id(4, json!({})), 201);
    mallory.post(&of(4, "/messages"), &with_id(2, json!({ "body": "mine?" })), 409);
    let anon = Person::with_token(&relay, token("anon", &json!({})));
    assert_eq!(anon.post(SESSIONS, &with_id(5, json!({})), 403)["code"], "42501");
    assert_eq!(database.text("select string_agg(body, ',') from chat_messages").await, "secret");
    assert_eq!(
        database.text("select status from live_chat_sessions order by id limit 1").await,
        "waiting"
    );
}

#[tokio::test]
async fn each_side_may_do_what_is_its_own_only() {
    let database = support_database().await;
    let relay = relay(&database, "support", &[]).await;
    let (vera, ann, bea) =
        (Person::new(&relay, VERA), Person::new(&relay, ANN), Person::new(&relay, BEA));
    vera.post(SESSIONS, &with_id(1, json!({})), 201);
    vera.post(&of(1, "/assign"), &Value::Null, 403);
    ann.post(&of(1, "/assign"), &Value::Null, 200);
    bea.post(&of(1, "/assign"), &Value::Null, 409);
    ann.post(&of(1, "/rating"), &json!({ "rating": 5 }), 403);
    vera.post(&of(1, "/close"), &Value::Null, 200);
    let refused = vera.post(&of(1, "/messages"), &with_id(2, json!({ "body": "too late" })), 403);
    assert!(refused["detail"].as_str().unwrap().contains("row-level security"), "{refused}");
}

#[tokio::test]
async fn of_two_agents_at_once_one_has_the_chat() {
    let database = support_database().await;
    let relay = relay(&database, "support", &[("RELAY_CHAT__REQUESTS_PER_SECOND", "1000")]).await;
    let vera = Person::new(&relay, VERA);
    for n in 0..20 {
        vera.post(SESSIONS, &with_id(n, json!({})), 201);
        let path = of(n, "/assign");
        let statuses = std::thread::scope(|scope| {
            let asking = [ANN, BEA].map(|sub| {
                let (person, path) = (Person::new(&relay, sub), &path);
                scope.spawn(move || person.ask("POST", path, &Value::Null).status)
            });
            asking.map(|asking| asking.join().unwrap())
        });
        assert!(statuses == [200, 409] || statuses == [409, 200], "{statuses:?}");
    }
}

#[tokio::test]
async fn history_comes_in_pages() {
    let database = support_database().await;
    let relay = relay(&database, "support", &[]).await;
    let vera = Person::new(&relay, VERA);
    vera.post(SESSIONS, &with_id(1, json!({})), 201);
    // All in one transaction, so of one time, but for the first and the last.
    database
        .execute(&format!(
            "insert into chat_messages (id, session_id, sender_type, body, created_at)
             select ('0b000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, '{}', 'agent', n::text,
               case n when 100 then now() - interval '1 minute' when 219 then now() + interval '1 minute' else now() end
             from generate_series(100, 219) n",
            id(1)
        ))
        .await;
    let page = |query: &str| -> Vec<String> {
        let page = vera.get(&of(1, &format!("/messages{query}")), 200);
        let bodies = page.as_array().unwrap().iter();
        bodies.map(|message| message["body"].as_str().unwrap().to_owned()).collect()
    };
    let expected =
        |range: std::ops::Range<u32>| -> Vec<String> { range.map(|n| n.to_string()).collect() };
    assert_eq!(page(""), expected(170..220));
    assert_eq!(page(&format!("?limit=60&before={}", id(170))), expected(110..170));
    assert_eq!(page(&format!("?before={}", id(110))), expected(100..110));
    assert_eq!(page(&format!("?before={}", id(100))), expected(0..0));
    assert_eq!(page("?limit=200"), expected(100..220));
    for query in ["?limit=0", "?limit=9999", "?limit=x", "?before=x"] {
        vera.get(&of(1, &format!("/messages{query}")), 422);
    }
    let listed = Person::new(&relay, ANN);
    for n in 2..5 {
        vera.post(SESSIONS, &with_id(n, json!({})), 201);
    }
    let ids = |query: &str| -> Vec<Value> {
        let page = listed.get(&format!("{SESSIONS}{query}"), 200);
        page.as_array().unwrap().iter().map(|session| session["id"].clone()).collect()
    };
    // The newest message orders them.
    assert_eq!(ids("?limit=2"), [json!(id(1)), json!(id(4))]);
    assert_eq!(ids(&format!("?status=all&before={}", id(4))), [json!(id(3)), json!(id(2))]);
    listed.get(&format!("{SESSIONS}?status=odd"), 422);
}

#[tokio::test]
async fn each_mistake_is_answered_with_its_cause() {
    let database = support_database().await;
    let relay = relay(&database, "support", &[("RELAY_CHAT__BODY", "1 KiB")]).await;
    let vera = Person::new(&relay, VERA);
    vera.post(SESSIONS, &with_id(1, json!({})), 201);
    let bearer = format!("Bearer {}", crate::support::relay::token_of(VERA));
    let late = format!(
        "Bearer {}",
        sign(&json!({ "role": "authenticated", "sub": VERA, "exp": now() - 1 }))
    );
    let large = json!({ "body": "x".repeat(2000) }).to_string();
    let messages = of(1, "/messages");
    for (method, path, token, kind, body, status, words) in [
        ("GET", SESSIONS, "", "", "", 401, "Authorization: Bearer"),
        ("GET", SESSIONS, "Bearer x.y.z", "", "", 401, "not a valid JWT"),
        ("GET", SESSIONS, &late, "", "", 401, "expired"),
        ("POST", SESSIONS, &bearer, "text/plain", "{}", 415, "application/json"),
        ("POST", SESSIONS, &bearer, "application/json", "{", 400, "cannot be read"),
        ("POST", SESSIONS, &bearer, "application/json", r#"{"id":7}"#, 422, "expected a string"),
        ("POST", SESSIONS, &bearer, "application/json", r#"{"id":"x"}"#, 422, "uuid"),
        ("POST", &messages, &bearer, "application/json", r#"{"body":" "}"#, 422, "empty"),
        ("POST", &messages, &bearer, "application/json", "{}", 422, "body"),
        (
            "POST",
            &messages,
            &bearer,
            "application/json",
            r#"{"body":"a\u0000"}"#,
            422,
            "cannot store",
        ),
        ("POST", &messages, &bearer, "application/json", &large, 413, "1024 bytes"),
        ("POST", &of(1, "/rating"), &bearer, "", r#"{"rating":6}"#, 422, "1 to 5"),
        ("GET", &of(9, ""), &bearer, "", "", 404, "no such chat"),
        ("GET", "/chat/v1/sessions/x", &bearer, "", "", 422, "uuid"),
        ("GET", "/chat/v1/nothing", &bearer, "", "", 404, "no such route"),
        ("DELETE", SESSIONS, &bearer, "", "", 405, "method"),
    ] {
        let mut headers = Vec::new();
        headers.extend((!token.is_empty()).then_some(("authorization", token)));
        headers.extend((!kind.is_empty()).then_some(("content-type", kind)));
        let answer = relay.request(method, path, &headers, body.as_bytes());
        let problem = read(&answer, status);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{answer:?}");
        assert_eq!(answer.headers["access-control-allow-origin"], "*", "{answer:?}");
        assert_eq!(problem["status"], status);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{method} {path}: {detail}");
    }
    assert_eq!(database.text("select count(*)::text from chat_messages").await, "0");
}

#[tokio::test]
async fn a_value_that_only_a_policy_reads_is_not_told() {
    let database = support_database().await;
    database
        .execute(
            "create table notes (text text);
             insert into notes values ('hidden');
             create function noted() returns boolean language sql volatile security definer
               as $$ select text::uuid is not null from public.notes $$;
             create policy noted on live_chat_sessions as restrictive for select using (noted());",
        )
        .await;
    let relay = relay(&database, "support", &[]).await;
    let vera = Person::new(&relay, VERA);
    database
        .execute(&format!(
            "insert into live_chat_sessions (id, visitor_id, status) values ('{}', '{VERA}', 'waiting')",
            id(1)
        ))
        .await;
    let problem = vera.get(&of(1, ""), 422);
    assert_eq!(
        (&problem["code"], &problem["detail"]),
        (&json!("22P02"), &json!("invalid input syntax for type uuid"))
    );
}

#[tokio::test]
async fn a_caller_over_the_rate_is_told_and_nobody_else_is() {
    let database = support_database().await;
    let relay = relay(&database, "support", &[("RELAY_CHAT__REQUESTS_PER_SECOND", "1")]).await;
    let (vera, ann) = (Person::new(&relay, VERA), Person::new(&relay, ANN));
    let answers: Vec<_> = (0..20).map(|_| vera.ask("GET", SESSIONS, &Value::Null)).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(answers[0].status, 200);
    ann.get(SESSIONS, 200);
    assert!(relay.refused("ChatRateLimitReached") >= 1.0);
    assert!(relay.metric("relay_chat_requests_total{reason=\"refused\"}") >= 1.0);
}

#[tokio::test]
async fn pages_of_any_origin_may_ask() {
    let database = support_database().await;
    let relay = relay(&database, "support", &[]).await;
    let headers = [("origin", "https://shop.example"), ("access-control-request-headers", "a, b")];
    let answer = relay.request("OPTIONS", "/chat/v1/sessions/x/messages", &headers, b"");
    assert_eq!(answer.status, 204);
    assert_eq!(answer.headers["access-control-allow-headers"], "a, b");
    assert!(answer.headers["access-control-allow-methods"].contains("POST"));
}

#[tokio::test]
async fn a_restart_of_postgres_is_survived() {
    let cluster = Cluster::start(&[]);
    let database = cluster.database().await.with_roles().await;
    database.execute(include_str!("../../sql/ENABLE_REALTIME_CHAT.sql")).await;
    let relay = relay(&database, "support", &[]).await;
    let vera = Person::new(&relay, VERA);
    vera.post(SESSIONS, &with_id(1, json!({})), 201);
    cluster.restart("fast");
    // The connection that was kept is of no use any more; nobody notices.
    vera.post(&of(1, "/messages"), &with_id(2, json!({ "body": "still there" })), 201);
}

#[tokio::test]
async fn the_description_names_what_there_is() {
    let database = support_database().await;
    for (preset, expected) in [("support", 11), ("unified", 15), ("gre", 19)] {
        let relay = relay(&database, preset, &[]).await;
        let described: Value = serde_json::from_str(&relay.get("/chat/v1/openapi.json").1).unwrap();
        let vera = Person::new(&relay, VERA);
        let mut count = 0;
        for (path, methods) in described["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                let path = path.replace("{id}", &id(9)).replace("{player}", VERA);
                let answer = vera.ask(&method.to_uppercase(), &path, &json!({}));
                let is_there = !answer.body.contains("no such route")
                    && !answer.body.contains("this is relay")
                    && answer.status != 405;
                assert!(is_there, "{method} {path}: {answer:?}");
                count += 1;
            }
        }
        assert_eq!(count, expected, "{preset}");
    }
}

#[tokio::test]
async fn names_are_the_configurations() {
    let database = Cluster::shared().database().await.with_roles().await;
    database
        .execute(
            r#"create schema "Help Desk";
               grant usage on schema "Help Desk" to authenticated;
               create type "Help Desk".state as enum ('neu', 'offen', 'fertig');
               create table "Help Desk"."Chats" (
                 nr uuid primary key, "Wer" text not null, "Stand" "Help Desk".state not null,
                 begun timestamptz not null default now(), "it's" text);
               create table "Help Desk"."Sätze" (
                 nr uuid primary key, chat uuid not null references "Help Desk"."Chats",
                 von text not null, "text""" text not null, um timestamptz not null default now());
               alter table "Help Desk"."Chats" enable row level security;
               create policy own on "Help Desk"."Chats" to authenticated using ("Wer" = auth.uid()::text);
               grant select, insert, update on all tables in schema "Help Desk" to authenticated;"#,
        )
        .await;
    let settings = [
        ("RELAY_CHAT__SESSIONS", "Help Desk.Chats"),
        (
            "RELAY_CHAT__SESSION_COLUMNS",
            "id=nr,visitor=Wer,status=Stand,created_at=begun,subject=it's,name=,email=,agent=,rating=,feedback=,\
             updated_at=,last_message_at=,closed_at=",
        ),
        ("RELAY_CHAT__MESSAGES", "Help Desk.Sätze"),
        (
            "RELAY_CHAT__MESSAGE_COLUMNS",
            "id=nr,session=chat,sender=von,body=text\",created_at=um,sender_id=,name=,client_id=,read_at=",
        ),
        ("RELAY_CHAT__WORDS", "waiting=neu,active=offen,closed=fertig,visitor=Kunde,agent=Helfer"),
        ("RELAY_CHAT__TIMES", "relay"),
    ];
    let relay = relay(&database, "support", &settings).await;
    let (vera, mallory) = (Person::new(&relay, VERA), Person::new(&relay, MALLORY));
    let opened = vera.post(SESSIONS, &with_id(1, json!({ "subject": "$$'; drop" })), 201);
    assert_eq!((&opened["Stand"], &opened["it's"]), (&json!("neu"), &json!("$$'; drop")));
    let said = vera.post(&of(1, "/messages"), &with_id(2, json!({ "body": "Hallo" })), 201);
    assert_eq!((&said["von"], &said["text\""]), (&json!("Kunde"), &json!("Hallo")));
    mallory.get(&of(1, "/messages"), 404);
    assert_eq!(vera.post(&of(1, "/close"), &Value::Null, 200)["Stand"], "fertig");
    vera.post(&of(1, "/rating"), &json!({ "rating": 3 }), 501);
    vera.post(&of(1, "/read"), &json!({}), 501);
}

#[tokio::test]
async fn tables_that_are_not_there_are_the_operators_to_mend() {
    let database = Cluster::shared().database().await.with_roles().await;
    let relay = relay(&database, "support", &[]).await;
    let problem = Person::new(&relay, VERA).get(SESSIONS, 500);
    assert_eq!(problem["code"], "42P01");
    assert!(relay.log_text().contains("not as [chat] says"));
}

#[tokio::test]
async fn without_configuration_there_is_no_chat() {
    let database = support_database().await;
    let relay = crate::support::Relay::start(&database).await;
    for path in ["/chat/v1/sessions", "/chat/v1/openapi.json", "/demo/token", "/agent"] {
        assert_eq!(relay.get(path).0, 404, "{path}");
        assert_eq!(relay.request("POST", path, &[], b"{}").status, 404, "{path}");
    }
}
