//! The cost of a million tags: memory of a process that stores them, and bytes per tag in memory
//! and on disk.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(missing_docs, reason = "a benchmark has no interface")]

#[path = "support/table.rs"]
mod table;

use std::time::Instant;
use table::{BOUND, figure, heading, row};
use tagboat::{
    core::image::{ImageRepository, TagList},
    io::store::Store,
};

const REPOSITORIES: usize = 1000;
const TAGS: usize = 1000;

/// Resident memory in MiB; assumes pages of 4 KiB.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<f64>().ok())
        .unwrap_or(f64::NAN);
    pages * 4096.0 / 1048576.0
}

fn repository(n: usize) -> ImageRepository {
    ImageRepository::new(&format!("registry.example/team/app-{n}")).expect("a name")
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (store, _) = Store::open(&folder.path().join("store.redb")).expect("a new store");
    let before = resident();
    let now = jiff::Timestamp::now();
    let begun = Instant::now();
    let mut text = 0;
    for n in 0..REPOSITORIES {
        let names: Vec<String> = (0..TAGS)
            .map(|tag| format!("{}.{}.{}", n % 40, tag / 10, tag % 10))
            .collect();
        let mut tags: TagList = names.iter().map(String::as_str).collect();
        tags.shrink();
        text += tags.bytes();
        store
            .put_tags(&repository(n), &tags, None, now)
            .expect("kept");
    }
    let written = begun.elapsed();
    let begun = Instant::now();
    let mut count = 0;
    for n in 0..REPOSITORIES {
        count += store
            .tags(&repository(n))
            .expect("read")
            .expect("kept")
            .tags
            .len();
    }
    let read = begun.elapsed();
    assert_eq!(count, REPOSITORIES * TAGS);
    let begun = Instant::now();
    for n in 0..REPOSITORIES {
        store.touch_tags(&repository(n), now).expect("kept");
    }
    let touched = begun.elapsed();
    let disk = store.size().expect("a file") as f64;
    let all = count as f64;
    heading();
    let held = text as f64 / all;
    row(
        "a tag held while a policy is judged (bytes)",
        held,
        24.0,
        BOUND,
    );
    figure("resident before (MiB)", before);
    let after = resident();
    row(
        "resident with a million tags stored (MiB)",
        after,
        64.0,
        BOUND,
    );
    figure("a tag on disk (bytes)", disk / all);
    for (what, time) in [
        ("1,000 lists written (s)", written),
        ("1,000 lists read (s)", read),
        ("1,000 unchanged listings noted (s)", touched),
    ] {
        figure(what, time.as_secs_f64());
    }
}
