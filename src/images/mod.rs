//! The pure half of the update pass: from file contents and registry facts to edits.
//!
//! ```text
//! references ─▶ policy ─choices─▶ rewrite ─▶ edits
//! ```
//!
//! Belongs here: how image references are found, how a tag is chosen, and which bytes change. Does
//! not belong here: where facts come from (`io`), and when a choice is made (`update`).

pub mod includes;
pub mod lint;
pub mod policy;
pub mod references;
pub mod rewrite;
pub(crate) mod scope;
pub mod unsupported;
