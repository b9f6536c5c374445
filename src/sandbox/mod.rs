//! Servers in this process, as much as the demo and the tests need; none of it is in the container
//! image.

pub mod forge;
pub mod git;
pub mod kube;
pub mod registry;
