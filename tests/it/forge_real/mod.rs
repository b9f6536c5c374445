//! Against a real Gitea. All modules of the part `forge` live in this folder: `tests/run forge`
//! runs the tests whose names contain `forge_real::`, so a new one needs only its line here.
//! [`whole`] needs a Kubernetes API server beside it.

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
mod talking;
mod whole;
mod world;
