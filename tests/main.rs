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
// A token is believed for what its issuer signed, and for nothing else.
mod tokens;
// Filters: what binding refuses and in which words, and that the router never contradicts Postgres.
mod filters;
// Every type's text becomes the JSON that Postgres itself would make of it.
mod rendering;
// Who reads which row: the relay's verdict is what SELECT shows.
mod row_security;
// The shipped SQL, as psql shows it.
mod sql;

// Once a second one statement tells whether the catalog says something new.
mod catalog_fingerprints;

// The floors of the house, and what its files may not hold.
mod layers;

// What the protocol demands, item by item, and which test shows it.
mod checklist;
// What clients are refused with, in which words, and which test shows each.
mod refusals;
// The README's account of all that is what the data says.
mod compatibility;
// supabase-js and realtime-py, unmodified.
mod clients;
// Supabase Realtime's protocol as a client sees it: connecting, joining, leaving, tokens, farewell.
mod protocol;
// Who is present in a channel, as clients learn it.
mod presence;
// What one client may use, and that nobody else notices when it uses more.
mod limits;
// Many at once, and far too much of everything: nobody but the sender notices.
mod floods;
// The listener as an attacker meets it.
mod listener;
// What clients make the relay hold, and that one of them holds nobody else's part.
mod memory;
// What clients say to each other: who hears it, what it looks like, and what its sender is told.
mod broadcast;
// Broadcast by HTTP: what is passed on, and what each mistake is answered with.
mod broadcast_http;
// Topics of every length, in both serializers.
mod long_topics;
// What comes back is JSON, whatever was written.
mod echo;
// Tokens of every length, at every door.
mod large_tokens;
// What a handshake offers beside the protocol, and what is selected of it.
mod subprotocols;

// How the one tenant fares, for tools of self-hosted installations.
mod tenant;

// The chat API, its presets, and the pages.
mod chat;

// What a change looks like to the client that asked for it.
mod delivery;
// Who sees which rows: policies, claims, deletes, revoked rights.
mod rights;
// What a filter must not tell of rows that are hidden.
mod hidden;
// Found as faults, each with the input that showed it.
mod corners;
// Private channels: the policies on realtime.messages, and what they let through.
mod private;
// Checks that take their time: whom they hold up, and by which rules they end.
mod lanes;
// Continuing where one was: positions, resume ids, gaps.
mod resume;
// Rows read first, and how the stream joins them.
mod snapshot;
// Order, and exactly once, whatever happens to connections.
mod ordering;
// Filters and names: what they let through, and what a bad one does.
mod fairness;
mod filtering;
// Connecting: every sslmode and login method, several hosts, and what each refusal says.
mod login;
// Two relays on one slot: one reads, the other takes over.
mod standby;
// Probes and metrics: where they are, what they say from the start, and who cannot keep them from it.
mod admin;
// Stopping: clients leave in turn, with everything that was queued for them.
mod drain;
// Tables that leave the publication while somebody is subscribed to them.
mod unpublished;
// The change log on disk: restarts, foreign directories, full disks.
mod log;
// SIGHUP: what counts at once, what needs a restart, and a file with a fault.
mod reload;
// Who may read what the relay keeps on disk.
mod log_modes;
// Forgetting what the log keeps.
mod forget;
// Faults of every kind under load, and what clients have afterwards. `CHAOS=long` for the long form.
mod chaos;
// Bytes from outside, bent and mixed: nothing panics. `FUZZ_SECONDS` for longer than a moment.
mod fuzz;
// Attacks from one address, and that nobody else notices. `ATTACK=long` for the long form, which measures.
mod attack;
// Reading the slot: nothing lost, nothing twice, and what is wrong is said.
mod source;

// The program as its user meets it: what each verb prints, and what it leaves behind.
mod cli;
