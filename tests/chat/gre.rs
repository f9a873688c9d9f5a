//! The routes of the guest relations chat.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::{ANN, MALLORY, Person, VERA, relay};
use crate::support::client::dial;
use crate::support::relay::{now, sign, token, token_of};
use crate::support::{Cluster, Database, PATIENCE, Relay};

pub(super) async fn database() -> Database {
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
    mallory.post("/api/gre-chat/send", &json!({ "message": "\u{200B}" }), 422);
    for path in ["/api/gre-chat/requests".to_owned(), format!("/api/gre-chat/messages/{VERA}")] {
        mallory.get(&format!("{path}?limit=201"), 422);
    }
    assert_eq!(database.text("select status from gre_chat_sessions").await, "waiting");
}

/// A client of the socket.
#[derive(Debug)]
pub(super) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(super) async fn open(relay: &Relay) -> Self {
        Self::try_open(relay).await.unwrap()
    }

    pub(super) async fn try_open(relay: &Relay) -> Result<Self, Error> {
        let url = format!("ws://127.0.0.1:{}/api/gre-chat/ws", relay.port());
        Ok(Self(tokio_tungstenite::connect_async(url).await?.0))
    }

    /// From another address of this machine.
    pub(super) async fn open_from(relay: &Relay, address: &str) -> Self {
        Self::try_open_from(relay, address).await.unwrap()
    }

    pub(super) async fn try_open_from(relay: &Relay, address: &str) -> Result<Self, Error> {
        let stream = dial(address.parse().unwrap(), relay.port()).await?;
        let url = "ws://127.0.0.1/api/gre-chat/ws";
        let stream = MaybeTlsStream::Plain(stream);
        Ok(Self(tokio_tungstenite::client_async(url, stream).await?.0))
    }

    /// Says something, unless the relay closed the connection.
    pub(super) async fn try_say(&mut self, value: Value) -> bool {
        self.0.send(Message::Text(value.to_string().into())).await.is_ok()
    }

    pub(super) async fn authenticated(relay: &Relay, token: &str, role: &str) -> Self {
        let mut socket = Self::open(relay).await;
        socket.say(json!({ "type": "authenticate", "token": token, "as": role })).await;
        socket.expect("authenticated").await;
        socket
    }

    pub(super) async fn say(&mut self, value: Value) {
        self.0.send(Message::Text(value.to_string().into())).await.unwrap();
    }

    /// The next event, or the reason why the socket closed.
    pub(super) async fn next(&mut self) -> Result<Value, String> {
        self.next_text().await.map(|text| serde_json::from_str(&text).unwrap())
    }

    /// The same as it was sent.
    async fn next_text(&mut self) -> Result<String, String> {
        // Its pings are no sign that more comes.
        let by = tokio::time::Instant::now() + PATIENCE;
        loop {
            match tokio::time::timeout_at(by, self.0.next()).await.expect("nothing came") {
                Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
                Some(Ok(Message::Close(close))) => {
                    return Err(close.map_or_else(String::new, |close| close.reason.to_string()));
                }
                Some(Ok(_)) => {}
                other => return Err(format!("{other:?}")),
            }
        }
    }

    pub(super) async fn expect(&mut self, kind: &str) -> Value {
        let event = self.next().await.unwrap();
        assert_eq!(event["type"], kind, "{event}");
        event
    }
}

