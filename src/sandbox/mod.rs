//! Real servers in this process, for the demo and for tests (feature `demo`).

pub mod registry;
