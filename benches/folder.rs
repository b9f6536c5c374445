//! `tagboat set` over 10,000 YAML files with 2,000 markers. Each measurement is a process of its
//! own with a hot page cache.
//!
//! Run with `cargo bench --bench folder`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod generate;
#[path = "support/table.rs"]
mod table;

use std::{path::Path, process::Command, time::Instant};
use table::{BOUND, figure, heading, row};
use tagboat::{
    core::image::{ImageRepository, Tag},
    images::rewrite::{Choices, DigestReflection, RewriteDecision, UpdateDirection},
    service::set,
};

const RUNS: usize = 9;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, root, mode, tag] = arguments.as_slice()
        && word == "measured"
    {
        return measured(Path::new(root), mode, tag);
    }
    let root = tempfile::tempdir()?;
    let generated = generate::generate(root.path(), 20_261_120)?;
    println!(
        "{} files, {} markers, {} bytes, {RUNS} runs each, medians of whole processes",
        generated.files, generated.markers, generated.bytes
    );
    let idle = run(root.path(), "idle", "1.0.0")?.1;
    heading();
    for (mode, what, target) in [
        ("rewrite", "2,000 rewritten, 2 threads", 300.0),
        (
            "markers",
            "nothing to change, files with markers parsed",
            60.0,
        ),
        ("all", "nothing to change, everything parsed", 200.0),
    ] {
        let mut runs = vec![];
        let before = children_cpu();
        for index in 0..RUNS {
            // The first kind of run changes every marker again; the others end with the last of
            // these tags.
            let tag = if mode == "rewrite" {
                format!("9.9.{}", index % 2)
            } else {
                format!("9.9.{}", (RUNS - 1) % 2)
            };
            runs.push(run(root.path(), mode, &tag)?);
        }
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (median, memory) = (
            runs[RUNS / 2].0,
            runs.iter().map(|run| run.1).max().unwrap_or(0),
        );
        let cpu = (children_cpu() - before) / RUNS as f64;
        row(&format!("{what} (ms)"), median, target, BOUND);
        figure("    processor time (ms)", cpu);
        let over = memory.saturating_sub(idle) as f64 / 1024.0;
        row("    memory over idle (MiB)", over, 12.0, BOUND);
    }
    Ok(())
}

/// Processor time of ended child processes in milliseconds, user and system (Linux, in ticks of 10
/// ms).
fn children_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    fields
        .skip(13)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        * 10.0
}

/// Returns the wall time in milliseconds and the peak resident size in KiB of one process.
fn run(root: &Path, mode: &str, tag: &str) -> anyhow::Result<(f64, u64)> {
    let start = Instant::now();
    let output = Command::new(std::env::current_exe()?)
        .args(["measured"])
        .arg(root)
        .args([mode, tag])
        .output()?;
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    anyhow::ensure!(
        output.status.success(),
        "{mode}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((
        milliseconds,
        String::from_utf8(output.stdout)?.trim().parse()?,
    ))
}

fn measured(root: &Path, mode: &str, tag: &str) -> anyhow::Result<()> {
    let mut choices = Choices::new(mode == "all");
    for app in 0..2_000 {
        choices.add(RewriteDecision {
            policy: format!("flux-system/app-{app}").parse()?,
            repository: ImageRepository::new(&format!("ghcr.io/example/app-{app}"))?,
            tag: Tag::new(tag)?,
            digest: None,
            digest_reflection: DigestReflection::Never,
            unpin: false,
            allow_downgrade: true,
            compare: Box::new(|_| UpdateDirection::Newer),
        });
    }
    if mode != "idle" {
        let options = set::SetOptions {
            parse_all: mode == "all",
            ..set::SetOptions::default()
        };
        let report = set::rewrite(root, &choices, options)?;
        let changes: usize = report
            .files
            .iter()
            .map(|file| file.outcome.changes.len())
            .sum();
        anyhow::ensure!(
            changes == if mode == "rewrite" { 2_000 } else { 0 },
            "{changes} changes"
        );
        anyhow::ensure!(
            report.read == 10_000 && report.parsed == if mode == "all" { 10_000 } else { 2_000 },
            "{} parsed",
            report.parsed
        );
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next())
        .unwrap_or("0");
    println!("{peak}");
    Ok(())
}
