//! One client's connection: reads frames, hands them to the session, and obeys it.
//!
//! One task and one bounded queue per client. A client that does not read is closed, and counted, when its queue
//! is full or its writes stand still; nobody else notices.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::desk::Desk;
use super::dialect::Phoenix;
use super::effect::{Done, Effect, Input};
use super::resuming::Resuming;
use super::session::{Opening, Session};
use super::wire::{Incoming, Unwritten, Wire};
use super::work::Works;
use crate::egress::seats::Seat;
use crate::egress::unfinished::ReadFault;
use crate::hub::{Closed, Frame, Outbox};
use crate::memory::MemoryReservation;
use crate::model::Network;

/// Larger batches are given back after they were written.
const KEPT_FRAMES: usize = 32;

/// Why the socket closes: close code, reason for the client, word for the metrics.
type Goodbye = (u16, &'static str, &'static str);

const SLOW: Goodbye = (1008, "too slow: messages were not read in time", "slow");
const IDLE: Goodbye = (1000, "idle", "idle");
const FLOOD: Goodbye = (1008, "too many frames that say nothing", "flood");
const DRAIN: Goodbye = (1012, "the server is going away", "drain");

/// What a turn of the loop is about.
enum Turn {
    Incoming(Incoming),
    Outgoing(Result<(), Closed>),
    Done(Done),
    Alarm,
    Closing,
    Stay,
    Drain,
}

/// Who connected.
#[derive(Debug)]
pub(super) struct Client {
    /// The token the socket was opened with.
    pub(super) credential: String,
    /// Headers of the request, as policies see them: a JSON object.
    pub(super) headers: Arc<str>,
    /// Where it comes from.
    pub(super) network: Network,
    /// As whom it wants to continue.
    pub(super) resume: Option<String>,
    /// The memory of all that.
    pub(super) held: MemoryReservation,
}

/// A session and what it commands.
struct Socket {
    desk: Arc<Desk>,
    session: Session,
    outbox: Arc<Outbox>,
    works: Works,
    joined: usize,
    resuming: Option<Resuming>,
    seat: Seat,
    /// Its token and its headers.
    _held: MemoryReservation,
}

/// Serves one client until either side closes.
pub(super) async fn run(
    desk: Arc<Desk>,
    seat: Seat,
    mut wire: Wire,
    dialect: &'static Phoenix,
    client: Client,
) {
    let Client { credential, headers, network, resume, held } = client;
    let outbox = desk.outbox(wire.door());
    let opening = Opening {
        credential: &credential,
        limits: &desk.limits,
        rules: desk.rules,
        seat: seat.of_subject.as_ref().map(Arc::clone),
        memory: desk.hub.memory().clone(),
        network,
        at: desk.now().at,
    };
    let session = Session::new(dialect, Arc::clone(&outbox), opening);
    drop(credential);
    let works = Works::new(headers, network);
    let resuming = resume.as_deref().map(Resuming::new);
    let (joined, _held) = (0, held);
    let mut socket = Socket { desk, session, outbox, works, joined, resuming, seat, _held };
    if let Some((code, reason, word)) = serve(&mut socket, &mut wire).await {
        let desk = Arc::clone(&socket.desk);
        desk.closed(word);
        // Its members leave before the rest is written, so that there is an end to it; the seat is given back after it.
        socket.leave();
        if write_rest(&mut wire, &socket.outbox, desk.limits.write_stall).await.is_ok() {
            drop(socket);
            wire.close(code, reason).await;
        }
    }
}

