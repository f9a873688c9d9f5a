//! The protocol's corners as scripts: what the client sends and what happens, and what the session says to that.

mod joins;
mod limits;
mod lives;
mod presence;
mod private;
mod talk;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dialect::{PHOENIX_V1, PHOENIX_V2, Phoenix};
use super::effect::{Done, Effect, Finding, Input, Now, Readable, Work, Writable};
use super::session::{Opening, Rules, Session};
use crate::auth::denial::Denial;
use crate::auth::policy::{Kept, Past};
use crate::auth::token::{TokenRefusal, Verified};
use crate::catalog::bind::Unbound;
use crate::config::{Config, Limits};
use crate::egress::subject::Subject;
use crate::hub::{Attendee, Backlog, Content, Frame, Namespace, Outbox};
use crate::model::filter::Filter;
use crate::model::{Network, Principal, Since, Subscription, Target};

/// `exp` of every token of these scripts, unless they say otherwise.
const EXP: i64 = 10_000;

/// One step of a script.
enum Step<'a> {
    /// The client sends this text.
    Says(&'a str),
    /// The client sends these bytes.
    SaysBytes(&'a [u8]),
    /// So many milliseconds pass, and the deadline is looked at.
    Waits(u64),
    /// The token of the newest work is believed until then.
    Believed(i64),
    /// It is, and names this subject.
    BelievedOf(Arc<Subject>),
    /// It is not.
    Disbelieved(TokenRefusal),
    /// No more joins this second.
    TooMany,
    /// The wishes of the newest work are granted.
    Granted,
    /// They are not.
    Unbound(Unbound),
    /// The newest work found out what may be heard.
    Authorised(Result<Readable, Denial>),
    /// The newest work read what was said meanwhile.
    CaughtUp(Result<Vec<Kept>, Denial>),
    /// The newest work waited for the stream of the database's messages, in vain or not.
    Streams(bool),
    /// The newest work found out what may be said, and perhaps whether presence may be heard.
    MaySay(Result<Writable, Denial>, Option<bool>),
    /// The end of the n-th work arrives: a believed token.
    BelievedWork(u64),
    /// The server is going away.
    Drains,
    /// The client is gone.
    Gone,
}

use self::Step::{Believed, Disbelieved, Drains, Gone, Granted, Says, SaysBytes, TooMany, Waits};

/// A session and its clocks.
struct Script {
    session: Session,
    start: Instant,
    passed_ms: u64,
    newest: u64,
    wishes: usize,
}

/// The defaults, but little of everything that is counted.
fn limits() -> Limits {
    limits_with(&[])
}

fn limits_with(settings: &[(&str, &str)]) -> Limits {
    let set = |name: &str| settings.iter().find(|(key, _)| *key == name);
    let given = |name: &str| match name {
        name if set(name).is_some() => set(name).map(|(_, value)| (*value).to_owned()),
        "RELAY_POSTGRES__URL" => Some("postgres://127.0.0.1/x".to_owned()),
        "RELAY_AUTH__JWT_SECRET" => Some("x".repeat(32)),
        "RELAY_LIMITS__CHANNELS" => Some("3".to_owned()),
        "RELAY_LIMITS__MESSAGES_PER_SECOND" => Some("1".to_owned()),
        "RELAY_LIMITS__BROADCAST_PAYLOAD" => Some("128 KiB".to_owned()),
        _ => None,
    };
    Config::load(None, &given).unwrap().0.limits
}

impl Script {
    fn new(dialect: &'static Phoenix) -> Self {
        Self::with(dialect, &limits(), false)
    }

    fn with(dialect: &'static Phoenix, limits: &Limits, private_only: bool) -> Self {
        let rules = Rules { private_only, ..Rules::default() };
        let outbox = Arc::new(Outbox::new(1 << 20, Arc::new(Backlog::new(1 << 30))));
        let start = Instant::now();
        let (seat, network) = (None, Network::UNKNOWN);
        let opening = Opening { credential: "connection", limits, rules, seat, network, at: start };
        let session = Session::new(dialect, outbox, opening);
        Self { session, start, passed_ms: 0, newest: 0, wishes: 0 }
    }

    /// Takes one step; the effects as lines.
    fn step(&mut self, step: Step<'_>) -> Vec<String> {
        let newest = self.newest;
        let done = |work, finding| Input::Done(Done { work, member_id: work, finding });
        let verified_of = |expires_at, subject| {
            let principal = Arc::new(Principal::new("authenticated", format!("{expires_at}")));
            Finding::Verified(Ok((Verified { principal, expires_at }, subject)))
        };
        let verified = |expires_at| verified_of(expires_at, None);
        let wish = Subscription {
            target: Target::All,
            event: None,
            filter: Filter::default(),
            select: None,
        };
        let input = match step {
            Says(text) => Input::Text(text),
            SaysBytes(bytes) => Input::Binary(bytes),
            Waits(ms) => {
                self.passed_ms += ms;
                Input::Tick
            }
            Believed(expires_at) => done(newest, verified(expires_at)),
            Step::BelievedOf(subject) => done(newest, verified_of(EXP, Some(subject))),
            Step::BelievedWork(work) => done(work, verified(EXP)),
            Disbelieved(refusal) => done(newest, Finding::Verified(Err(refusal))),
            TooMany => done(newest, Finding::TooManyJoins),
            Granted => done(newest, Finding::Bound(Ok(vec![wish; self.wishes]))),
            Step::Unbound(unbound) => done(newest, Finding::Bound(Err(unbound))),
            Step::Authorised(readable) => {
                let past = Past { messages: Vec::new(), asked_at: 10_060_000 };
                done(newest, Finding::Authorised { readable, past: Some(Ok(past)) })
            }
            Step::CaughtUp(past) => done(newest, Finding::CaughtUp(past)),
            Step::Streams(is_ok) => done(newest, Finding::Streams(is_ok)),
            Step::MaySay(writable, hears_presence) => {
                done(newest, Finding::MaySay { writable, hears_presence })
            }
            Drains => Input::Drain,
            Gone => Input::Gone,
        };
        let unix = 1_000 + i64::try_from(self.passed_ms / 1000).unwrap();
        let now = Now { at: self.start + Duration::from_millis(self.passed_ms), unix };
        let mut effects = Vec::new();
        self.session.handle(now, input, &mut effects);
        effects.into_iter().map(|effect| self.line(effect)).collect()
    }

    fn line(&mut self, effect: Effect) -> String {
        match effect {
            Effect::Send(Frame::Text(text)) => without_ids(text.as_str()),
            Effect::Send(Frame::Binary(_) | Frame::Ping(_)) => panic!("no text frame"),
            Effect::Start(number, work) => {
                self.newest = number;
                match work {
                    Work::Admit { token } => format!("admit {token}"),
                    Work::Verify { token } => format!("verify {token}"),
                    Work::Authorise { principal, topic, wants_presence, replay } => {
                        let presence = if wants_presence { " with presence" } else { "" };
                        let past = replay.map_or(String::new(), |past| format!(" and {past:?}"));
                        format!("authorise {} in {topic}{presence}{past}", principal.claims())
                    }
                    Work::MaySay { principal, topic, wants_presence } => {
                        let presence = if wants_presence { " and hear presence" } else { "" };
                        format!("may {} say in {topic}{presence}", principal.claims())
                    }
                    Work::CatchUp { topic, since, limit } => {
                        format!("catch up {topic} {since} {limit}")
                    }
                    Work::AwaitMessages => "await messages".to_owned(),
                    Work::Bind { principal, wishes } => {
                        self.wishes = wishes.len();
                        format!("bind {} for {}", wishes.len(), principal.claims())
                    }
                }
            }
            Effect::Cancel(number) => format!("cancel {number}"),
            Effect::Subscribe { member, principal, subscriptions, since, .. } => {
                assert_eq!(member.principal(), principal);
                let places = since.iter().map(|(_, since)| match since {
                    Since::After(position) => format!(" after {position}"),
                    Since::Within(_) | Since::Unreadable => " after something".to_owned(),
                });
                let places: String = places.collect();
                format!("subscribe {} x{}{places}", member.join_ref, subscriptions.len())
            }
            Effect::Enter { member, room, receives } => {
                let own = if receives.own { " and itself" } else { "" };
                let deaf = if receives.broadcast { "" } else { " deaf" };
                let private = if room.namespace == Namespace::Private { " private" } else { "" };
                format!("enter {}{private} {}{own}{deaf}", member.join_ref, room.topic)
            }
            Effect::Attend { attendee, receives } => {
                assert!(!receives.own && attendee.member.join_ref.starts_with('"'));
                told(&attendee, "attend")
            }
            Effect::Track { attendee, payload, is_told } => {
                let untold = if is_told { "" } else { " untold" };
                format!("{} {}{untold}", told(&attendee, "track"), payload.as_str())
            }
            Effect::Untrack(attendee) => told(&attendee, "untrack"),
            Effect::Lose(attendee) => told(&attendee, "lose"),
            Effect::Broadcast { member, broadcast } => match broadcast.content {
                Content::Whole(message) => format!("broadcast {} {message}", member.join_ref),
                Content::Json(payload) => {
                    format!("broadcast {} {} {payload}", member.join_ref, broadcast.event)
                }
                Content::Binary(bytes) => {
                    format!("broadcast {} {} {bytes:?}", member.join_ref, broadcast.event)
                }
            },
            Effect::Unsubscribe(member) => format!("unsubscribe {}", member.join_ref),
            Effect::Refused(code) => format!("refused {code}"),
            Effect::Close(code, _) => format!("close {code}"),
        }
    }
}

/// What happens to whose presence.
fn told(attendee: &Attendee, what: &str) -> String {
    let key = if attendee.is_named { &*attendee.key } else { "somebody" };
    format!("{what} {} {key} in {}", attendee.member.join_ref, attendee.room.topic)
}

/// Replaces the ids of wishes, which are hashes, by `N`.
fn without_ids(text: &str) -> String {
    let mut parts = text.split(r#""id":"#);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        replaced.push_str(r#""id":N"#);
        replaced.push_str(part.trim_start_matches(|letter: char| letter.is_ascii_digit()));
    }
    replaced
}

/// The one doorway: plays a script on vsn 2.0.0 and compares every effect of every step.
fn check_session<'a>(script: impl IntoIterator<Item = (Step<'a>, &'a [&'a str])>) {
    check_dialect(&PHOENIX_V2, script);
}

