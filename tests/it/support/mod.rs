//! Shared fixtures.

pub(super) mod cluster;
pub(super) mod fleet;
pub(super) mod fleet_revision;
mod gate;
pub(super) mod forge;
pub(super) mod process;
#[cfg(feature = "demo")]
pub(super) mod rights;
pub(super) mod stage;
pub(super) mod wire;
