//! Who may read from and send to a private topic: the policies on `realtime.messages`, tried on the table itself.
//!
//! Promises: a permission is what SELECT and INSERT as that role do, because they are done, with the claims and the topic
//! policies expect, and rolled back; so nothing stays and nothing is streamed. What could not be tried is a [`Denial`],
//! never a permission.
//!
//! Not here: when a channel asks, and what it remembers of the answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::denial::Denial;
use super::gate::wait;
use super::policy_link::{Fault, Link, SETTINGS};
use super::streamed::Streamed;
use crate::log_rate::admit;
use crate::model::{CallerIdentity, Network, Principal};
use crate::postgres::{Target, Turn, Turns, connect_plain};
use crate::shutdown::Stage;

/// How long Postgres may take to say that it is there.
const GREETING: Duration = Duration::from_secs(2);

/// Bytes of messages that are read of the past at once.
pub const MOST_BYTES: usize = 16 << 20;

/// Whose turn the relay's own questions use.
const OWN: CallerIdentity = CallerIdentity::Stranger(Network::UNKNOWN);

/// Who asks about what.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// The topic without its prefix.
    pub topic: &'a str,
    /// Headers of the request, as one JSON object.
    pub headers: &'a str,
    /// Whose turn is used for it.
    pub caller: &'a CallerIdentity,
}

/// What policies distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Messages.
    Broadcast,
    /// Who is here.
    Presence,
}

impl Extension {
    /// As the column `extension` has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Broadcast => "broadcast",
            Self::Presence => "presence",
        }
    }
}

/// A message of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its id.
    pub id: Box<str>,
    /// Its event; one without is never delivered.
    pub event: Box<str>,
    /// Its JSON text, or its bytes.
    pub payload: Result<Box<str>, Vec<u8>>,
}

impl Kept {
    /// Bytes it takes, about.
    pub(super) fn size(&self) -> usize {
        let payload = self.payload.as_ref().map_or_else(Vec::len, |text| text.len());
        size_of::<Self>() + self.id.len() + self.event.len() + payload
    }
}

/// What there is of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The messages, oldest first.
    pub messages: Vec<Kept>,
    /// When Postgres was asked, by its own clock, in Unix milliseconds.
    pub asked_at: i64,
}

/// Asks Postgres. Shared.
#[derive(Debug)]
pub struct Policies {
    target: Target,
    limit: Duration,
    stage: Stage,
    streamed: Arc<Streamed>,
    turns: Turns<CallerIdentity>,
    idle: Mutex<Vec<Link>>,
}

impl Policies {
    /// Connections, at most as many as for one role's row checks, are opened when first needed.
    pub fn new(target: Target, settings: &crate::config::Postgres, stage: Stage) -> Arc<Self> {
        Arc::new(Self {
            target,
            limit: settings.check_timeout,
            stage,
            streamed: Arc::default(),
            // One caller never has all the connections, unless there is only one.
            turns: Turns::new(settings.pool, settings.pool.saturating_sub(1).max(1)),
            idle: Mutex::default(),
        })
    }

    /// Which of `extensions` may be read, in their order.
    ///
    /// # Errors
    /// It could not be tried, or a policy raised an error.
    pub async fn may_read(
        &self,
        asking: Asking<'_>,
        extensions: &[Extension],
    ) -> Result<Vec<bool>, Denial> {
        let _turn = self.turn(asking.caller).await?;
        loop {
            let mut lent = self.lend().await?;
            let answer = self.in_time(lent.link.try_reading(asking, extensions)).await;
            if let Some(answer) = self.settle(lent, answer, asking.principal.role()) {
                return answer;
            }
        }
    }

    /// Which of `extensions` may be sent, in their order.
    ///
    /// # Errors
    /// It could not be tried, or a policy raised an error.
    pub async fn may_write(
        &self,
        asking: Asking<'_>,
        extensions: &[Extension],
    ) -> Result<Vec<bool>, Denial> {
        let _turn = self.turn(asking.caller).await?;
        loop {
            let mut lent = self.lend().await?;
            let answer = self.in_time(lent.link.try_writing(asking, extensions)).await;
            if let Some(answer) = self.settle(lent, answer, asking.principal.role()) {
                return answer;
            }
        }
    }

    /// Where transactions are noted whose messages were told; [`Policies::replay`] does not leave them out.
    pub fn streamed(&self) -> Arc<Streamed> {
        Arc::clone(&self.streamed)
    }

