//! Real servers as child processes: each on a loopback port, in a temporary folder, and killed on
//! drop.

pub(crate) mod assets;
pub(crate) mod docker_registry;
pub(crate) mod environment;
#[cfg(feature = "demo")]
pub(crate) mod git;
pub(crate) mod gitea;
pub(crate) mod kube;
pub(crate) mod proxy;
