//! Broadcasts: passed on, answered, refused.

use super::*;

const ACK: &str =
    r#"["6","6","realtime:a","phx_join",{"config":{"broadcast":{"ack":"true","self":true}}}]"#;
const ACK_JOINED: &str =
    r#"["6","6","realtime:a","phx_reply",{"status":"ok","response":{"postgres_changes":[]}}]"#;

/// The reply to a push of channel `realtime:a`.
fn reply(reference: &str, status: &str, response: &str) -> String {
    format!(
        r#"["6","{reference}","realtime:a","phx_reply",{{"status":"{status}","response":{response}}}]"#
    )
}

fn no(reference: &str, reason: &str) -> String {
    reply(reference, "error", &format!(r#"{{"reason":"{reason}"}}"#))
}

/// A channel `realtime:a` whose pushes are answered and come back.
fn acked<'a>() -> Vec<(Step<'a>, &'a [&'a str])> {
    vec![
        (Says(ACK), &["admit connection"]),
        (Believed(EXP), &[ACK_JOINED, r#"enter "6" a and itself"#]),
    ]
}

#[test]
fn passes_on_what_is_said_as_it_is_and_answers_whoever_asked_for_it() {
    let whole = r#"{"type":"broadcast", "event":"e","payload":{"x":1.0},"own":"\u00e9"}"#;
    let push = format!(r#"["stale","7","realtime:a","broadcast",{whole}]"#);
    let not_joined = no("7", "The channel is not joined yet");
    check_session([
        (Says(ACK), &["admit connection"][..]),
        (Says(&push), &["refused NotJoined", &not_joined]),
        (Believed(EXP), &[ACK_JOINED, r#"enter "6" a and itself"#]),
        (Says(&push), &[&format!(r#"broadcast "6" {whole}"#), &reply("7", "ok", "{}")]),
        (
            Says(r#"[null,null,"realtime:a","broadcast",{}]"#),
            &[
                r#"broadcast "6" {}"#,
                r#"["6",null,"realtime:a","phx_reply",{"status":"ok","response":{}}]"#,
            ],
        ),
        (Says(r#"["6","9","realtime:a","something",{}]"#), &[]),
        (Says(PLAIN), &["admit connection"]),
        (Believed(EXP), &[PLAIN_JOINED, PLAIN_ENTERED]),
        (Says(r#"["1","10","realtime:b","broadcast",{}]"#), &[r#"broadcast "1" {}"#]),
    ]);
}

#[test]
fn passes_on_binary_pushes_with_bytes_or_json() {
    check_session(and(
        acked(),
        vec![
            (
                SaysBytes(b"\x03\x01\x01\x0a\x01\x00\x0168realtime:ae{ }"),
                &[r#"broadcast "6" e { }"#, &reply("8", "ok", "{}")],
            ),
            (
                SaysBytes(b"\x03\x00\x01\x0a\x00\x00\x009realtime:a\x00\xff"),
                &[r#"broadcast "6"  b"\0\xff""#, &reply("9", "ok", "{}")],
            ),
            (
                SaysBytes(b"\x03\x00\x01\x0a\x00\x00\x009realtime:z"),
                &[
                    r#"[null,"9","realtime:z","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
                ],
            ),
        ],
    ));
}

#[test]
fn passes_on_no_json_that_is_none_and_no_message_that_is_no_object() {
    let not_json = no("8", "Broadcast payload must be valid JSON");
    let no_map = no("7", "Broadcast payload must be a map, its event a string, and have no ids");
    check_session(and(
        acked(),
        vec![
            (
                SaysBytes(b"\x03\x01\x01\x0a\x01\x00\x0168realtime:ae{},{}"),
                &["refused MalformedBroadcast", &not_json],
            ),
            (
                SaysBytes(b"\x03\x01\x01\x0a\x01\x00\x0168realtime:ae"),
                &["refused MalformedBroadcast", &not_json],
            ),
            (
                Says(r#"["6","7","realtime:a","broadcast",null]"#),
                &["refused MalformedBroadcast", &no_map],
            ),
            (
                Says(r#"["6","7","realtime:a","broadcast",[]]"#),
                &["refused MalformedBroadcast", &no_map],
            ),
        ],
    ));
}

#[test]
fn refuses_what_is_too_large_by_its_bytes() {
    let push = |bytes: usize| {
        let payload = format!(r#"{{"é":"{}"}}"#, "x".repeat(bytes - 9));
        (format!(r#"["6","7","realtime:a","broadcast",{payload}]"#), payload)
    };
    let ((fits, payload), (large, _)) = (push(128 << 10), push((128 << 10) + 1));
    check_session(and(
        acked(),
        vec![
            (Says(&fits), &[&format!(r#"broadcast "6" {payload}"#), &reply("7", "ok", "{}")]),
            (
                Says(&large),
                &[
                    "refused PayloadSizeExceeded",
                    &reply("7", "error", r#""payload_size_exceeded""#),
                ],
            ),
        ],
    ));
}

#[test]
fn tells_a_sender_over_its_rate_once_and_goes_on_when_it_slows_down() {
    let push = r#"["6","7","realtime:a","broadcast",{}]"#;
    let (said, ok) = (r#"broadcast "6" {}"#, reply("7", "ok", "{}"));
    let refused = no("7", "Too many messages per second");
    let told = r#"["6",null,"realtime:a","system",{"extension":"system","status":"error","message":"Too many messages per second","channel":"a"}]"#;
    let mut script = Script::new(&PHOENIX_V2);
    for (step, _) in acked() {
        script.step(step);
    }
    for _ in 0..5 {
        assert_eq!(script.step(Says(push)), [said, &ok]);
    }
    assert_eq!(script.step(Says(push)), ["refused MessageRateLimitReached", &refused, told]);
    script.step(Waits(1_000));
    assert_eq!(script.step(Says(push)), [said, &ok]);
    assert_eq!(script.step(Says(push)), ["refused MessageRateLimitReached", &refused]);
    script.step(Waits(5_000));
    for _ in 0..5 {
        assert_eq!(script.step(Says(push)), [said, &ok]);
    }
    assert_eq!(script.step(Says(push)), ["refused MessageRateLimitReached", &refused, told]);
    // Its heartbeats are none of this.
    let beat = script.step(Says(r#"[null,"1","phoenix","heartbeat",{}]"#));
    assert_eq!(beat, [r#"[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]"#]);
}

#[test]
fn speaks_in_a_topic_that_no_binary_frame_can_name() {
    let topic = format!("realtime:{}", "x".repeat(1015));
    let join =
        format!(r#"["6","6","{topic}","phx_join",{{"config":{{"broadcast":{{"ack":true}}}}}}]"#);
    let push = format!(r#"["6","7","{topic}","broadcast",{{}}]"#);
    let reply = format!(r#"["6","7","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]"#);
    let mut script = Script::new(&PHOENIX_V2);
    script.step(Says(&join));
    assert_eq!(script.step(Believed(EXP)).len(), 2);
    assert_eq!(script.step(Says(&push)), [r#"broadcast "6" {}"#, &reply]);
}
