//! What is promised under every attack, and what is not.
//!
//! This is the one place to change when a promise begins to hold: take its word out of [`NOT_HELD`], and every test run and
//! `make attack` assert it from then on.

use std::time::Duration;

use super::canary::Times;

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Whoever attacks is refused something, or sent away (short form).
    Refused,
    /// Somebody else gets what they came for: see `Bystander`.
    Bystander,
    /// Rows come within [`times_of_idle`] (long form, as are the others).
    Rows,
    /// The relay's memory stays under [`MEMORY`].
    Memory,
    /// The health check is answered within [`HEALTH`].
    Health,
    /// The relay logs at most [`LOG_LINES`] a second.
    Log,
}

/// All promises.
pub const PROMISES: &[Promise] = {
    use Promise::{Bystander, Health, Log, Memory, Refused, Rows};
    &[Refused, Bystander, Rows, Memory, Health, Log]
};

/// MiB of memory: half of `limits.memory` by default, because one address has a quarter of each kind of it.
pub const MEMORY: u64 = 512;

/// How long nineteen of twenty health checks take at most.
pub const HEALTH: Duration = Duration::from_millis(100);

/// Lines a second that an attack may cause.
pub const LOG_LINES: f64 = 20.0;

/// Rows that come so fast are fast enough, however fast they are without an attack.
const FAST: Duration = Duration::from_millis(20);

/// The same of what a bystander does, which is several round trips and a question to Postgres.
const PROMPT: Duration = Duration::from_millis(500);

/// Whether rows come within three times what they take otherwise.
pub fn is_as_usual(idle: &Times, attacked: &Times) -> bool {
    is_within(idle, attacked, FAST)
}

/// Whether a bystander always succeeds, and about as soon as otherwise.
pub fn is_served(idle: &Times, attacked: &Times) -> bool {
    is_within(idle, attacked, PROMPT)
}

fn is_within(idle: &Times, attacked: &Times, enough: Duration) -> bool {
    let (Some(idle), Some(attacked_most)) = (idle.percentile(95), attacked.percentile(95)) else {
        return false;
    };
    attacked.missing == 0 && attacked_most <= (3 * idle).max(enough)
}

/// What is not promised, by attack.
const NOT_HELD: &[(&str, &[Promise])] = &[
    // These are refused nothing: what they ask for waits apart from what others wait for.
    ("match patterns", &[Promise::Refused]),
    ("like filters", &[Promise::Refused]),
    ("regexps at joins", &[Promise::Refused]),
    ("snapshots", &[Promise::Refused]),
    // Thousands that connect in one instant overflow the kernel's queue (net.core.somaxconn), and TCP repeats the attempt of
    // whoever connects meanwhile after a second or three. Probes belong to the address of their own.
    ("silent connections", &[Promise::Bystander, Promise::Health]),
];

/// Whether a promise is asserted.
pub fn is_held(attack: &str, promise: Promise) -> bool {
    let not_held = NOT_HELD.iter().find(|(name, _)| *name == attack);
    not_held.is_none_or(|(_, promises)| !promises.contains(&promise))
}

#[test]
fn what_is_not_held_is_said_of_attacks_that_there_are() {
    for (name, promises) in NOT_HELD {
        super::attacks::named(name);
        assert!(!promises.is_empty(), "{name}: nothing is said of it, so its line can go");
    }
}
