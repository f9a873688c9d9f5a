//! Limits of a socket and of its subject: what is refused, in which words, and that nothing else closes.

use super::Step::BelievedOf;
use super::*;
use crate::egress::subject::Subjects;
use crate::model::CallerIdentity;

/// Little of everything.
fn few() -> Limits {
    limits_with(&[
        ("RELAY_LIMITS__CHANNELS", "10"),
        ("RELAY_LIMITS__CONNECTION_JOINS_PER_SECOND", "1"),
        ("RELAY_LIMITS__SUBJECT_JOINS_PER_SECOND", "2"),
        ("RELAY_LIMITS__SUBJECT_CONNECTIONS", "2"),
        ("RELAY_LIMITS__MESSAGES_PER_SECOND", "1000"),
        ("RELAY_LIMITS__SUBJECT_MESSAGES_PER_SECOND", "1"),
        ("RELAY_LIMITS__PRESENCE_CALLS", "1000"),
        ("RELAY_LIMITS__PRESENCE_MESSAGES_PER_SECOND", "1"),
    ])
}

fn subject(sub: &str, start: Instant) -> Arc<Subject> {
    Subjects::new(&few()).of(&CallerIdentity::Subject(sub.into()), start)
}

fn join(topic: &str) -> String {
    let config = r#"{"config":{"broadcast":{"ack":true}}}"#;
    format!(r#"["1","1","realtime:{topic}","phx_join",{config}]"#)
}

fn system(topic: &str, message: &str) -> String {
    format!(
        r#"["1",null,"realtime:{topic}","system",{{"extension":"system","status":"error","message":"{message}","channel":"{topic}"}}]"#
    )
}

const TOO_MANY_JOINS: &str = "ClientJoinRateLimitReached: Too many joins per second";

#[test]
fn a_socket_that_joins_too_often_is_refused_and_keeps_its_channels() {
    let mut script = Script::with(&PHOENIX_V2, &few(), false);
    script.step(Says(PLAIN));
    assert_eq!(script.step(Believed(EXP)), [PLAIN_JOINED, PLAIN_ENTERED]);
    // Two for each channel it may have.
    for _ in 1..20 {
        assert_eq!(script.step(Says(&join("a"))).last().unwrap(), "admit connection");
    }
    let refused = refusal("1", "realtime:a", TOO_MANY_JOINS);
    let lines = script.step(Says(&join("a")));
    assert_eq!(lines[1..3], ["refused ConnectionJoinRateLimitReached", &refused]);
    assert!(lines.iter().all(|line| !line.starts_with("close")), "{lines:?}");
    let said = script.step(Says(r#"["1","2","realtime:b","broadcast",{}]"#));
    assert_eq!(said, [r#"broadcast "1" {}"#]);
    script.step(Waits(1_000));
    assert_eq!(script.step(Says(&join("a"))), ["admit connection"]);
}

#[test]
fn a_channel_given_new_tokens_without_end_is_closed() {
    let mut script = Script::with(&PHOENIX_V2, &few(), false);
    script.step(Says(PLAIN));
    script.step(Believed(EXP));
    let token = |number: u32| {
        format!(r#"["1","2","realtime:b","access_token",{{"access_token":"{number}"}}]"#)
    };
    for number in 1..20 {
        let lines = script.step(Says(&token(number)));
        assert_eq!(
            *lines.last().unwrap(),
            *if number == 1 { format!("verify {number}") } else { format!("cancel {number}") }
        );
    }
    let lines = script.step(Says(&token(20)));
    assert_eq!(lines[0], "refused ConnectionJoinRateLimitReached");
    let told =
        [&*system("b", "Too many joins per second"), r#"["1","1","realtime:b","phx_close",{}]"#];
    assert_eq!(lines[lines.len() - 2..], told);
}

#[test]
fn a_subject_that_joins_too_often_is_refused_on_each_of_its_sockets() {
    let start = Instant::now();
    let (ann, bob) = (subject("ann", start), subject("bob", start));
    let mut script = Script::with(&PHOENIX_V2, &few(), false);
    for topic in ["a", "b", "c", "d", "e", "a", "b", "c", "d", "e"] {
        script.step(Says(&join(topic)));
        let lines = script.step(BelievedOf(Arc::clone(&ann)));
        assert!(lines.iter().any(|line| line.starts_with("enter ")), "{lines:?}");
    }
    script.step(Says(&join("f")));
    assert_eq!(
        script.step(BelievedOf(Arc::clone(&ann))),
        ["refused SubjectJoinRateLimitReached", &refusal("1", "realtime:f", TOO_MANY_JOINS)]
    );
    // A socket may act for several, each of which pays for itself.
    script.step(Says(&join("f")));
    assert_eq!(script.step(BelievedOf(bob))[1], r#"enter "1" f"#);
    // A new token counts as well.
    script.step(Says(r#"["1","2","realtime:a","access_token",{"access_token":"new"}]"#));
    let lines = script.step(BelievedOf(ann));
    assert_eq!(lines[0], "refused SubjectJoinRateLimitReached");
    assert!(lines.contains(&system("a", "Too many joins per second")), "{lines:?}");
}

#[test]
fn a_subject_has_a_seat_on_each_of_its_sockets_while_a_channel_acts_for_it() {
    let ann = subject("ann", Instant::now());
    let [mut first, mut second, mut third] =
        [0; 3].map(|_| Script::with(&PHOENIX_V2, &few(), false));
    let comes = |script: &mut Script, topic: &str| {
        script.step(Says(&join(topic)));
        script.step(BelievedOf(Arc::clone(&ann))).swap_remove(0)
    };
    let is_in = |line: &str| line.contains(r#""status":"ok""#);
    for topic in ["a", "b"] {
        assert!(is_in(&comes(&mut first, topic)));
    }
    assert!(is_in(&comes(&mut second, "a")));
    let refused = "refused SubjectConnectionRateLimitReached";
    assert_eq!(comes(&mut third, "a"), refused);
    // Neither may it come in by a new token.
    third.step(Says(PLAIN));
    assert_eq!(third.step(Believed(EXP)), [PLAIN_JOINED, PLAIN_ENTERED]);
    third.step(Says(r#"["1","2","realtime:b","access_token",{"access_token":"new"}]"#));
    let lines = third.step(BelievedOf(Arc::clone(&ann)));
    assert_eq!(lines[0], refused);
    assert!(lines.contains(&system("b", "Too many connected users")), "{lines:?}");
    // The place is free when the last of its channels there is gone.
    let leave = |topic: &str| format!(r#"["1","2","realtime:{topic}","phx_leave",{{}}]"#);
    first.step(Says(&leave("a")));
    assert_eq!(comes(&mut third, "a"), refused);
    first.step(Says(&leave("b")));
    assert!(is_in(&comes(&mut third, "a")));
}

#[test]
fn a_subject_over_its_rate_is_told_on_whichever_socket_it_speaks() {
    let ann = subject("ann", Instant::now());
    let said = r#"["1","2","realtime:a","broadcast",{}]"#;
    let mut sockets = [0, 1].map(|_| Script::with(&PHOENIX_V2, &few(), false));
    for script in &mut sockets {
        script.step(Says(&join("a")));
        assert_eq!(script.step(BelievedOf(Arc::clone(&ann))).len(), 2);
    }
    for turn in 0..5 {
        let lines = sockets[turn % 2].step(Says(said));
        assert_eq!(lines[0], r#"broadcast "1" {}"#);
    }
    for script in &mut sockets {
        let lines = script.step(Says(said));
        assert_eq!(lines[0], "refused SubjectMessageRateLimitReached");
        assert_eq!(lines[2], system("a", "Too many messages per second"));
    }
}

#[test]
fn too_many_presence_messages_are_answered_with_an_error_and_close_nothing() {
    let mut script = Script::with(&PHOENIX_V2, &few(), false);
    script.step(Says(&join("a")));
    script.step(Believed(EXP));
    let says = r#"["1","2","realtime:a","presence",{}]"#;
    let reply = |status: &str, response: &str| {
        format!(
            r#"["1","2","realtime:a","phx_reply",{{"status":"{status}","response":{response}}}]"#
        )
    };
    // As many as it may have channels.
    for _ in 0..10 {
        assert_eq!(script.step(Says(says)), [reply("ok", "{}")]);
    }
    let text = "Too many presence messages per second";
    let refused = reply("error", &format!(r#"{{"reason":"{text}"}}"#));
    assert_eq!(
        script.step(Says(says)),
        ["refused PresenceRateLimitReached", &refused, &system("a", text)]
    );
    assert_eq!(script.step(Says(says)), ["refused PresenceRateLimitReached", &refused]);
    script.step(Waits(1_000));
    assert_eq!(script.step(Says(says)), [reply("ok", "{}")]);
}

#[test]
fn public_channels_are_refused_where_only_private_ones_are_allowed() {
    let mut script = Script::with(&PHOENIX_V2, &limits(), true);
    let reason = "PrivateOnly: This project only allows private channels";
    let refused = refusal("1", "realtime:b", reason);
    assert_eq!(script.step(Says(PLAIN)), ["refused PrivateOnly", &refused]);
    let private = r#"["1","1","realtime:b","phx_join",{"config":{"private":true}}]"#;
    assert_eq!(script.step(Says(private)), ["admit connection"]);
}
