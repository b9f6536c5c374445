//! What tests share.

pub mod wire;
pub mod forge;
pub mod stage;
