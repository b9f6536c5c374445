//! Tests with a real Gitea: `tests/run forge` runs all tests whose names contain `forge_real::`.
//! [`whole`] also needs a Kubernetes API server.

mod behind;
mod checks;
mod faults;
mod fleet;
mod life;
mod merges;
mod requests;
mod rights;
mod sandbox;
mod shared;
mod rollout;
mod whole;
mod world;
