//! Against a real kube-apiserver. All modules of the part `cluster` live in this folder: `tests/run cluster` runs the tests
//! whose names contain `cluster_real::`, so a new one (`apply`, `drift`, …) needs only its line here.

mod fleet;
mod proxy;
mod reconcile;
#[cfg(feature = "demo")]
mod sandbox;
mod apply;
mod discovery;
mod faults;
mod identity;
mod proxy;
mod records;
mod smoke;
mod support;
mod watch;
