//! Members, their outboxes, and the one queue in front of each client.
//!
//! The hub knows who is subscribed to what and who is in which topic, and hands out frames. It knows no client protocol: a [`Dialect`]
//! writes the frames, so that each is encoded once for everyone who speaks it.

pub mod broadcast;
pub mod gate;
pub mod member;
pub mod outbox;
pub mod post;
pub mod presence;
pub mod presences;
pub mod proof;
pub mod registry;
pub mod resumes;
pub mod rooms;

pub use broadcast::{Broadcast, Content};
pub use gate::{Commit, Gate, Gates, Seen, Wishes};
pub use member::{Dialect, FirstShown, Hole, Member, Notice};
pub use outbox::{Backlog, Closed, Frame, Outbox, Undelivered};
pub use post::{Door, Post};
pub use presences::{Attendee, Presences};
pub use proof::Proof;
pub use registry::{Hub, Membership};
pub use resumes::Resumes;
pub use rooms::{Namespace, Receives, RoomName, Rooms};
