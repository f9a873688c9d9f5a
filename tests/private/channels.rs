//! Private channels as clients meet them.

use serde_json::{Value, json};

use crate::support::relay::{token, token_of};
use crate::support::{Client, Cluster, Database, Relay, unique};

const UNREADABLE: &str = "You do not have permissions to read from this Channel topic: room";
const NO_LONGER: &str = "You no longer have permission to read from this Channel topic: room";

/// A database with these policies, and a relay on it.
async fn start(policies: &str) -> (Database, Relay) {
    let database = Cluster::shared().database().await.with_roles().await.with_realtime();
    database.execute(policies).await;
    let relay = Relay::start(&database).await;
    (database, relay)
}

fn private(presence: bool, broadcast: Value) -> Value {
    json!({ "config": {
        "private": true, "broadcast": broadcast, "presence": { "enabled": presence }
    } })
}

async fn join(relay: &Relay, token: &str, presence: bool, broadcast: Value) -> (Client, Value) {
    let mut client = Client::connect(relay, token).await;
    let reply = client.join("room", private(presence, broadcast)).await;
    (client, reply)
}

async fn member(relay: &Relay, token: &str, broadcast: Value) -> Client {
    let (client, reply) = join(relay, token, false, broadcast).await;
    assert_eq!(reply, json!({ "status": "ok", "response": { "postgres_changes": [] } }));
    client
}

async fn say(client: &mut Client, event: &str) -> String {
    let message = json!({ "type": "broadcast", "event": event, "payload": {} });
    client.push(&json!("1"), "realtime:room", "broadcast", message).await
}

/// What is heard until now, by event.
async fn heard(database: &Database, client: &mut Client) -> Vec<String> {
    let end = unique("end");
    database.execute(&format!("select realtime.send('{{}}', '{end}', 'room')")).await;
    let mut events = Vec::new();
    loop {
        let message = client.expect("broadcast").await.payload;
        let event = message["event"].as_str().unwrap();
        if event == end {
            return events;
        }
        // Others listen as well.
        if !event.starts_with("end") {
            events.push(event.to_owned());
        }
    }
}

fn unauthorised() -> Value {
    json!({ "status": "error", "response": { "reason": format!("Unauthorized: {UNREADABLE}") } })
}

#[tokio::test]
async fn a_join_needs_something_to_read() {
    let (_database, relay) = start(
        "create policy a on realtime.messages for select to authenticated using (
           realtime.topic() = 'room' and extension = any (string_to_array(auth.jwt() ->> 'reads', ',')))",
    )
    .await;
    for (reads, presence, is_ok) in [
        ("broadcast,presence", true, true),
        ("broadcast", true, true),
        ("broadcast", false, true),
        ("presence", true, true),
        ("presence", false, false),
        ("", true, false),
    ] {
        let token = token("authenticated", &json!({ "reads": reads }));
        let (_client, reply) = join(&relay, &token, presence, json!({})).await;
        if is_ok {
            assert_eq!(reply["status"], "ok", "{reads} {reply}");
        } else {
            assert_eq!(reply, unauthorised(), "{reads}");
        }
    }
}

#[tokio::test]
async fn a_refused_channel_holds_up_nobody_and_costs_nothing() {
    let (database, relay) = start(
        "create policy slow on realtime.messages for select to authenticated
           using (realtime.topic() = 'slow' and pg_advisory_xact_lock_shared(7) is not null)",
    )
    .await;
    let mut client = Client::connect(&relay, &token_of("ann")).await;
    let config = private(false, json!({}));
    database.execute("select pg_advisory_lock(7)").await;
    let slow = client.push(&json!("9"), "realtime:slow", "phx_join", config.clone()).await;
    assert_eq!(client.join("room", config).await, unauthorised());
    assert!(client.flush().await.is_empty());
    database.execute("select pg_advisory_unlock(7)").await;
    assert_eq!(client.reply(&slow).await.payload["status"], "ok");
}

#[tokio::test]
async fn policies_see_who_asks_about_what() {
    let (_database, relay) = start(
        "create policy a on realtime.messages for select to authenticated using (
           realtime.topic() = 'room' and topic = 'room' and auth.uid() = '00000000-0000-4000-8000-000000000001'
           and current_user = 'authenticated' and auth.jwt() ->> 'role' = current_setting('request.jwt.claim.role')
           and current_setting('request.jwt.claim.sub') = auth.uid()::text
           and current_setting('request.headers')::json ->> 'x-team' is null)",
    )
    .await;
    let mut ann =
        member(&relay, &token_of("00000000-0000-4000-8000-000000000001"), json!({})).await;
    let reply = ann.join("other", private(false, json!({}))).await;
    assert_eq!(reply["status"], "error");
    let bob = token_of("00000000-0000-4000-8000-000000000002");
    assert_eq!(join(&relay, &bob, false, json!({})).await.1, unauthorised());
}

