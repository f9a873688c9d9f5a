//! Presence: when a channel is told, what it is answered, and how it ends.

use super::*;

const WANTS: &str =
    r#"["1","1","realtime:b","phx_join",{"config":{"presence":{"enabled":true,"key":"ann"}}}]"#;

fn says(reference: &str, payload: &str) -> String {
    format!(r#"["1","{reference}","realtime:b","presence",{payload}]"#)
}

fn ok(reference: &str) -> String {
    format!(r#"["1","{reference}","realtime:b","phx_reply",{{"status":"ok","response":{{}}}}]"#)
}

const TRACK: &str = r#"{"type":"presence","event":"track","payload":{"at":1}}"#;
const ATTEND: &str = r#"attend "1" ann in b"#;

fn wanted<'a>() -> Vec<(Step<'a>, &'a [&'a str])> {
    vec![
        (Says(WANTS), &["admit connection"]),
        (Believed(EXP), &[PLAIN_JOINED, PLAIN_ENTERED, ATTEND]),
    ]
}

#[test]
fn a_channel_that_wants_to_be_told_is_told_after_its_reply_and_once() {
    let track = says("2", TRACK);
    let (untrack, again) = (says("3", r#"{"event":"UNTRACK"}"#), says("4", TRACK));
    check_session(and(
        wanted(),
        vec![
            (Says(&track), &[&ok("2"), r#"track "1" ann in b {"at":1}"#]),
            (Says(&untrack), &[&ok("3"), r#"untrack "1" ann in b"#]),
            (Says(&again), &[&ok("4"), r#"track "1" ann in b {"at":1}"#]),
        ],
    ));
}

#[test]
fn a_channel_that_tracks_is_told_from_then_on() {
    let (untrack, track) = (says("2", r#"{"event":"untrack"}"#), says("3", TRACK));
    let told = [&*ok("3"), r#"attend "1" somebody in b"#, r#"track "1" somebody in b {"at":1}"#];
    check_session([
        (Says(PLAIN), &["admit connection"][..]),
        (Says(&track), &[]),
        (Believed(EXP), &[PLAIN_JOINED, PLAIN_ENTERED]),
        (Says(&untrack), &[&ok("2")]),
        (Says(&track), &told),
        (Gone, &[r#"unsubscribe "1""#, r#"lose "1" somebody in b"#]),
    ]);
}

#[test]
fn leaving_ends_a_presence_and_a_second_join_or_a_lost_socket_may_resume_it() {
    let replies = [
        r#"unsubscribe "1""#,
        r#"untrack "1" ann in b"#,
        r#"["1","9","realtime:b","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","realtime:b","phx_close",{}]"#,
    ];
    let leave = r#"["1","9","realtime:b","phx_leave",{}]"#;
    check_session(and(wanted(), vec![(Says(leave), &replies)]));

    let lost = [r#"unsubscribe "1""#, r#"lose "1" ann in b"#];
    check_session(and(wanted(), vec![(Gone, &lost)]));
    let replaced = [lost[0], lost[1], "admit connection"];
    check_session(and(wanted(), vec![(Says(WANTS), &replaced)]));
}

#[test]
fn too_much_or_too_large_closes_the_channel() {
    let pushes: Vec<_> = (2..8).map(|reference| says(&reference.to_string(), "{}")).collect();
    let replies: Vec<_> = (2..8).map(|reference| ok(&reference.to_string())).collect();
    let replies: Vec<_> = replies.iter().map(|reply| [&**reply]).collect();
    let system = |message: &str| {
        format!(
            r#"["1",null,"realtime:b","system",{{"extension":"system","status":"error","message":"{message}","channel":"b"}}]"#
        )
    };
    let closed = |code: &'static str, message: &str| {
        [
            code.to_owned(),
            r#"unsubscribe "1""#.to_owned(),
            r#"untrack "1" ann in b"#.to_owned(),
            system(message),
            r#"["1","1","realtime:b","phx_close",{}]"#.to_owned(),
        ]
    };
    let fault =
        closed("refused ClientPresenceRateLimitReached", "Client presence rate limit exceeded");
    let fault = fault.each_ref().map(String::as_str);
    let mut script = wanted();
    script
        .extend(pushes.iter().zip(&replies).take(5).map(|(push, reply)| (Says(push), &reply[..])));
    // Time gives the calls back, but not before the window ends.
    script.push((Waits(30_000), &[]));
    script
        .extend(pushes.iter().zip(&replies).take(5).map(|(push, reply)| (Says(push), &reply[..])));
    script.push((Waits(29_999), &[]));
    script.push((Says(&pushes[5]), &fault));
    check_session(script);

    let large =
        says("2", &format!(r#"{{"event":"track","payload":{{"a":"{}"}}}}"#, "x".repeat(64 << 10)));
    let closed = closed("refused TrackMessageSizeExceeded", "Track message size exceeded");
    check_session(and(wanted(), vec![(Says(&large), &closed.each_ref().map(String::as_str))]));
}
