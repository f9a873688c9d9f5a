//! The ways out. Each client protocol is a folder here and sees none of the others; what they share is beside them.

mod budget;
pub mod chat;
pub mod departure;
pub mod patient;
pub mod phoenix;
pub mod seats;
mod subject;
