//! What clients send on a socket: frames of both serializers as a session takes them, and the payloads of joins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use relay::auth::token::Verified;
use relay::config::{Config, Limits};
use relay::egress::phoenix::effect::{Done, Effect, Finding, Input, Now, Work};
use relay::egress::phoenix::frame::{ClientMessage, Vsn};
use relay::egress::phoenix::payload::{parse_access_token, parse_join};
use relay::egress::phoenix::session::{Opening, Rules, Session};
use relay::egress::phoenix::{PHOENIX_V1, PHOENIX_V2};
use relay::hub::{Backlog, Outbox};
use relay::memory::Memory;
use relay::metrics::Metrics;
use relay::model::{Network, Principal};

use super::runner::{outcome, words};

/// Words of the protocol.
pub const WORDS: &[&str] = &[
    "phx_join",
    "phx_leave",
    "heartbeat",
    "broadcast",
    "presence",
    "access_token",
    "phoenix",
    "realtime:",
    "realtime:room",
    "\"config\":",
    "\"postgres_changes\":",
    "\"private\":true",
    "\"snapshot\":{\"limit\":1}",
    "\"since\":\"1:0:0\"",
    "\"replay\":{\"since\":1}",
    "\"track\"",
    "\"untrack\"",
    "null",
    "true",
    "1e999",
    "-0",
    "\\ud800",
    "\\u0000",
    "\"\"",
    "[[[[",
    "{\"a\":",
    "]",
    "}",
    "\u{1F600}",
    "\n",
];

const JOINS: [&str; 8] = [
    r#"{"config":{"broadcast":{"ack":true,"self":true},"presence":{"enabled":true,"key":"a"},"postgres_changes":[]}}"#,
    r#"{"config":{"postgres_changes":[{"event":"*","schema":"public","table":"notes","filter":"id=in.(1,2)"}]}}"#,
    r#"{"config":{"postgres_changes":[{"event":"INSERT","table":"notes","select":["id","body"],"since":"1:2a:0"}]}}"#,
    r#"{"config":{"postgres_changes":[{"event":"*","schema":"public","table":"n","snapshot":{"limit":3,"order":"id.desc.nullsfirst"}}]}}"#,
    r#"{"config":{"private":true,"broadcast":{"replay":{"since":1700000000000,"limit":5},"replication_ready":true}}}"#,
    r#"{"access_token":"a.b.c","user_token":null,"config":{"presence":{"key":7}}}"#,
    r#"{"access_token":"a.b.c"}"#,
    "{}",
];

/// Payloads of joins.
pub fn joins() -> Vec<Vec<u8>> {
    JOINS.map(|join| join.as_bytes().to_vec()).to_vec()
}

