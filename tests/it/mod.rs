//! One module a room.

mod declare_cases;
//! Integration tests, a module a room.

mod git_real;
