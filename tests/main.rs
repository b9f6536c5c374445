//! The integration tests: one binary.

#![allow(clippy::unwrap_used, reason = "a helper of a test stops at the first surprise, as the test does")]

mod it;
