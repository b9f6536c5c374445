//! Selection of one tag among many, and the memory of tag lists, beside the limits in DESIGN
//! ("Numbers").

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use jiff::Timestamp;
use std::{collections::HashMap, hint::black_box, time::Instant};
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
    for (count, meet, aim) in [(9_036, 0.6, 0.3), (100_000, 6.0, 1.0)] {
        let tags = tags(count);
        println!(
            "{count} tags: {:.1} bytes each (to meet 24, aim 9)",
            tags.bytes() as f64 / count as f64
        );
        for (name, spec) in choices {
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
            let Some(PolicyOutcome::Chosen(chosen)) = chosen else {
                panic!("{name}: nothing was chosen")
            };
            println!(
                "  {name}: median {:.3} ms, best {:.3} ms (to meet {meet}, aim {aim}), chose {}",
                times[25], times[0], chosen.tag
            );
        }
    }
}
