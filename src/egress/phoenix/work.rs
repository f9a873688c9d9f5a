//! The work a session waits for, done beside its socket.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use super::desk::Desk;
use super::effect::{Finding, Work};
use crate::catalog::bind;

type Running = Pin<Box<dyn Future<Output = Finding> + Send>>;

/// The work of one socket. A channel waits for one piece at a time, so the channel limit bounds it.
#[derive(Default)]
pub(super) struct Works {
    running: Vec<(u64, Running)>,
}

impl fmt::Debug for Works {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Works").field("running", &self.running.len()).finish()
    }
}

impl Works {
    /// Starts a piece of work.
    pub(super) fn start(&mut self, desk: &Arc<Desk>, number: u64, work: Work) {
        self.running.push((number, Box::pin(run(Arc::clone(desk), work))));
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

async fn run(desk: Arc<Desk>, work: Work) -> Finding {
    match work {
        Work::Admit { .. } if !desk.take_join() => Finding::TooManyJoins,
        Work::Admit { token } | Work::Verify { token } => {
            Finding::Verified(desk.tokens.verify(&token, (desk.clock)()).await)
        }
        Work::Bind { principal, wishes } => {
            Finding::Bound(bind::bind(&desk.catalog, &principal, &wishes).await)
        }
    }
}
