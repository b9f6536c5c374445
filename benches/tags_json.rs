//! The time to parse a tag list: `cargo bench --bench tags_json`.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(missing_docs, reason = "a benchmark has no interface")]

#[path = "support/table.rs"]
mod table;

use std::{hint::black_box, time::Instant};
use table::{BOUND, growth, heading, row};
use tagboat::{
    core::image::TagList,
    io::registry::{InvalidNames, read_page},
};

/// Tags of a popular image: versions with suffixes.
fn page(count: usize) -> Vec<u8> {
    let suffixes = [
        "",
        "-alpine",
        "-alpine3.20",
        "-slim",
        "-bookworm",
        "-bookworm-slim",
        "-bullseye",
        "-onbuild",
    ];
    let tags: Vec<String> = (0..count)
        .map(|n| {
            format!(
                "{}.{}.{}{}",
                n / 400,
                n / 40 % 10,
                n / 8 % 5,
                suffixes[n % 8]
            )
        })
        .collect();
    serde_json::json!({"name": "library/node", "tags": tags})
        .to_string()
        .into_bytes()
}

fn main() {
    heading();
    let mut columns = Vec::new();
    for (count, target) in [(250, 12.5), (1_000, 50.0), (4_000, 200.0), (10_000, 500.0)] {
        let json = page(count);
        let mut times: Vec<f64> = (0..501)
            .map(|_| {
                let (mut tags, mut refused) = (TagList::new(), InvalidNames::default());
                let begun = Instant::now();
                read_page(black_box(&json), &mut tags, &mut refused).expect("the page is a list");
                let time = begun.elapsed().as_secs_f64() * 1e6;
                assert_eq!((tags.len(), refused.count), (count, 0));
                time
            })
            .collect();
        times.sort_by(f64::total_cmp);
        row(
            &format!("tag list page of {count} ({} bytes) (µs)", json.len()),
            times[250],
            target,
            BOUND,
        );
        columns.push((count, times[250]));
    }
    growth("tag list page", &columns, 1.1);
}
