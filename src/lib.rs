//! Relay streams committed Postgres changes to browsers over WebSockets, each row only to those whose row level
//! security lets them read it.
//!
//! > **The relay reads what Postgres committed, and shows each client the changes it asked for and may see.**
//!
//! The modules below are in reading order: from the WAL to the client, then what holds it together.

pub mod model;

pub mod pgoutput;
pub mod postgres;
pub mod source;

pub mod changelog;

pub mod router;
pub mod rowjson;

pub mod auth;
pub mod catalog;

pub mod fanout;
pub mod hub;

pub mod egress;
pub mod server;

pub mod config;
pub mod relay;

pub mod backoff;
pub mod error;
pub mod log_rate;
pub mod memory;
pub mod metrics;
pub mod secret;
pub mod shutdown;

pub mod cli;
