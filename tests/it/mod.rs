//! One module a room; `support` has what they share.

mod declare_cases;
mod git_real;
#[cfg(feature = "demo")]
mod registry;
mod registry_faults;
mod registry_sign_in;
mod store;
mod support;
//! One module a room.

mod rewrite_cases;
mod rewrite_properties;