    /// The newest `at_most` messages of a private topic since a moment in Unix milliseconds, oldest first; waits until
    /// all that were told before can be read. Whether they may be read is asked before. Of more than [`MOST_BYTES`] the
    /// oldest are left out.
    ///
    /// # Errors
    /// Postgres could not be asked.
    pub async fn replay(
        &self,
        caller: &CallerIdentity,
        topic: &str,
        since: i64,
        at_most: usize,
    ) -> Result<Past, Denial> {
        let at_most = i32::try_from(at_most).unwrap_or(i32::MAX);
        // Beyond these Postgres has no timestamps; nothing is older or newer either.
        let since = since.clamp(-210_000_000_000_000, 9_000_000_000_000_000);
        let _turn = self.turn(caller).await?;
        loop {
            let mut lent = self.lend().await?;
            let answer = self.in_time(self.read_past(&mut lent.link, topic, since, at_most)).await;
            if let Some(answer) = self.settle(lent, answer, "") {
                return answer;
            }
        }
    }

    /// Makes the partitions that are needed soon and drops those that are past, when the database has the function.
    ///
    /// # Errors
    /// Postgres could not be asked, or refused.
    pub async fn keep_partitions(&self) -> Result<(), Denial> {
        let _turn = self.turn(&OWN).await?;
        loop {
            let mut lent = self.lend().await?;
            let answer = self.in_time(lent.link.keep_partitions()).await;
            if let Some(answer) = self.settle(lent, answer, "") {
                return answer;
            }
        }
    }

    /// Whether Postgres answers, within two seconds.
    pub async fn reach_postgres(&self) -> bool {
        let asking = async {
            let _turn = self.turn(&OWN).await?;
            loop {
                let mut lent = self.lend().await?;
                let answer = self.in_time(lent.link.greet()).await;
                if let Some(answer) = self.settle(lent, answer, "") {
                    return answer;
                }
            }
        };
        matches!(tokio::time::timeout(GREETING, asking).await, Ok(Ok(())))
    }

    async fn read_past(
        &self,
        link: &mut Link,
        topic: &str,
        since: i64,
        at_most: i32,
    ) -> Result<Past, Fault> {
        let unseen = self.streamed.unseen(Instant::now());
        let mut count = 0;
        loop {
            if let Some(past) = link.read_past(&unseen, topic, since, at_most).await? {
                self.streamed.seen(&unseen);
                return Ok(past);
            }
            tokio::time::sleep(wait(count)).await;
            count += 1;
        }
    }

    async fn turn(&self, caller: &CallerIdentity) -> Result<Turn<'_, CallerIdentity>, Denial> {
        let turn = tokio::time::timeout(self.limit, self.turns.take(caller)).await;
        turn.map_err(|_| Denial::Busy)
    }

    async fn lend(&self) -> Result<Lent, Denial> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match kept {
            Some(link) => Ok(Lent { link, is_kept: true }),
            None => Ok(Lent { link: self.open().await?, is_kept: false }),
        }
    }

    /// `None`: our own clock ran out, because not even Postgres said that time was up.
    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Option<Fault>> {
        tokio::time::timeout(self.limit * 4, answer).await.map_err(|_| None)?.map_err(Some)
    }

    /// Keeps a connection on which nothing of the question is left; dropping any other rolls back. `None`: it was of no
    /// use any more, and another may answer.
    fn settle<T>(
        &self,
        lent: Lent,
        answer: Result<T, Option<Fault>>,
        role: &str,
    ) -> Option<Result<T, Denial>> {
        let Lent { link, is_kept } = lent;
        let is_useful = matches!(answer, Ok(_) | Err(Some(Fault::Said(_))));
        if is_useful && link.is_clean() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(link);
        }
        match answer {
            Ok(answer) => Some(Ok(answer)),
            Err(Some(Fault::Stale(_))) if is_kept => None,
            Err(Some(Fault::Stale(error) | Fault::Said(error))) => {
                Some(Err(Denial::of(&error, role)))
            }
            Err(Some(Fault::Shut)) => Some(Err(Denial::Unavailable)),
            Err(None) => Some(Err(Denial::Cancelled)),
        }
    }

    async fn open(&self) -> Result<Link, Denial> {
        let limit = self.limit.as_millis().max(1).to_string();
        let mut settings = vec![("statement_timeout", &*limit), ("lock_timeout", &*limit)];
        settings.extend(SETTINGS);
        let opened = connect_plain(&self.target, "relay-policy", &settings, &self.stage).await;
        opened.map(Link::new).map_err(|error| {
            if let Some(left_out) = admit(&["policies", &error.to_string()]) {
                tracing::warn!(%error, left_out, "policies cannot be asked");
            }
            Denial::of_connecting(&error)
        })
    }
}

/// A connection that is nobody else's meanwhile.
#[derive(Debug)]
struct Lent {
    link: Link,
    is_kept: bool,
}
