//! The routes of the unified chat.

use serde_json::{Value, json};

use super::{ANN, MALLORY, Person, VERA, id, relay};
use crate::support::relay::token;
use crate::support::{Cluster, Database};

async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database
        .execute(
            "create function is_staff() returns boolean language sql stable
               as $$ select coalesce(current_setting('request.jwt.claims', true)::json ->> 'staff', '') = 'yes' $$;
             create table chat_requests (
               id uuid primary key, player_id text not null, player_name text, initial_message text,
               status text not null check (status in ('waiting', 'in_progress', 'resolved')),
               created_at timestamptz not null default now());
             create table chat_messages (
               id uuid primary key, request_id uuid not null references chat_requests, player_id text not null,
               sender text not null check (sender in ('player', 'staff')), sender_name text,
               message_text text not null, timestamp timestamptz not null default clock_timestamp(),
               status text not null check (status in ('sent', 'received', 'read')));
             alter table chat_requests enable row level security;
             alter table chat_messages enable row level security;
             create policy p on chat_requests to authenticated using (player_id = auth.uid()::text or is_staff());
             create policy p on chat_messages to authenticated
               using (player_id = auth.uid()::text or is_staff())
               with check (is_staff() or (player_id = auth.uid()::text and sender = 'player'));
             grant select, insert, update on chat_requests, chat_messages to authenticated;",
        )
        .await;
    database
}

#[tokio::test]
async fn a_player_asks_and_staff_answers() {
    let database = database().await;
    let relay = relay(&database, "unified", &[]).await;
    let player = Person::new(&relay, VERA);
    let staff = Person::with_token(
        &relay,
        token("authenticated", &json!({ "sub": MALLORY, "staff": "yes" })),
    );
    let asked = json!({ "playerId": VERA, "playerName": "Vera", "message": "Hello?" });
    let sent = player.post("/api/unified-chat/send", &asked, 201);
    let message = &sent["message"];
    for (key, value) in [
        ("message", "Hello?"),
        ("sender", "player"),
        ("sender_name", "Vera"),
        ("player_id", VERA),
        ("status", "sent"),
    ] {
        assert_eq!(message[key], value, "{sent}");
    }
    assert_eq!(message.as_object().unwrap().len(), 8, "{message}");
    let answered =
        json!({ "player_id": VERA, "message": "Hi Vera", "sender_name": "Mia", "id": id(1) });
    let path = "/api/player-chat-integration/send";
    let answer = staff.post(path, &answered, 201);
    assert_eq!((&answer["message"]["sender"], &answer["success"]), (&json!("staff"), &json!(true)));
    assert_eq!(staff.post(path, &answered, 200), answer);
    assert_eq!(answer["message"]["session_id"], message["session_id"]);
    assert_eq!(database.text("select status from chat_requests").await, "in_progress");
    assert_eq!(database.text("select initial_message from chat_requests").await, "Hello?");
    player.post(path, &json!({ "message": "Thanks" }), 201);
    for path in ["/api/player-chat-integration/messages/", "/api/chat-history/"] {
        let history = player.get(&format!("{path}{VERA}"), 200);
        let texts: Vec<&Value> =
            history["messages"].as_array().unwrap().iter().map(|m| &m["message"]).collect();
        assert_eq!(texts, ["Hello?", "Hi Vera", "Thanks"]);
    }
}

#[tokio::test]
async fn a_resolved_request_stays_and_the_next_message_opens_another() {
    let database = database().await;
    let relay = relay(&database, "unified", &[]).await;
    let player = Person::new(&relay, VERA);
    let first = player.post("/api/unified-chat/send", &json!({ "message": "one" }), 201);
    let session = first["message"]["session_id"].as_str().unwrap();
    player.post(&format!("/chat/v1/sessions/{session}/close"), &Value::Null, 200);
    player.post("/api/unified-chat/send", &json!({ "message": "two" }), 201);
    assert_eq!(
        database
            .text("select string_agg(status, ',' order by created_at) from chat_requests")
            .await,
        "resolved,waiting"
    );
    let history = player.get(&format!("/api/chat-history/{VERA}"), 200);
    assert_eq!(history["messages"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_message_that_is_there_opens_nothing() {
    let database = database().await;
    let relay = relay(&database, "unified", &[]).await;
    let (player, mallory) = (Person::new(&relay, VERA), Person::new(&relay, MALLORY));
    let staff = token("authenticated", &json!({ "sub": ANN, "staff": "yes" }));
    let staff = Person::with_token(&relay, staff);
    let path = "/api/player-chat-integration/send";
    let message = json!({ "id": id(1), "message": "once" });
    let first = player.post(path, &message, 201);
    let session = first["message"]["session_id"].as_str().unwrap();
    staff.post(&format!("/chat/v1/sessions/{session}/close"), &Value::Null, 200);
    assert_eq!(player.post(path, &message, 200), first);
    // Of another player: seen by staff, hidden from players.
    staff.post(path, &json!({ "id": id(1), "playerId": MALLORY, "message": "taken" }), 409);
    let hidden = mallory.post(path, &message, 409);
    assert_eq!(hidden["code"], "23505");
    let states = "select string_agg(player_id || ' ' || status, ',') from chat_requests";
    assert_eq!(database.text(states).await, format!("{VERA} resolved"));
    assert_eq!(
        database.text("select string_agg(message_text, ',') from chat_messages").await,
        "once"
    );
}

#[tokio::test]
async fn two_first_messages_at_once_open_one_request() {
    let database = database().await;
    let relay = relay(&database, "unified", &[("RELAY_CHAT__REQUESTS_PER_SECOND", "1000")]).await;
    std::thread::scope(|scope| {
        for n in 0..8 {
            let player = Person::new(&relay, VERA);
            let body = json!({ "message": format!("{n}") });
            scope.spawn(move || player.post("/api/unified-chat/send", &body, 201));
        }
    });
    assert_eq!(database.text("select count(*)::text from chat_requests").await, "1");
    assert_eq!(database.text("select count(*)::text from chat_messages").await, "8");
}

#[tokio::test]
async fn nobody_speaks_for_another() {
    let database = database().await;
    let relay = relay(&database, "unified", &[]).await;
    let mallory = Person::new(&relay, MALLORY);
    let forged = json!({ "playerId": VERA, "message": "I am Vera" });
    mallory.post("/api/unified-chat/send", &forged, 403);
    mallory.post("/api/player-chat-integration/send", &forged, 403);
    let staff = json!({ "message": "I am staff", "sender": "staff" });
    mallory.post("/api/player-chat-integration/send", &staff, 403);
    let odd = json!({ "message": "x", "sender": "god" });
    mallory.post("/api/player-chat-integration/send", &odd, 422);
    for path in ["/api/unified-chat/send", "/api/player-chat-integration/send"] {
        mallory.post(path, &json!({ "message": "\u{200B}" }), 422);
    }
    mallory.get(&format!("/api/chat-history/{VERA}?limit=201"), 422);
    assert_eq!(mallory.get(&format!("/api/chat-history/{VERA}"), 200)["messages"], json!([]));
    assert_eq!(database.text("select count(*)::text from chat_messages").await, "0");
    assert_eq!(database.text("select count(*)::text from chat_requests").await, "0");
}
