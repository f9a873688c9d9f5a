//! Supabase Realtime's protocol: Phoenix channels, serializers 1.0.0 and 2.0.0.
//!
//! `session` is the protocol as a pure function from inputs to effects; `socket` is the connection that obeys it;
//! `rest` is what can be said without one.
//! What a client may use of everything is in `egress/subject`; what it did too much of is refused to it alone.

mod attend;
mod binary;
mod channel;
mod desk;
pub mod dialect;
pub mod effect;
pub mod frame;
mod held;
mod json;
mod offered;
pub mod payload;
mod pen;
mod private;
mod progress;
mod refusal;
mod rest;
mod resuming;
pub mod session;
#[cfg(test)]
mod session_tests;
mod socket;
mod talk;
mod upgrade;
mod wire;
#[cfg(test)]
mod wire_tests;
mod work;

pub use desk::{Desk, Services};
pub use dialect::{PHOENIX_V1, PHOENIX_V2};
pub use session::Rules;
pub use upgrade::{PATHS, routes};
