//! One module a room.

mod rewrite_cases;
mod rewrite_properties;
