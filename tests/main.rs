//! One binary for every test that is not beside the code. Each module is one promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    unreachable_pub,
    missing_docs,
    dead_code,
    reason = "a test fails by panicking, brings its own clock, and shares a harness wider than one test"
)]

mod support;

// The harness itself: a cluster starts, a database is empty.
mod harness;

// A configuration that cannot be meant says which key, why, and what to write instead.
mod config;
// Every type's text becomes the JSON that Postgres itself would make of it.
mod rendering;
// The shipped SQL, as psql shows it.
mod sql;

// The floors of the house, and what its files may not hold.
mod layers;

// supabase-js and realtime-py, unmodified.
mod clients;
