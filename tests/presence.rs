//! Who is present in a channel, as clients learn it.

use serde_json::{Value, json};

use crate::support::client::Received;
use crate::support::relay::token;
use crate::support::{Client, Cluster, Relay, until};

/// A relay whose lost members leave at once.
async fn relay() -> Relay {
    relay_with(&[]).await
}

async fn relay_with(environment: &[(&str, &str)]) -> Relay {
    let database = Cluster::shared().database().await.with_roles().await;
    let mut variables = vec![("RELAY_REALTIME__PRESENCE_GRACE", "0s")];
    variables.extend(environment);
    Relay::start_with(&database, &variables).await
}

async fn connect(relay: &Relay, version: &'static str) -> Client {
    Client::connect_as(relay, &token("anon", &json!({})), version).await
}

/// A join that wants to know who is present and tracks as `key`.
fn present(key: Value) -> Value {
    json!({ "config": { "presence": { "enabled": true, "key": key } } })
}

/// Joins, and returns the state.
async fn attend(client: &mut Client, room: &str, key: Value) -> Value {
    assert_eq!(client.join(room, present(key)).await["status"], "ok");
    client.expect("presence_state").await.payload
}

/// Sends a presence message and returns the payload of the reply.
async fn push(client: &mut Client, room: &str, payload: Value) -> Value {
    let reference =
        client.push(&json!("1"), &format!("realtime:{room}"), "presence", payload).await;
    client.reply(&reference).await.payload
}

async fn track(client: &mut Client, room: &str, payload: Value) {
    let message = json!({ "type": "presence", "event": "track", "payload": payload });
    assert_eq!(push(client, room, message).await, ok());
}

fn ok() -> Value {
    json!({ "status": "ok", "response": {} })
}

async fn diff(client: &mut Client) -> Value {
    client.expect("presence_diff").await.payload
}

/// Takes the reference out of the one meta under `key`.
fn take_reference(side: &mut Value, key: &str) -> String {
    let metas = side[key]["metas"].as_array_mut().unwrap();
    assert_eq!(metas.len(), 1, "{metas:?}");
    let reference = metas[0].as_object_mut().unwrap().remove("phx_ref").unwrap();
    reference.as_str().unwrap().to_owned()
}

fn events(received: &[Received]) -> Vec<&str> {
    received.iter().map(|received| received.event.as_str()).collect()
}

#[tokio::test]
async fn tracking_updating_and_untracking_are_told_to_all_including_oneself() {
    let relay = relay().await;
    for version in ["1.0.0", "2.0.0"] {
        let room = format!("room:{version}");
        let (mut ann, mut ben) = (connect(&relay, version).await, connect(&relay, "2.0.0").await);
        assert_eq!(attend(&mut ann, &room, json!("ann")).await, json!({}));
        assert_eq!(attend(&mut ben, &room, json!("ben")).await, json!({}));

        track(&mut ann, &room, json!({ "at": 1 })).await;
        let mut references = Vec::new();
        for client in [&mut ann, &mut ben] {
            let mut told = diff(client).await;
            references.push(take_reference(&mut told["joins"], "ann"));
            assert_eq!(
                told,
                json!({ "joins": { "ann": { "metas": [{ "at": 1 }] } }, "leaves": {} })
            );
        }
        assert_eq!((references[0].len(), &references[0]), (16, &references[1]));

        track(&mut ann, &room, json!({ "at": 2 })).await;
        for client in [&mut ann, &mut ben] {
            let mut told = diff(client).await;
            assert_ne!(take_reference(&mut told["joins"], "ann"), references[0]);
            let leaves = json!({ "ann": { "metas": [{ "at": 1, "phx_ref": references[0] }] } });
            let metas = json!([{ "at": 2, "phx_ref_prev": references[0] }]);
            assert_eq!(told, json!({ "joins": { "ann": { "metas": metas } }, "leaves": leaves }));
        }

        let untrack = json!({ "type": "presence", "event": "untrack" });
        assert_eq!(push(&mut ann, &room, untrack.clone()).await, ok());
        for client in [&mut ann, &mut ben] {
            let told = diff(client).await;
            assert_eq!(
                (&told["joins"], &told["leaves"]["ann"]["metas"][0]["at"]),
                (&json!({}), &json!(2))
            );
        }
        assert_eq!(push(&mut ann, &room, untrack).await, ok());
        assert!(events(&ben.flush().await).is_empty());
    }
}

#[tokio::test]
async fn frames_carry_the_references_clients_look_at() {
    let relay = relay().await;
    let mut ann = connect(&relay, "2.0.0").await;
    ann.join("room", present(json!("ann"))).await;
    let state = ann.expect("presence_state").await;
    assert_eq!((state.join_ref, state.reference), (json!("1"), Value::Null));
    track(&mut ann, "room", json!({})).await;
    let diff = ann.expect("presence_diff").await;
    assert_eq!((diff.join_ref, diff.reference), (Value::Null, Value::Null));
    assert_eq!(diff.topic, "realtime:room");
}

