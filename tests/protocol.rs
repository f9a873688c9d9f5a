//! Supabase Realtime's protocol as a client sees it: connecting, joining, leaving, tokens, farewell.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::client::Received;
use crate::support::relay::{anon, now, sign, token_of};
use crate::support::signer::encode;
use crate::support::{Client, Cluster, Database, Relay};

const TABLE: &str = "
    create table notes (id int primary key, owner uuid, body text);
    alter publication supabase_realtime add table notes;";

async fn database() -> Database {
    let database = Cluster::shared().database().await.with_roles().await;
    database.execute(TABLE).await;
    database
}

fn notes() -> Value {
    json!([{ "event": "*", "schema": "public", "table": "notes" }])
}

fn everything() -> Value {
    json!([{ "event": "*", "schema": "public", "table": "*" }])
}

fn wishes(changes: Value) -> Value {
    json!({ "config": { "postgres_changes": changes } })
}

#[tokio::test]
async fn a_refused_connection_is_told_why() {
    let relay = Relay::start(&database().await).await;
    let error = |text: &str| json!({ "error": text }).to_string();
    let with = |token: &str| format!("/realtime/v1/websocket?apikey={token}");
    let expired = sign(&json!({ "role": "anon", "exp": now() - 10 }));
    let unsigned = format!("{}x", anon());
    let without_role = sign(&json!({ "exp": now() + 60 }));
    let without_exp = sign(&json!({ "role": "anon" }));
    let header = encode(r#"{"alg":"RS256","kid":"gone"}"#);
    let unknown_key = anon().replacen(anon().split('.').next().unwrap(), &header, 1);
    let no_signer = r#"Failed to generate JWT signer for key ID (kid) "gone", check your JWT secret or JWKS configuration"#;
    for (path, status, body) in [
        ("/realtime/v1/websocket".to_owned(), 401, error("API key is missing")),
        (with("garbage"), 401, error("The token provided is not a valid JWT")),
        (with(&expired), 401, error("Token has expired")),
        (with(&without_role), 401, error("Fields `role` and `exp` are required in JWT")),
        (with(&without_exp), 401, error("Fields `role` and `exp` are required in JWT")),
        (with(&unsigned), 401, error("Failed to validate JWT signature")),
        (with(&unknown_key), 401, error(no_signer)),
        (format!("{}&vsn=3.0.0", with(&anon())), 403, String::new()),
    ] {
        assert_eq!(relay.get(&path), (status, body), "{path}");
    }
    let Err(Error::Http(refused)) = Client::try_connect(&relay, "apikey=x", "1.0.0").await else {
        panic!("connected");
    };
    assert_eq!(refused.headers()["content-type"], "application/json; charset=utf-8");
    let (status, hint) = relay.get(&with(&anon()));
    assert_eq!(status, 426, "{hint}");
    let log = relay.log_text();
    assert!(!log.contains("apikey") && !log.contains(&expired), "{log}");
}

#[tokio::test]
async fn both_paths_upgrade_and_the_header_wins_over_the_parameter() {
    let relay = Relay::start(&database().await).await;
    for (path, key) in [
        (format!("/realtime/v1/websocket?apikey={}&eventsPerSecond=10", anon()), None),
        (format!("/socket/websocket?apikey={}&log_level=warn", anon()), None),
        (format!("/socket/websocket?apikey=%20{}+%0A", anon().replace('.', "%2E")), None),
        ("/socket/websocket?apikey=garbage".to_owned(), Some(anon())),
    ] {
        let url = format!("ws://127.0.0.1:{}{path}", relay.port());
        let mut request = url.into_client_request().unwrap();
        if let Some(key) = key {
            request.headers_mut().insert("x-api-key", key.parse().unwrap());
        }
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        // Without a vsn the serializer is 1.0.0.
        let heartbeat = r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":null}"#;
        socket.send(Message::Text(heartbeat.into())).await.unwrap();
        let reply = r#"{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":null}"#;
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Text(reply.into()));
        socket.send(Message::Ping("?".into())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("?".into()));
    }
}

