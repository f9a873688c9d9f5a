//! Joins: granted, refused, late, repeated.

use super::*;

#[test]
fn answers_first_then_subscribes_then_says_so_in_one_turn() {
    check_session(joined());
}

#[test]
fn speaks_objects_on_vsn_1() {
    let join = r#"{"topic":"realtime:a","event":"phx_join","ref":"1","join_ref":null,"payload":{"config":{"postgres_changes":[{"table":"t"}]}}}"#;
    check_dialect(
        &PHOENIX_V1,
        [
            (
                Says(r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":null}"#),
                &[
                    r#"{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":null}"#,
                ][..],
            ),
            (Says(join), &["admit connection"]),
            (Believed(EXP), &["bind 1 for 10000"]),
            (
                Granted,
                &[
                    r#"{"topic":"realtime:a","event":"phx_reply","payload":{"status":"ok","response":{"postgres_changes":[{"table":"t","id":N}]}},"ref":"1"}"#,
                    "enter null a",
                    "subscribe null x1",
                    r#"{"topic":"realtime:a","event":"system","payload":{"extension":"postgres_changes","status":"ok","message":"Subscribed to PostgreSQL","channel":"a"},"ref":null}"#,
                ],
            ),
            (
                Says(r#"{"topic":"realtime:a","event":"phx_leave","payload":{},"ref":"2"}"#),
                &[
                    "unsubscribe null",
                    r#"{"topic":"realtime:a","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"2"}"#,
                    r#"{"topic":"realtime:a","event":"phx_close","payload":{},"ref":null}"#,
                ],
            ),
        ],
    );
}

#[test]
fn answers_heartbeats_and_other_channels_while_joins_wait() {
    check_session([
        (Says(JOIN), &["admit connection"][..]),
        (
            Says(r#"[null,"12","phoenix","heartbeat",{}]"#),
            &[r#"[null,"12","phoenix","phx_reply",{"status":"ok","response":{}}]"#],
        ),
        (Says(PLAIN), &["admit connection"]),
        (Believed(EXP), &[PLAIN_JOINED, PLAIN_ENTERED]),
        (Step::BelievedWork(1), &["bind 1 for 10000"]),
        (Granted, &[JOINED, ENTERED, r#"subscribe "6" x1"#, SUBSCRIBED]),
    ]);
}

#[test]
fn answers_a_join_that_postgres_keeps_waiting_within_ten_seconds() {
    let late = refusal(
        "6",
        "realtime:a",
        "UnableToConnectToProject: Realtime was unable to connect to the project database",
    );
    check_session([
        (Says(JOIN), &["admit connection"][..]),
        (Believed(EXP), &["bind 1 for 10000"]),
        (Waits(8_999), &[]),
        (Waits(1), &["cancel 2", "refused UnableToConnectToProject", &late]),
        (Granted, &[]),
        (Says(JOIN), &["admit connection"]),
    ]);
}

#[test]
fn tells_wishes_that_cannot_be_granted_after_an_ok_reply() {
    let told = r#"["6",null,"realtime:a","system",{"extension":"postgres_changes","status":"error","message":"no such table","channel":"a"}]"#;
    check_session([
        (Says(JOIN), &["admit connection"][..]),
        (Believed(EXP), &["bind 1 for 10000"]),
        (
            Step::Unbound(Unbound::Refused("no such table".into())),
            &[JOINED, ENTERED, r#"subscribe "6" x0"#, told],
        ),
        (Waits(60_000), &[]),
        // A newer token may be allowed more.
        (Says(r#"["6","7","realtime:a","access_token",{"access_token":"new"}]"#), &["verify new"]),
        (Believed(EXP + 1), &["bind 1 for 10001"]),
        (Granted, &[r#"subscribe "6" x1"#, SUBSCRIBED]),
    ]);
}

#[test]
fn asks_again_when_postgres_could_not_be_asked() {
    let told = r#"["6",null,"realtime:a","system",{"extension":"postgres_changes","status":"error","message":"no connection","channel":"a"}]"#;
    let unavailable = || Step::Unbound(Unbound::Unavailable("no connection".into()));
    check_session([
        (Says(JOIN), &["admit connection"][..]),
        (Believed(EXP), &["bind 1 for 10000"]),
        (unavailable(), &[JOINED, ENTERED, told]),
        (Waits(4_999), &[]),
        (Waits(5_001), &["bind 1 for 10000"]),
        (unavailable(), &[told]),
        (Waits(10_000), &["bind 1 for 10000"]),
        (Granted, &[r#"subscribe "6" x1"#, SUBSCRIBED]),
        (Waits(60_000), &[]),
    ]);
}

#[test]
fn replaces_a_channel_joined_twice_and_closes_the_old_one_after_the_reply() {
    let again = r#"["9","9","realtime:a","phx_join",{"access_token":"own","config":{}}]"#;
    let reply =
        r#"["9","9","realtime:a","phx_reply",{"status":"ok","response":{"postgres_changes":[]}}]"#;
    check_session(and(
        joined(),
        vec![
            (Says(again), &[r#"unsubscribe "6""#, "admit own"]),
            (Believed(EXP), &[reply, CLOSED, r#"enter "9" a"#]),
            (Says(r#"["6","10","realtime:a","phx_leave",{}]"#), &[]),
        ],
    ));
}

#[test]
fn replaces_a_join_that_was_not_answered_yet() {
    let reply =
        r#"["9","9","realtime:a","phx_reply",{"status":"ok","response":{"postgres_changes":[]}}]"#;
    check_session([
        (Says(JOIN), &["admit connection"][..]),
        (
            Says(r#"["9","9","realtime:a","phx_join",{"config":{}}]"#),
            &["cancel 1", "admit connection"],
        ),
        (Step::BelievedWork(1), &[]),
        (Believed(EXP), &[reply, CLOSED, r#"enter "9" a"#]),
    ]);
}

#[test]
fn refuses_what_belongs_to_no_channel() {
    let unmatched = r#"[null,"7","realtime:z","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#;
    check_session([
        (Says(r#"["6","7","realtime:z","broadcast",{}]"#), &[unmatched][..]),
        (
            Says(r#"["6","6","room","phx_join",{"config":{}}]"#),
            &[
                r#"[null,"6","room","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
            ],
        ),
        (
            Says(r#"["6","6","realtime:","phx_join",{"config":{}}]"#),
            &[
                "refused TopicNameRequired",
                &refusal("6", "realtime:", "TopicNameRequired: You must provide a topic name"),
            ],
        ),
        (
            Says(r#"["6","6","realtime:p","phx_join",{"config":{"private":"perhaps"}}]"#),
            &[
                "refused InvalidJoinPayload",
                &refusal(
                    "6",
                    "realtime:p",
                    "InvalidJoinPayload: config.private: unable to parse, expected boolean",
                ),
            ],
        ),
    ]);
}

#[test]
fn refuses_one_channel_more_than_the_limit() {
    let join =
        |topic: &str| format!(r#"["1","1","realtime:{topic}","phx_join",{{"config":{{}}}}]"#);
    let full = refusal("1", "realtime:d", "ChannelRateLimitReached: Too many channels");
    check_session([
        (Says(&join("a")), &["admit connection"][..]),
        (Says(&join("b")), &["admit connection"]),
        (Says(&join("c")), &["admit connection"]),
        (Says(&join("d")), &["refused ChannelRateLimitReached", &full]),
        (Says(&join("a")), &["cancel 1", "admit connection"]),
    ]);
}

#[test]
fn closes_the_socket_when_there_are_too_many_joins() {
    let reason = "ClientJoinRateLimitReached: Too many joins per second";
    check_session([
        (Says(JOIN), &["admit connection"][..]),
        (
            TooMany,
            &[
                "refused ClientJoinRateLimitReached",
                &refusal("6", "realtime:a", reason),
                "close 1001",
            ],
        ),
    ]);
}

#[test]
fn refuses_a_join_whose_token_is_not_believed() {
    let expired = refusal("6", "realtime:a", "InvalidJWTToken: Token has expired 5 seconds ago");
    check_session([
        (Says(JOIN), &["admit connection"][..]),
        (
            Disbelieved(TokenRefusal::Expired { seconds_ago: 5 }),
            &["refused InvalidJWTToken", &expired],
        ),
        (Says(JOIN), &["admit connection"]),
    ]);
}

#[test]
fn tells_a_client_without_config_to_update() {
    let told = r#"["1",null,"realtime:b","system",{"extension":"postgres_changes","status":"error","message":"Joining without a `config` is not supported: update the client library, or send {\"config\":{\"postgres_changes\":[…]}}","channel":"b"}]"#;
    check_session([
        (Says(r#"["1","1","realtime:b","phx_join",{}]"#), &["admit connection"][..]),
        (Believed(EXP), &[PLAIN_JOINED, PLAIN_ENTERED, told]),
    ]);
}
