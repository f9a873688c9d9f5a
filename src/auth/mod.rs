//! Who may: tokens to principals, and principals to rows.

mod check;
mod connection;
mod gate;
mod judge;
mod pool;
mod quote;
pub mod token;
mod trouble;
pub mod visibility;
