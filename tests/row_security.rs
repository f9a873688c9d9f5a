//! Who reads which row: what the relay says of a row image is what SELECT shows under the same role and claims.

mod differential;
mod faults;
pub mod histories;
mod images;
mod isolation;
mod names;
mod rights;
mod scene;
