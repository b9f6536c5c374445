//! The integration tests, in one binary.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it sets it up"
)]

mod it;
mod servers;