#[tokio::test]
async fn the_socket_tells_both_sides_what_was_stored() {
    let database = database().await;
    let relay = relay(&database, "gre", &[]).await;
    let (player, gre) = (Person::new(&relay, VERA), staff(&relay));
    let gre_token = token("authenticated", &json!({ "sub": ANN, "gre": "yes" }));
    let mut desk = Socket::authenticated(&relay, &gre_token, "gre").await;
    player.post("/api/gre-chat/send", &json!({ "message": "first" }), 201);
    desk.expect("new_message").await;
    let mut vera = Socket::authenticated(&relay, &token_of(VERA), "player").await;
    let history = vera.expect("chat_history").await;
    assert_eq!(history["messages"][0]["message"], "first");
    let mut mallory = Socket::authenticated(&relay, &token_of(MALLORY), "gre").await;
    let mut other = Socket::authenticated(&relay, &token_of(MALLORY), "player").await;
    assert_eq!(other.expect("chat_history").await["messages"], json!([]));

    vera.say(json!({ "type": "send", "message": "by socket" })).await;
    let sent = vera.expect("message_sent").await["message"].clone();
    assert_eq!((&sent["message"], &sent["sender"]), (&json!("by socket"), &json!("player")));
    assert_eq!(
        database
            .text("select message from gre_chat_messages order by timestamp desc limit 1")
            .await,
        "by socket"
    );
    assert_eq!(desk.expect("new_message").await["message"], sent);

    desk.say(json!({ "type": "send", "playerId": VERA, "message": "At your service" })).await;
    let sent = desk.expect("message_sent").await["message"].clone();
    assert_eq!(vera.expect("new_message").await["message"], sent);
    // By HTTP it is the same chat.
    let sent = gre.post(
        "/api/gre-chat/send-to-player",
        &json!({ "playerId": VERA, "message": "by HTTP" }),
        201,
    );
    assert_eq!(vera.expect("new_message").await["message"], sent["message"]);
    assert_eq!(desk.expect("new_message").await["message"], sent["message"]);
    let stored = gre.get(&format!("/api/gre-chat/debug/{VERA}"), 200);
    assert_eq!(stored["stored"]["messages"], 4);

    desk.say(json!({ "type": "close", "playerId": VERA })).await;
    for socket in [&mut vera, &mut desk] {
        let closed = socket.expect("chat_closed").await;
        assert_eq!(
            (&closed["session"]["player_id"], &closed["session"]["closed_by"]),
            (&json!(VERA), &json!(ANN))
        );
    }
    // What is opened again can be closed again.
    let reopen =
        "update gre_chat_sessions set status = 'active', closed_at = null, closed_by = null";
    database.execute(reopen).await;
    vera.say(json!({ "type": "close" })).await;
    for socket in [&mut vera, &mut desk] {
        assert_eq!(socket.expect("chat_closed").await["session"]["closed_by"], VERA);
    }
    // Whoever may see nothing was told nothing.
    for socket in [&mut mallory, &mut other] {
        socket.say(json!({ "type": "ping" })).await;
        socket.expect("pong").await;
    }
}

#[tokio::test]
async fn the_socket_refuses_in_words() {
    let database = database().await;
    let relay = relay(&database, "gre", &[]).await;
    let mut socket = Socket::open(&relay).await;
    for (said, status) in [
        (json!({ "type": "send", "message": "x" }), 401),
        (json!({ "type": "authenticate", "token": "x" }), 401),
        (json!({ "type": "dance" }), 422),
        (json!([]), 422),
        (json!({ "type": "authenticate", "token": token("authenticated", &json!({})) }), 422),
    ] {
        socket.say(said.clone()).await;
        assert_eq!(socket.expect("error").await["status"], status, "{said}");
    }
    socket.say(json!({ "type": "authenticate", "token": token_of(VERA) })).await;
    socket.expect("authenticated").await;
    socket.expect("chat_history").await;
    for (said, status) in [
        (json!({ "type": "send", "message": " " }), 422),
        (json!({ "type": "send", "message": "\u{200B}" }), 422),
        (json!({ "type": "send", "message": "x", "playerId": MALLORY }), 403),
        (json!({ "type": "authenticate", "token": token_of(MALLORY) }), 409),
    ] {
        socket.say(said.clone()).await;
        assert_eq!(socket.expect("error").await["status"], status, "{said}");
    }
}

/// A player whose token lives that many seconds and who has the history; none when the token was over before.
async fn introduced(relay: &Relay, life: u64) -> Option<Socket> {
    let token = sign(&json!({ "role": "authenticated", "sub": VERA, "exp": now() + life }));
    let mut socket = Socket::open(relay).await;
    socket.say(json!({ "type": "authenticate", "token": token, "as": "player" })).await;
    let told = socket.next().await.ok()?;
    if told["type"] == "error" {
        assert_eq!(told["status"], 401, "{told}");
        return None;
    }
    assert_eq!(told["type"], "authenticated", "{told}");
    let told = socket.next().await.ok()?;
    assert_eq!(told["type"], "chat_history", "{told}");
    Some(socket)
}

