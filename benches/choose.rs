//! Selection of one tag among many, and the memory of tag lists: `cargo bench --bench choose`.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "support/table.rs"]
mod table;

use jiff::Timestamp;
use std::{collections::HashMap, hint::black_box, time::Instant};
use table::{BOUND, growth, heading, row};
use tagboat::{
    core::image::TagList,
    images::policy::{Holds, PolicyInput, PolicyOutcome, RegistryFacts},
    spec,
};

/// Tags of a much-built image: versions with variants of base images, in the order of a registry.
fn tags(count: usize) -> TagList {
    let variants = [
        "",
        "-alpine",
        "-alpine3.18",
        "-alpine3.19",
        "-slim",
        "-bookworm",
        "-bookworm-slim",
        "-bullseye",
    ];
    let mut all: Vec<String> = ["latest", "lts", "current"].map(str::to_owned).into();
    'all: for major in 0.. {
        for minor in 0..21 {
            for patch in 0..5 {
                for variant in variants {
                    if all.len() == count {
                        break 'all;
                    }
                    all.push(format!("{major}.{minor}.{patch}{variant}"));
                }
            }
        }
    }
    all.sort();
    let mut list: TagList = all.iter().map(String::as_str).collect();
    list.shrink();
    list
}

fn main() {
    let choices = [
        ("semver", "policy: {semver: {range: '>=3.0.0 <9.0.0'}}"),
        (
            "semver with a filter",
            "filterTags: {pattern: '^(?P<v>.+)-alpine3\\.19$', extract: '$v'}, policy: {semver: {range: '>=3.0.0 <9.0.0'}}",
        ),
    ];
    heading();
    let mut columns = vec![Vec::new(); choices.len()];
    for (count, target) in [(1_000, 0.2), (4_000, 0.2), (9_036, 0.2), (100_000, 2.0)] {
        let tags = tags(count);
        row(
            &format!("{count} tags: bytes each"),
            tags.bytes() as f64 / count as f64,
            24.0,
            BOUND,
        );
        for (place, (name, spec)) in choices.iter().enumerate() {
            let file = format!(
                "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: p}}\nspec: {{image: example.com/app, {spec}}}\n"
            );
            let declared = spec::read([("p.yaml", file.as_bytes())], None);
            let policy = declared
                .policies
                .values()
                .next()
                .expect("the policy is good");
            let question = PolicyInput {
                policy,
                present: None,
                holds: &Holds::default(),
                now: Timestamp::now(),
            };
            let facts = RegistryFacts {
                tags: &tags,
                details: &HashMap::new(),
            };
            let mut times = Vec::new();
            let mut chosen = None;
            for _ in 0..51 {
                let start = Instant::now();
                chosen = Some(black_box(tagboat::images::policy::choose(
                    &question, &facts,
                )));
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            let Some(PolicyOutcome::Chosen(_)) = chosen else {
                panic!("{name}: nothing was chosen")
            };
            let what = format!("{count} tags: choice by {name}, p50 (ms)");
            row(&what, times[25], target, BOUND);
            columns[place].push((count, times[25]));
        }
    }
    for ((name, _), columns) in choices.iter().zip(&columns) {
        growth(&format!("choice by {name}"), columns, 1.1);
    }
}
