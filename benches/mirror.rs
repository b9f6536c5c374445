//! The Git rows of the design's numbers, on 10,000 files with 2,000 markers: `cargo bench --bench
//! mirror`.
//!
//! Needs `git`, whose server side packs the repository with deltas, as a host does. "Fresh" is a
//! new process that measures itself from the start of `main`. The index rows extract lines with a
//! needle, so they measure a prefilter and no parser. The rows "to the references" read the
//! snapshot as a pass does: declarations from the whole repository (`anywhere`) or from `policies/`
//! alone, and references by the real parser. In the first commit a file is hit by its marker only;
//! in the second the policies' names are in every file, so that everything is parsed.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark prints, and stops at the first surprise"
)]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/table.rs"]
mod table;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};
use table::{BOUND, heading, row};
use tagboat::{
    io::git::{
        CommitMeta, Extractor, FileEdit, Index, IndexOrigin, Mirror, ObjectId, Person, Remote,
        RemoteAccess, RepoPath,
    },
    sandbox::git::BareRepository,
    update::{self, SnapshotCache},
};

const WHO: (&str, &str) = ("Ann", "ann@example.org");
const RUNS: usize = 15;

/// Extractor of the lines with a needle.
struct Lines(memchr::memmem::Finder<'static>);

impl Lines {
    fn new(mode: &str) -> Self {
        Self(memchr::memmem::Finder::new(if mode == "markers" {
            "$imagepolicy"
        } else {
            "name:"
        }))
    }
}

impl Extractor for Lines {
    fn class(&self, path: &str) -> Option<u8> {
        (path.starts_with("clusters/") && path.ends_with(".yaml")).then_some(0)
    }

    fn fingerprint(&self) -> [u8; 16] {
        [self.0.needle()[0]; 16]
    }

    fn extract(&self, _: u8, bytes: &[u8]) -> Vec<u8> {
        if self.0.find(bytes).is_none() {
            return Vec::new();
        }
        let lines = bytes
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| self.0.find(line).is_some());
        lines.take(1).flatten().copied().collect()
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    match arguments.first().map(String::as_str) {
        Some("child") => child(&arguments[1..]),
        _ => parent(),
    }
}

fn open(dir: &Path) -> Mirror {
    let remote = Remote::new(
        &format!("file://{}", dir.join("fleet.git").display()),
        Some("main"),
        RemoteAccess::default(),
    )
    .unwrap();
    Mirror::open(&dir.join("mirror"), remote).unwrap()
}

fn edits(files: &[(String, String)], count: usize) -> Vec<FileEdit> {
    let marked = files
        .iter()
        .filter(|(_, text)| text.contains("$imagepolicy"))
        .take(count);
    marked
        .map(|(path, text)| FileEdit {
            path: RepoPath::new(path).unwrap(),
            bytes: text.replace(":6.", ":7.").into_bytes(),
        })
        .collect()
}

fn commit(mirror: &Mirror, head: ObjectId, edits: &[FileEdit]) -> usize {
    let bot = Person::new("Bot", "bot@example.org").unwrap();
    let message = CommitMeta {
        author: &bot,
        committer: &bot,
        seconds: 1_790_000_000,
        text: "update",
        key: None,
    };
    usize::from(mirror.draft(head, edits, &message).unwrap().is_some())
}

/// Runs one measurement in a new process, which prints milliseconds and KiB.
fn child(arguments: &[String]) {
    let dir = PathBuf::from(&arguments[1]);
    let idle = memory("VmRSS");
    let begun = Instant::now();
    let mirror = open(&dir);
    let head = mirror.head().unwrap();
    let lines = Lines::new(arguments.get(2).map_or("markers", String::as_str));
    let mut took = None;
    match arguments[0].as_str() {
        "same" => assert_eq!(
            Index::open(&mirror, head, &dir.join("index"), &lines)
                .unwrap()
                .how,
            IndexOrigin::Same
        ),
        "changed" => assert_eq!(
            Index::open(&mirror, head, &dir.join("index"), &lines)
                .unwrap()
                .how,
            IndexOrigin::Updated(1)
        ),
        "cold" => assert!(matches!(
            Index::open(&mirror, head, &dir.join("index"), &lines)
                .unwrap()
                .how,
            IndexOrigin::Built(10_000, _)
        )),
        "pass" => {
            let index = Index::open(&mirror, head, &dir.join("index"), &lines)
                .unwrap()
                .index;
            took = Some(begun.elapsed());
            let revision = mirror.at(head).unwrap();
            let edited: Vec<FileEdit> = index
                .records()
                .map(|record| {
                    let bytes = revision.blob(record.blob).unwrap();
                    let text = String::from_utf8(bytes).unwrap().replace(":6.", ":7.");
                    FileEdit {
                        path: RepoPath::new(record.path).unwrap(),
                        bytes: text.into_bytes(),
                    }
                })
                .collect();
            assert_eq!((edited.len(), commit(&mirror, head, &edited)), (2_000, 1));
        }
        "world" => {
            let commit = ObjectId::from_hex(arguments[2].as_bytes()).unwrap();
            references(
                &mirror,
                commit,
                folder_of(&arguments[3]),
                &dir,
                &mut SnapshotCache::default(),
            );
        }
        other => panic!("{other}"),
    }
    let took = took.unwrap_or_else(|| begun.elapsed());
    println!("{} {}", took.as_secs_f64() * 1e3, memory("VmHWM") - idle);
}

/// Reads the snapshot that a pass decides on.
fn references(
    mirror: &Mirror,
    commit: ObjectId,
    policies: Option<&str>,
    dir: &Path,
    memory: &mut SnapshotCache,
) {
    let (world, warnings) =
        update::read(mirror, commit, &policies.into(), &dir.join("world"), memory).unwrap();
    let marked = world
        .files
        .iter()
        .filter(|file| file.path.ends_with("/deployment.yaml"))
        .count();
    assert_eq!(
        (marked, warnings.as_slice(), world.declared.has_errors()),
        (2_000, [].as_slice(), false),
        "{:?}",
        world.declared.mistakes
    );
}

fn folder_of(place: &str) -> Option<&str> {
    (place != "anywhere").then_some(place)
}

fn policies(images: impl Iterator<Item = String>) -> String {
    let policy = |image: String| {
        format!(
            "---\napiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: {image}, namespace: apps}}\nspec:\n  image: \
             registry.example.org/team/{image}\n  policy: {{semver: {{range: '*'}}}}\n"
        )
    };
    images.map(policy).collect()
}

fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn parent() {
    heading();
    let temporary = std::env::temp_dir().join(format!("tagboat-bench-{}", std::process::id()));
    std::fs::create_dir(&temporary).unwrap();
    let dir = temporary.as_path();
    let files = fleet::fleet(7);
    let borrowed: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let markers = policies((0..50).map(|n| format!("podinfo-{n}")));
    let seed: Vec<(&str, &str)> = borrowed
        .iter()
        .copied()
        .chain([("policies/markers.yaml", markers.as_str())])
        .collect();
    let repository =
        BareRepository::create(&dir.join("fleet.git"), &seed, WHO, 1_780_000_000, "first").unwrap();
    let everything = policies((0..50).map(|n| format!("app-{n}")));
    let base = open(dir).fetch().unwrap().commit;
    std::fs::remove_dir_all(dir.join("mirror")).unwrap();
    repository
        .commit(
            &[("policies/everything.yaml", &everything)],
            WHO,
            1_780_000_050,
            "everything",
        )
        .unwrap();
    open(dir).fetch().unwrap();
    std::fs::create_dir(dir.join("world")).unwrap();

    for mode in ["markers", "everything"] {
        let cold = fresh(dir, &["cold", mode], || {
            drop(std::fs::remove_file(dir.join("index")))
        });
        let target = if mode == "markers" { 45.0 } else { 90.0 };
        let what = format!("index, cold ({mode}) (ms)");
        row(&what, cold.0, target, BOUND);
    }
    worlds(dir, base);
    drop(std::fs::remove_file(dir.join("index")));
    fresh(dir, &["cold", "markers"], || {
        drop(std::fs::remove_file(dir.join("index")))
    });
    row(
        "index, nothing changed, fresh (ms)",
        fresh(dir, &["same"], || ()).0,
        2.0,
        BOUND,
    );
    {
        let mirror = open(dir);
        let (head, lines) = (mirror.head().unwrap(), Lines::new("markers"));
        let mut index = Some(
            Index::open(&mirror, head, &dir.join("index"), &lines)
                .unwrap()
                .index,
        );
        let same = median((0..RUNS * 20).map(|_| {
            timed(|| {
                let head = mirror.head().unwrap();
                index = Some(
                    index
                        .take()
                        .unwrap()
                        .update(&mirror, head, &lines)
                        .unwrap()
                        .0,
                );
            })
        }));
        row("index, nothing changed, running (ms)", same, 0.1, BOUND);
    }
    let memory = fresh(dir, &["pass"], || ()).1;
    row(
        "memory over idle, whole pass (MiB)",
        memory / 1024.0,
        24.0,
        BOUND,
    );

    let before = std::fs::read(dir.join("index")).unwrap();
    let (path, text) = borrowed[5_000];
    repository
        .commit(
            &[(path, &text.replace(":6.", ":8."))],
            WHO,
            1_780_000_100,
            "one",
        )
        .unwrap();
    let mirror = open(dir);
    let old = mirror.head().unwrap();
    let new = mirror.fetch().unwrap().commit;
    drop(mirror);
    let changed = fresh(dir, &["changed"], || {
        std::fs::write(dir.join("index"), &before).unwrap()
    });
    row("index, one file changed, fresh (ms)", changed.0, 2.0, BOUND);
    {
        let mirror = open(dir);
        let lines = Lines::new("markers");
        let mut index = Some(
            Index::open(&mirror, old, &dir.join("index"), &lines)
                .unwrap()
                .index,
        );
        let mut turn = old;
        let changed = median((0..RUNS * 20).map(|_| {
            turn = if turn == old { new } else { old };
            timed(|| {
                index = Some(
                    index
                        .take()
                        .unwrap()
                        .update(&mirror, turn, &lines)
                        .unwrap()
                        .0,
                )
            })
        }));
        row("index, one file changed, running (ms)", changed, 0.3, BOUND);
        let edits = edits(&files, 2_000);
        let edited =
            median((0..RUNS).map(|_| timed(|| assert_eq!(commit(&mirror, new, &edits), 1))));
        row(
            "2,000 files edited, to the commit in memory (ms)",
            edited,
            60.0,
            BOUND,
        );
    }
    changes(dir, old, new);
    std::fs::remove_dir_all(&temporary).unwrap();
}

/// Rows to the references without a change, in new processes and in this one.
fn worlds(dir: &Path, base: ObjectId) {
    let store = dir.join("world");
    let forget = || {
        ["declared.index", "references.index"]
            .iter()
            .for_each(|file| drop(std::fs::remove_file(store.join(file))))
    };
    let head = open(dir).head().unwrap();
    for place in ["policies", "anywhere"] {
        for (mode, commit, target) in [("markers", base, 45.0), ("everything", head, 90.0)] {
            let cold = fresh(dir, &["world", &commit.to_string(), place], forget);
            row(
                &format!("references, cold ({mode}, {place}) (ms)"),
                cold.0,
                target,
                BOUND,
            );
        }
    }
    let hex = head.to_string();
    forget();
    let mut memory = SnapshotCache::default();
    references(&open(dir), head, None, dir, &mut memory);
    row(
        "references, nothing changed, fresh (ms)",
        fresh(dir, &["world", &hex, "anywhere"], || ()).0,
        2.0,
        BOUND,
    );
    // The mirror is locked by one process at a time.
    let mirror = open(dir);
    let same =
        median((0..RUNS * 20).map(|_| {
            timed(|| references(&mirror, mirror.head().unwrap(), None, dir, &mut memory))
        }));
    row(
        "references, nothing changed, running (ms)",
        same,
        0.1,
        BOUND,
    );
}

/// Rows to the references with one changed file, back and forth between two commits.
fn changes(dir: &Path, old: ObjectId, new: ObjectId) {
    let files = ["declared.index", "references.index"].map(|file| dir.join("world").join(file));
    references(&open(dir), old, None, dir, &mut SnapshotCache::default());
    let before = files.each_ref().map(|file| std::fs::read(file).unwrap());
    let restore = || {
        files
            .iter()
            .zip(&before)
            .for_each(|(file, bytes)| std::fs::write(file, bytes).unwrap())
    };
    let changed = fresh(dir, &["world", &new.to_string(), "anywhere"], restore);
    row(
        "references, one file changed, fresh (ms)",
        changed.0,
        2.0,
        BOUND,
    );
    let mirror = open(dir);
    let mut memory = SnapshotCache::default();
    references(&mirror, old, None, dir, &mut memory);
    let mut turn = old;
    let changed = median((0..RUNS * 20).map(|_| {
        turn = if turn == old { new } else { old };
        timed(|| references(&mirror, turn, None, dir, &mut memory))
    }));
    row(
        "references, one file changed, running (ms)",
        changed,
        0.3,
        BOUND,
    );
}

fn timed(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64() * 1e3
}

/// Medians of milliseconds and KiB over new processes.
fn fresh(dir: &Path, arguments: &[&str], prepare: impl Fn()) -> (f64, f64) {
    let runs: Vec<(f64, f64)> = (0..RUNS)
        .map(|_| {
            prepare();
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["child", arguments[0]])
                .arg(dir)
                .args(&arguments[1..])
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let (ms, kib) = text
                .trim()
                .split_once(' ')
                .unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
            (ms.parse().unwrap(), kib.parse().unwrap())
        })
        .collect();
    (
        median(runs.iter().map(|run| run.0)),
        median(runs.iter().map(|run| run.1)),
    )
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