#[tokio::test]
async fn the_state_comes_once_after_the_reply_and_names_everyone() {
    let relay = relay().await;
    let (mut ann, mut ben) = (connect(&relay, "1.0.0").await, connect(&relay, "2.0.0").await);
    attend(&mut ann, "room", json!("ann")).await;
    track(&mut ann, "room", json!({ "name": "Ann" })).await;
    let mut told = diff(&mut ann).await;
    let reference = take_reference(&mut told["joins"], "ann");

    let topic = "realtime:room";
    ben.push(&json!("1"), topic, "phx_join", present(json!("ben"))).await;
    let first = ben.receive().await.unwrap();
    assert_eq!((first.event.as_str(), first.payload["status"].as_str()), ("phx_reply", Some("ok")));
    let metas = json!([{ "name": "Ann", "phx_ref": reference }]);
    assert_eq!(ben.receive().await.unwrap().payload, json!({ "ann": { "metas": metas } }));
    assert!(ben.flush().await.is_empty());

    // A private room of the same name would be another; so is every other name.
    assert_eq!(attend(&mut ben, "room2", json!("ben")).await, json!({}));
}

#[tokio::test]
async fn leaving_and_losing_the_socket_are_told() {
    let relay = relay().await;
    let mut watcher = connect(&relay, "2.0.0").await;
    attend(&mut watcher, "room", Value::Null).await;
    for ends_how in ["leave", "drop"] {
        let mut ann = connect(&relay, "1.0.0").await;
        attend(&mut ann, "room", json!("ann")).await;
        track(&mut ann, "room", json!({ "how": ends_how })).await;
        assert_eq!(diff(&mut watcher).await["joins"]["ann"]["metas"][0]["how"], ends_how);
        match ends_how {
            "leave" => ann.leave("room").await,
            _ => drop(ann),
        }
        assert_eq!(diff(&mut watcher).await["leaves"]["ann"]["metas"][0]["how"], ends_how);
    }
    until("nobody to be present", || {
        std::future::ready((relay.metric("relay_presences") == 0.0).then_some(()))
    })
    .await;
}

#[tokio::test]
async fn who_reconnects_within_the_grace_time_never_left() {
    let relay = relay_with(&[("RELAY_REALTIME__PRESENCE_GRACE", "10m")]).await;
    let mut watcher = connect(&relay, "2.0.0").await;
    attend(&mut watcher, "room", json!("watcher")).await;
    let mut ann = connect(&relay, "2.0.0").await;
    attend(&mut ann, "room", json!("ann")).await;
    track(&mut ann, "room", json!({ "at": 1 })).await;
    let reference = take_reference(&mut diff(&mut watcher).await["joins"], "ann");
    // Somebody whose key was made by the relay cannot come back, and is not waited for.
    let mut nameless = connect(&relay, "2.0.0").await;
    attend(&mut nameless, "room", Value::Null).await;
    track(&mut nameless, "room", json!({})).await;
    diff(&mut watcher).await;

    drop(ann);
    drop(nameless);
    let left = diff(&mut watcher).await;
    let keys: Vec<_> = left["leaves"].as_object().unwrap().keys().collect();
    assert!(keys.len() == 1 && keys[0] != "ann", "{left}");

    let mut back = connect(&relay, "1.0.0").await;
    let state = attend(&mut back, "room", json!("ann")).await;
    assert_eq!(state["ann"]["metas"][0]["phx_ref"], reference);
    track(&mut back, "room", json!({ "at": 1 })).await;
    assert_eq!(diff(&mut back).await["joins"]["ann"]["metas"][0]["phx_ref"], reference);
    track(&mut back, "room", json!({ "at": 2 })).await;
    let told = diff(&mut watcher).await;
    assert_eq!(told["joins"]["ann"]["metas"][0]["phx_ref_prev"], reference);
    assert_eq!(told["leaves"]["ann"]["metas"][0]["phx_ref"], reference);
}

#[tokio::test]
async fn one_key_on_two_sockets_has_two_metas() {
    let relay = relay().await;
    let (mut one, mut two) = (connect(&relay, "1.0.0").await, connect(&relay, "2.0.0").await);
    for (client, tab) in [(&mut one, 1), (&mut two, 2)] {
        attend(client, "room", json!("ann")).await;
        track(client, "room", json!({ "tab": tab })).await;
        diff(client).await;
    }
    let mut third = connect(&relay, "2.0.0").await;
    let state = attend(&mut third, "room", Value::Null).await;
    let metas = state["ann"]["metas"].as_array().unwrap();
    assert_eq!(metas.len(), 2);
    assert_ne!(metas[0]["phx_ref"], metas[1]["phx_ref"]);
    one.leave("room").await;
    let left = diff(&mut third).await;
    assert_eq!(left["leaves"]["ann"]["metas"].as_array().map(Vec::len), Some(1));
    assert_eq!(left["leaves"]["ann"]["metas"][0]["tab"], 1);
}

