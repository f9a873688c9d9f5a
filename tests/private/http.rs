//! Private topics by HTTP.

use serde_json::{Value, json};

use crate::support::relay::{Answer, token_of};
use crate::support::{Client, Cluster, Database, Relay};

const POLICIES: &str = "
    create policy r on realtime.messages for select to authenticated using (true);
    create policy w on realtime.messages for insert to authenticated with check (
        extension = 'broadcast'
        and (realtime.topic() = 'open' or current_setting('request.headers')::json ->> 'x-team' = '7'));
    create policy broken on realtime.messages for insert to authenticated
        with check (realtime.topic() = 'broken' and 1 / (length(topic) - 6) = 1)";

async fn start() -> (Database, Relay) {
    let database = Cluster::shared().database().await.with_roles().await.with_realtime();
    database.execute(POLICIES).await;
    let relay = Relay::start(&database).await;
    (database, relay)
}

async fn listener(relay: &Relay, topic: &str) -> Client {
    let mut client = Client::connect(relay, &token_of("bob")).await;
    assert_eq!(client.join(topic, json!({ "config": { "private": true } })).await["status"], "ok");
    client
}

fn post(relay: &Relay, path: &str, team: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {}", token_of("ann"));
    let headers =
        [("authorization", &*bearer), ("content-type", "application/json"), ("x-team", team)];
    relay.request("POST", path, &headers, body.to_string().as_bytes())
}

#[tokio::test]
async fn what_may_not_be_sent_is_left_out_of_a_batch() {
    let (_database, relay) = start().await;
    let (mut open, mut closed) = (listener(&relay, "open").await, listener(&relay, "closed").await);
    let message = |topic: &str, event: &str| json!({ "topic": topic, "event": event, "payload": {}, "private": true });
    let body = json!({ "messages": [
        message("open", "a"), message("closed", "never"), message("broken", "never"), message("open", "b")
    ] });
    let answer = post(&relay, "/api/broadcast", "8", &body);
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    for event in ["a", "b"] {
        assert_eq!(open.expect("broadcast").await.payload["event"], event);
    }
    let body = json!({ "messages": [message("closed", "c")] });
    assert_eq!(post(&relay, "/api/broadcast", "7", &body).status, 202);
    assert_eq!(closed.expect("broadcast").await.payload["event"], "c");
    assert!(closed.flush().await.is_empty());
}

#[tokio::test]
async fn a_single_message_is_answered_by_the_policies() {
    let (database, relay) = start().await;
    let mut closed = listener(&relay, "closed").await;
    let single = |topic: &str| format!("/api/broadcast/{topic}/events/e?private=true");
    for (topic, team, status, body) in [
        ("closed", "8", 403, r#"{"message":"Unauthorized"}"#),
        ("broken", "8", 422, r#"{"message":"RLS policy error"}"#),
        ("closed", "7", 202, ""),
    ] {
        let answer = post(&relay, &single(topic), team, &json!({ "team": team }));
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{topic}");
    }
    assert_eq!(closed.expect("broadcast").await.payload["payload"], json!({ "team": "7" }));
    assert!(closed.flush().await.is_empty());
    assert_eq!(database.text("select count(*)::text from realtime.messages").await, "0");
}

#[tokio::test]
async fn being_refused_costs_as_much_as_being_heard() {
    let database = Cluster::shared().database().await.with_roles().await.with_realtime();
    database.execute(POLICIES).await;
    let limits = [("RELAY_LIMITS__SUBJECT_MESSAGES_PER_SECOND", "1")];
    let relay = Relay::start_with(&database, &limits).await;
    let ask =
        || post(&relay, "/api/broadcast/closed/events/e?private=true", "8", &json!({})).status;
    assert_eq!(ask(), 403);
    let answers: Vec<u16> = (0..100).map(|_| ask()).collect();
    assert!(answers.contains(&429), "{answers:?}");
    assert!(relay.refused("SubjectMessageRateLimitReached") > 0.0);
}
