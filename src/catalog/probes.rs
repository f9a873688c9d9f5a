//! The connections on which what clients wrote is tried.
//!
//! Promises: nothing that one client writes holds up anything but its own joins; who waits too long is told so. Overflow:
//! a join that has waited its time is not tried, and comes again later.

use futures_util::future::BoxFuture;
use tokio_postgres::Client;

use super::acting::Acting;
use super::link::{Link, in_time, unreadable};
use super::turns::Turns;
use crate::error::{Error, ErrorKind};
use crate::model::Principal;
use crate::postgres::{NotActing, Target};
use crate::shutdown::Stage;

/// How many are tried at the same time, for different principals.
const PLACES: usize = 2;

/// A few connections, taken in fair turns.
#[derive(Debug)]
pub(super) struct Probes {
    places: Box<[Place]>,
    turns: Turns,
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
        Self { places: (0..PLACES).map(place).collect(), turns: Turns::new(PLACES) }
    }

    /// Asks the catalog when it is the principal's turn.
    ///
    /// # Errors
    /// Its turn did not come, Postgres could not be reached, or refused the question.
    pub(super) async fn ask<T>(
        &self,
        principal: &Principal,
        question: impl for<'a> Fn(&'a Client) -> BoxFuture<'a, Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        let turn = in_time(self.turns.take(principal)).await?;
        match self.places.get(turn.place) {
            Some(place) => place.link.ask(question).await,
            None => Err(unreadable(ErrorKind::Bug)),
        }
    }

    /// Asks as the principal's role when it is the principal's turn.
    ///
    /// # Errors
    /// Its turn did not come, it cannot be acted as the role, or Postgres refused the question.
    pub(super) async fn ask_as<T>(
        &self,
        principal: &Principal,
        question: impl for<'a> Fn(&'a Client) -> BoxFuture<'a, Result<T, tokio_postgres::Error>>,
    ) -> Result<T, NotActing> {
        let turn = in_time(self.turns.take(principal)).await.map_err(NotActing::Unreachable)?;
        match self.places.get(turn.place) {
            Some(Place { link, acting }) => acting.ask(link, principal.role(), question).await,
            None => Err(NotActing::Unreachable(unreadable(ErrorKind::Bug))),
        }
    }
}