#[tokio::test]
async fn keys_are_made_when_there_is_none_and_are_texts() {
    let relay = relay().await;
    let mut keys = Vec::new();
    let mut watcher = connect(&relay, "2.0.0").await;
    attend(&mut watcher, "room", Value::Null).await;
    let mut clients = Vec::new();
    for key in [Value::Null, json!(""), json!(42), json!(true)] {
        let mut client = connect(&relay, "1.0.0").await;
        attend(&mut client, "room", key).await;
        track(&mut client, "room", json!({})).await;
        let told = diff(&mut watcher).await;
        keys.extend(told["joins"].as_object().unwrap().keys().cloned());
        clients.push(client);
    }
    assert_eq!(keys[2..], ["42", "true"]);
    assert_eq!((keys[0].len(), keys[1].len()), (36, 36));
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test]
async fn each_presence_message_is_answered() {
    let relay = relay_with(&[("RELAY_LIMITS__PRESENCE_CALLS", "100")]).await;
    let not_a_map = json!({
        "status": "error",
        "response": { "reason": "Presence track payload must be a map" },
    });
    let error = json!({ "status": "error", "response": {} });
    for version in ["1.0.0", "2.0.0"] {
        let room = format!("room:{version}");
        let mut ann = connect(&relay, version).await;
        attend(&mut ann, &room, json!("ann")).await;
        for (message, answer) in [
            (json!({ "event": "TRACK", "payload": { "at": 1 } }), ok()),
            (json!({ "type": "presence", "event": "track", "payload": { "at": 1 } }), ok()),
            (json!({ "event": "track", "payload": "here" }), not_a_map.clone()),
            (json!({ "event": "track", "payload": [1] }), not_a_map.clone()),
            (json!({ "event": "track", "payload": null }), not_a_map.clone()),
            (json!({ "type": "presence" }), ok()),
            (json!({ "event": "dance" }), error.clone()),
            (json!({ "event": 7 }), error.clone()),
            (json!("track"), error.clone()),
        ] {
            assert_eq!(push(&mut ann, &room, message.clone()).await, answer, "{message}");
        }
        assert_eq!(diff(&mut ann).await["joins"]["ann"]["metas"][0]["at"], 1);
        assert!(ann.flush().await.is_empty(), "the same again is told to nobody");
        // Without a payload, nothing is said about oneself.
        assert_eq!(push(&mut ann, &room, json!({ "event": "track" })).await, ok());
        let mut told = diff(&mut ann).await;
        take_reference(&mut told["joins"], "ann");
        let meta = told["joins"]["ann"]["metas"][0].as_object().unwrap();
        assert_eq!(meta.keys().collect::<Vec<_>>(), ["phx_ref_prev"]);
    }
}

#[tokio::test]
async fn only_those_who_enabled_presence_or_track_are_told() {
    let relay = relay().await;
    for version in ["1.0.0", "2.0.0"] {
        let room = format!("room:{version}");
        let (mut ann, mut quiet) = (connect(&relay, version).await, connect(&relay, version).await);
        attend(&mut ann, &room, json!("ann")).await;
        quiet.join(&room, json!({ "config": { "presence": { "key": "quiet" } } })).await;
        track(&mut ann, &room, json!({})).await;
        diff(&mut ann).await;
        assert!(quiet.flush().await.is_empty());

        // Whoever tracks wants to know: first the state, then what is new.
        track(&mut quiet, &room, json!({ "at": 1 })).await;
        let state = quiet.expect("presence_state").await.payload;
        assert_eq!(state.as_object().unwrap().keys().collect::<Vec<_>>(), ["ann"]);
        assert_eq!(diff(&mut quiet).await["joins"]["quiet"]["metas"][0]["at"], 1);
        track(&mut quiet, &room, json!({ "at": 2 })).await;
        diff(&mut quiet).await;
        assert!(quiet.flush().await.is_empty(), "one state is enough");
    }
}