#[tokio::test]
async fn policies_see_the_socket_s_own_headers_and_no_others() {
    let (_database, relay) = start(
        "create policy r on realtime.messages for select to authenticated using (
           current_setting('request.headers')::json ->> 'x-team' = '7'
           and current_setting('request.headers')::json ->> 'cookie' is null);
         create policy w on realtime.messages for insert to authenticated with check (
           current_setting('request.headers')::json ->> 'x-role' = 'speaker')",
    )
    .await;
    let query = format!("apikey={}&vsn=2.0.0", token_of("ann"));
    for (team, role, joins, speaks) in [
        ("7", "speaker", true, true),
        ("7", "listener", true, false),
        ("8", "speaker", false, false),
    ] {
        let headers = [("X-Team", team), ("x-role", role), ("cookie", "a=b")];
        let headers = headers.map(|(name, value)| (name, value));
        let mut client = Client::try_connect_with(&relay, &query, "2.0.0", &headers).await.unwrap();
        let reply = client.join("room", private(false, json!({ "ack": true }))).await;
        assert_eq!(reply["status"] == "ok", joins, "{team} {role}: {reply}");
        if joins {
            let reference = say(&mut client, "x").await;
            let status = client.reply(&reference).await.payload["status"].take();
            assert_eq!(status == "ok", speaks, "{team} {role}: {status}");
        }
    }
}

#[tokio::test]
async fn a_broken_policy_is_a_closed_channel() {
    let (_database, relay) =
        start("create policy a on realtime.messages for select using (1 / length(auth.jwt() ->> 'x') > 0)").await;
    let token = token("authenticated", &json!({ "x": "" }));
    assert_eq!(join(&relay, &token, false, json!({})).await.1, unauthorised());
    // Nobody else is touched, nor later.
    let token = crate::support::relay::token("authenticated", &json!({ "x": "y" }));
    assert_eq!(join(&relay, &token, false, json!({})).await.1["status"], "ok");
}

#[tokio::test]
async fn what_may_not_be_sent_reaches_nobody() {
    let (database, relay) = start(
        "create policy r on realtime.messages for select to authenticated using (true);
         create policy w on realtime.messages for insert to authenticated with check (auth.jwt() ->> 'sub' = 'ann')",
    )
    .await;
    let ack = json!({ "ack": true });
    let mut ann = member(&relay, &token_of("ann"), ack.clone()).await;
    let mut bob = member(&relay, &token_of("bob"), ack).await;
    let mut silent = member(&relay, &token_of("bob"), json!({})).await;
    for round in 0..2 {
        let refs = [say(&mut ann, "a").await, say(&mut ann, "b").await];
        for reference in refs {
            let reply = ann.reply(&reference).await.payload;
            assert_eq!(reply, json!({ "status": "ok", "response": {} }), "{round}");
        }
        let reference = say(&mut bob, "never").await;
        let reply = bob.reply(&reference).await.payload;
        assert_eq!(reply["status"], "error");
        say(&mut silent, "never").await;
        assert_eq!(heard(&database, &mut bob).await, ["a", "b"]);
        assert_eq!(heard(&database, &mut silent).await, ["a", "b"]);
        assert!(heard(&database, &mut ann).await.is_empty());
        assert!(silent.flush().await.iter().all(|received| received.event != "phx_reply"));
    }
    // Probes leave nothing behind: there is what the database sent, and no more.
    let rows =
        "select count(*)::text from realtime.messages where event is null or event not like 'end%'";
    assert_eq!(database.text(rows).await, "0");
}

#[tokio::test]
async fn sending_needs_no_right_to_hear_and_hearing_presence_is_not_hearing_broadcasts() {
    let (database, relay) = start(
        "create policy r on realtime.messages for select to authenticated
           using (extension = auth.jwt() ->> 'reads');
         create policy w on realtime.messages for insert to authenticated with check (true)",
    )
    .await;
    let reader = |reads: &str| token("authenticated", &json!({ "reads": reads }));
    let (mut watcher, reply) =
        join(&relay, &reader("presence"), true, json!({ "ack": true })).await;
    assert_eq!(reply["status"], "ok");
    let mut listener = member(&relay, &reader("broadcast"), json!({})).await;
    let reference = say(&mut watcher, "hello").await;
    assert_eq!(watcher.reply(&reference).await.payload["status"], "ok");
    assert_eq!(heard(&database, &mut listener).await, ["hello"]);
    assert!(watcher.flush().await.iter().all(|received| received.event != "broadcast"));
}