/// Runs until the client is gone (`None`) or must be sent away.
async fn serve(socket: &mut Socket, wire: &mut Wire) -> Option<Goodbye> {
    let desk = Arc::clone(&socket.desk);
    let outbox = Arc::clone(&socket.outbox);
    let is_slow = || outbox.is_slow();
    let mut frames: Vec<Frame> = Vec::new();
    let (mut heard, mut idle_at) = (0, Instant::now() + desk.limits.idle);
    let mut alarm = pin!(sleep_until(idle_at));
    let generation = socket.seat.generation();
    let mut called = pin!(desk.seats.departure.called(generation));
    let mut go = pin!(desk.seats.departure.turn(generation));
    let mut is_leaving = false;
    loop {
        let turn = tokio::select! {
            incoming = wire.next() => Turn::Incoming(incoming),
            outgoing = outbox.drain(&mut frames) => Turn::Outgoing(outgoing),
            (work, finding) = socket.works.next() => {
                Turn::Done(Done { work, member_id: desk.hub.next_id(), finding })
            }
            () = &mut alarm => Turn::Alarm,
            () = &mut called, if !is_leaving => Turn::Closing,
            is_turn = &mut go, if is_leaving => if is_turn { Turn::Drain } else { Turn::Stay },
        };
        // Before anything else: who was told to leave begins nothing new.
        if !is_leaving && desk.seats.departure.is_for(generation) {
            is_leaving = true;
            go.set(desk.seats.departure.turn(generation));
            socket.handle(Input::Closing(true));
        }
        let close_frame = match turn {
            Turn::Incoming(incoming) => {
                (heard, idle_at) = (wire.bytes_read(), Instant::now() + desk.limits.idle);
                match incoming {
                    Incoming::Text(text) => socket.hear(Input::Text(text.as_str())),
                    Incoming::Binary(bytes) => socket.hear(Input::Binary(&bytes)),
                    Incoming::Pong(said) => {
                        if let Some(resuming) = &mut socket.resuming {
                            resuming.answered(&desk, &said);
                        }
                        socket.count_frame()
                    }
                    Incoming::Alive => socket.count_frame(),
                    Incoming::Ended => return None,
                    Incoming::Broken(code, reason) => Some((code, reason, "broken")),
                    Incoming::Faulty(fault) => {
                        if let ReadFault::Full(full) = fault {
                            desk.refused(full.code);
                        }
                        Some(fault.close_frame())
                    }
                }
            }
            Turn::Outgoing(Ok(())) => {
                let began = Instant::now();
                let sent = wire.send(&mut frames, desk.limits.write_stall, is_slow).await;
                if frames.capacity() > KEPT_FRAMES {
                    frames = Vec::new();
                }
                // Nothing was read meanwhile: that is not the client's silence.
                idle_at += began.elapsed();
                match sent {
                    Ok(()) => None,
                    Err(Unwritten::Stalled) => Some(SLOW),
                    Err(Unwritten::Ended) => return None,
                }
            }
            Turn::Outgoing(Err(Closed::Slow)) => Some(SLOW),
            Turn::Outgoing(Err(Closed::Drain)) => Some(DRAIN),
            Turn::Done(done) => socket.handle(Input::Done(done)),
            Turn::Alarm => {
                if wire.bytes_read() != heard {
                    // Part of a long frame is a sign of life, too.
                    (heard, idle_at) = (wire.bytes_read(), Instant::now() + desk.limits.idle);
                }
                if Instant::now() >= idle_at { Some(IDLE) } else { socket.handle(Input::Tick) }
            }
            Turn::Closing => {
                // It was called off in the same moment.
                if !is_leaving {
                    called.set(desk.seats.departure.called(generation));
                }
                None
            }
            Turn::Stay => {
                is_leaving = false;
                called.set(desk.seats.departure.called(generation));
                socket.handle(Input::Closing(false))
            }
            Turn::Drain => socket.handle(Input::Drain),
        };
        if close_frame.is_some() {
            return close_frame;
        }
        let mut due = socket.session.deadline().map_or(idle_at, |at| idle_at.min(at.into()));
        if let Some(resuming) = &mut socket.resuming {
            resuming.look(&desk, &outbox);
            due = due.min(resuming.look_at());
        }
        if alarm.is_elapsed() || due < alarm.deadline() {
            alarm.as_mut().reset(due);
        }
    }
}

/// How long writing the last words may stand still.
const FAREWELL: Duration = Duration::from_secs(2);

