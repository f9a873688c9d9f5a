//! Who may: tokens to principals, and principals to rows.

pub mod token;
pub mod visibility;