#[tokio::test]
async fn a_sixth_presence_message_in_a_window_closes_its_channel_and_no_other() {
    let relay = relay_with(&[("RELAY_LIMITS__PRESENCE_WINDOW", "10m")]).await;
    for version in ["1.0.0", "2.0.0"] {
        let room = format!("room:{version}");
        let (mut ann, mut ben) = (connect(&relay, version).await, connect(&relay, version).await);
        attend(&mut ann, &room, json!("ann")).await;
        attend(&mut ann, "other", json!("ann")).await;
        attend(&mut ben, &room, json!("ben")).await;
        for at in 0..5 {
            track(&mut ann, &room, json!({ "at": at })).await;
        }
        let topic = format!("realtime:{room}");
        ann.push(&json!("1"), &topic, "presence", json!({ "event": "track" })).await;
        let system = ann.expect("system").await.payload;
        let message = "Client presence rate limit exceeded";
        assert_eq!(
            system,
            json!({ "extension": "system", "status": "error", "message": message, "channel": room })
        );
        assert_eq!(ann.expect("phx_close").await.topic, topic);
        track(&mut ann, "other", json!({})).await;
        ben.find("the leave", |received| {
            let (joins, leaves) = (&received.payload["joins"], &received.payload["leaves"]);
            leaves["ann"].is_object() && joins["ann"].is_null()
        })
        .await;
        assert_eq!(attend(&mut ann, &room, json!("ann")).await, json!({}));
        track(&mut ann, &room, json!({})).await;
    }
}

#[tokio::test]
async fn what_is_too_large_to_track_closes_its_channel() {
    let relay = relay_with(&[("RELAY_LIMITS__PRESENCE_PAYLOAD", "16 KiB")]).await;
    let mut ann = connect(&relay, "2.0.0").await;
    attend(&mut ann, "room", json!("ann")).await;
    let large = json!({ "event": "track", "payload": { "a": "x".repeat(20 << 10) } });
    ann.push(&json!("1"), "realtime:room", "presence", large).await;
    assert_eq!(ann.expect("system").await.payload["message"], "Track message size exceeded");
    ann.expect("phx_close").await;
    assert!(ann.flush().await.is_empty());
}

/// What a client makes of states and diffs: the payloads under each key, by reference.
fn apply(people: &mut Value, received: &Received) {
    if received.event == "presence_state" {
        *people = json!({});
    }
    let sides = match received.event.as_str() {
        "presence_state" => [&received.payload, &Value::Null],
        "presence_diff" => [&received.payload["joins"], &received.payload["leaves"]],
        _ => return,
    };
    for (place, side) in sides.into_iter().enumerate() {
        for (key, entry) in side.as_object().into_iter().flatten() {
            for meta in entry["metas"].as_array().unwrap() {
                let known = people.as_object_mut().unwrap().entry(key).or_insert(json!({}));
                let reference = meta["phx_ref"].as_str().unwrap().to_owned();
                match place {
                    0 => known.as_object_mut().unwrap().insert(reference, meta["n"].clone()),
                    _ => known.as_object_mut().unwrap().remove(&reference),
                };
            }
        }
    }
}

#[tokio::test]
async fn a_crowd_that_comes_at_once_sees_everyone_and_then_nobody() {
    let relay = relay().await;
    let crowd = 100;
    let clients = futures_util::future::join_all((0..crowd).map(|n| {
        let relay = &relay;
        async move {
            let version = if n % 2 == 0 { "1.0.0" } else { "2.0.0" };
            let mut client = connect(relay, version).await;
            client.join("room", present(json!(n))).await;
            track(&mut client, "room", json!({ "n": n })).await;
            client
        }
    }))
    .await;
    let everyone = |people: &Value| {
        let people = people.as_object().unwrap();
        let here = people.values().filter(|metas| metas.as_object().unwrap().len() == 1);
        here.count() == crowd
    };
    let mut last = Vec::new();
    for mut client in clients {
        let mut people = json!({});
        while !everyone(&people) {
            let next = client.find("more people", |next| next.event.starts_with("presence_")).await;
            apply(&mut people, &next);
        }
        last.push((client, people));
    }
    let (mut stays, mut people) = last.pop().unwrap();
    drop(last);
    let is_alone = |people: &Value| {
        let here = people.as_object().unwrap().values();
        here.filter(|metas| !metas.as_object().unwrap().is_empty()).count() == 1
    };
    while !is_alone(&people) {
        let next = stays.expect("presence_diff").await;
        apply(&mut people, &next);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_may_have_every_channel_told() {
    let relay = relay_with(&[("RELAY_REALTIME__PRESENCE_ALWAYS", "true")]).await;
    let mut watcher = connect(&relay, "1.0.0").await;
    assert_eq!(watcher.join("room", json!({ "config": {} })).await["status"], "ok");
    assert_eq!(watcher.expect("presence_state").await.payload, json!({}));
    let mut other = connect(&relay, "2.0.0").await;
    attend(&mut other, "room", json!("ann")).await;
    track(&mut other, "room", json!({ "at": 1 })).await;
    assert!(diff(&mut watcher).await["joins"].get("ann").is_some());
}
