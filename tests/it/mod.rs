//! One module a room; `support` has what they share.

mod declare_cases;
mod git_real;
#[cfg(feature = "demo")]
mod registry;
mod registry_faults;
mod registry_real;
mod registry_sign_in;
mod rewrite_cases;
mod rewrite_properties;
mod store;
mod support;
mod git;
mod git_index;
mod git_real;
mod git_support;
mod git_wire;
