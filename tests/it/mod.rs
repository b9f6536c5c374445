//! One module a room; `support` has what they share.

#[cfg(feature = "demo")]
mod registry;
mod registry_faults;
mod registry_real;
mod registry_sign_in;
mod store;
mod support;
