//! The integration tests, in one binary.
//! The integration tests: one binary.
//! All integration tests, in one binary.

mod it;
