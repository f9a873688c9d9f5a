//! The routes of the guest relations chat.

use serde_json::{Value, json};

use super::{ANN, MALLORY, Person, VERA, relay};
use crate::support::relay::token;
use crate::support::{Cluster, Database, Relay};

async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database
        .execute(
            "create function is_gre() returns boolean language sql stable
               as $$ select coalesce(current_setting('request.jwt.claims', true)::json ->> 'gre', '') = 'yes' $$;
             create table gre_chat_sessions (
               id uuid primary key, player_id text not null, player_name text, status text not null,
               created_at timestamptz not null default now(), last_message_at timestamptz,
               closed_at timestamptz, closed_by text);
             create table gre_chat_messages (
               id uuid primary key, session_id uuid not null references gre_chat_sessions, player_id text not null,
               message text not null, sender text not null check (sender in ('player', 'gre')), sender_name text,
               timestamp timestamptz not null default clock_timestamp());
             alter table gre_chat_sessions enable row level security, replica identity full;
             alter table gre_chat_messages enable row level security, replica identity full;
             create policy p on gre_chat_sessions to authenticated using (player_id = auth.uid()::text or is_gre());
             create policy p on gre_chat_messages to authenticated
               using (player_id = auth.uid()::text or is_gre())
               with check (is_gre() or (player_id = auth.uid()::text and sender = 'player'));
             grant select, insert, update on gre_chat_sessions, gre_chat_messages to authenticated;
             alter publication supabase_realtime add table gre_chat_sessions, gre_chat_messages;",
        )
        .await;
    database
}

fn staff(relay: &Relay) -> Person<'_> {
    Person::with_token(relay, token("authenticated", &json!({ "sub": ANN, "gre": "yes" })))
}

#[tokio::test]
async fn a_player_and_guest_relations_talk() {
    let database = database().await;
    let relay = relay(&database, "gre", &[]).await;
    let (player, gre) = (Person::new(&relay, VERA), staff(&relay));
    assert_eq!(player.get("/api/gre-chat/health", 200)["status"], "ok");
    let sent = json!({ "playerId": VERA, "playerName": "Vera", "message": "Room service?" });
    let sent = player.post("/api/gre-chat/send", &sent, 201);
    assert_eq!((&sent["success"], &sent["message"]["sender"]), (&json!(true), &json!("player")));
    let requests = gre.get("/api/gre-chat/requests", 200);
    assert_eq!(
        (&requests["requests"][0]["status"], &requests["requests"][0]["player_name"]),
        (&json!("waiting"), &json!("Vera"))
    );
    let answer = json!({ "playerId": VERA, "message": "At once", "senderName": "Gina" });
    let answer = gre.post("/api/gre-chat/send-to-player", &answer, 201);
    assert_eq!(
        (&answer["message"]["sender"], &answer["message"]["sender_name"]),
        (&json!("gre"), &json!("Gina"))
    );
    assert_eq!(gre.get("/api/gre-chat/requests", 200)["requests"][0]["status"], "active");
    let history = player.get(&format!("/api/gre-chat/messages/{VERA}"), 200);
    assert_eq!(history["messages"].as_array().unwrap().len(), 2);
    let stored = gre.get(&format!("/api/gre-chat/debug/{VERA}"), 200);
    assert_eq!(stored["stored"], json!({ "sessions": 1, "open": 1, "messages": 2 }));

    let close = format!("/api/gre-chat/close-session/{VERA}");
    assert_eq!(gre.post(&close, &Value::Null, 200)["closed"], 1);
    assert_eq!(gre.post(&close, &Value::Null, 200)["closed"], 0);
    let audit = "select concat_ws(' ', status, closed_by, closed_at is not null, last_message_at is not null) from gre_chat_sessions";
    assert_eq!(database.text(audit).await, format!("closed {ANN} t t"));
    // History goes on over sessions.
    player.post("/api/gre-chat/send", &json!({ "message": "And breakfast?" }), 201);
    assert_eq!(database.text("select count(*)::text from gre_chat_sessions").await, "2");
    let history = player.get(&format!("/api/gre-chat/messages/{VERA}?limit=2"), 200);
    let texts: Vec<&Value> =
        history["messages"].as_array().unwrap().iter().map(|message| &message["message"]).collect();
    assert_eq!(texts, ["At once", "And breakfast?"]);
}

#[tokio::test]
async fn nobody_speaks_for_guest_relations() {
    let database = database().await;
    let relay = relay(&database, "gre", &[]).await;
    let mallory = Person::new(&relay, MALLORY);
    Person::new(&relay, VERA).post("/api/gre-chat/send", &json!({ "message": "private" }), 201);
    let forged = json!({ "playerId": VERA, "message": "Your card number, please" });
    mallory.post("/api/gre-chat/send-to-player", &forged, 403);
    mallory.post("/api/gre-chat/send", &forged, 403);
    assert_eq!(
        mallory.post(&format!("/api/gre-chat/close-session/{VERA}"), &json!({}), 200)["closed"],
        0
    );
    assert_eq!(mallory.get(&format!("/api/gre-chat/messages/{VERA}"), 200)["messages"], json!([]));
    assert_eq!(mallory.get("/api/gre-chat/requests", 200)["requests"], json!([]));
    mallory.get("/api/gre-chat/nothing", 404);
    assert_eq!(database.text("select status from gre_chat_sessions").await, "waiting");
}
