//! Private channels: what waits for the policies, and what does not.

use super::Step::{Authorised, CaughtUp, MaySay, Streams};
use super::*;
use crate::memory::Kind;

const ASKS: &str = r#"["1","1","realtime:b","phx_join",{"config":{"private":true,"broadcast":{"ack":true,"replay":{"since":5,"limit":99}},"presence":{"enabled":true,"key":"ann"}}}]"#;
const ENTERED: &str = r#"enter "1" private b"#;
const ALL: Readable = Readable { broadcast: true, presence: Some(true) };
const DEAF: Readable = Readable { broadcast: false, presence: Some(true) };
const NOTHING: Readable = Readable { broadcast: false, presence: Some(false) };
const MAY: Result<Writable, Denial> = Ok(Writable { broadcast: true, presence: true });
const MAY_NOT: Result<Writable, Denial> = Ok(Writable { broadcast: false, presence: false });
const ATTEND: &str = r#"attend "1" ann in b"#;
const UNTRACK: &str = r#"untrack "1" ann in b"#;
const CLOSED: &str = r#"["1","1","realtime:b","phx_close",{}]"#;
const GONE: &str = r#"unsubscribe "1""#;

fn joined<'a>() -> Vec<(Step<'a>, &'a [&'a str])> {
    vec![
        (Says(ASKS), &["admit connection"]),
        (Believed(EXP), &["authorise 10000 in b with presence and (5, 25)"]),
        (Authorised(Ok(ALL)), &[PLAIN_JOINED, ENTERED, ATTEND, "catch up b 10000000 10000"]),
        (CaughtUp(Ok(Vec::new())), &[]),
    ]
}

