//! Tokens of up to 16 KiB are taken at every door, and longer ones are called too long.

use serde_json::{Value, json};

use crate::chat::support_database;
use crate::support::relay::{Answer, now, sign};
use crate::support::{Client, Relay};

/// The most bytes a token may have.
const MOST: usize = 16_384;

const USER: &str = "0a000000-0000-4000-8000-000000000001";

const TOO_LONG: &str = "The token is longer than 16384 bytes";

/// A token of exactly so many bytes.
fn token_of(length: usize) -> String {
    let with = |padding: usize| {
        let metadata = json!({ "padding": "x".repeat(padding) });
        sign(&json!({
            "role": "authenticated", "exp": now() + 3600, "sub": USER, "user_metadata": metadata
        }))
    };
    let about = (length - with(0).len()) * 3 / 4;
    let token = (about - 3..about + 3).map(with).find(|token| token.len() == length);
    token.unwrap()
}

async fn relay() -> (crate::support::Database, Relay) {
    let database = support_database().await.with_realtime();
    database
        .execute(
            "create policy p on realtime.messages to authenticated using (
               current_setting('request.jwt.claims')::json ->> 'sub' = current_setting('request.jwt.claim.sub'))",
        )
        .await;
    let relay = Relay::start_with(&database, &[("RELAY_CHAT__PRESET", "support")]).await;
    (database, relay)
}

/// Posts a broadcast as supabase-js does, with the token everywhere it puts one.
fn post(relay: &Relay, token: &str) -> Answer {
    let path = format!("/realtime/v1/api/broadcast?apikey={token}&vsn=2.0.0");
    let body = json!({ "messages": [{ "topic": "room", "event": "e", "payload": {} }] });
    let bearer = format!("Bearer {token}");
    let headers =
        [("authorization", &*bearer), ("apikey", token), ("content-type", "application/json")];
    relay.request("POST", &path, &headers, body.to_string().as_bytes())
}

fn ask_chat(relay: &Relay, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    relay.request("GET", "/chat/v1/sessions", &[("authorization", &bearer)], b"")
}

#[tokio::test]
async fn a_token_of_16_kib_is_taken_at_every_door() {
    let (_database, relay) = relay().await;
    for length in [9_000, MOST] {
        let token = token_of(length);
        let mut client = Client::connect(&relay, &token).await;
        let private = json!({ "config": { "private": true } });
        assert_eq!(client.join("of the socket", private.clone()).await["status"], "ok");
        let header = [("x-api-key", &*token)];
        Client::try_connect_with(&relay, "vsn=2.0.0", "2.0.0", &header).await.unwrap();
        // Every byte of it percent-encoded.
        let encoded: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let query = format!("apikey={encoded}&vsn=2.0.0");
        Client::try_connect(&relay, &query, "2.0.0").await.unwrap();

        let short = crate::support::relay::token_of(USER);
        let mut client = Client::connect(&relay, &short).await;
        let mut own = private.clone();
        own["access_token"] = json!(token);
        assert_eq!(client.join("room", own).await["status"], "ok");
        assert_eq!(client.join("later", private).await["status"], "ok");
        let new = json!({ "access_token": token });
        client.push(&json!("2"), "realtime:later", "access_token", new).await;
        assert_eq!(client.flush().await.len(), 0);

        assert_eq!(post(&relay, &token).status, 202);
        assert_eq!(ask_chat(&relay, &token).status, 200);
    }
}

#[tokio::test]
async fn a_longer_one_is_called_too_long_and_the_limit_is_named() {
    let (_database, relay) = relay().await;
    for length in [MOST + 1, 20_000] {
        let token = token_of(length);
        let query = format!("/realtime/v1/websocket?apikey={token}&vsn=2.0.0");
        let (status, body) = relay.get(&query);
        assert_eq!((status, body), (401, json!({ "error": TOO_LONG }).to_string()));

        let mut client = Client::connect(&relay, &crate::support::relay::token_of(USER)).await;
        let own = json!({ "config": {}, "access_token": token });
        let reply = client.join("own", own).await;
        let reason = format!("InvalidJWTToken: {TOO_LONG}");
        assert_eq!(reply["response"], json!({ "reason": reason }));
        assert_eq!(client.join("room", json!({ "config": {} })).await["status"], "ok");
        let new = json!({ "access_token": token });
        client.push(&json!("2"), "realtime:room", "access_token", new).await;
        assert_eq!(client.expect("system").await.payload["message"], TOO_LONG);
        client.expect("phx_close").await;

        let bearer = format!("Bearer {token}");
        let headers = [("authorization", &*bearer), ("content-type", "application/json")];
        let answer = relay.request("POST", "/api/broadcast", &headers, b"{}");
        assert_eq!((answer.status, answer.body), (401, json!({ "message": TOO_LONG }).to_string()));
        let answer = ask_chat(&relay, &token);
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, &problem["detail"]), (401, &json!(format!("{TOO_LONG}."))));
    }
    let padding = "x".repeat(150_000);
    let answer = relay.request("GET", "/healthz", &[("x-padding", &padding)], b"");
    assert_eq!(answer.status, 431);
}
