//! The integration tests, in one binary.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it sets it up")]

#![allow(clippy::unwrap_used, reason = "a helper of a test stops at the first surprise, as the test does")]
//! The integration tests, one binary.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod it;
mod servers;
