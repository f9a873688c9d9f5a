//! The only place where things are built and joined.
