//! The connections on which what clients wrote is tried.
//!
//! Promises: nothing that one caller writes holds up anything but its own joins, however many sockets and tokens it has;
//! who waits too long is told so. Overflow:
//! a join that has waited its time is not tried, and comes again later.

use futures_util::future::BoxFuture;
use tokio_postgres::Client;

use super::acting::Acting;
use super::link::{Link, in_time, unreadable};
use crate::error::{Error, ErrorKind};
use crate::model::CallerIdentity;
use crate::postgres::{NotActing, Target, Turns};
use crate::shutdown::Stage;

/// How many are tried at the same time, for different callers.
const PLACES: usize = 2;

/// A few connections, taken in fair turns.
#[derive(Debug)]
pub(super) struct Probes {
    places: Box<[Place]>,
    turns: Turns<CallerIdentity>,
}

/// What one asker has at a time.
#[derive(Debug)]
struct Place {
    /// For what the catalog says.
    link: Link,
    /// For what depends on who asks.
    acting: Acting,
}

impl Probes {
    /// Nothing is opened yet.
    pub(super) fn new(target: &Target, stage: &Stage) -> Self {
        let place = |_| Place {
            link: Link::new(target.clone(), "relay-bind", "2000", stage.clone()),
            acting: Acting::new(target.clone(), stage.clone()),
        };
        Self { places: (0..PLACES).map(place).collect(), turns: Turns::new(PLACES, 1) }
    }

    /// Asks the catalog when it is the caller's turn.
    ///
    /// # Errors
    /// Its turn did not come, Postgres could not be reached, or refused the question.
    pub(super) async fn ask<T>(
        &self,
        caller: &CallerIdentity,
        question: impl for<'a> Fn(&'a Client) -> BoxFuture<'a, Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        let turn = in_time(self.turns.take(caller)).await?;
        match self.places.get(turn.slot) {
            Some(place) => place.link.ask(question).await,
            None => Err(unreadable(ErrorKind::Bug)),
        }
    }

    /// Asks as a role when it is the caller's turn.
    ///
    /// # Errors
    /// Its turn did not come, it cannot be acted as the role, or Postgres refused the question.
    pub(super) async fn ask_as<T>(
        &self,
        caller: &CallerIdentity,
        role: &str,
        question: impl for<'a> Fn(&'a Client) -> BoxFuture<'a, Result<T, tokio_postgres::Error>>,
    ) -> Result<T, NotActing> {
        let turn = in_time(self.turns.take(caller)).await.map_err(NotActing::Unreachable)?;
        match self.places.get(turn.slot) {
            Some(Place { link, acting }) => acting.ask(link, role, question).await,
            None => Err(NotActing::Unreachable(unreadable(ErrorKind::Bug))),
        }
    }
}
