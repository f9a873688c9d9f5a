//! The connections to Postgres that the chat API works on.

use std::io::Write as _;

use serde_json::json;

use super::{Person, VERA, id, relay, support_database, with_id};
use crate::support::until;

/// The backends of the chat API.
const BACKENDS: &str = "select coalesce(string_agg(pid::text, ','), '') from pg_stat_activity
    where application_name = 'relay-chat' and datname = current_database()";

#[tokio::test]
async fn who_hangs_up_does_not_make_room_in_postgres() {
    let database = support_database().await;
    let relay = relay(&database, "support", &[("RELAY_CHAT__POOL", "1")]).await;
    let vera = Person::new(&relay, VERA);
    vera.post("/chat/v1/sessions", &with_id(1, json!({})), 201);
    let path = format!("/chat/v1/sessions/{}", id(1));
    let backends = database.text(BACKENDS).await;
    let lock = database.connect().await;
    lock.batch_execute("begin; lock table live_chat_sessions").await.unwrap();
    let bearer = crate::support::relay::token_of(VERA);
    let port = relay.port();
    let mut hasty = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer}\r\n\r\n");
    hasty.write_all(request.as_bytes()).unwrap();
    until("the request to wait in Postgres", || async {
        let waiting = format!("{BACKENDS} and wait_event_type = 'Lock'");
        (database.text(&waiting).await == backends).then_some(())
    })
    .await;
    drop(hasty);
    // Much is read by the relay after that.
    for _ in 0..20 {
        assert_eq!(relay.get("/healthz").0, 200);
    }
    lock.batch_execute("commit").await.unwrap();
    vera.get(&path, 200);
    assert_eq!(database.text(BACKENDS).await, backends);
}
