//! Shared fixtures.

pub mod cluster;
pub mod fleet;
pub mod forge;
pub mod process;
pub mod stage;
pub mod wire;
