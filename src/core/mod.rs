//! Vocabulary that every layer shares: errors, names, secrets, schedules, images, versions, YAML,
//! CEL, back-off, text.
//!
//! Belongs here: a type or function without I/O that at least two layers use. Does not belong here:
//! anything that knows a registry, a Git repository, a cluster or a declared kind.

pub mod cel;
pub mod error;
pub mod image;
pub mod name;
pub mod pointer;
pub mod retry;
pub mod schedule;
pub mod secret;
pub mod text;
pub mod version;
pub mod yaml;
