//! The work a session waits for, done beside its socket.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::desk::Desk;
use super::effect::{Finding, Readable, Work, Writable};
use crate::auth::policy::{Asking, Extension};
use crate::catalog::bind;
use crate::model::{CallerIdentity, Network};
use crate::source::SourceState;

/// How long a channel waits for the database's messages to be streamed.
const STREAM_PATIENCE: Duration = Duration::from_secs(60);

type Running = Pin<Box<dyn Future<Output = Finding> + Send>>;

/// The work of one socket. A channel waits for four pieces at a time at most, so the channel limit bounds it.
pub(super) struct Works {
    running: Vec<(u64, Running)>,
    /// Headers of the request that became the socket, as policies see them: a JSON object.
    headers: Arc<str>,
    network: Network,
}

impl fmt::Debug for Works {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Works").field("running", &self.running.len()).finish()
    }
}

impl Works {
    /// No work yet.
    pub(super) const fn new(headers: Arc<str>, network: Network) -> Self {
        Self { running: Vec::new(), headers, network }
    }

    /// Starts a piece of work.
    pub(super) fn start(&mut self, desk: &Arc<Desk>, number: u64, work: Work) {
        let running = run(Arc::clone(desk), Arc::clone(&self.headers), self.network, work);
        self.running.push((number, Box::pin(running)));
    }

    /// Stops a piece of work.
    pub(super) fn cancel(&mut self, number: u64) {
        self.running.retain(|(running, _)| *running != number);
    }

    /// The next piece to end, and its number; waits for ever while there is none. Cancel-safe.
    pub(super) async fn next(&mut self) -> (u64, Finding) {
        poll_fn(|cx| {
            for place in 0..self.running.len() {
                let Some((number, running)) = self.running.get_mut(place) else { break };
                if let Poll::Ready(finding) = running.as_mut().poll(cx) {
                    let number = *number;
                    drop(self.running.swap_remove(place));
                    return Poll::Ready((number, finding));
                }
            }
            Poll::Pending
        })
        .await
    }
}

async fn run(desk: Arc<Desk>, headers: Arc<str>, network: Network, work: Work) -> Finding {
    match work {
        Work::Admit { .. } if !desk.take_join() => Finding::TooManyJoins,
        Work::Admit { token } | Work::Verify { token } => {
            let verified = desk.tokens.verify(&token, (desk.clock)()).await;
            Finding::Verified(verified.map(|verified| {
                let caller = CallerIdentity::of(&verified.principal, network);
                let subject = desk.seats.subject(&caller);
                (verified, Some(subject))
            }))
        }
        Work::Authorise { principal, topic, wants_presence, replay } => {
            let caller = &CallerIdentity::of(&principal, network);
            let asking = Asking { principal: &principal, topic: &topic, headers: &headers, caller };
            let mut extensions = vec![Extension::Broadcast];
            extensions.extend(wants_presence.then_some(Extension::Presence));
            let readable = desk.policies.may_read(asking, &extensions).await;
            let readable = readable.map(|may| Readable {
                broadcast: may.first() == Some(&true),
                presence: may.get(1).copied(),
            });
            let past = match replay {
                Some((since, limit)) if readable.is_ok_and(|readable| readable.broadcast) => {
                    Some(desk.policies.replay(caller, &topic, since, limit).await)
                }
                _ => None,
            };
            Finding::Authorised { readable, past }
        }
        Work::MaySay { principal, topic, wants_presence } => {
            let caller = &CallerIdentity::of(&principal, network);
            let asking = Asking { principal: &principal, topic: &topic, headers: &headers, caller };
            let extensions = [Extension::Broadcast, Extension::Presence];
            let writable = desk.policies.may_write(asking, &extensions).await;
            let writable = writable.map(|may| Writable {
                broadcast: may.first() == Some(&true),
                presence: may.get(1) == Some(&true),
            });
            let hears_presence = match wants_presence && writable.is_ok() {
                true => {
                    let may = desk.policies.may_read(asking, &[Extension::Presence]).await;
                    Some(may.is_ok_and(|may| may == [true]))
                }
                false => None,
            };
            Finding::MaySay { writable, hears_presence }
        }
        Work::CatchUp { topic, since, limit } => {
            let caller = &CallerIdentity::Stranger(network);
            let past = desk.policies.replay(caller, &topic, since, limit).await;
            Finding::CaughtUp(past.map(|past| past.messages))
        }
        Work::AwaitMessages => {
            let mut source = desk.source.clone();
            let streams = source.wait_for(|state| {
                matches!(state, SourceState::Streaming { has_messages: true, .. })
            });
            let streams = tokio::time::timeout(STREAM_PATIENCE, streams).await;
            Finding::Streams(matches!(streams, Ok(Ok(_))))
        }
        Work::Bind { principal, wishes } => {
            let caller = &CallerIdentity::of(&principal, network);
            let context = bind::BindContext { principal: &principal, caller };
            Finding::Bound(bind::bind(&desk.catalog, context, &wishes).await)
        }
    }
}