#[tokio::test]
async fn a_new_token_is_judged_anew() {
    let (database, relay) = start(
        "create policy r on realtime.messages for select to authenticated
           using (extension = any (string_to_array(auth.jwt() ->> 'reads', ',')));
         create policy w on realtime.messages for insert to authenticated with check (auth.jwt() ->> 'writes' = 'yes')",
    )
    .await;
    let reader = |reads: &str, writes: &str| {
        token("authenticated", &json!({ "reads": reads, "writes": writes }))
    };
    let both = reader("broadcast,presence", "no");
    for (reads, text) in [
        ("", Some(UNREADABLE)),
        ("presence", Some(NO_LONGER)),
        ("broadcast", Some(NO_LONGER)),
        ("broadcast,presence,more", None),
    ] {
        let (mut client, reply) = join(&relay, &both, true, json!({ "ack": true })).await;
        assert_eq!(reply["status"], "ok");
        let reference = say(&mut client, "x").await;
        assert_eq!(client.reply(&reference).await.payload["status"], "error");
        let refresh = json!({ "access_token": reader(reads, "yes") });
        client.push(&json!("1"), "realtime:room", "access_token", refresh).await;
        match text {
            Some(text) => {
                let system = client.expect("system").await;
                let expected = json!({
                    "extension": "system", "status": "error", "channel": "room", "message": text
                });
                assert_eq!(system.payload, expected);
                let close = client.expect("phx_close").await;
                assert_eq!((close.join_ref, close.reference), (json!("1"), json!("1")));
            }
            None => {
                let reference = say(&mut client, "x").await;
                assert_eq!(client.reply(&reference).await.payload["status"], "ok");
                let told = client.flush().await;
                assert!(told.iter().all(|received| received.event == "presence_state"), "{told:?}");
            }
        }
    }
    // What is gained counts at once.
    let (mut client, _) = join(&relay, &reader("presence", "no"), true, json!({})).await;
    let (mut other, _) = join(&relay, &reader("broadcast", "no"), true, json!({})).await;
    database.execute("select realtime.send('{}', 'before', 'room')").await;
    other.expect("broadcast").await;
    let refresh = json!({ "access_token": reader("broadcast,presence", "yes") });
    client.push(&json!("1"), "realtime:room", "access_token", refresh).await;
    let mut after = 0;
    loop {
        after += 1;
        let send = format!("select realtime.send('{{}}', 'after {after}', 'room')");
        database.execute(&send).await;
        let events = client.flush().await;
        if let Some(event) = events.iter().find(|received| received.event == "broadcast") {
            assert!(event.payload["event"].as_str().unwrap().starts_with("after"), "{event:?}");
            break;
        }
        assert!(after < 10_000, "newly gained rights never count");
    }
}

#[tokio::test]
async fn the_past_comes_after_the_reply_oldest_first_and_only_once() {
    let (database, relay) =
        start("create policy r on realtime.messages for select to authenticated using (true)")
            .await;
    database
        .execute(
            "insert into realtime.messages (topic, extension, event, private, payload, inserted_at)
             select 'room', 'broadcast', 'e' || n, true, '{}', timezone('utc', now()) - n * interval '1 second'
             from generate_series(1, 30) n;
             insert into realtime.messages (topic, extension, event, private, payload) values
               ('room', 'broadcast', 'public', false, '{}'), ('other', 'broadcast', 'other', true, '{}');
             select realtime.send_binary('\\x0102', 'bytes', 'room')",
        )
        .await;
    let ann = token_of("ann");
    // When the tenth was said, in milliseconds; the others are a second apart.
    let tenth = "select floor(extract(epoch from inserted_at) * 1000)::text from realtime.messages where event = 'e10'";
    let of_the_tenth: i64 = database.text(tenth).await.parse().unwrap();
    for (replay, expected) in [
        (json!({ "since": 0, "limit": 2 }), (1..2).rev().collect::<Vec<_>>()),
        (json!({ "since": 0, "limit": 0 }), vec![]),
        (json!({ "since": 0, "limit": 1000 }), (1..25).rev().collect()),
        (json!({ "since": 0 }), (1..25).rev().collect()),
        (json!({ "since": of_the_tenth - 500, "limit": null }), (1..11).rev().collect()),
    ] {
        let mut client = Client::connect(&relay, &ann).await;
        let config = private(false, json!({ "replay": replay }));
        client.push(&json!("1"), "realtime:room", "phx_join", config).await;
        assert_eq!(client.receive().await.unwrap().event, "phx_reply");
        let mut events: Vec<String> = Vec::new();
        for received in client.flush().await {
            assert_eq!(received.payload["meta"]["replayed"], true, "{received:?}");
            assert_eq!(received.payload["meta"]["id"].as_str().map(str::len), Some(36));
            let event = received.payload["event"].as_str().unwrap().to_owned();
            if event == "bytes" {
                assert_eq!(received.payload["payload"], json!({ "bytes": [1, 2] }));
            } else {
                assert_eq!(received.join_ref, "1");
            }
            events.push(event);
        }
        assert_eq!(events.pop().as_deref(), Some("bytes"), "{replay}");
        let expected: Vec<_> = expected.iter().map(|n| format!("e{n}")).collect();
        assert_eq!(events, expected, "{replay}");
    }
    // What is new comes once, live.
    let config = json!({ "replay": { "since": 0, "limit": 1 } });
    let mut client = member(&relay, &ann, config).await;
    assert_eq!(heard(&database, &mut client).await, ["bytes"]);
}

