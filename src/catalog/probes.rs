//! The connections on which what clients wrote is tried.
//!
//! Promises: nothing that one client writes holds up anything but its own joins; who waits too long is told so. Overflow:
//! a join that has waited its time is not tried, and comes again later.

use futures_util::future::BoxFuture;
use tokio_postgres::Client;

use super::link::{Link, in_time, unreadable};
use super::turns::Turns;
use crate::error::{Error, ErrorKind};
use crate::model::Principal;
use crate::postgres::Target;
use crate::shutdown::Stage;

/// How many are tried at the same time, for different principals.
const PLACES: usize = 2;

/// A few connections, taken in fair turns.
#[derive(Debug)]
pub(super) struct Probes {
    links: Box<[Link]>,
    turns: Turns,
}

impl Probes {
    /// Nothing is opened yet.
    pub(super) fn new(target: &Target, stage: &Stage) -> Self {
        let link = |_| Link::new(target.clone(), "relay-bind", "2000", stage.clone());
        Self { links: (0..PLACES).map(link).collect(), turns: Turns::new(PLACES) }
    }

    /// Asks when it is the principal's turn.
    ///
    /// # Errors
    /// Its turn did not come, Postgres could not be reached, or refused the question.
    pub(super) async fn ask<T>(
        &self,
        principal: &Principal,
        question: impl for<'a> Fn(&'a Client) -> BoxFuture<'a, Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        let turn = in_time(self.turns.take(principal)).await?;
        match self.links.get(turn.place) {
            Some(link) => link.ask(question).await,
            None => Err(unreadable(ErrorKind::Bug)),
        }
    }
}
