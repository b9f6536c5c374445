//! The integration tests, in one binary.
//! The integration tests, one binary.

mod it;
