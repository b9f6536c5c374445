//! Against a real kube-apiserver. All modules of the part `cluster` live in this folder: `tests/run cluster` runs the tests
//! whose names contain `cluster_real::`, so a new one (`apply`, `drift`, …) needs only its line here.

mod proxy;
mod smoke;
