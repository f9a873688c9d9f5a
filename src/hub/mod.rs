//! Members, their outboxes, and the one queue in front of each client.
//!
//! The hub knows who is subscribed to what and hands out frames. It knows no client protocol: a [`Dialect`]
//! writes the frames, so that each is encoded once for everyone who speaks it.

pub mod member;
pub mod outbox;
pub mod registry;

pub use member::{Dialect, Member, Notice};
pub use outbox::{Backlog, Closed, Frame, Outbox, Undelivered};
pub use registry::Hub;
