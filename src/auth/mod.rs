//! Who may: tokens to principals, and principals to rows.

mod check;
mod connection;
mod gate;
mod judge;
mod pool;
mod quote;
pub mod token;
mod trouble;
mod jwks;
mod keys;
pub mod token;
mod token_cache;
mod token_claims;
mod token_fetch;
mod token_keyring;
mod token_parse;
mod token_refusal;
pub mod visibility;
