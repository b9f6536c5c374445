//! Clients of everything outside the process.
//!
//! Belongs here: one folder for each thing that is talked to, with its errors, bounds and retries.
//! Does not belong here: a decision that a pass makes. A client says what it found; `update` and
//! `reconcile` decide what to do about it.

mod blocking;
pub mod cluster;
pub mod connect;
pub mod facts;
pub mod forge;
pub mod git;
pub mod http;
pub mod private;
pub mod registry;
pub mod render;
pub mod store;
pub(crate) mod supervise;
mod timer;

pub use blocking::{blocking, try_blocking};
pub use timer::sleep_until;