#[tokio::test]
async fn the_socket_takes_every_token_and_no_larger_message_than_a_body() {
    let database = database().await;
    let relay = relay(&database, "gre", &[("RELAY_CHAT__BODY", "1 KiB")]).await;
    let padded = |padding: usize| {
        token("authenticated", &json!({ "sub": VERA, "padding": "x".repeat(padding) }))
    };
    let mut socket = Socket::open(&relay).await;
    socket.say(json!({ "type": "authenticate", "token": padded(13_000) })).await;
    let refused = socket.expect("error").await;
    assert_eq!(refused["detail"], "The token is longer than 16384 bytes.");
    socket.say(json!({ "type": "authenticate", "token": padded(12_000) })).await;
    socket.expect("authenticated").await;
    socket.expect("chat_history").await;
    socket.say(json!({ "type": "send", "message": "x".repeat(1024) })).await;
    let refused = socket.expect("error").await;
    assert_eq!(
        (&refused["status"], &refused["detail"]),
        (&json!(413), &json!("The message is larger than 1024 bytes."))
    );
    socket.say(json!({ "type": "send", "message": "x".repeat(900) })).await;
    socket.expect("message_sent").await;
    socket.say(json!({ "type": "send", "message": "x".repeat(70_000) })).await;
    socket.next().await.unwrap_err();
}

#[tokio::test]
async fn players_that_are_numbers_keep_their_digits_and_their_chats() {
    let database = database().await;
    database
        .execute(
            "drop policy p on gre_chat_messages; drop policy p on gre_chat_sessions;
             alter table gre_chat_sessions alter player_id type numeric using 0;
             alter table gre_chat_messages alter player_id type numeric using 0;
             create policy p on gre_chat_sessions to authenticated
               using (player_id::text = current_setting('request.jwt.claims')::jsonb ->> 'sub');
             create policy p on gre_chat_messages to authenticated
               using (player_id::text = current_setting('request.jwt.claims')::jsonb ->> 'sub');",
        )
        .await;
    let relay = relay(&database, "gre", &[]).await;
    let signer = crate::support::signer::Signer::secret(crate::support::relay::SECRET);
    // As floats these are one.
    let subs = ["123456789012345678901234567890", "123456789012345678901234567891"];
    let tokens = subs.map(|sub| {
        let claims = format!(r#"{{"role":"authenticated","exp":{},"sub":{sub}}}"#, now() + 3600);
        signer.token(r#"{"alg":"HS256"}"#, &claims)
    });
    let player = |sub: &str| format!(r#""player_id":{sub},"#);
    for (sub, token) in subs.iter().zip(&tokens) {
        let mut socket = Socket::authenticated(&relay, token, "player").await;
        assert_eq!(socket.expect("chat_history").await["messages"], json!([]));
        let person = Person::with_token(&relay, token.clone());
        person.post("/api/gre-chat/send", &json!({ "message": "mine" }), 201);
        let told = socket.next_text().await.unwrap();
        assert!(told.contains("new_message") && told.contains(&player(sub)), "{told}");
        socket.say(json!({ "type": "history" })).await;
        let told = socket.next_text().await.unwrap();
        let count = told.replace(" ", "").matches(&player(sub)).count();
        assert_eq!(count, 1, "{told}");
        socket.say(json!({ "type": "close" })).await;
        let told = socket.next_text().await.unwrap();
        assert!(told.contains("chat_closed") && told.contains(&player(sub)), "{told}");
    }
    assert_eq!(
        database
            .text(
                "select string_agg(player_id::text, ' ' order by player_id) from gre_chat_messages"
            )
            .await,
        subs.join(" ")
    );
}

#[tokio::test]
async fn a_socket_ends_with_its_token_unless_there_is_a_new_one() {
    let database = database().await;
    let relay = relay(&database, "gre", &[]).await;
    // A token that is over before all is said shows nothing: then one that lives longer.
    let mut lives = [2, 4, 8, 16, 32].into_iter();
    let (mut renewed, mut socket) = loop {
        let life = lives.next().expect("the relay sees a token within its life");
        let Some(mut renewed) = introduced(&relay, life).await else { continue };
        renewed.say(json!({ "type": "authenticate", "token": token_of(VERA) })).await;
        let Ok(told) = renewed.next().await else { continue };
        assert_eq!(told["type"], "authenticated", "{told}");
        let Some(socket) = introduced(&relay, life).await else { continue };
        break (renewed, socket);
    };
    assert_eq!(socket.next().await.unwrap_err(), "the token has expired");
    renewed.say(json!({ "type": "ping" })).await;
    renewed.expect("pong").await;
    drop(renewed);
    let mut left = Socket::authenticated(&relay, &token_of(VERA), "player").await;
    left.expect("chat_history").await;
    let mut stranger = Socket::open(&relay).await;
    relay.signal("TERM");
    for socket in [&mut left, &mut stranger] {
        assert_eq!(socket.next().await.unwrap_err(), "the server is going away");
    }
}