fn says(reference: u32) -> String {
    format!(r#"["1","{reference}","realtime:b","broadcast",{{"n":{reference}}}]"#)
}

fn reply(reference: u32, is_ok: bool) -> String {
    let (status, response) =
        if is_ok { ("ok", "{}") } else { ("error", crate::egress::phoenix::private::FORBIDDEN) };
    format!(
        r#"["1","{reference}","realtime:b","phx_reply",{{"status":"{status}","response":{response}}}]"#
    )
}

fn token(token: &str) -> String {
    format!(r#"["1","9","realtime:b","access_token",{{"access_token":"{token}"}}]"#)
}

fn close_frame(text: &str) -> String {
    format!(
        r#"["1",null,"realtime:b","system",{{"extension":"system","status":"error","message":"{text}","channel":"b"}}]"#
    )
}

#[test]
fn a_join_is_answered_by_the_policies() {
    let unauthorized = refusal(
        "1",
        "realtime:b",
        "Unauthorized: You do not have permissions to read from this Channel topic: b",
    );
    let busy = "IncreaseConnectionPool: Please increase your connection pool size";
    for (finding, lines) in [
        (Ok(NOTHING), ["refused Unauthorized", &unauthorized]),
        // Whoever wants the past must hear.
        (Ok(DEAF), ["refused Unauthorized", &unauthorized]),
        (Err(Denial::Failed), ["refused Unauthorized", &unauthorized]),
        (Err(Denial::Busy), ["refused IncreaseConnectionPool", &refusal("1", "realtime:b", busy)]),
    ] {
        let mut script = joined();
        script.truncate(2);
        script.push((Authorised(finding), &lines));
        check_session(script);
    }
    check_session(joined());
}

#[test]
fn what_is_said_waits_for_the_policies_once() {
    let (one, two, three, four) = (says(1), says(2), says(3), says(4));
    check_session(and(
        joined(),
        vec![
            (Says(&one), &["may 10000 say in b"][..]),
            (Says(&two), &[]),
            (
                MaySay(MAY, None),
                &[
                    r#"broadcast "1" {"n":1}"#,
                    &reply(1, true),
                    r#"broadcast "1" {"n":2}"#,
                    &reply(2, true),
                ],
            ),
            (Says(&three), &[r#"broadcast "1" {"n":3}"#, &reply(3, true)]),
        ],
    ));
    check_session(and(
        joined(),
        vec![
            (Says(&one), &["may 10000 say in b"][..]),
            (MaySay(Err(Denial::Unavailable), None), &["refused Unauthorized", &reply(1, false)]),
            // Not known is not no.
            (Says(&two), &["may 10000 say in b"]),
            (MaySay(MAY_NOT, None), &["refused Unauthorized", &reply(2, false)]),
            (Says(&four), &["refused Unauthorized", &reply(4, false)]),
        ],
    ));
}

#[test]
fn a_new_token_asks_everything_again() {
    let (one, two, renew, again) = (says(1), says(2), token("second"), token("third"));
    check_session(and(
        joined(),
        vec![
            (Says(&one), &["may 10000 say in b"][..]),
            (Says(&renew), &["verify second"]),
            (
                Believed(20_000),
                &["cancel 4", "may 20000 say in b", "authorise 20000 in b with presence"],
            ),
            (Authorised(Ok(ALL)), &[]),
            (Says(&two), &[]),
            (Says(&again), &["verify third"]),
            (
                Believed(30_000),
                &["cancel 6", "may 30000 say in b", "authorise 30000 in b with presence"],
            ),
            (
                Authorised(Ok(DEAF)),
                &[
                    "refused Unauthorized",
                    "cancel 9",
                    GONE,
                    UNTRACK,
                    &close_frame(
                        "You no longer have permission to read from this Channel topic: b",
                    ),
                    CLOSED,
                ],
            ),
        ],
    ));
    check_session(and(
        joined(),
        vec![
            (Says(&renew), &["verify second"][..]),
            (Believed(20_000), &["authorise 20000 in b with presence"]),
            (
                Authorised(Ok(NOTHING)),
                &[
                    "refused Unauthorized",
                    GONE,
                    UNTRACK,
                    &close_frame("You do not have permissions to read from this Channel topic: b"),
                    CLOSED,
                ],
            ),
        ],
    ));
}

#[test]
fn what_waits_is_bounded() {
    let mut script = Script::new(&PHOENIX_V2);
    for (step, _) in joined() {
        script.step(step);
    }
    let large =
        format!(r#"["1","1","realtime:b","broadcast",{{"x":"{}"}}]"#, "x".repeat(100 << 10));
    assert_eq!(script.step(Says(&large)), ["may 10000 say in b"]);
    let refused = script.step(Says(&large));
    assert_eq!(refused[0], "refused MessageRateLimitReached");
    assert_eq!(script.step(MaySay(MAY, None)).len(), 2);
}

#[test]
fn the_past_is_not_asked_for_twice() {
    for (since, again) in [(5, 10_000_000), (10_000_001, 10_000_001)] {
        let mut script = Script::new(&PHOENIX_V2);
        let asks = ASKS.replace(r#""since":5"#, &format!(r#""since":{since}"#));
        script.step(Says(&asks));
        script.step(Believed(EXP));
        let told = script.step(Authorised(Ok(ALL)));
        assert_eq!(told.last(), Some(&format!("catch up b {again} 10000")));
    }
}

#[test]
fn what_was_said_while_it_joined_is_heard_once() {
    let kept = |id: &str| Kept { id: id.into(), event: "e".into(), payload: Ok("{}".into()) };
    let again = r#"["1",null,"realtime:b","broadcast",{"event":"e","meta":{"id":N"x","replayed":true},"payload":{},"type":"broadcast"}]"#;
    let mut script = joined();
    script.pop();
    let lines = [again];
    script.push((CaughtUp(Ok(vec![kept("x"), kept("x")])), &lines));
    check_session(script);
    let mut script = joined();
    script.pop();
    script.push((CaughtUp(Err(Denial::Unavailable)), &[]));
    check_session(script);
}

fn track(reference: u32) -> String {
    format!(
        r#"["1","{reference}","realtime:b","presence",{{"event":"track","payload":{{"n":{reference}}}}}]"#
    )
}

fn tracked(reference: u32, is_ok: bool) -> String {
    let status = if is_ok { "ok" } else { "error" };
    format!(
        r#"["1","{reference}","realtime:b","phx_reply",{{"status":"{status}","response":{{}}}}]"#
    )
}

/// Joined without presence.
fn plainly<'a>() -> Vec<(Step<'a>, &'a [&'a str])> {
    const ASKS: &str = r#"["1","1","realtime:b","phx_join",{"config":{"private":true,"broadcast":{"ack":true},"presence":{"key":"ann"}}}]"#;
    vec![
        (Says(ASKS), &["admit connection"]),
        (Believed(EXP), &["authorise 10000 in b"]),
        (Authorised(Ok(Readable { broadcast: true, presence: None })), &[PLAIN_JOINED, ENTERED]),
    ]
}

#[test]
fn tracking_waits_for_the_right_to_be_present_and_telling_for_the_right_to_hear_of_it() {
    let (one, two, three) = (track(1), track(2), track(3));
    let asks = ["may 10000 say in b and hear presence"];
    for (writable, hears, lines) in [
        (MAY, Some(true), vec![&*tracked(1, true), ATTEND, r#"track "1" ann in b {"n":1}"#]),
        (MAY, Some(false), vec![&*tracked(1, true), r#"track "1" ann in b {"n":1} untold"#]),
        (MAY_NOT, Some(true), vec!["refused Unauthorized", &*tracked(1, false)]),
        (Err(Denial::Cancelled), None, vec!["refused Unauthorized", &*tracked(1, false)]),
    ] {
        check_session(and(
            plainly(),
            vec![(Says(&one), &asks[..]), (MaySay(writable, hears), &lines)],
        ));
    }
    // Known once, it is not asked again; what was not found out is.
    check_session(and(
        plainly(),
        vec![
            (Says(&one), &asks[..]),
            (MaySay(Err(Denial::Busy), None), &["refused Unauthorized", &tracked(1, false)]),
            (Says(&two), &asks[..]),
            (
                MaySay(MAY, Some(false)),
                &[&tracked(2, true), r#"track "1" ann in b {"n":2} untold"#],
            ),
            (Says(&three), &[&tracked(3, true), r#"track "1" ann in b {"n":3} untold"#]),
        ],
    ));
}

#[test]
fn what_is_said_keeps_its_order_while_rights_are_found_out() {
    let (one, two, three) = (says(1), track(2), says(3));
    check_session(and(
        plainly(),
        vec![
            (Says(&one), &["may 10000 say in b"][..]),
            (Says(&two), &[]),
            (Says(&three), &[]),
            (MaySay(MAY, None), &["may 10000 say in b and hear presence"]),
            (
                MaySay(MAY, Some(true)),
                &[
                    r#"broadcast "1" {"n":1}"#,
                    &reply(1, true),
                    &tracked(2, true),
                    ATTEND,
                    r#"track "1" ann in b {"n":2}"#,
                    r#"broadcast "1" {"n":3}"#,
                    &reply(3, true),
                ],
            ),
        ],
    ));
}

#[test]
fn presence_that_may_not_be_heard_is_withheld_until_it_may() {
    const ASKS: &str = r#"["1","1","realtime:b","phx_join",{"config":{"private":true,"presence":{"enabled":true,"key":"ann"}}}]"#;
    let renew = token("second");
    check_session([
        (Says(ASKS), &["admit connection"][..]),
        (Believed(EXP), &["authorise 10000 in b with presence"]),
        (
            Authorised(Ok(Readable { broadcast: true, presence: Some(false) })),
            &[PLAIN_JOINED, ENTERED],
        ),
        (Says(&renew), &["verify second"]),
        (Believed(20_000), &["authorise 20000 in b with presence"]),
        (Authorised(Ok(ALL)), &[ENTERED, ATTEND]),
    ]);
}

#[test]
fn a_right_learnt_while_a_new_token_is_judged_is_judged_for_it_too() {
    let (one, renew) = (track(1), token("second"));
    check_session(and(
        plainly(),
        vec![
            (Says(&renew), &["verify second"][..]),
            (Believed(20_000), &["authorise 20000 in b"]),
            (Says(&one), &["may 20000 say in b and hear presence"]),
            (
                MaySay(MAY, Some(true)),
                &[&tracked(1, true), ATTEND, r#"track "1" ann in b {"n":1}"#],
            ),
        ],
    ));
    let mut script = Script::new(&PHOENIX_V2);
    for (step, _) in plainly() {
        script.step(step);
    }
    script.step(Says(&renew));
    script.step(Believed(20_000));
    let judged = script.newest;
    script.step(Says(&one));
    script.step(MaySay(MAY, Some(true)));
    script.newest = judged;
    assert_eq!(
        script.step(Authorised(Ok(Readable { broadcast: true, presence: None }))),
        ["authorise 20000 in b with presence"]
    );
    assert_eq!(script.step(Authorised(Ok(ALL))), Vec::<String>::new());
}

#[test]
fn who_waits_for_the_databases_messages_is_told_once_or_closed() {
    const ASKS: &str =
        r#"["1","1","realtime:b","phx_join",{"config":{"broadcast":{"replication_ready":true}}}]"#;
    let ready = close_frame("Replication connection established").replace("error", "ok");
    let in_vain = close_frame("Replication connection was not established in time");
    for (is_ok, lines) in [(true, vec![&*ready]), (false, vec![GONE, &*in_vain, CLOSED])] {
        check_session([
            (Says(ASKS), &["admit connection"][..]),
            (Believed(EXP), &[PLAIN_JOINED, PLAIN_ENTERED, "await messages"]),
            (Streams(is_ok), &lines),
        ]);
    }
}

#[test]
fn a_token_after_another_waits_until_that_one_is_judged() {
    let (second, third) = (token("second"), token("third"));
    let unreadable = close_frame("You do not have permissions to read from this Channel topic: b");
    check_session(and(
        joined(),
        vec![
            (Says(&second), &["verify second"][..]),
            (Believed(20_000), &["authorise 20000 in b with presence"]),
            (Says(&third), &[]),
            (Authorised(Ok(ALL)), &["verify third"]),
            (Believed(30_000), &["authorise 30000 in b with presence"]),
            (Says(&second), &[]),
            (
                Authorised(Ok(NOTHING)),
                &["refused Unauthorized", GONE, UNTRACK, &unreadable, CLOSED],
            ),
        ],
    ));
}

#[test]
fn what_waits_for_the_policies_is_counted_and_no_more_waits_than_its_sender_may_hold() {
    // A caller may hold a quarter of a sixteenth: 128 KiB.
    let limits = limits_with(&[
        ("RELAY_LIMITS__MEMORY", "8 MiB"),
        ("RELAY_LIMITS__FRAME", "256 KiB"),
        ("RELAY_LIMITS__BROADCAST_PAYLOAD", "200 KiB"),
        ("RELAY_LIMITS__MESSAGES_PER_SECOND", "100"),
    ]);
    let mut script = Script::with(&PHOENIX_V2, &limits, false);
    for (step, _) in joined() {
        script.step(step);
    }
    let large = |reference: u32| {
        let text = "x".repeat(60_000);
        format!(r#"["1","{reference}","realtime:b","broadcast",{{"n":"{text}"}}]"#)
    };
    let memory = script.session.memory.clone();
    assert_eq!(script.step(Says(&large(2))), ["may 10000 say in b"]);
    assert!(memory.held(Kind::Unsaid) > 60_000);
    assert_eq!(script.step(Says(&large(3))), Vec::<String>::new());
    let lines = script.step(Says(&large(4)));
    assert_eq!(lines.first().map(String::as_str), Some("refused SubjectUnsaidMemoryReached"));
    script.step(MaySay(MAY, None));
    assert_eq!(memory.held(Kind::Unsaid), 0);
}
