//! What tests share.

pub mod wire;
