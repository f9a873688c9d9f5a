//! Putting a configuration in force that was read again, without a client noticing.
//!
//! Promises: all of it or none. What can be refused (keys, the connection string) is looked at first. Sockets that are
//! open keep what was agreed with them when they came: their limits, and whom their token named until it expires or
//! they send another. Not here: settings that need a restart; the caller names them.

use std::sync::Arc;

use crate::auth::api::ApiKeys;
use crate::auth::token::Tokens;
use crate::config::{Auth, Config, Limits, Live};
use crate::egress::phoenix::Desk;
use crate::error::Error;
use crate::metrics::{Metrics, reason};
use crate::postgres::Target;

/// What can be replaced.
#[derive(Debug)]
pub(super) struct Reload {
    pub(super) tokens: Arc<Tokens>,
    pub(super) api_keys: Arc<ApiKeys>,
    pub(super) target: Target,
    pub(super) limits: Live<Limits>,
    pub(super) desk: Arc<Desk>,
    pub(super) metrics: Metrics,
    /// A role is known to more than the tokens, so roles stay.
    pub(super) roles: Vec<String>,
}

/// What became of the connection string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It is the same.
    Same,
    /// Its password is another: new connections log in with it.
    NewPassword,
    /// It names something else, which counts after a restart.
    Other,
}

impl Reload {
    /// Puts it in force.
    ///
    /// # Errors
    /// `Misconfigured`: a key or the connection string cannot be read. Nothing was changed.
    pub(super) fn apply(&self, config: Config) -> Result<Connection, Error> {
        let target = Target::parse(config.postgres.url.reveal())?;
        let auth = Auth { roles: self.roles.clone(), ..config.auth };
        self.tokens.renew(&auth)?;
        self.api_keys.renew(&auth);
        let before = Limits::clone(&self.limits);
        self.limits.replace(config.limits.after(&before));
        self.desk.renew_rates();
        Ok(if !self.target.is_like(&target) {
            Connection::Other
        } else if self.target.renew_password(&target) {
            Connection::NewPassword
        } else {
            Connection::Same
        })
    }

    /// Counts what became of a reading.
    pub(super) fn count(&self, is_done: bool) {
        let word = if is_done { "done" } else { "refused" };
        self.metrics.config_reloads.get_or_create(&reason(word)).inc();
        self.metrics.config_reload_successful.set(i64::from(is_done));
        if is_done {
            stamp(&self.metrics);
        }
    }
}

/// A configuration is in force as of now.
pub(super) fn stamp(metrics: &Metrics) {
    let seconds = super::now().unix_micros().div_euclid(1_000_000);
    metrics.config_reload_seconds.set(seconds);
}
