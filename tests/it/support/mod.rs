//! Shared fixtures.

pub(super) mod cluster;
pub(super) mod fleet;
pub(super) mod forge;
pub(super) mod process;
pub(super) mod stage;
pub(super) mod wire;
