//! What is promised under every attack, and what is not.
//!
//! This is the one file to change when a promise begins to hold: take its word out of [`NOT_ASSERTED`], and every test run and
//! `make attack` assert it from then on.

use std::time::Duration;

use super::subscriber::Times;

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Whoever attacks is refused something, or sent away (short form).
    Refused,
    /// Somebody else gets what they came for: see `Bystander`.
    Bystander,
    /// Rows come as [`rows_come_in_time`] says (long form, as are the others).
    Rows,
    /// The relay's memory stays under [`MAX_MEMORY_MIB`].
    Memory,
    /// The health check is answered within [`MAX_HEALTH_TIME`].
    Health,
    /// The relay logs at most [`MAX_LOG_LINES_PER_SECOND`] a second.
    Log,
}

/// All promises.
pub const PROMISES: &[Promise] = {
    use Promise::{Bystander, Health, Log, Memory, Refused, Rows};
    &[Refused, Bystander, Rows, Memory, Health, Log]
};

/// MiB of memory: half of `limits.memory` by default, because one address has a quarter of each kind of it.
pub const MAX_MEMORY_MIB: u64 = 512;

/// How long nineteen of twenty health checks take at most.
pub const MAX_HEALTH_TIME: Duration = Duration::from_millis(100);

/// Lines a second that an attack may cause.
pub const MAX_LOG_LINES_PER_SECOND: f64 = 20.0;

/// Rows that take no longer than this are in time, however fast they are without an attack.
const ROW_TIME_ALLOWED: Duration = Duration::from_millis(20);

/// The same of what a bystander does, which is several round trips and a query of Postgres.
const BYSTANDER_TIME_ALLOWED: Duration = Duration::from_millis(500);

/// Whether rows come within three times what they take otherwise.
pub fn rows_come_in_time(idle: &Times, attacked: &Times) -> bool {
    is_in_time(idle, attacked, ROW_TIME_ALLOWED)
}

/// Whether a bystander always succeeds, and about as soon as otherwise.
pub fn bystander_is_served(idle: &Times, attacked: &Times) -> bool {
    is_in_time(idle, attacked, BYSTANDER_TIME_ALLOWED)
}

fn is_in_time(idle: &Times, attacked: &Times, allowed: Duration) -> bool {
    let (Some(idle), Some(attacked_most)) = (idle.percentile(95), attacked.percentile(95)) else {
        return false;
    };
    attacked.missing == 0 && attacked_most <= (3 * idle).max(allowed)
}

/// The promises that are not asserted of an attack.
const NOT_ASSERTED: &[(&str, &[Promise])] = &[
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
pub fn is_asserted(attack: &str, promise: Promise) -> bool {
    let exception = NOT_ASSERTED.iter().find(|(name, _)| *name == attack);
    exception.is_none_or(|(_, promises)| !promises.contains(&promise))
}

#[test]
fn every_exception_names_an_attack_and_its_promises() {
    for (name, promises) in NOT_ASSERTED {
        super::attacks::named(name);
        assert!(!promises.is_empty(), "{name}: nothing is said of it, so its line can go");
    }
}
