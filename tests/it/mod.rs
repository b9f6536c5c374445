//! One module a room.

mod declare_cases;
