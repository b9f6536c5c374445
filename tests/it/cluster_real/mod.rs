//! Against a real kube-apiserver. All modules of the part `cluster` live in this folder: `tests/run
//! cluster` runs the tests whose names contain `cluster_real::`, so a new one (`apply`, `drift`, …)
//! needs only its line here.

mod apply;
#[cfg(feature = "demo")]
mod demo;
#[cfg(feature = "demo")]
mod command;
#[cfg(feature = "demo")]
mod command_said;
mod discovery;
mod faults;
mod fleet;
mod identity;
#[cfg(feature = "demo")]
mod killed;
#[cfg(feature = "demo")]
mod preview;
mod proxy;
mod reconcile;
mod reconcile_again;
mod reconcile_atoms;
mod reconcile_faults;
mod reconcile_left;
mod reconcile_named;
mod reconcile_owned;
mod reconcile_owned_guards;
mod reconcile_shared;
mod records;
#[cfg(feature = "demo")]
mod sandbox;
mod smoke;
mod support;
mod watch;
