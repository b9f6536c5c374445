//! Tidiness held by a test: which way rooms may use each other, what pure rooms must not know, no
//! forgotten test file, a word about each module, and files that stay readable.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as expected"
)]

use Kind::{Edge, Pure};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What a room may know of the outside world.
#[derive(PartialEq)]
enum Kind {
    /// Nothing: no async, file system, process, environment, clock or network.
    Pure,
    Edge,
}

/// The rooms in the order in which data flows. A room may use those before it, never those after.
const ROOMS: &[(&str, Kind)] = &[
    ("error", Pure),
    ("image", Pure),
    ("name", Pure),
    ("secret", Pure),
    ("version", Pure),
    ("schedule", Pure),
    ("yaml", Pure),
    ("declare", Pure),
    ("references", Pure),
    ("policy", Pure),
    ("rewrite", Pure),
    ("object", Pure),
    ("manifest", Pure),
    ("plan", Pure),
    ("health", Pure),
    ("http", Edge),
    ("registry", Edge),
    ("store", Edge),
    ("git", Edge),
    ("render", Edge),
    ("cluster", Edge),
    ("forge", Edge),
    ("connect", Edge),
    ("scan", Edge),
    ("folder", Edge),
    ("publish", Pure),
    ("update", Edge),
    ("reconcile", Edge),
    ("talking", Edge),
    ("preview", Edge),
    ("findings", Pure),
    ("survey", Edge),
    ("daemon", Edge),
    ("sandbox", Edge),
    ("cli", Edge),
];

/// Uses against the order, each with its reason.
const AGAINST: &[(&str, &str, &str)] = &[
    (
        "update",
        "findings",
        "a pass reports what `check` finds, through one function",
    ),
    (
        "daemon",
        "cli",
        "the daemon answers the commands' questions with the commands' own code",
    ),
];

/// What no pure room may name.
const IMPURE: &[&str] = &[
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "ToSocketAddrs",
    "std::process",
    "std::env",
    "std::thread",
    "tokio",
    "reqwest",
    "async fn",
    "Timestamp::now",
    "SystemTime::now",
    "Instant::now",
    "Zoned::now",
    "println!",
    "eprintln!",
];

/// Lines of a file above which one asks what second thing lives there; the answers stand beside it.
const LONG: usize = 500;
const LONG_ALLOWED: &[(&str, &str)] = &[];

fn place(room: &str) -> Option<usize> {
    ROOMS.iter().position(|(known, _)| *known == room)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().unwrap() != "target" {
                files(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source file below `src`: its path from the root, its room, and its text without test
/// modules.
fn sources() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    files(&root().join("src"), &mut found);
    found.sort();
    found
        .into_iter()
        .filter(|path| path.file_name().unwrap() != "tests.rs")
        .map(|path| {
            let relative = path
                .strip_prefix(root())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let room = relative
                .trim_start_matches("src/")
                .split('/')
                .next()
                .unwrap()
                .trim_end_matches(".rs")
                .to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
            (relative, room, code)
        })
        .collect()
}

/// Lines that are code: no comment.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// The rooms that a text uses through `crate::`.
fn uses(text: &str) -> BTreeSet<String> {
    let joined: String = code(text).collect::<Vec<_>>().join("\n");
    let mut rooms = BTreeSet::new();
    for (at, _) in joined.match_indices("crate::") {
        let rest = &joined[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            // The first word of each item at the top level of the list.
            let (mut depth, mut word, mut fresh) = (1, String::new(), true);
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                if depth == 1 && c == ',' {
                    (fresh, word) = (true, String::new());
                } else if fresh && (c.is_alphanumeric() || c == '_') {
                    word.push(c);
                } else if fresh && !word.is_empty() {
                    fresh = false;
                    rooms.insert(std::mem::take(&mut word));
                }
                if fresh && !word.is_empty() {
                    rooms.insert(word.clone());
                }
            }
        } else {
            rooms.insert(
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect(),
            );
        }
    }
    rooms.retain(|room| place(room).is_some());
    rooms
}

#[test]
fn rooms_use_only_rooms_before_them() {
    let mut wrong = Vec::new();
    for (file, room, text) in sources() {
        if matches!(room.as_str(), "lib" | "main") {
            continue;
        }
        let Some(own) = place(&room) else {
            wrong.push(format!(
                "{file}: the room {room} has no place in the order (tests/tidy.rs)"
            ));
            continue;
        };
        for used in uses(&text) {
            let allowed = AGAINST
                .iter()
                .any(|(from, to, _)| *from == room && *to == used);
            if used != room && place(&used) > Some(own) && !allowed {
                wrong.push(format!("{file}: {room} uses {used}, which comes after it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_know_no_outside_world() {
    let mut wrong = Vec::new();
    for (file, room, text) in sources() {
        if ROOMS.contains(&(room.as_str(), Pure)) {
            for (number, line) in text
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.trim_start().starts_with("//"))
            {
                wrong.extend(
                    IMPURE
                        .iter()
                        .filter(|word| line.contains(**word))
                        .map(|word| format!("{file}:{}: {word}", number + 1)),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_test_file_is_compiled() {
    let mut wrong = Vec::new();
    for (folder, list) in [
        ("tests/it", "tests/it/mod.rs"),
        ("tests/it/body", "tests/it/body/mod.rs"),
        ("tests/it/cluster_real", "tests/it/cluster_real/mod.rs"),
        ("tests/it/forge_real", "tests/it/forge_real/mod.rs"),
        ("tests/servers", "tests/servers/mod.rs"),
    ] {
        let listed = fs::read_to_string(root().join(list)).unwrap();
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.join("go.mod").exists() {
                continue;
            }
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if name != "mod" && !listed.contains(&format!("mod {name};")) {
                wrong.push(format!("{folder}/{name} is not listed in {list}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_ignored_test_says_what_it_needs() {
    let mut found = Vec::new();
    files(&root().join("tests"), &mut found);
    let mut wrong = Vec::new();
    for path in found.iter().filter(|path| !path.ends_with("tidy.rs")) {
        for (number, line) in fs::read_to_string(path).unwrap().lines().enumerate() {
            let bare = line.trim_start().starts_with("#[ignore");
            if bare && !(line.contains("needs") && line.contains("tests/run")) {
                wrong.push(format!(
                    "{}:{}: {}",
                    path.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_says_what_it_is() {
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches"] {
        files(&root().join(folder), &mut found);
    }
    let silent: Vec<String> = found
        .iter()
        .filter(|path| path.file_name().unwrap() != "tests.rs")
        .filter(|path| {
            !fs::read_to_string(path)
                .unwrap()
                .trim_start()
                .trim_start_matches("#![no_main]")
                .trim_start()
                .starts_with("//!")
        })
        .map(|path| path.display().to_string())
        .collect();
    assert!(
        silent.is_empty(),
        "without a word at the top (//!):\n{}",
        silent.join("\n")
    );
}

#[test]
fn files_stay_readable() {
    let mut long = BTreeMap::new();
    for (file, _, text) in sources() {
        let lines = text.lines().count();
        if lines > LONG && !LONG_ALLOWED.iter().any(|(allowed, _)| *allowed == file) {
            long.insert(file, lines);
        }
    }
    assert!(
        long.is_empty(),
        "what second thing lives in these? {long:?}"
    );
}
