//! What happens to a channel afterwards: tokens, expiry, leaving, the end of the server.

use super::*;

#[test]
fn leaves_with_a_reply_and_a_close() {
    let leave = r#"["6","20","realtime:a","phx_leave",{}]"#;
    let left = r#"["6","20","realtime:a","phx_reply",{"status":"ok","response":{}}]"#;
    check_session(and(
        joined(),
        vec![
            (Says(r#"["5","19","realtime:a","phx_leave",{}]"#), &[]),
            (Says(r#"[null,"19","realtime:a","phx_leave",{}]"#), &[]),
            (Says(leave), &[r#"unsubscribe "6""#, left, CLOSED]),
            (Says(leave), &[left]),
        ],
    ));
    check_session([
        (Says(JOIN), &["admit connection"][..]),
        (Says(leave), &["cancel 1", left, CLOSED]),
        (Believed(EXP), &[]),
    ]);
}

#[test]
fn takes_a_newer_token_without_a_reply_and_subscribes_again() {
    let token = |token: &str| format!(r#"["6","8","realtime:a","access_token",{token}]"#);
    check_session(and(
        joined(),
        vec![
            (Says(&token(r#"{"access_token":"connection"}"#)), &[]),
            (Says(&token(r#"{"access_token":null}"#)), &[]),
            (Says(&token(r#"{"access_token":"sb_publishable_x"}"#)), &[]),
            (Says(&token("{}")), &[]),
            (Says(&token(r#"{"access_token":"new"}"#)), &["verify new"]),
            (Says(&token(r#"{"access_token":"new"}"#)), &[]),
            (Believed(EXP + 10), &["bind 1 for 10010"]),
            (Says(&token(r#"{"access_token":"newest"}"#)), &["verify newest", "cancel 4"]),
            (Believed(EXP + 20), &["bind 1 for 10020"]),
            (Granted, &[r#"subscribe "6" x1"#, SUBSCRIBED]),
        ],
    ));
}

#[test]
fn does_not_lose_a_newer_token_to_wishes_that_are_due_again() {
    let told = r#"["6",null,"realtime:a","system",{"extension":"postgres_changes","status":"error","message":"away","channel":"a"}]"#;
    check_session([
        (Says(JOIN), &["admit connection"][..]),
        (Believed(EXP), &["bind 1 for 10000"]),
        (Step::Unbound(Unbound::Unavailable("away".to_owned())), &[JOINED, ENTERED, told]),
        (Says(r#"["6","8","realtime:a","access_token",{"access_token":"new"}]"#), &["verify new"]),
        (Waits(10_001), &[]),
        (Believed(EXP + 10), &["bind 1 for 10010"]),
        (Granted, &[r#"subscribe "6" x1"#, SUBSCRIBED]),
    ]);
}

#[test]
fn looks_at_a_token_that_came_while_it_joined() {
    check_session([
        (Says(PLAIN), &["admit connection"][..]),
        (Says(r#"["1","2","realtime:b","access_token",{"access_token":"new"}]"#), &[]),
        (Believed(EXP), &[PLAIN_JOINED, PLAIN_ENTERED, "verify new"]),
        (Believed(EXP), &[]),
    ]);
}

#[test]
fn closes_one_channel_over_a_bad_token_and_keeps_the_others() {
    let told = r#"["6",null,"realtime:a","system",{"extension":"system","status":"error","message":"The token provided is not a valid JWT","channel":"a"}]"#;
    check_session(and(
        joined(),
        vec![
            (Says(PLAIN), &["admit connection"]),
            (Believed(EXP), &[PLAIN_JOINED, PLAIN_ENTERED]),
            (Says(r#"["6","8","realtime:a","access_token",{"access_token":""}]"#), &["verify "]),
            (
                Disbelieved(TokenRefusal::Malformed),
                &["refused MalformedJWT", r#"unsubscribe "6""#, told, CLOSED],
            ),
            (
                Says(r#"["1","9","realtime:b","presence",{}]"#),
                &[r#"["1","9","realtime:b","phx_reply",{"status":"ok","response":{}}]"#],
            ),
        ],
    ));
}

#[test]
fn closes_a_channel_within_a_second_of_its_expiry_unless_refreshed() {
    let join = r#"["1","1","realtime:b","phx_join",{"config":{},"access_token":"short"}]"#;
    let told = r#"["1",null,"realtime:b","system",{"extension":"system","status":"error","message":"Token has expired 0 seconds ago","channel":"b"}]"#;
    let refresh = r#"["1","2","realtime:b","access_token",{"access_token":"longer"}]"#;
    check_session([
        (Says(join), &["admit short"][..]),
        (Believed(1_010), &[PLAIN_JOINED, PLAIN_ENTERED]),
        (Waits(9_000), &[]),
        (Says(refresh), &["verify longer"]),
        (Believed(1_020), &[]),
        (Waits(1_000), &[]),
        (Waits(9_999), &[]),
        (
            Waits(1),
            &[
                "refused InvalidJWTToken",
                r#"unsubscribe "1""#,
                told,
                r#"["1","1","realtime:b","phx_close",{}]"#,
            ],
        ),
    ]);
}

#[test]
fn names_the_deadline_that_comes_first() {
    let mut script = Script::new(&PHOENIX_V2);
    assert_eq!(script.session.deadline(), None);
    script.step(Says(PLAIN));
    let after = |script: &Script| script.session.deadline().unwrap() - script.start;
    assert_eq!(after(&script), Duration::from_secs(9));
    script.step(Believed(1_030));
    assert_eq!(after(&script), Duration::from_secs(30));
    script.step(Says(r#"["1","2","realtime:b","access_token",{"access_token":"x"}]"#));
    script.step(Believed(i64::MAX));
    assert_eq!(after(&script), Duration::from_secs(300));
}

#[test]
fn drops_what_is_no_message() {
    check_session([
        (Says(""), &["refused MalformedMessage"][..]),
        (Says("{}"), &["refused MalformedMessage"]),
        (Says(r#"["6","6","realtime:a"]"#), &["refused MalformedMessage"]),
        (SaysBytes(b""), &["refused MalformedMessage"]),
        (SaysBytes(b"\x07nonsense"), &["refused MalformedMessage"]),
        (Says(JOIN), &["admit connection"]),
    ]);
}

#[test]
fn says_goodbye_to_each_channel_when_the_server_goes_away() {
    let farewell = r#"[null,null,"realtime:a","system",{"extension":"system","status":"ok","message":"Server requested disconnect"}]"#;
    let restarting =
        refusal("1", "realtime:b", "RealtimeRestarting: Realtime is restarting, please standby");
    check_session(and(
        joined(),
        vec![
            (Drains, &[farewell, "close 1012"]),
            (Says(PLAIN), &["refused RealtimeRestarting", &restarting]),
            (Gone, &[r#"unsubscribe "6""#]),
        ],
    ));
}