/// Writes everything that was queued before the close_frame.
async fn write_rest(wire: &mut Wire, outbox: &Outbox, stall: Duration) -> Result<(), Unwritten> {
    let mut frames = Vec::new();
    outbox.close(Closed::Drain);
    if timeout(stall.min(FAREWELL), outbox.take_over()).await.is_err() {
        return Err(Unwritten::Stalled);
    }
    while outbox.take(&mut frames) == Some(Ok(())) {
        wire.send(&mut frames, stall.min(FAREWELL), || outbox.is_slow()).await?;
    }
    Ok(())
}

impl Socket {
    /// Its members leave the hub: nothing more is queued.
    fn leave(&mut self) {
        self.handle(Input::Gone);
    }

    /// Hands a frame to the session, and counts it unless it was a broadcast that is passed on.
    fn hear(&mut self, frame: Input<'_>) -> Option<Goodbye> {
        let said = self.session.said();
        let close_frame = self.handle(frame);
        if said == self.session.said() {
            close_frame.or_else(|| self.count_frame())
        } else {
            close_frame
        }
    }

    /// Counts a frame that says nothing to anybody.
    fn count_frame(&self) -> Option<Goodbye> {
        let code = self.session.count_frame(self.desk.now().at).err()?;
        self.desk.refused(code);
        Some(FLOOD)
    }

    /// Hands one input to the session and does what it says.
    fn handle(&mut self, input: Input<'_>) -> Option<Goodbye> {
        let mut effects = Vec::new();
        let now = self.desk.now();
        self.session.handle(now, input, &mut effects);
        // A client that reads that it is subscribed must be.
        self.outbox.pause();
        let (presences, at) = (self.desk.hub.presences(), now.at);
        let mut close_frame = None;
        for effect in effects {
            match effect {
                // A closed outbox is noticed by whoever drains it.
                Effect::Send(frame) => drop(self.outbox.offer(frame)),
                Effect::Start(number, work) => self.works.start(&self.desk, number, work),
                Effect::Cancel(number) => self.works.cancel(number),
                Effect::Subscribe { member, principal, subscriptions, since, firsts } => {
                    member.set_principal(principal);
                    let since = match &mut self.resuming {
                        Some(resuming) => {
                            resuming.subscribe(&self.desk, &member, &subscriptions, since, &firsts)
                        }
                        None => since,
                    };
                    self.desk.subscribe(member, subscriptions, since, firsts);
                }
                Effect::Enter { member, room, receives } => {
                    self.desk.hub.rooms().enter(&room, &member, receives);
                }
                Effect::Attend { attendee, receives } => presences.attend(at, &attendee, receives),
                Effect::Track { attendee, payload, is_told } => {
                    presences.track(at, &attendee, payload, is_told);
                }
                Effect::Untrack(attendee) => presences.untrack(at, &attendee),
                Effect::Lose(attendee) => presences.lose(at, &attendee),
                Effect::Broadcast { member, broadcast } => {
                    if let Some(room) = member.room() {
                        self.desk.broadcast(room, Some(member.id), &broadcast);
                    }
                }
                Effect::Unsubscribe(member) => {
                    if let Some(resuming) = &mut self.resuming {
                        resuming.unsubscribe(&self.desk, &member);
                    }
                    self.desk.hub.unsubscribe(&member);
                }
                Effect::Refused(code) => self.desk.refused(code),
                Effect::Close(code, reason) => close_frame = Some(goodbye_of(code, reason)),
            }
        }
        self.outbox.resume();
        let joined = self.session.joined();
        if joined != self.joined {
            let gauge = &self.desk.metrics.channels;
            gauge.inc_by(
                i64::try_from(joined).unwrap_or(0) - i64::try_from(self.joined).unwrap_or(0),
            );
            self.joined = joined;
        }
        close_frame
    }
}

fn goodbye_of(code: u16, reason: &'static str) -> Goodbye {
    if code == DRAIN.0 { DRAIN } else { (code, reason, "joins") }
}

/// However the task ends, its members leave the hub.
impl Drop for Socket {
    fn drop(&mut self) {
        self.handle(Input::Gone);
        self.outbox.seal();
    }
}