/// The life of a channel, on each serializer.
async fn check_life(version: &'static str) {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut client = Client::connect_as(&relay, &anon(), version).await;
    let wish = json!({ "event": "INSERT", "schema": "public", "table": "notes", "select": ["id"], "own": [1] });
    let other = json!({ "event": "*", "schema": "public", "table": "notes", "select": ["id"] });
    let bindings = client.subscribe("room:1", json!([wish, null, other])).await;
    for (place, element) in [wish, other].iter().enumerate() {
        let mut echoed = bindings[place].clone();
        let id = echoed.as_object_mut().unwrap().remove("id");
        assert!(id.and_then(|id| id.as_u64()).is_some_and(|id| id > 0));
        assert_eq!(echoed, *element);
    }
    assert_ne!(bindings[0]["id"], bindings[1]["id"]);

    database.execute("insert into notes values (1)").await;
    let received = client.expect("postgres_changes").await;
    assert_eq!((received.join_ref, received.reference), (Value::Null, Value::Null));
    assert_eq!(received.topic, "realtime:room:1");
    let mut ids: Vec<_> = received.payload["ids"].as_array().unwrap().clone();
    ids.sort_by_key(Value::as_u64);
    let mut expected = vec![bindings[0]["id"].clone(), bindings[1]["id"].clone()];
    expected.sort_by_key(Value::as_u64);
    assert_eq!(ids, expected);
    assert_eq!(received.payload["data"]["errors"], Value::Null);

    let leave = client.push(&json!("1"), "realtime:room:1", "phx_leave", json!({})).await;
    let left = client.reply(&leave).await;
    assert_eq!(left.payload, json!({ "status": "ok", "response": {} }));
    let closed = client.expect("phx_close").await;
    assert_eq!(closed.reference, "1");
    // Another channel shows when the change has been given out.
    client.subscribe("witness", notes()).await;
    database.execute("insert into notes values (2)").await;
    assert_eq!(client.expect("postgres_changes").await.topic, "realtime:witness");
    assert_eq!(client.flush().await.len(), 0);
    let again = client.subscribe("room:1", notes()).await;
    database.execute("insert into notes values (3)").await;
    // A change that committed shortly before a subscription may still be delivered to it.
    let is_expected = |received: &Received| {
        received.topic == "realtime:room:1" && received.payload["data"]["record"]["id"] == 3
    };
    let received = client.find("the change after the second join", is_expected).await;
    assert_eq!(received.payload["ids"], json!([again[0]["id"]]));
}

#[tokio::test]
async fn a_channel_lives_on_vsn_1() {
    check_life("1.0.0").await;
}

#[tokio::test]
async fn a_channel_lives_on_vsn_2() {
    check_life("2.0.0").await;
}

#[tokio::test]
async fn frames_that_mean_nothing_cost_nothing() {
    let relay = Relay::start(&database().await).await;
    let mut client = Client::connect(&relay, &anon()).await;
    for text in ["", "nonsense", "{}", "[]", r#"["1","2","t","e"]"#, r#"[1,2,3,4,5]"#] {
        client.send_text(text).await;
    }
    for bytes in [&b""[..], b"\x03", b"\x03\xff\xff\xff\xff\xff\xff", b"\x2a1234567"] {
        client.send(Message::Binary(bytes.to_vec().into())).await;
    }
    client.send(Message::Ping("?".into())).await;
    let long = "x".repeat(300);
    client.push(&Value::Null, &format!("realtime:{long}"), &long, json!(null)).await;
    assert_eq!(client.join(&long, json!({ "config": {} })).await["status"], "ok");
    let heartbeat = client.push(&Value::Null, "phoenix", "heartbeat", json!({})).await;
    assert_eq!(client.reply(&heartbeat).await.payload["status"], "ok");
    // Nothing is said of them on the wire, so the operator must be able to see them.
    let dropped = relay.refused("MalformedMessage");
    assert!((dropped - 10.0).abs() < f64::EPSILON, "{dropped}");
}

