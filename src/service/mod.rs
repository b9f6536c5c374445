//! One typed answer for each query.
//!
//! Belongs here: what a command, the local socket or the HTTP API asks for, computed and returned
//! as a serialisable type. Does not belong here: printing, colours, arguments.

pub mod engine;
pub mod set;
pub mod survey;
