//! Tests with a real kube-apiserver: `tests/run cluster` runs all tests whose names contain
//! `cluster_real::`.

mod apply;
#[cfg(feature = "demo")]
mod demo;
mod deploy;
#[cfg(feature = "demo")]
mod command;
#[cfg(feature = "demo")]
mod command_output;
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
mod reconcile_confined;
mod reconcile_atoms;
mod reconcile_faults;
mod reconcile_left;
mod reconcile_lists;
mod reconcile_named;
mod reconcile_owned;
mod reconcile_owned_guards;
mod reconcile_shared;
mod records;
#[cfg(feature = "demo")]
mod sandbox;
#[cfg(feature = "demo")]
mod sandbox_kubectl;
mod smoke;
mod support;
mod watch;
