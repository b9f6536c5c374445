//! Integration tests, a module a room.

mod git_real;
