//! The fuzzer: one program for all targets, chosen by the variable `TARGET`. `tests/run fuzz`
//! builds it with libFuzzer's instrumentation of this crate, and runs each target.

#![no_main]
#![allow(missing_docs, reason = "a program has no interface")]

mod targets;

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("TARGET").unwrap_or_default();
    let target = targets::TARGETS.iter().find(|(name, _)| *name == wanted);
    target.expect("set TARGET to the name of a target").1
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    TARGET(input);
});
