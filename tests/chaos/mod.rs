//! The oracle: a writer that knows what it committed, clients that are there throughout, and faults in between. Nothing is
//! lost, comes twice, comes in another order or to whom it may not; where history is gone, that is told.
//!
//! Each scenario has a short form, which is part of every test run, and a long one (`CHAOS=long`, which `make chaos` sets).
//! A seed is printed, and `SEED` repeats it as far as the machine's own timing lets it; a scenario that fails keeps what it
//! knows under `target/chaos`.

mod arena;
mod clients;
mod crowd;
pub mod dice;
mod disk;
mod gaptest;
mod latency;
mod load;
mod postgres_dies;
mod proxy;
mod relay_dies;
mod rights;
mod sdk;
mod slot_goes;
mod verdict;
mod writer;
