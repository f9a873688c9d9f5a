//! Presence on private channels: who may be present, and who is told.

use serde_json::{Value, json};

use crate::support::relay::token;
use crate::support::{Client, Cluster, Database, Relay};

const TOPIC: &str = "realtime:room";

/// Policies that allow what the claims `reads` and `writes` name.
async fn start() -> (Database, Relay) {
    let database = Cluster::shared().database().await.with_roles().await.with_realtime();
    database
        .execute(
            "create policy r on realtime.messages for select to authenticated
               using (extension = any (string_to_array(auth.jwt() ->> 'reads', ',')));
             create policy w on realtime.messages for insert to authenticated
               with check (extension = any (string_to_array(auth.jwt() ->> 'writes', ',')))",
        )
        .await;
    let relay = Relay::start_with(&database, &[("RELAY_REALTIME__PRESENCE_GRACE", "0s")]).await;
    (database, relay)
}

fn someone(reads: &str, writes: &str) -> String {
    token("authenticated", &json!({ "reads": reads, "writes": writes }))
}

async fn join(relay: &Relay, token: &str, key: &str, is_enabled: bool) -> Client {
    let mut client = Client::connect(relay, token).await;
    let presence = json!({ "enabled": is_enabled, "key": key });
    let config = json!({ "config": { "private": true, "presence": presence } });
    assert_eq!(client.join("room", config).await["status"], "ok");
    client
}

async fn push(client: &mut Client, event: &str) -> Value {
    let message = json!({ "type": "presence", "event": event, "payload": { "at": 1 } });
    let reference = client.push(&json!("1"), TOPIC, "presence", message).await;
    client.reply(&reference).await.payload
}

fn ok() -> Value {
    json!({ "status": "ok", "response": {} })
}

fn refused() -> Value {
    json!({ "status": "error", "response": {} })
}

/// Whether a diff or state names this key.
fn names(payload: &Value, key: &str) -> bool {
    payload.get(key).is_some() || payload["joins"].get(key).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn tracking_needs_the_right_to_be_present() {
    let (_database, relay) = start().await;
    let mut mute = join(&relay, &someone("broadcast,presence", "broadcast"), "mute", true).await;
    assert_eq!(mute.expect("presence_state").await.payload, json!({}));
    assert_eq!(push(&mut mute, "track").await, refused());
    assert_eq!(push(&mut mute, "untrack").await, refused());
    let mut other = join(&relay, &someone("presence", "presence"), "other", true).await;
    assert_eq!(other.expect("presence_state").await.payload, json!({}));
    assert_eq!(push(&mut other, "track").await, ok());
    // The first diff that either hears of is the other's.
    for client in [&mut mute, &mut other] {
        let diff = client.expect("presence_diff").await.payload;
        assert!(names(&diff, "other") && !names(&diff, "mute"), "{diff}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_presence_is_told_nothing_of_it_and_may_still_be_present() {
    let (_database, relay) = start().await;
    let both = "broadcast,presence";
    let mut reader = join(&relay, &someone(both, both), "reader", true).await;
    assert_eq!(reader.expect("presence_state").await.payload, json!({}));
    let mut deaf = join(&relay, &someone("broadcast", both), "deaf", true).await;
    let mut late = join(&relay, &someone("broadcast", both), "late", false).await;
    for (client, key) in [(&mut deaf, "deaf"), (&mut late, "late")] {
        assert_eq!(push(client, "track").await, ok());
        assert!(names(&reader.expect("presence_diff").await.payload, key));
    }
    assert_eq!(push(&mut reader, "track").await, ok());
    assert!(names(&reader.expect("presence_diff").await.payload, "reader"));
    assert_eq!(push(&mut deaf, "untrack").await, ok());
    let diff = reader.expect("presence_diff").await.payload;
    assert!(diff["leaves"].get("deaf").is_some(), "{diff}");
    for client in [&mut deaf, &mut late] {
        let told: Vec<_> =
            client.flush().await.into_iter().map(|received| received.event).collect();
        assert!(!told.iter().any(|event| event.starts_with("presence")), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tracks_without_having_enabled_presence_is_judged_then() {
    let (_database, relay) = start().await;
    let both = "broadcast,presence";
    let mut early = join(&relay, &someone(both, both), "early", true).await;
    assert_eq!(early.expect("presence_state").await.payload, json!({}));
    let mut late = join(&relay, &someone(both, both), "late", false).await;
    assert_eq!(push(&mut early, "track").await, ok());
    assert!(names(&early.expect("presence_diff").await.payload, "early"));
    assert!(late.flush().await.is_empty(), "presence is withheld before it is asked for");
    assert_eq!(push(&mut late, "track").await, ok());
    let state = late.expect("presence_state").await.payload;
    assert!(names(&state, "early"), "{state}");
    assert!(names(&late.expect("presence_diff").await.payload, "late"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_gains_presence_or_loses_the_channel() {
    let (_database, relay) = start().await;
    let both = "broadcast,presence";
    let mut client = join(&relay, &someone("broadcast", both), "ann", true).await;
    let refresh = |reads: &str| json!({ "access_token": someone(reads, both) });
    client.push(&json!("1"), TOPIC, "access_token", refresh(both)).await;
    assert_eq!(client.expect("presence_state").await.payload, json!({}));
    assert_eq!(push(&mut client, "track").await, ok());
    assert!(names(&client.expect("presence_diff").await.payload, "ann"));
    client.push(&json!("1"), TOPIC, "access_token", refresh("broadcast")).await;
    let system = client.expect("system").await.payload;
    assert_eq!(
        system["message"],
        "You no longer have permission to read from this Channel topic: room"
    );
    client.expect("phx_close").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn public_and_private_presence_of_one_topic_do_not_meet() {
    let (database, relay) = start().await;
    let both = "broadcast,presence";
    let mut private = join(&relay, &someone(both, both), "private", true).await;
    assert_eq!(private.expect("presence_state").await.payload, json!({}));
    let mut public = Client::connect(&relay, &someone("", "")).await;
    let config = json!({ "config": { "presence": { "enabled": true, "key": "public" } } });
    assert_eq!(public.join("room", config).await["status"], "ok");
    assert_eq!(public.expect("presence_state").await.payload, json!({}));
    assert_eq!(push(&mut private, "track").await, ok());
    assert_eq!(push(&mut public, "track").await, ok());
    for (client, key, other) in
        [(&mut private, "private", "public"), (&mut public, "public", "private")]
    {
        let diff = client.expect("presence_diff").await.payload;
        assert!(names(&diff, key) && !names(&diff, other), "{diff}");
    }
    let rows = database.text("select count(*)::text from realtime.messages").await;
    assert_eq!(rows, "0", "what was tried was rolled back");
}
