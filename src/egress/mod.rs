//! The ways out. Each client protocol is a folder here and sees none of the others; what they share is beside them.

mod bodies;
mod budget;
pub mod chat;
pub mod departure;
pub mod network_permits;
mod pace;
pub mod patient;
pub mod phoenix;
pub mod seats;
mod subject;
mod unfinished;

use axum::http::Extensions;

use crate::model::Network;

/// Where a request comes from, as the listener found out.
fn network_of(request: &Extensions) -> Network {
    request.get().copied().unwrap_or(Network::UNKNOWN)
}