/// Reads the payload of a join, and that of a new token, if a frame can have it.
pub fn read_join(input: &[u8]) -> u64 {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    let frame = format!(r#"["1","1","realtime:room","phx_join",{text}]"#);
    let Ok(ClientMessage { payload: text, .. }) = Vsn::V2.parse(&frame) else { return 1 };
    let token = parse_access_token(text).is_some();
    match parse_join(text) {
        Ok(join) => {
            let counts = [join.wishes.len(), join.since.len(), join.firsts.len()];
            // The echo goes back to the client as it is.
            let echo = serde_json::from_str::<serde_json::Value>(&join.echo);
            assert!(echo.is_ok(), "{}", join.echo);
            let flags =
                [join.is_legacy, join.is_private, join.wants_own, join.wants_presence, token];
            outcome((flags, counts.map(|count| count.min(3)), join.replay.is_some()))
        }
        Err(reason) => outcome((words(&reason), token)),
    }
}

/// Conversations: the serializer, and frames after a byte each that says of which kind they are.
pub fn corpus() -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    for join in JOINS {
        let say = [
            ("phx_join", join),
            ("broadcast", r#"{"type":"broadcast","event":"e","payload":{"a":[1]}}"#),
            ("presence", r#"{"type":"presence","event":"track","payload":{"a":1}}"#),
            ("access_token", r#"{"access_token":"a.b.d"}"#),
            ("presence", r#"{"event":"untrack"}"#),
            ("phx_leave", "{}"),
        ];
        let (mut first, mut second) = (b"1".to_vec(), b"2".to_vec());
        for (number, (event, payload)) in say.into_iter().enumerate() {
            let object = format!(
                r#"{{"topic":"realtime:room","event":"{event}","payload":{payload},"ref":"{number}","join_ref":"1"}}"#
            );
            push(&mut first, b't', object.as_bytes());
            let array = format!(r#"["1","{number}","realtime:room","{event}",{payload}]"#);
            push(&mut second, b't', array.as_bytes());
        }
        let binary = [&[3, 1, 1, 13, 1, 2, 1][..], b"12realtime:roome{}{\"a\":1}"].concat();
        push(&mut second, b'b', &binary);
        push(&mut second, b't', br#"[null,"9","phoenix","heartbeat",{}]"#);
        corpus.extend([first, second]);
    }
    corpus
}

fn push(conversation: &mut Vec<u8>, kind: u8, frame: &[u8]) {
    conversation.push(kind);
    conversation.extend(u16::try_from(frame.len()).unwrap().to_be_bytes());
    conversation.extend_from_slice(frame);
}

/// The defaults, with few channels.
fn limits() -> Limits {
    let given = |name: &str| match name {
        "RELAY_POSTGRES__URL" => Some("postgres://127.0.0.1/x".to_owned()),
        "RELAY_AUTH__JWT_SECRET" => Some("x".repeat(32)),
        "RELAY_LIMITS__CHANNELS" => Some("3".to_owned()),
        _ => None,
    };
    Config::load(None, &given).unwrap().0.limits
}

/// Has a session take every frame; its work ends at once, tokens are believed, wishes are granted nothing.
pub fn read(input: &[u8]) -> u64 {
    thread_local! {
        static LIMITS: Limits = limits();
    }
    let Some((version, mut rest)) = input.split_first() else { return 0 };
    let dialect = if *version == b'1' { &PHOENIX_V1 } else { &PHOENIX_V2 };
    let outbox = Arc::new(Outbox::new(1 << 20, Arc::new(Backlog::new(1 << 30))));
    let at = Instant::now();
    let mut session = LIMITS.with(|limits| {
        let rules = Rules::default();
        let memory = Memory::new(limits.memory, &Metrics::new());
        let (seat, network) = (None, Network::UNKNOWN);
        let opening = Opening { credential: "a.b.c", limits, rules, seat, memory, network, at };
        Session::new(dialect, outbox, opening)
    });
    let (mut said, mut members, mut passed) = (Vec::new(), 0, 0);
    while let Some(([kind, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (frame, after) = after.split_at(length);
        rest = after;
        passed += 100;
        let now = Now { at: at + Duration::from_millis(passed), unix: 100 };
        let mut effects = Vec::new();
        match std::str::from_utf8(frame) {
            Ok(text) if *kind != b'b' => session.handle(now, Input::Text(text), &mut effects),
            _ => session.handle(now, Input::Binary(frame), &mut effects),
        }
        session.handle(now, Input::Tick, &mut effects);
        let mut left = 100;
        while let Some(effect) = (!effects.is_empty()).then(|| effects.remove(0)) {
            said.push(name(&effect));
            let Effect::Start(work, started) = effect else { continue };
            members += 1;
            left -= 1;
            if let Some(finding) = (left > 0).then(|| find(&started)).flatten() {
                let done = Done { work, member_id: members, finding };
                session.handle(now, Input::Done(done), &mut effects);
            }
        }
    }
    let now = Now { at: at + Duration::from_secs(60), unix: 200 };
    for input in [Input::Tick, Input::Closing(true), Input::Drain, Input::Gone] {
        session.handle(now, input, &mut Vec::new());
    }
    outcome(&said[..said.len().min(12)])
}

/// What a piece of work finds, if it finds anything.
fn find(work: &Work) -> Option<Finding> {
    Some(match work {
        Work::Admit { token } | Work::Verify { token } => {
            let principal = Arc::new(Principal::new("authenticated", &**token));
            Finding::Verified(Ok((Verified { principal, expires_at: 150 }, None)))
        }
        Work::Bind { .. } => Finding::Bound(Ok(Vec::new())),
        Work::AwaitMessages => Finding::Streams(true),
        // The policies do not answer.
        Work::Authorise { .. } | Work::MaySay { .. } | Work::CatchUp { .. } => return None,
    })
}

/// The kind of an effect; what is sent must be JSON.
fn name(effect: &Effect) -> String {
    match effect {
        Effect::Send(relay::hub::Frame::Text(text)) => {
            let text = text.as_str();
            let value = serde_json::from_str::<serde_json::Value>(text);
            assert!(value.is_ok(), "{text}");
            let events = ["phx_reply", "phx_close", "phx_error", "system"];
            let event = events.into_iter().find(|event| text.contains(event)).unwrap_or("other");
            format!("{event} {}", text.contains(r#""status":"ok""#))
        }
        Effect::Refused(code) => (*code).to_owned(),
        Effect::Close(code, _) => code.to_string(),
        other => format!("{other:?}").chars().take_while(char::is_ascii_alphabetic).collect(),
    }
}
