//! One module a room.

mod declare_cases;
//! Integration tests, a module a room.

mod git_real;
//! One module a room; `support` has what they share.

#[cfg(feature = "demo")]
mod registry;
mod registry_faults;
mod registry_sign_in;
mod store;
mod support;