#[tokio::test]
async fn a_replay_that_cannot_be_is_refused_in_the_original_s_words() {
    let (_database, relay) = start(
        "create policy r on realtime.messages for select to authenticated using (extension = 'presence')",
    )
    .await;
    let ann = token_of("ann");
    let past = "UnableToReplayMessages: Replay params are not valid";
    let reason = |text: &str| json!({ "status": "error", "response": { "reason": text } });
    for replay in [
        json!({}),
        json!({ "since": "1" }),
        json!({ "since": 1.5 }),
        json!({ "since": 1, "limit": "2" }),
        json!(null),
        json!([1]),
    ] {
        let (_client, reply) = join(&relay, &ann, true, json!({ "replay": replay })).await;
        assert_eq!(reply, reason(past), "{replay}");
    }
    let replay = json!({ "replay": { "since": 0 } });
    assert_eq!(join(&relay, &ann, true, replay.clone()).await.1, unauthorised());
    let mut client = Client::connect(&relay, &ann).await;
    let reply = client.join("room", json!({ "config": { "broadcast": replay } })).await;
    assert_eq!(reply, reason("UnableToReplayMessages: Replay is not allowed for public channels"));
}

#[tokio::test]
async fn a_number_that_no_float_can_hold_is_one_person_and_no_other() {
    let (_database, relay) = start(
        "create policy r on realtime.messages for select to authenticated using (
           realtime.topic() = current_setting('request.jwt.claim.sub')
           and realtime.topic() = current_setting('request.jwt.claims')::jsonb ->> 'sub')",
    )
    .await;
    let (one, other) = ("123456789012345678901234567890", "123456789012345678901234567891");
    let exp = crate::support::relay::now() + 3600;
    let signer = crate::support::signer::Signer::secret(crate::support::relay::SECRET);
    let of = |sub: &str| {
        let claims = format!(r#"{{"role":"authenticated","exp":{exp},"sub":{sub}}}"#);
        signer.token(r#"{"alg":"HS256"}"#, &claims)
    };
    for (sub, topic, status) in
        [(one, one, "ok"), (other, one, "error"), (other, other, "ok"), (one, other, "error")]
    {
        let mut client = Client::connect(&relay, &of(sub)).await;
        assert_eq!(client.join(topic, private(false, json!({}))).await["status"], status, "{sub}");
    }
}

#[tokio::test]
async fn between_the_past_and_the_present_nothing_is_lost_or_told_twice() {
    let (database, relay) =
        start("create policy r on realtime.messages for select to authenticated using (true)")
            .await;
    let writer = database.connect().await;
    let writing = tokio::spawn(async move {
        for number in 0..600 {
            let send = format!("select realtime.send('{{}}', '{number}', 'room')");
            writer.batch_execute(&send).await.unwrap();
        }
    });
    let mut clients = Vec::new();
    for _ in 0..10 {
        let config = json!({ "replay": { "since": 0, "limit": 25 } });
        clients.push(member(&relay, &token_of("ann"), config).await);
    }
    writing.await.unwrap();
    for mut client in clients {
        let mut numbers: Vec<u32> = Vec::new();
        while !numbers.contains(&599) {
            let message = client.expect("broadcast").await.payload;
            numbers.push(message["event"].as_str().unwrap().parse().unwrap());
        }
        numbers.sort_unstable();
        let first = numbers[0];
        assert_eq!(numbers, (first..600).collect::<Vec<_>>());
    }
}
