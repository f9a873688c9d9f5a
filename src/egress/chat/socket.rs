//! The socket of the guest relations chat: JSON texts, each an object with a `type`.
//!
//! ```text
//! client  {"type":"authenticate","token":…,"as":"player"|"gre"}     again with a new token before the old one runs out
//!         {"type":"send","message":…,"id"?,"playerId"?,…}           as POST /send; of guest relations, /send-to-player
//!         {"type":"history","playerId"?,"before"?}                  {"type":"close","playerId"?}   {"type":"ping"}
//! server  authenticated, chat_history, message_sent, new_message, chat_closed; gap, error, pong
//! ```
//!
//! A player hears of what is theirs, guest relations of everything the policies let them see. It listens before it reads
//! history, so nothing falls between the two; what is in both is told once. `message_sent` is sent when the message is
//! committed. A client that does not read, says nothing, or whose token ran out is closed; so is everybody whom another
//! relay on the slot takes over, and nobody is let in meanwhile.
//!
//! Who did not say yet who they are has no seat, only one of a few places of their own, of which one network has an eighth:
//! strangers keep nobody out, and not each other.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{Extensions, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, interval, sleep_until, timeout};

use super::Chat;
use super::caller::Caller;
use super::calls::{Page, Side};
use super::live::{Event, Plain, text};
use super::player::Telling;
use super::problem::Problem;
use super::told::Told;
use crate::catalog::bind::{BindContext, Unbound, bind};
use crate::config::Limits;
use crate::egress::budget::Budget;
use crate::egress::network_of;
use crate::egress::network_permits::NetworkPermit;
use crate::egress::patient::Meter;
use crate::egress::seats::Seat;
use crate::egress::unfinished::{ReadFault, Unfinished};
use crate::hub::{Closed, Frame, Member, Outbox};
use crate::model::{CallerIdentity, Network};
use crate::source::SourceState;

/// How long a client may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(10);

/// Tokens that live longer are looked at again after so many seconds at the latest: something is said more often.
const A_DAY: u64 = 86_400;

/// Bytes of a frame with the longest token in it, where less is allowed for a body.
const FRAME_OF_TOKEN: usize = 20 * 1024;

/// What a socket reads at once.
const READ_BUFFER: usize = 2 * 1024;

/// Bytes of the head of a client's control frame, its mask included.
const CONTROL_HEAD: usize = 6;

/// Messages of a page of history.
const PAGE: &str = "50";

/// What a client says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Said {
    Authenticate {
        token: String,
        #[serde(default, rename = "as")]
        role: Role,
    },
    Send(Telling),
    History {
        #[serde(alias = "playerId")]
        player_id: Option<String>,
        before: Option<String>,
    },
    Close {
        #[serde(alias = "playerId")]
        player_id: Option<String>,
    },
    Ping,
}

/// Whom a socket listens for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    #[default]
    Player,
    Gre,
}

/// How many may be strangers at once: an eighth of the seats, within reason.
pub(super) fn strangers(limits: &Limits) -> usize {
    (limits.connections / 8).clamp(16, 1024)
}

/// How many of them may come from one network.
fn strangers_of_network(limits: &Limits) -> usize {
    (strangers(limits) / 8).max(4)
}

/// What a socket has that did not authenticate yet: a permit of all, and one of its network.
type Permits = (OwnedSemaphorePermit, NetworkPermit);

/// From a GET to a socket.
pub(super) async fn open(
    State(chat): State<Arc<Chat>>,
    request: Extensions,
    upgrade: WebSocketUpgrade,
) -> Response {
    let network = network_of(&request);
    if let Err(problem) = chat.lets_in() {
        return problem.into_response();
    }
    let of_network = chat.strangers_of.take(network, strangers_of_network(&chat.limits));
    let Some(of_network) = of_network else {
        return chat.full("AddressChatStrangersLimitReached").into_response();
    };
    let Ok(of_all) = Arc::clone(&chat.strangers).try_acquire_owned() else {
        return chat.full("ChatStrangersLimitReached").into_response();
    };
    let meter = request.get::<Meter>().cloned().unwrap_or_default();
    let most = chat.body.max(FRAME_OF_TOKEN);
    let upgrade = upgrade.max_message_size(most).max_frame_size(most);
    // By default 128 KiB are allocated for each socket and zeroed at each read.
    let upgrade = upgrade.read_buffer_size(READ_BUFFER).write_buffer_size(0);
    std::future::ready(upgrade.on_upgrade(move |socket| async move {
        let (memory, caller) = (chat.hub.memory().clone(), CallerIdentity::Stranger(network));
        meter.set(Unfinished::new(memory, caller, chat.limits.frame_time));
        let stage = chat.stage.clone();
        // In the stage, so that stopping waits until the client was told why.
        let serving = stage.spawn(serve(chat, socket, (network, meter), (of_all, of_network)));
        drop(serving.await);
    }))
    .await
}