#[tokio::test]
async fn references_come_back_as_they_were_sent() {
    let relay = Relay::start(&database().await).await;
    let mut client = Client::connect(&relay, &anon()).await;
    let reply = async |client: &mut Client, sent: Value| {
        client.send_text(&sent.to_string()).await;
        let Received { join_ref, reference, topic, payload, .. } = client.expect("phx_reply").await;
        (join_ref, reference, topic, payload)
    };
    let ok = json!({ "status": "ok", "response": {} });
    let unmatched = json!({ "status": "error", "response": { "reason": "unmatched topic" } });
    let topic = |topic: &str| topic.to_owned();
    for odd in [json!(null), json!(12), json!("é\""), json!({ "a": [1.5] })] {
        let said = reply(&mut client, json!([null, odd, "phoenix", "heartbeat", {}])).await;
        assert_eq!(said, (Value::Null, odd.clone(), topic("phoenix"), ok.clone()));
        let said = reply(&mut client, json!(["j", odd, "realtime:x", "phx_leave", {}])).await;
        assert_eq!(said, (json!("j"), odd.clone(), topic("realtime:x"), ok.clone()));
        for (nowhere, event) in [("realtime:x", "broadcast"), ("room", "phx_join"), ("room", "x")] {
            let said = reply(&mut client, json!(["j", odd, nowhere, event, {}])).await;
            assert_eq!(said, (Value::Null, odd.clone(), topic(nowhere), unmatched.clone()));
        }
        let join = json!([odd, odd, "realtime:y", "phx_join", { "config": {} }]);
        let (join_ref, reference, ..) = reply(&mut client, join).await;
        assert_eq!((&join_ref, &reference), (&odd, &odd));
        let leave = json!([odd, "l", "realtime:y", "phx_leave", {}]);
        let (join_ref, ..) = reply(&mut client, leave).await;
        assert_eq!(join_ref, odd);
        let closed = client.expect("phx_close").await;
        assert_eq!((&closed.join_ref, &closed.reference), (&odd, &odd));
        assert_eq!(closed.payload, json!({}));
    }
    assert_eq!(client.flush().await.len(), 0);
}

#[tokio::test]
async fn what_older_and_stranger_clients_send_in_a_join_is_understood() {
    let relay = Relay::start(&database().await).await;
    let mut client = Client::connect(&relay, &anon()).await;
    for config in [
        json!({ "private": "False", "broadcast": { "self": "TRUE", "ack": "false", "new": [] } }),
        json!({ "presence": { "enabled": "False", "key": 7 }, "postgres_changes": null }),
        json!({ "broadcast": null, "presence": null, "postgres_changes": [null], "new": {} }),
    ] {
        let reply = client.join("room", json!({ "config": config, "version": "x" })).await;
        let expected = json!({ "status": "ok", "response": { "postgres_changes": [] } });
        assert_eq!(reply, expected, "{config}");
    }
    let reply = client.join("public:notes", json!({})).await;
    assert_eq!(reply["status"], "ok");
    let told = client.expect("system").await;
    assert_eq!(told.topic, "realtime:public:notes");
    assert!(told.payload["message"].as_str().unwrap().contains("`config`"), "{told:?}");
}

#[tokio::test]
async fn a_second_join_replaces_the_first_and_delivers_once() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut client = Client::connect(&relay, &anon()).await;
    client.subscribe("room", notes()).await;
    client.push(&json!("2"), "realtime:room", "phx_join", wishes(notes())).await;
    let reply = client.reply("2").await;
    assert_eq!(reply.payload["status"], "ok");
    let closed = client.expect("phx_close").await;
    assert_eq!((closed.join_ref, closed.reference), (json!("1"), json!("1")));
    assert_eq!(client.expect("system").await.join_ref, "2");
    database.execute("insert into notes values (1)").await;
    client.change().await;
    database.execute("insert into notes values (2)").await;
    assert_eq!(client.change().await["record"]["id"], 2);
    assert_eq!(client.flush().await.len(), 0);
}

#[tokio::test]
async fn a_join_that_cannot_be_granted_says_so_and_touches_no_other() {
    let database = database().await;
    let relay = Relay::start(&database).await;
    let mut client = Client::connect(&relay, &anon()).await;
    client.subscribe("good", notes()).await;
    let expired = sign(&json!({ "role": "anon", "exp": now() - 10 }));
    let incomplete = sign(&json!({ "role": "anon" }));
    let reason = |payload: &Value| payload["response"]["reason"].as_str().unwrap().to_owned();
    for (token, expected) in [
        ("", "MalformedJWT: The token provided is not a valid JWT"),
        (&expired, "InvalidJWTToken: Token has expired "),
        (&incomplete, "InvalidJWTToken: Fields `role` and `exp` are required in JWT"),
        (&format!("{}x", anon()), "JwtSignatureError: Failed to validate JWT signature"),
    ] {
        let payload = client.join("bad", json!({ "config": {}, "access_token": token })).await;
        assert_eq!(payload["status"], "error");
        assert!(reason(&payload).starts_with(expected), "{payload}");
    }
    let payload = client.join("", json!({ "config": {} })).await;
    assert_eq!(reason(&payload), "TopicNameRequired: You must provide a topic name");

    let missing = json!([{ "event": "*", "schema": "public", "table": "missing" }]);
    let payload = client.join("missing", wishes(missing)).await;
    assert_eq!(payload["status"], "ok");
    let system = client.expect("system").await;
    assert_eq!(system.payload["status"], "error");
    assert_eq!(system.payload["channel"], "missing");
    let message = system.payload["message"].as_str().unwrap();
    assert!(message.starts_with("Unable to subscribe to changes"), "{message}");

    database.execute("insert into notes values (1)").await;
    assert_eq!(client.change().await["record"]["id"], 1);
}

