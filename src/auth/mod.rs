//! Who may: tokens to principals, and principals to rows.

pub mod api;
pub mod asker;
mod check;
mod connection;
pub mod denial;
pub mod first;
mod gate;
mod guard;
pub mod image;
mod judge;
mod jwks;
mod keys;
mod pipeline;
pub mod policy;
mod policy_link;
mod pool;
pub mod streamed;
mod switch;
pub mod token;
mod token_cache;
mod token_claims;
mod token_fetch;
mod token_keyring;
mod token_parse;
mod token_refusal;
mod trouble;
pub mod visibility;
