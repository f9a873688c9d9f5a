//! Askers of the same question who share an answer.
//!
//! Promises: nobody is given an answer to a question that was put to Postgres before they asked; so everyone who asks
//! while an answer is under way shares the next one. One question is under way at a time. Memory is one entry for each
//! question somebody waits for.
//!
//! Deliberately not here: remembering answers (`catalog::cache`).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::link::in_time;
use crate::error::{Error, ErrorKind};

/// What was answered, or why it was not.
type Answer<A> = Result<A, (ErrorKind, Box<str>)>;

/// An answer to come.
type Round<A> = OnceLock<Answer<A>>;

/// Questions of one kind.
#[derive(Debug)]
pub(super) struct Together<Q, A> {
    /// The rounds that were not put to Postgres yet.
    open: Mutex<HashMap<Q, Arc<Round<A>>>>,
    /// Held by whoever asks Postgres.
    line: tokio::sync::Mutex<()>,
}

/// Somebody who waits for the answer of a round.
struct Waiting<'a, Q: Hash + Eq, A> {
    together: &'a Together<Q, A>,
    question: Q,
    round: Arc<Round<A>>,
}

impl<Q, A> Default for Together<Q, A> {
    fn default() -> Self {
        Self { open: Mutex::default(), line: tokio::sync::Mutex::default() }
    }
}

impl<Q: Hash + Eq + Clone, A: Clone> Together<Q, A> {
    /// The answer to `question`; `asking` puts it to Postgres when nobody else did since.
    ///
    /// # Errors
    /// Its turn did not come, or what the asking ended with.
    pub(super) async fn ask(
        &self,
        question: Q,
        asking: impl Future<Output = Result<A, Error>>,
    ) -> Result<A, Error> {
        let round = Arc::clone(self.open().entry(question.clone()).or_default());
        let waiting = Waiting { together: self, question, round };
        let _line = in_time(self.line.lock()).await?;
        let answer = if let Some(answer) = waiting.round.get() {
            answer.clone()
        } else {
            // Whoever comes from here on waits for the next round. One whose asker went away half way is asked again
            // by another of those who wait for it.
            waiting.close();
            let answer = asking.await.map_err(|error| (error.kind(), error.to_string().into()));
            waiting.round.get_or_init(|| answer).clone()
        };
        answer.map_err(|(kind, words)| Error::new(kind, words))
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Q, Arc<Round<A>>>> {
        // The map is never left half-changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: Hash + Eq, A> Waiting<'_, Q, A> {
    fn close(&self) {
        let mut open = self.together.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&self.question).is_some_and(|round| Arc::ptr_eq(round, &self.round)) {
            open.remove(&self.question);
        }
    }
}

impl<Q: Hash + Eq, A> Drop for Waiting<'_, Q, A> {
    fn drop(&mut self) {
        // The map's and this one: nobody waits for this round any more. Who comes at this moment holds it, and only shares
        // it with fewer others.
        if Arc::strong_count(&self.round) <= 2 {
            self.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn whoever_asks_meanwhile_shares_the_next_answer() {
        let together = Together::<&str, u32>::default();
        let asked = AtomicU32::new(0);
        let (answer, answered) = oneshot::channel::<()>();
        let slow = async {
            let _ = answered.await;
            Ok(asked.fetch_add(1, Ordering::Relaxed))
        };
        let quick = || async { Ok(asked.fetch_add(1, Ordering::Relaxed)) };
        let mut first = Box::pin(together.ask("a", slow));
        assert!(first.as_mut().now_or_never().is_none());
        let mut later: Vec<_> = (0..10).map(|_| Box::pin(together.ask("a", quick()))).collect();
        let mut other = Box::pin(together.ask("b", quick()));
        assert!(later.iter_mut().all(|asking| asking.as_mut().now_or_never().is_none()));
        assert!(other.as_mut().now_or_never().is_none());
        answer.send(()).unwrap();
        assert_eq!(first.await.unwrap(), 0);
        for asking in later {
            assert_eq!(asking.await.unwrap(), 1, "none began before they asked");
        }
        assert_eq!(other.await.unwrap(), 2);
        assert_eq!(together.ask("a", quick()).await.unwrap(), 3, "and nothing is remembered");
        assert!(together.open().is_empty());
    }

    #[tokio::test]
    async fn an_asker_that_goes_away_leaves_the_question_to_the_others() {
        let together = Together::<&str, u32>::default();
        let mut gone = Box::pin(together.ask("a", std::future::pending()));
        assert!(gone.as_mut().now_or_never().is_none());
        let mut left = Box::pin(together.ask("a", async { Ok(1) }));
        let mut also = Box::pin(together.ask("a", async { Ok(2) }));
        assert!(left.as_mut().now_or_never().is_none() && also.as_mut().now_or_never().is_none());
        drop(gone);
        drop(left);
        assert_eq!(also.await.unwrap(), 2);
        assert!(together.open().is_empty());
    }

    #[tokio::test]
    async fn a_failure_is_shared_like_an_answer() {
        let together = Together::<&str, u32>::default();
        let refused = || async { Err(Error::new(ErrorKind::SourceRejected, "no")) };
        let (one, two) = tokio::join!(together.ask("a", refused()), together.ask("a", refused()));
        for answer in [one, two] {
            let error = answer.unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string()),
                (ErrorKind::SourceRejected, "no".to_owned())
            );
        }
    }
}