#[tokio::test]
async fn the_connections_token_counts_when_a_join_brings_none_of_use() {
    let relay = Relay::start(&database().await).await;
    let mut client = Client::connect(&relay, &anon()).await;
    for (name, payload) in [
        ("absent", json!({ "config": {} })),
        ("null", json!({ "config": {}, "access_token": null })),
        ("opaque", json!({ "config": {}, "access_token": "sb_publishable_x" })),
        ("older", json!({ "config": {}, "access_token": "garbage", "user_token": anon() })),
    ] {
        assert_eq!(client.join(name, payload).await["status"], "ok", "{name}");
    }
}

#[tokio::test]
async fn a_refreshed_token_changes_what_is_seen() {
    let database = database().await;
    let (one, two) =
        ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002");
    database
        .execute(
            "alter table notes enable row level security;
             create policy own on notes for select using (owner = auth.uid());",
        )
        .await;
    let relay = Relay::start(&database).await;
    let mut client = Client::connect(&relay, &token_of(one)).await;
    let before = client.subscribe("room", notes()).await;
    let push = |token: Value| json!({ "access_token": token });
    client.push(&json!("1"), "realtime:room", "access_token", push(json!(null))).await;
    client.push(&json!("1"), "realtime:room", "access_token", push(json!("sb_x"))).await;
    assert_eq!(client.flush().await.len(), 0);
    // A push counts whatever its join_ref says.
    client.push(&json!("stale"), "realtime:room", "access_token", push(json!(token_of(two)))).await;
    let system = client.expect("system").await;
    assert_eq!(system.payload["message"], "Subscribed to PostgreSQL");
    database.execute(&format!("insert into notes values (1, '{one}'), (2, '{two}')")).await;
    let received = client.expect("postgres_changes").await;
    assert_eq!(received.payload["ids"], json!([before[0]["id"]]));
    assert_eq!(received.payload["data"]["record"]["id"], 2);

    client.subscribe("other", notes()).await;
    client.push(&Value::Null, "realtime:room", "access_token", push(json!("garbage"))).await;
    let system = client.expect("system").await;
    assert_eq!(system.join_ref, "1");
    assert_eq!(system.payload["extension"], "system");
    assert_eq!(system.payload["message"], "The token provided is not a valid JWT");
    assert_eq!(client.expect("phx_close").await.join_ref, "1");
    database.execute(&format!("insert into notes values (3, '{one}')")).await;
    let received = client.expect("postgres_changes").await;
    assert_eq!(received.topic, "realtime:other");
    assert_eq!(received.payload["data"]["record"]["id"], 3);
}

#[tokio::test]
async fn a_channel_closes_when_its_token_expires_and_the_socket_stays() {
    let relay = Relay::start(&database().await).await;
    let mut client = Client::connect(&relay, &anon()).await;
    // A token that is over before the relay sees it shows nothing: then one that lives longer.
    let mut lives = (1..).zip([2, 4, 8, 16, 32]);
    let (join_ref, short) = loop {
        let (join, lifetime) = lives.next().expect("the relay sees a token within its life");
        let short = sign(&json!({ "role": "anon", "exp": now() + lifetime }));
        let payload = json!({ "config": {}, "access_token": short.clone() });
        let reply = client.join("room", payload).await;
        if reply["status"] == "ok" {
            break (json!(join.to_string()), short);
        }
        assert!(reply["response"]["reason"].as_str().unwrap().contains("expired"), "{reply}");
    };
    for ignored in [json!(short), json!("sb_x"), Value::Null] {
        let payload = json!({ "access_token": ignored });
        client.push(&join_ref, "realtime:room", "access_token", payload).await;
    }
    let system = client.expect("system").await;
    let message = system.payload["message"].as_str().unwrap();
    assert!(message.starts_with("Token has expired "), "{message}");
    assert_eq!(json!(client.expect("phx_close").await.reference), join_ref);
    let payload = client.join("room", json!({ "config": {} })).await;
    assert_eq!(payload["status"], "ok");
}

