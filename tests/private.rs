//! Private channels: who may join, send and read the past, by the policies on `realtime.messages`.

mod policies;
