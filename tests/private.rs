//! Private channels, and what the database says in channels: both stand on `realtime.messages`.

mod channels;
mod check;
mod http;
mod messages;
mod migrate;
mod order;
mod policies;
mod presence;
mod refusals;
