//! Architecture and style, enforced by a test: layers, cycles, purity, names, prose, sizes.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first unexpected value"
)]

use Kind::{Edge, Pure};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// How much of the outside world a layer may know.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// No async, file system, process, environment, clock or network.
    Pure,
    Edge,
}

/// The layers, lowest first. A layer imports from lower ones only.
const LAYERS: &[(&str, Kind)] = &[
    ("core", Pure),
    ("spec", Pure),
    ("images", Pure),
    ("objects", Pure),
    ("review", Pure),
    ("events", Edge),
    ("io", Edge),
    ("update", Edge),
    ("reconcile", Edge),
    ("rollout", Edge),
    ("preview", Edge),
    ("service", Edge),
    ("daemon", Edge),
    ("sandbox", Edge),
    ("cli", Edge),
];

/// Names that no pure layer may contain.
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

/// Type names with one meaning per module by convention.
const SHARED_TYPE_NAMES: &[&str] = &["Arguments", "Error", "Err", "Config", "Value", "Answer"];

/// The share of type names that more than one module may define, in percent.
const MOST_SHARED_TYPE_NAMES: usize = 12;

/// First words of a doc comment that delay its subject.
const QUESTION_WORDS: &[&str] = &["What", "Whether", "It", "Which", "Who", "How"];

/// The share of doc comments that may begin with one of [`QUESTION_WORDS`], in percent.
const MOST_QUESTIONS: usize = 3;

const WIDTH: usize = 100;

/// Lines of a source file beyond which its first lines must give a reason: `//! Long because …`.
const MOST_LINES: usize = 500;

/// Files over [`MOST_LINES`] that are yet to be split. The list may only get shorter.
const LONG_FILES: &[&str] = &[];

/// Lines of a function.
const MOST_FUNCTION_LINES: usize = 100;

/// Functions over [`MOST_FUNCTION_LINES`] that are yet to be split. The list may only get shorter.
const LONG_FUNCTIONS: &[&str] = &[];

/// Characters of a test's name.
const MOST_TEST_NAME: usize = 50;

/// One source file.
struct Source {
    /// Relative to the package, `src/io/git/push.rs`.
    file: String,
    /// `["io", "git", "push"]`.
    module: Vec<String>,
    text: String,
}

impl Source {
    fn layer(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }

    /// The text without the test module at its end.
    fn code(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests {").next().unwrap()
    }

    fn is_test(&self) -> bool {
        self.file.ends_with("/tests.rs") || self.file.contains("/tests/")
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().unwrap() != "target" {
                rust_files(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources_in(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    rust_files(&root().join(folder), &mut found);
    found.sort();
    let sources = found.into_iter().map(|path| {
        let file = path
            .strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let inside = file.split_once('/').unwrap().1.trim_end_matches(".rs");
        let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
        if matches!(module.last().unwrap().as_str(), "mod" | "lib" | "main") {
            module.pop();
        }
        Source {
            file,
            module,
            text: fs::read_to_string(&path).unwrap(),
        }
    });
    sources.collect()
}

fn sources() -> Vec<Source> {
    sources_in("src")
}

/// Lines that are no comment.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate();
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn place(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|(known, _)| *known == layer)
}

/// Paths that a text imports or names, from the crate's root: `["io", "git", "Mirror"]`.
fn imports(source: &Source) -> Vec<Vec<String>> {
    let text: String = code_lines(source.code())
        .map(|(_, line)| format!("{line}\n"))
        .collect();
    let mut found = Vec::new();
    for (start, _) in text.match_indices(['c', 's']) {
        let before = text[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '.')) {
            continue;
        }
        let rest = &text[start..];
        let (base, rest) = if let Some(rest) = rest.strip_prefix("crate::") {
            (Vec::new(), rest)
        } else if let Some(rest) = rest.strip_prefix("self::") {
            (source.module.clone(), rest)
        } else if rest.starts_with("super::") {
            let (mut base, mut rest) = (source.module.clone(), rest);
            while let Some(shorter) = rest.strip_prefix("super::") {
                base.pop();
                rest = shorter;
            }
            (base, rest)
        } else {
            continue;
        };
        expand(base, rest, &mut found);
    }
    found
}

/// Follows one path or import tree; gives what comes after it.
fn expand<'t>(base: Vec<String>, text: &'t str, found: &mut Vec<Vec<String>>) -> &'t str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            if let Some(end) = rest.strip_prefix('}') {
                return end;
            }
            let before = rest.len();
            rest = expand(base.clone(), rest, found);
            if rest.len() == before {
                return rest;
            }
        }
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*'));
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    let mut path = base;
    if !word.is_empty() && word != "self" {
        path.push(word.to_owned());
    }
    if let Some(rest) = rest.strip_prefix("::") {
        return expand(path, rest, found);
    }
    found.push(path);
    match rest.trim_start().strip_prefix("as ") {
        Some(alias) => alias.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
        None => rest,
    }
}