fn check_dialect<'a>(
    dialect: &'static Phoenix,
    script: impl IntoIterator<Item = (Step<'a>, &'a [&'a str])>,
) {
    let mut played = Script::new(dialect);
    for (place, (step, expected)) in script.into_iter().enumerate() {
        assert_eq!(played.step(step), expected, "step {place}");
    }
}

const JOIN: &str = r#"["6","6","realtime:a","phx_join",{"config":{"postgres_changes":[{"event":"*","table":"t"}]}}]"#;
const JOINED: &str = r#"["6","6","realtime:a","phx_reply",{"status":"ok","response":{"postgres_changes":[{"event":"*","table":"t","id":N}]}}]"#;
const SUBSCRIBED: &str = r#"["6",null,"realtime:a","system",{"extension":"postgres_changes","status":"ok","message":"Subscribed to PostgreSQL","channel":"a"}]"#;
const CLOSED: &str = r#"["6","6","realtime:a","phx_close",{}]"#;
const ENTERED: &str = r#"enter "6" a"#;
const PLAIN_ENTERED: &str = r#"enter "1" b"#;
const PLAIN: &str = r#"["1","1","realtime:b","phx_join",{"config":{}}]"#;
const PLAIN_JOINED: &str =
    r#"["1","1","realtime:b","phx_reply",{"status":"ok","response":{"postgres_changes":[]}}]"#;

/// A channel `realtime:a` with one wish.
fn joined<'a>() -> Vec<(Step<'a>, &'a [&'a str])> {
    vec![
        (Says(JOIN), &["admit connection"]),
        (Believed(EXP), &["bind 1 for 10000"]),
        (Granted, &[JOINED, ENTERED, r#"subscribe "6" x1"#, SUBSCRIBED]),
    ]
}

fn and<'a>(
    mut script: Vec<(Step<'a>, &'a [&'a str])>,
    more: Vec<(Step<'a>, &'a [&'a str])>,
) -> Vec<(Step<'a>, &'a [&'a str])> {
    script.extend(more);
    script
}

fn refusal(join_ref: &str, topic: &str, reason: &str) -> String {
    format!(
        r#"["{join_ref}","{join_ref}","{topic}","phx_reply",{{"status":"error","response":{{"reason":"{reason}"}}}}]"#
    )
}
