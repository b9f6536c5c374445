//! Real servers as child processes: each on a loopback port, in a temporary folder, and killed on
//! drop.

pub mod assets;
pub mod docker_registry;
pub mod environment;
#[cfg(feature = "demo")]
pub mod git;
pub mod gitea;
pub mod kube;
pub mod proxy;