#[tokio::test]
async fn heartbeats_and_joins_are_answered_while_postgres_is_away() {
    let cluster = Cluster::start(&[]);
    let database = cluster.database().await.with_roles().await;
    database.execute(TABLE).await;
    let relay = Relay::start(&database).await;
    let mut client = Client::connect(&relay, &anon()).await;
    cluster.stop("immediate");
    let join = client.push(&json!("1"), "realtime:room", "phx_join", wishes(notes())).await;
    let heartbeat = client.push(&Value::Null, "phoenix", "heartbeat", json!({})).await;
    assert_eq!(client.reply(&heartbeat).await.payload["status"], "ok");
    let plain = client.join("plain", json!({ "config": {} })).await;
    assert_eq!(plain["status"], "ok");
    client.reply(&join).await;
}

#[tokio::test]
async fn a_join_is_answered_even_when_postgres_never_answers() {
    // A server of its own: some statements wait for every process of the server.
    let cluster = Cluster::start(&[]);
    let database = cluster.database().await.with_roles().await;
    database.execute(TABLE).await;
    let relay = Relay::start(&database).await;
    let mut client = Client::connect(&relay, &anon()).await;
    client.subscribe("good", notes()).await;
    let pid = "select pid::text from pg_stat_activity
               where application_name = 'relay-names' and datname = current_database()";
    let pid = database.text(pid).await;
    let signal = |name: &str| {
        let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    };
    signal("STOP");
    let join = client.push(&json!("1"), "realtime:room", "phx_join", wishes(everything())).await;
    let heartbeat = client.push(&Value::Null, "phoenix", "heartbeat", json!({})).await;
    assert_eq!(client.reply(&heartbeat).await.payload["status"], "ok");
    let plain = client.join("plain", json!({ "config": {} })).await;
    assert_eq!(plain["status"], "ok");
    let refused = client.reply(&join).await.payload;
    assert_eq!(refused["status"], "error");
    let reason = refused["response"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("UnableToConnectToProject: "), "{reason}");
    signal("CONT");
    client.subscribe("room", everything()).await;
    database.execute("insert into notes values (1)").await;
    let mut topics =
        [client.expect("postgres_changes").await, client.expect("postgres_changes").await]
            .map(|received| received.topic);
    topics.sort();
    assert_eq!(topics, ["realtime:good", "realtime:room"]);
}

#[tokio::test]
async fn a_relay_that_is_told_to_stop_says_goodbye_to_every_channel() {
    let mut relay = Relay::start(&database().await).await;
    let mut client = Client::connect(&relay, &anon()).await;
    client.subscribe("room", notes()).await;
    client.join("plain", json!({ "config": {} })).await;
    relay.signal("TERM");
    for topic in ["realtime:room", "realtime:plain"] {
        let system = client.find(topic, |received| received.topic == topic).await;
        assert_eq!((system.join_ref, system.event), (Value::Null, "system".to_owned()));
        let message = "Server requested disconnect";
        let payload = json!({ "extension": "system", "status": "ok", "message": message });
        assert_eq!(system.payload, payload);
    }
    assert_eq!(client.closed().await, Some(1012));
    assert_eq!(relay.terminate().await, Some(0));
}

#[tokio::test]
async fn health_and_figures_are_plain_to_read() {
    let relay = Relay::start(&database().await).await;
    assert_eq!(relay.get("/healthz"), (200, "ok".to_owned()));
    assert_eq!(relay.get("/readyz"), (200, "ok".to_owned()));
    let (status, hint) = relay.get("/nowhere");
    assert_eq!((status, hint.lines().count()), (404, 1));
    assert!(hint.contains("/realtime/v1/websocket"), "{hint}");
    let client = Client::connect(&relay, &anon()).await;
    assert!((relay.metric("relay_connections") - 1.0).abs() < f64::EPSILON);
    drop(client);
}
