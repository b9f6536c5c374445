//! The integration tests, in one binary.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it sets it up"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait in threads of their own"
)]

mod it;
mod servers;