#[test]
fn facts_leave_as_events_only() {
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|source| source.layer() != "events" && source.layer() != "sandbox")
        .flat_map(|source| {
            code_lines(source.code())
                .filter(|(_, line)| line.contains("tracing::"))
                .map(|(number, _)| format!("{}:{}", source.file, number + 1))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "record an event (src/events) instead of logging:\n{}",
        wrong.join("\n")
    );
}

/// The text of `docs/troubleshooting.md` is looked up by users with a message before them.
#[test]
fn docs_quote_messages_of_the_program() {
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    // A string that goes over several lines is one line to its reader.
    let program: String = sources()
        .iter()
        .map(|source| {
            let lines: Vec<&str> = source.code().split("\\\n").map(str::trim_start).collect();
            lines.concat()
        })
        .collect();
    let messages: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split(" | ").next())
        .flat_map(|cell| cell.split('`').step_by(2))
        .filter(|message| !message.is_empty())
        .collect();
    assert!(messages.len() > 20, "{messages:?}");
    let unknown: Vec<&&str> = messages
        .iter()
        .filter(|message| !program.contains(**message))
        .collect();
    assert!(unknown.is_empty(), "not in the program: {unknown:?}");
}

#[test]
fn layers_import_only_lower_layers() {
    let mut wrong = Vec::new();
    for source in sources() {
        if source.module.is_empty() {
            continue;
        }
        let Some(own) = place(source.layer()) else {
            wrong.push(format!("{}: not in a layer of tests/tidy.rs", source.file));
            continue;
        };
        let used: BTreeSet<String> = imports(&source)
            .into_iter()
            .filter_map(|path| path.into_iter().next())
            .collect();
        for used in used {
            if place(&used).is_some_and(|place| place > own) {
                let (file, layer) = (&source.file, source.layer());
                wrong.push(format!("{file}: {layer} imports {used}, a higher layer"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sibling_modules_have_no_import_cycle() {
    let all = sources();
    let modules: BTreeSet<&[String]> = all.iter().map(|source| source.module.as_slice()).collect();
    // Edges between the modules below one parent; a file counts for the module that contains it.
    let mut edges: BTreeMap<Vec<String>, BTreeMap<String, BTreeMap<String, String>>> =
        BTreeMap::new();
    for source in all.iter().filter(|source| !source.is_test()) {
        for path in imports(source) {
            let common = path
                .iter()
                .zip(&source.module)
                .take_while(|(a, b)| a == b)
                .count();
            let (Some(from), Some(to)) = (source.module.get(common), path.get(common)) else {
                continue;
            };
            if modules.contains(&path[..=common]) {
                let siblings = edges.entry(path[..common].to_vec()).or_default();
                let targets = siblings.entry(from.clone()).or_default();
                targets
                    .entry(to.clone())
                    .or_insert_with(|| source.file.clone());
            }
        }
    }
    let mut wrong = Vec::new();
    for (parent, mut siblings) in edges {
        while let Some(leaf) = leaf(&siblings) {
            siblings.remove(&leaf);
            siblings
                .values_mut()
                .for_each(|targets| drop(targets.remove(&leaf)));
        }
        for (from, targets) in &siblings {
            for (to, file) in targets {
                wrong.push(format!("{file}: {}::{from} -> {to}", parent.join("::")));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports on a cycle or leading to one:\n{}",
        wrong.join("\n")
    );
}

/// A module that imports no sibling, or that no sibling imports: never part of a cycle.
fn leaf(siblings: &BTreeMap<String, BTreeMap<String, String>>) -> Option<String> {
    let imported: BTreeSet<&String> = siblings.values().flat_map(BTreeMap::keys).collect();
    let sink = imported
        .iter()
        .find(|name| siblings.get(**name).is_none_or(BTreeMap::is_empty));
    let sink = sink.map(|name| (*name).clone());
    sink.or_else(|| {
        siblings
            .keys()
            .find(|name| !imported.contains(name))
            .cloned()
    })
}

#[test]
fn pure_layers_know_no_outside_world() {
    let mut wrong = Vec::new();
    for source in sources() {
        if !LAYERS.contains(&(source.layer(), Pure)) || source.is_test() {
            continue;
        }
        for (number, line) in code_lines(source.code()) {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{}:{}: {word}", source.file, number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn map_names_every_layer_once() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let layers: Vec<&str> = LAYERS.iter().map(|(layer, _)| *layer).collect();
    let modules: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let rows: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("//! | [`")?.split('`').next())
        .collect();
    assert_eq!(
        modules, layers,
        "the modules of src/lib.rs and the layers of tests/tidy.rs"
    );
    assert_eq!(
        rows, layers,
        "the table of src/lib.rs and the layers of tests/tidy.rs"
    );
    for (layer, kind) in LAYERS {
        let row = lib
            .lines()
            .find(|line| line.starts_with(&format!("//! | [`{layer}`]")))
            .unwrap();
        let word = if *kind == Pure {
            "| pure |"
        } else {
            "| edge |"
        };
        assert!(row.ends_with(word), "{row}");
    }
}

#[test]
fn type_names_have_one_meaning() {
    let mut defined: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (_, line) in code_lines(source.code()) {
            if let Some(name) = type_name(line) {
                defined
                    .entry(name.to_owned())
                    .or_default()
                    .insert(source.file.clone());
            }
        }
    }
    defined.retain(|name, _| !SHARED_TYPE_NAMES.contains(&name.as_str()));
    let all: usize = defined.values().map(BTreeSet::len).sum();
    defined.retain(|_, files| files.len() > 1);
    let shared: usize = defined.values().map(BTreeSet::len).sum();
    assert!(
        shared * 100 <= all * MOST_SHARED_TYPE_NAMES,
        "{shared} of {all} types share their name: {defined:#?}"
    );
    defined.retain(|_, files| files.len() > 2);
    assert!(
        defined.is_empty(),
        "these names mean three things or more: {defined:#?}"
    );
}

/// The type that a line at the top of a file defines.
fn type_name(line: &str) -> Option<&str> {
    let line = line
        .strip_prefix("pub(crate) ")
        .or(line.strip_prefix("pub "))
        .unwrap_or(line);
    let words = ["struct ", "enum ", "trait ", "type "];
    let rest = words.into_iter().find_map(|word| line.strip_prefix(word))?;
    rest.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .next()
}

#[test]
fn docs_begin_with_a_verb_or_a_noun() {
    let (mut all, mut questions) = (0, Vec::new());
    for source in sources() {
        let mut before = "";
        for (number, line) in source.text.lines().enumerate() {
            let line = line.trim_start();
            let first = line
                .strip_prefix("/// ")
                .filter(|_| !before.starts_with("///"));
            let first = first.or(line.strip_prefix("//! ").filter(|_| number == 0));
            if let Some(text) = first {
                all += 1;
                let word = text.split([' ', ',', '\'']).next().unwrap();
                if QUESTION_WORDS.contains(&word) {
                    questions.push(format!("{}:{}: {text}", source.file, number + 1));
                }
            }
            before = line;
        }
    }
    assert!(
        questions.len() * 100 <= all * MOST_QUESTIONS,
        "{} of {all} doc comments begin with a question word:\n{}",
        questions.len(),
        questions.join("\n")
    );
}

#[test]
fn comments_fit_the_width() {
    let mut wrong = Vec::new();
    for source in ["src", "tests", "benches"].into_iter().flat_map(sources_in) {
        for (number, line) in source.text.lines().enumerate() {
            // `cargo fmt --check` judges code; tables, diagrams and addresses cannot be wrapped.
            let text = line.trim_start();
            let fixed = text.starts_with("//! |")
                || text.contains(['─', '▶', '▲', '└'])
                || text.split(' ').any(|word| word.len() > 60);
            if text.starts_with("//") && !fixed && line.chars().count() > WIDTH {
                wrong.push(format!("{}:{}", source.file, number + 1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "wider than {WIDTH}:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn files_stay_readable() {
    let mut long = BTreeMap::new();
    for source in sources() {
        let lines = source.code().lines().count();
        let mut head = source.text.lines().take(12);
        let reason = head.any(|line| line.starts_with("//! Long because"));
        let known = LONG_FILES.contains(&source.file.as_str());
        if lines > MOST_LINES && !reason && !known && !source.is_test() {
            long.insert(source.file, lines);
        }
    }
    assert!(
        long.is_empty(),
        "which second subject lives in these files? {long:#?}"
    );
}

#[test]
fn functions_stay_readable() {
    let mut long = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let mut begun: Option<(usize, usize, String)> = None;
        for (number, line) in source.code().lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            if let Some((start, depth, name)) = &begun {
                if indent == *depth && line.trim_start().starts_with('}') {
                    let place = format!("{}: {name}", source.file);
                    if number - start >= MOST_FUNCTION_LINES
                        && !LONG_FUNCTIONS.contains(&place.as_str())
                    {
                        long.push(place);
                    }
                    begun = None;
                }
            } else if is_function(line) && !line.trim_end().ends_with(['}', ';']) {
                let name = line.split("fn ").nth(1).unwrap();
                let name = name.split(['(', '<']).next().unwrap();
                begun = Some((number, indent, name.to_owned()));
            }
        }
    }
    assert!(
        long.is_empty(),
        "functions over {MOST_FUNCTION_LINES} lines:\n{}",
        long.join("\n")
    );
}

fn is_function(line: &str) -> bool {
    let mut line = line.trim_start();
    for word in [
        "pub(crate) ",
        "pub(super) ",
        "pub ",
        "const ",
        "async ",
        "unsafe ",
    ] {
        line = line.strip_prefix(word).unwrap_or(line);
    }
    line.starts_with("fn ")
}

#[test]
fn test_names_are_short() {
    let mut long = Vec::new();
    for source in ["src", "tests"].into_iter().flat_map(sources_in) {
        let mut test = false;
        for (number, line) in source.text.lines().enumerate() {
            let line = line.trim_start();
            test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            if test && is_function(line) {
                test = false;
                let name = line.split("fn ").nth(1).unwrap().split('(').next().unwrap();
                if name.len() > MOST_TEST_NAME {
                    long.push(format!("{}:{}: {name}", source.file, number + 1));
                }
            }
        }
    }
    assert!(
        long.is_empty(),
        "test names over {MOST_TEST_NAME} characters:\n{}",
        long.join("\n")
    );
}

#[test]
fn test_files_are_all_compiled() {
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
fn ignored_tests_name_what_they_need() {
    let mut wrong = Vec::new();
    for source in sources_in("tests")
        .iter()
        .filter(|source| source.file != "tests/tidy.rs")
    {
        for (number, line) in source.text.lines().enumerate() {
            let ignored = line.trim_start().starts_with("#[ignore");
            if ignored && !(line.contains("needs") && line.contains("tests/run")) {
                wrong.push(format!("{}:{}: {}", source.file, number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn modules_all_have_a_doc() {
    let silent: Vec<String> = ["src", "tests", "benches"]
        .into_iter()
        .flat_map(sources_in)
        .filter(|source| !source.is_test())
        .filter(|source| {
            let text = source.text.trim_start().trim_start_matches("#![no_main]");
            !text.trim_start().starts_with("//!")
        })
        .map(|source| source.file)
        .collect();
    assert!(
        silent.is_empty(),
        "without a module doc (//!):\n{}",
        silent.join("\n")
    );
}
