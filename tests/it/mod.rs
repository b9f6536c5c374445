//! Integration tests, a module a room.

mod git;
mod git_index;
mod git_real;
mod git_support;
mod git_wire;
