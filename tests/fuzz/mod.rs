//! Bytes from outside cannot cause a panic: inputs that are good, bent in every way, for each place where such bytes are
//! read.
//!
//! In every test run each target gets a fixed seed and a moment; `make fuzz` gives each `FUZZ_SECONDS` (60) in an optimised
//! build that checks arithmetic, prints the seed (`SEED=n` repeats a run), and writes an input that fails to `target/fuzz`.
//! An input that was found belongs into the corpus of its target, where it is tried first for ever.
//!
//! Inputs that lead to an outcome that none before had are kept and bent further. Not here: coverage of the code as a guide,
//! which needs a compiler of its own.

mod claims;
mod frames;
mod runner;
mod small;
mod wal;

use self::runner::{Target, run};

#[test]
fn the_wal_is_read_or_refused() {
    run(&Target { name: "wal", corpus: wal::corpus, dictionary: &[], read: wal::read });
}

#[test]
fn frames_are_read_or_refused() {
    run(&Target {
        name: "frames",
        corpus: frames::corpus,
        dictionary: frames::WORDS,
        read: frames::read,
    });
}

#[test]
fn joins_are_read_or_refused() {
    run(&Target {
        name: "joins",
        corpus: frames::joins,
        dictionary: frames::WORDS,
        read: frames::read_join,
    });
}

#[test]
fn filters_are_read_or_refused() {
    run(&Target {
        name: "filters",
        corpus: small::filters,
        dictionary: small::FILTER_WORDS,
        read: small::read_filter,
    });
}

#[test]
fn tokens_are_read_or_refused() {
    run(&Target {
        name: "tokens",
        corpus: claims::corpus,
        dictionary: claims::WORDS,
        read: claims::read,
    });
}

#[test]
fn configurations_are_read_or_refused() {
    run(&Target {
        name: "config",
        corpus: small::configs,
        dictionary: small::CONFIG_WORDS,
        read: small::read_config,
    });
}

#[test]
fn bodies_of_the_chat_are_read_or_refused() {
    run(&Target {
        name: "chat",
        corpus: small::bodies,
        dictionary: small::BODY_WORDS,
        read: small::read_body,
    });
}
