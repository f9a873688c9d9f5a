//! The ways out. Each client protocol is a folder here and sees none of the others.

pub mod phoenix;
