//! What goes into a session and what comes out: plain values, so that a protocol corner is a script.

use std::sync::Arc;
use std::time::Instant;

use crate::auth::denial::Denial;
use crate::auth::policy::{Kept, Past};
use crate::auth::token::{TokenRefusal, Verified};
use crate::catalog::bind::{Unbound, Wish};
use crate::egress::subject::Subject;
use crate::hub::presence::Payload;
use crate::hub::{Attendee, Broadcast, Frame, Member, Receives, RoomName};
use crate::model::{FirstRead, Principal, Since, Subscription};

/// The moment something happens, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For waiting.
    pub at: Instant,
    /// Unix seconds, which tokens are written in.
    pub unix: i64,
}

/// What happens to a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// A text frame.
    Text(&'a str),
    /// A binary frame.
    Binary(&'a [u8]),
    /// The session's deadline may have passed.
    Tick,
    /// Work is done.
    Done(Done),
    /// The server is going away and takes no more joins, or it stays after all.
    Closing(bool),
    /// The server is going away, and it is this client's turn.
    Drain,
    /// The client is gone.
    Gone,
}

/// What a session wants done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Queue a frame for the client.
    Send(Frame),
    /// Start work; its end comes back as [`Input::Done`].
    Start(u64, Work),
    /// Nobody waits for this work any more.
    Cancel(u64),
    /// From now on the member acts for the principal and has exactly these subscriptions, each with the id it has
    /// in the client's eyes.
    Subscribe {
        /// The member.
        member: Arc<Member>,
        /// Whom it acts for.
        principal: Arc<Principal>,
        /// What it asks for.
        subscriptions: Vec<(u64, Arc<Subscription>)>,
        /// For those that continue: after what. It is shown that past first.
        since: Vec<(u64, Since)>,
        /// For those whose rows are read first unless they continue: which rows.
        firsts: Vec<(u64, FirstRead)>,
    },
    /// From now on the member is in the room.
    Enter {
        /// The member.
        member: Arc<Member>,
        /// Where.
        room: RoomName,
        /// What it receives there.
        receives: Receives,
    },
    /// From now on the attendee is told who is present.
    Attend {
        /// Who.
        attendee: Arc<Attendee>,
        /// What it receives in its room.
        receives: Receives,
    },
    /// The attendee says something of itself.
    Track {
        /// Who.
        attendee: Arc<Attendee>,
        /// What it says.
        payload: Payload,
        /// Whether it is told of presence, its own too.
        is_told: bool,
    },
    /// The attendee takes it back, or left.
    Untrack(Arc<Attendee>),
    /// The attendee is gone without a word; it may come back.
    Lose(Arc<Attendee>),
    /// The member says something to everyone in its room.
    Broadcast {
        /// The member.
        member: Arc<Member>,
        /// What it says.
        broadcast: Broadcast,
    },
    /// The member is gone.
    Unsubscribe(Arc<Member>),
    /// A join, a token or a message was refused; the code is for the metrics.
    Refused(&'static str),
    /// Close the socket once everything queued is written.
    Close(u16, &'static str),
}

/// Work that waits for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Verify the token of a join, if the relay may take another join now.
    Admit {
        /// The token.
        token: Arc<str>,
    },
    /// Verify a token that replaces another.
    Verify {
        /// The token.
        token: Arc<str>,
    },
    /// Ask the policies what a private channel may hear.
    Authorise {
        /// On whose behalf.
        principal: Arc<Principal>,
        /// The topic without its prefix.
        topic: Arc<str>,
        /// Whether presence is asked for, too.
        wants_presence: bool,
        /// What is wanted of the past, if it may be heard: since when in Unix milliseconds, and how many at most.
        replay: Option<(i64, usize)>,
    },
    /// Ask the policies what a private channel may say.
    MaySay {
        /// On whose behalf.
        principal: Arc<Principal>,
        /// The topic without its prefix.
        topic: Arc<str>,
        /// Whether it may hear of presence is asked, too.
        wants_presence: bool,
    },
    /// Ask again for the past of a channel that is in its room now: what was said since the first time it was asked.
    CatchUp {
        /// The topic without its prefix.
        topic: Arc<str>,
        /// Since when in Unix milliseconds.
        since: i64,
        /// How many at most.
        limit: usize,
    },
    /// Wait until the database's messages are streamed.
    AwaitMessages,
    /// Look up what a channel asks for.
    Bind {
        /// On whose behalf.
        principal: Arc<Principal>,
        /// What is asked for.
        wishes: Arc<[Wish]>,
    },
}

/// What may be said on a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writable {
    /// Broadcasts.
    pub broadcast: bool,
    /// Presence.
    pub presence: bool,
}

/// What of a topic may be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readable {
    /// What others say.
    pub broadcast: bool,
    /// Who comes and goes; `None` when it was not asked.
    pub presence: Option<bool>,
}

impl Readable {
    /// Whether nothing may be heard.
    pub fn is_nothing(self) -> bool {
        !self.broadcast && self.presence != Some(true)
    }

    /// Whether something of `before` may not be heard any more.
    pub fn lacks_any_of(self, before: Self) -> bool {
        let lacks_presence = before.presence == Some(true) && self.presence != Some(true);
        before.broadcast && !self.broadcast || lacks_presence
    }
}

/// The end of some work.
#[derive(Debug)]
pub struct Done {
    /// The number it was started with.
    pub work: u64,
    /// A number for the member this may make.
    pub member_id: u64,
    /// What came out.
    pub finding: Finding,
}

/// What came out of some work.
#[derive(Clone, Debug)]
pub enum Finding {
    /// The relay takes no more joins this second.
    TooManyJoins,
    /// A token was verified, or not believed; with what whoever brought it may use.
    Verified(Result<(Verified, Option<Arc<Subject>>), TokenRefusal>),
    /// What a private channel may hear, and the past if it was asked for.
    Authorised {
        /// What it may hear.
        readable: Result<Readable, Denial>,
        /// What it missed.
        past: Option<Result<Past, Denial>>,
    },
    /// What a private channel may say.
    MaySay {
        /// What it may say.
        writable: Result<Writable, Denial>,
        /// Whether it may hear of presence, if that was asked.
        hears_presence: Option<bool>,
    },
    /// What was said meanwhile.
    CaughtUp(Result<Vec<Kept>, Denial>),
    /// Whether the database's messages are streamed, in time.
    Streams(bool),
    /// The wishes were looked up, or not granted.
    Bound(Result<Vec<Subscription>, Unbound>),
}
