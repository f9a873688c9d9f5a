//! How many broadcasts may be posted a second: by servers, by everybody else together, and by each of those.
//!
//! A server is whoever has a token of `service_role`. The public key, which is in everybody's browser, uses nothing of a
//! server's rate, and no caller with it can use up what all of them have.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::auth::api::SERVICE;
use crate::config::Limits;
use crate::egress::budget::Budget;
use crate::egress::subject::Subject;
use crate::model::Principal;

/// What is left for all.
#[derive(Debug)]
pub(in crate::egress::phoenix) struct Rates {
    per_second: AtomicU32,
    servers: Budget,
    others: Budget,
}

/// A rate as an answer tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Messages a second.
    pub(super) limit: u64,
    /// How many could be taken at once after a rest.
    pub(super) most: u64,
    /// How many could be taken at once now.
    pub(super) left: u64,
}

/// Whose rate it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Poster {
    /// A server.
    Server,
    /// Anybody else.
    Other,
}

impl Poster {
    /// What a principal is.
    pub(super) fn of(principal: &Principal) -> Self {
        if principal.role() == SERVICE { Self::Server } else { Self::Other }
    }
}

impl Rates {
    /// Nothing is used yet.
    pub(in crate::egress::phoenix) fn new(limits: &Limits, now: Instant) -> Self {
        let per_second = limits.http_messages_per_second;
        let budget = || Budget::new(per_second, now);
        Self { per_second: per_second.into(), servers: budget(), others: budget() }
    }

    /// Allows another number a second from now on.
    pub(in crate::egress::phoenix) fn set_rate(&self, per_second: u32) {
        self.per_second.store(per_second, Ordering::Relaxed);
        self.servers.set_rate(per_second);
        self.others.set_rate(per_second);
    }

    const fn of(&self, poster: Poster) -> &Budget {
        match poster {
            Poster::Server => &self.servers,
            Poster::Other => &self.others,
        }
    }

    /// What a sender is told of its rate: its own where it has less left than all.
    pub(super) fn rate(&self, poster: Poster, subject: Option<&Subject>, now: Instant) -> Rate {
        let of_all = self.of(poster);
        let limit = u64::from(self.per_second.load(Ordering::Relaxed));
        let all = Rate { limit, most: of_all.most(), left: of_all.left(now) };
        let own = subject.filter(|_| poster == Poster::Other).map(|subject| {
            let [limit, most, left] = subject.posts(now);
            Rate { limit, most, left }
        });
        own.filter(|own| own.left < all.left).unwrap_or(all)
    }

    /// Takes so many; the word for the metrics when all have used too many.
    pub(super) fn take(
        &self,
        poster: Poster,
        count: u32,
        now: Instant,
    ) -> Result<(), &'static str> {
        let may = self.of(poster).take(count, now);
        if may { Ok(()) } else { Err("MessageRateLimitReached") }
    }
}