/// Why a socket closes: code, reason, and the word for the metrics.
type Closing = (u16, &'static str, &'static str);

const FLOOD: Closing = (1008, "too many frames", "flood");
const DRAIN: Closing = (1012, "the server is going away", "drain");

/// A client that said who it is.
struct Session {
    chat: Arc<Chat>,
    caller: Caller,
    role: Role,
    expires_at: i64,
    member: Arc<Member>,
    told: Told,
    seat: Seat,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.chat.hub.unsubscribe(&self.member);
    }
}

async fn serve(chat: Arc<Chat>, mut socket: WebSocket, client: (Network, Meter), permits: Permits) {
    let conversing = converse(&chat, &mut socket, client, permits);
    if let Some((code, reason, word)) = conversing.await {
        chat.metrics.closed.get_or_create(&crate::metrics::reason(word)).inc();
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        // A client that does not take it either is gone in a moment.
        let _ = timeout(Duration::from_secs(2), socket.send(close)).await;
    }
}

/// Until the client is gone (`None`) or must be sent away.
async fn converse(
    chat: &Arc<Chat>,
    socket: &mut WebSocket,
    (network, meter): (Network, Meter),
    permits: Permits,
) -> Option<Closing> {
    let mut permits = Some(permits);
    let outbox = Arc::new(Outbox::new(chat.limits.outbox, Arc::clone(&chat.backlog)));
    let mut session: Option<Session> = None;
    let mut leaving = pin!(leave(chat, None));
    let introduced_by = Instant::now() + INTRODUCTION;
    let mut heard_at = Instant::now();
    let mut looks = interval(chat.limits.idle / 3);
    let mut frames = Vec::new();
    let budget = Budget::new(chat.limits.frames_per_second, std::time::Instant::now());
    loop {
        let expires_by = session.as_ref().map_or(introduced_by, |session| {
            let left = u64::try_from(session.expires_at - (chat.clock)()).unwrap_or_default();
            Instant::now() + Duration::from_secs(left.min(A_DAY))
        });
        tokio::select! {
            () = &mut leaving => return Some(DRAIN),
            () = sleep_until(introduced_by), if session.is_none() => {
                return Some((1008, "not authenticated in time", "joins"));
            }
            () = sleep_until(expires_by), if session.is_some() => {
                return Some((1008, "the token has expired", "joins"));
            }
            incoming = socket.recv() => {
                heard_at = Instant::now();
                if !budget.take(1, std::time::Instant::now()) {
                    chat.refused("FrameRateLimitReached");
                    return Some(FLOOD);
                }
                let incoming = incoming?;
                match &incoming {
                    Ok(Message::Ping(said) | Message::Pong(said)) => {
                        meter.with(|unfinished| unfinished.passed(CONTROL_HEAD + said.len()));
                    }
                    Ok(_) => drop(meter.with(Unfinished::finished)),
                    Err(_) => if let Some(fault) = meter.with(|unfinished| unfinished.fault()).flatten() {
                        if let ReadFault::Full(full) = fault {
                            chat.refused(full.code);
                        }
                        return Some(fault.close_frame());
                    },
                }
                match incoming {
                    Ok(Message::Text(text)) => {
                        let answers = hear(chat, &mut session, (&outbox, network), &text).await;
                        if let Some(session) = &session
                            && permits.take().is_some()
                        {
                            leaving.set(leave(chat, Some(session.seat.generation())));
                        }
                        for answer in answers {
                            send(chat, socket, answer).await?;
                        }
                    }
                    Ok(Message::Binary(_)) => return Some((1003, "texts only", "broken")),
                    Ok(Message::Close(_)) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
            drained = outbox.drain(&mut frames) => {
                match drained {
                    Ok(()) => {}
                    Err(Closed::Slow) => return Some((1008, "too slow: messages were not read in time", "slow")),
                    Err(Closed::Drain) => return Some(DRAIN),
                }
                for frame in frames.drain(..) {
                    let Some(event) = session.as_mut().and_then(|session| session.notice(&frame)) else { continue };
                    send(chat, socket, event.to_json()).await?;
                }
            }
            _ = looks.tick() => {
                if chat.limits.idle <= heard_at.elapsed() {
                    return Some((1000, "idle", "idle"));
                }
                write(chat, socket, Message::Ping(axum::body::Bytes::new())).await?;
            }
        }
    }
}

/// Completes when it is the turn of a socket to leave. A stranger, of no generation, leaves when everybody is told to.
async fn leave(chat: &Chat, generation: Option<u64>) {
    let departure = &chat.seats.departure;
    let Some(generation) = generation else { return departure.called(u64::MAX).await };
    loop {
        departure.called(generation).await;
        if departure.turn(generation).await {
            return;
        }
    }
}

async fn send(chat: &Chat, socket: &mut WebSocket, json: String) -> Option<()> {
    write(chat, socket, Message::Text(json.into())).await
}

/// Nothing when the client is gone, or does not read.
async fn write(chat: &Chat, socket: &mut WebSocket, message: Message) -> Option<()> {
    timeout(chat.limits.write_stall, socket.send(message)).await.ok()?.ok()
}

/// What is answered to something said.
async fn hear(
    chat: &Arc<Chat>,
    session: &mut Option<Session>,
    client: (&Arc<Outbox>, Network),
    text: &str,
) -> Vec<String> {
    let answered = match serde_json::from_str::<Said>(text) {
        Err(error) => Err(Problem::invalid(format!("This cannot be read: {error}."))),
        Ok(Said::Ping) => Ok(vec![json!({ "type": "pong" }).to_string()]),
        Ok(Said::Authenticate { token, role }) => {
            introduce(chat, session, client, &token, role).await
        }
        Ok(_) if chat.body < text.len() => {
            let detail = format!("The message is larger than {} bytes.", chat.body);
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
        }
        Ok(said) => match session {
            Some(session) => session.answer(said).await,
            None => {
                let detail = "Authenticate first.";
                Err(Problem::new(StatusCode::UNAUTHORIZED, detail))
            }
        },
    };
    answered.unwrap_or_else(|problem| vec![failed(&problem)])
}

/// What is looked at of a stored message.
#[derive(Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

/// The id of a message as it is told.
fn id_of(message: &str) -> String {
    let stored = serde_json::from_str::<Stored<'_>>(message).ok();
    stored.and_then(|stored| stored.id).map(text).unwrap_or_default()
}

/// Something did not work.
fn failed(problem: &Problem) -> String {
    let status = problem.status.as_u16();
    json!({ "type": "error", "status": status, "detail": problem.detail }).to_string()
}

/// Somebody says who they are, or brings a new token.
async fn introduce(
    chat: &Arc<Chat>,
    session: &mut Option<Session>,
    (outbox, network): (&Arc<Outbox>, Network),
    token: &str,
    role: Role,
) -> Result<Vec<String>, Problem> {
    let (caller, expires_at) = chat.believe(token, network).await?;
    chat.pay(&caller)?;
    if caller.sub.is_empty() && role == Role::Player {
        return Err(Problem::invalid("The token of a player needs a `sub`."));
    }
    let authenticated = json!({ "type": "authenticated", "player_id": caller.sub }).to_string();
    if let Some(session) = session {
        if session.caller.sub != caller.sub || session.role != role {
            let detail = "This socket is somebody else's; open another.";
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        session.member.set_principal(Arc::clone(&caller.principal));
        (session.caller, session.expires_at) = (caller, expires_at);
        return Ok(vec![authenticated]);
    }
    let seat = chat.seats.take(caller.identity()).map_err(|code| chat.full(code))?;
    // Asked when the seat is taken: a departure that begins later waits for it.
    chat.lets_in()?;
    let player = (role == Role::Player).then_some(&*caller.sub);
    let context = BindContext { principal: &caller.principal, caller: caller.identity() };
    let bound = bind(&chat.catalog, context, &chat.names.wishes(player)).await;
    let wishes = bound.map_err(|unbound| match unbound {
        Unbound::Refused(text) => Problem::new(StatusCode::FORBIDDEN, text),
        Unbound::Unavailable(_) => Problem::later("The database cannot be asked now."),
    })?;
    let wishes = (0..).zip(wishes.into_iter().map(Arc::new)).collect();
    let member = Member::new(
        chat.hub.next_id(),
        "chat".into(),
        "null".into(),
        &Plain,
        Arc::clone(outbox),
        Arc::clone(&caller.principal),
    );
    let member = Arc::new(member.coming_from(network));
    chat.hub.subscribe(&member, wishes);
    let (chat, told) = (Arc::clone(chat), Told::default());
    let joined = session.insert(Session { chat, caller, role, expires_at, member, told, seat });
    let mut answers = vec![authenticated];
    if role == Role::Player {
        let own = joined.caller.sub.clone();
        answers.push(joined.history(&own, None).await.unwrap_or_else(|problem| failed(&problem)));
    }
    Ok(answers)
}

impl Chat {
    /// Nobody comes in while another relay reads the slot, or while everybody leaves: they would hear nothing.
    fn lets_in(&self) -> Result<(), Problem> {
        let stands_by = matches!(&*self.source.borrow(), SourceState::Standby { .. });
        if !stands_by && !self.seats.departure.is_on() {
            return Ok(());
        }
        self.refused("Standby");
        Err(Problem::later("This relay stands by for another one; try again."))
    }

    /// There is no room for one more socket.
    fn full(&self, code: &'static str) -> Problem {
        self.refused(code);
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "Too many sockets are open.").after(1)
    }
}

impl Session {
    /// What a change is to this client; nothing when it was told before.
    fn notice(&mut self, frame: &Frame) -> Option<Event> {
        let Frame::Text(text) = frame else { return None };
        let event = self.chat.names.read(text.as_str())?;
        match &event {
            Event::NewMessage(id, _) | Event::ChatClosed(id, _) if !self.told.is_news(id) => None,
            _ => Some(event),
        }
    }

    async fn answer(&mut self, said: Said) -> Result<Vec<String>, Problem> {
        self.chat.pay(&self.caller)?;
        match said {
            Said::Send(telling) => {
                let side = if self.role == Role::Player { Side::Visitor } else { Side::Agent };
                let stored = self.chat.tell(&self.caller, &telling, Some(side)).await?;
                self.told.is_news(&id_of(&stored.json));
                Ok(vec![format!(r#"{{"type":"message_sent","message":{}}}"#, stored.json)])
            }
            Said::History { player_id, before } => {
                let player = player_id.unwrap_or_else(|| self.caller.sub.clone());
                Ok(vec![self.history(&player, before.as_deref()).await?])
            }
            Said::Close { player_id } => {
                let player = player_id.as_deref().unwrap_or(&self.caller.sub);
                // Whoever may see it, this client too, hears of it from the stream.
                self.chat.calls.close_all(self.caller.as_caller(), player).await.map(|_| Vec::new())
            }
            Said::Authenticate { .. } | Said::Ping => Ok(Vec::new()),
        }
    }

    async fn history(&mut self, player: &str, before: Option<&str>) -> Result<String, Problem> {
        let page = Page { limit: PAGE, before };
        let json = self.chat.calls.history_of(self.caller.as_caller(), player, page).await?;
        for message in serde_json::from_str::<Vec<&RawValue>>(&json).unwrap_or_default() {
            self.told.is_news(&id_of(message.get()));
        }
        let player = json!(player);
        Ok(format!(r#"{{"type":"chat_history","player_id":{player},"messages":{json}}}"#))
    }
}
