//! Environments, guessed from the names of folders and files.

use crate::{
    core::name,
    images::includes::IncludeGraph,
    spec::{Environment, Paths},
};
use std::collections::{BTreeMap, BTreeSet};

/// Words that name an environment.
const WORDS: &[&str] = &[
    "acc",
    "acceptance",
    "canary",
    "demo",
    "dev",
    "develop",
    "development",
    "int",
    "integration",
    "live",
    "nonprod",
    "perf",
    "pre",
    "prd",
    "preprod",
    "preproduction",
    "prod",
    "production",
    "qa",
    "sandbox",
    "sit",
    "stage",
    "staging",
    "stg",
    "test",
    "testing",
    "tst",
    "uat",
];

/// Words of these that also name other things: alone in a repository they are no environment, and a
/// clearer name above or below wins.
const AMBIGUOUS: &[&str] = &[
    "acc",
    "canary",
    "demo",
    "int",
    "integration",
    "live",
    "perf",
    "pre",
    "sandbox",
    "sit",
    "stage",
    "test",
    "testing",
];

/// Words of production.
const PRODUCTION: &[&str] = &["live", "prd", "prod", "production"];

/// Words that may stand beside an environment's word: `prod-eu-west-1`, `aws-prod`.
const BESIDE: &[&str] = &[
    "aks",
    "ap",
    "apac",
    "au",
    "aws",
    "azure",
    "blue",
    "br",
    "ca",
    "central",
    "ch",
    "cluster",
    "cn",
    "de",
    "east",
    "eks",
    "emea",
    "env",
    "eu",
    "fr",
    "gcp",
    "gke",
    "global",
    "green",
    "hk",
    "ie",
    "in",
    "it",
    "jp",
    "k3s",
    "k8s",
    "kr",
    "latam",
    "local",
    "me",
    "nl",
    "non",
    "north",
    "northeast",
    "northwest",
    "nz",
    "onprem",
    "primary",
    "sa",
    "se",
    "secondary",
    "sg",
    "south",
    "southeast",
    "southwest",
    "uk",
    "us",
    "west",
    "za",
];

/// Folders whose sub-folders are environments, whatever their names.
const PARENTS: &[&str] = &[
    "clusters",
    "env",
    "environment",
    "environments",
    "envs",
    "stages",
];

/// First words of a file name that an environment's word precedes: `prod-values.yaml`.
const FILES: &[&str] = &[
    "app",
    "application",
    "config",
    "deployment",
    "helmrelease",
    "image",
    "images",
    "kustomization",
    "patch",
    "release",
    "values",
    "version",
    "versions",
];

/// A drafted Environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnvironmentDraft {
    pub name: String,
    /// Globs of the files.
    pub paths: Vec<String>,
    pub review: Option<ReviewReason>,
}

/// The reason why changes go through a pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReviewReason {
    Production,
    /// Production includes files of it.
    IncludedByProduction,
}

/// The environment of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hit {
    name: String,
    /// The folder, or the file itself.
    path: String,
    is_folder: bool,
    is_sure: bool,
}

/// Returns the Environments for files with references: one for each name, and one for the files
/// outside of them. Files of a declared Environment are left to it.
pub(super) fn find<'f>(
    files: impl IntoIterator<Item = &'f str>,
    declared: &[&Environment],
    graph: &IncludeGraph<'_>,
    including: &[&str],
) -> Vec<EnvironmentDraft> {
    let is_free = |file: &&str| !declared.iter().any(|one| one.paths.contains(file));
    let files: Vec<&str> = files.into_iter().filter(is_free).collect();
    if files.is_empty() {
        return Vec::new();
    }
    let (named, others) = named(&files);
    let excluded: Vec<String> = declared
        .iter()
        .flat_map(|one| one.paths.patterns())
        .filter(|glob| !glob.starts_with('!'))
        .map(|glob| format!("!{glob}"))
        .collect();
    let all: Vec<&String> = named.values().flatten().collect();
    let mut drafts: Vec<EnvironmentDraft> = named
        .iter()
        .map(|(name, paths)| {
            let inside = all.iter().filter(|path| {
                !paths.contains(**path) && paths.iter().any(|own| is_inside(path, own))
            });
            let claimed = excluded
                .iter()
                .filter(|glob| paths.iter().any(|own| is_inside(&glob[1..], own)));
            let excluded = inside
                .map(|path| format!("!{path}"))
                .chain(claimed.cloned());
            EnvironmentDraft {
                name: name.clone(),
                paths: paths.iter().cloned().chain(excluded).collect(),
                review: is_production(name).then_some(ReviewReason::Production),
            }
        })
        .collect();
    if !others.is_empty() || drafts.is_empty() {
        let mut outside = vec!["**".to_owned()];
        outside.extend(all.iter().map(|path| format!("!{path}")));
        outside.extend(excluded);
        outside.push("!policies/**".to_owned());
        let review = is_included(&others, &drafts, graph, including)
            .then_some(ReviewReason::IncludedByProduction);
        drafts.push(EnvironmentDraft {
            name: outside_name(&drafts),
            paths: outside,
            review,
        });
    }
    drafts
}

/// Returns the paths of each named environment, and the files outside of them.
fn named<'f>(files: &[&'f str]) -> (BTreeMap<String, BTreeSet<String>>, Vec<&'f str>) {
    let hits: Vec<(&str, Option<Hit>)> = files.iter().map(|file| (*file, hit(file))).collect();
    let names: BTreeSet<&str> = hits
        .iter()
        .filter_map(|(_, hit)| hit.as_ref().map(|hit| hit.name.as_str()))
        .collect();
    let has_several = names.len() > 1;
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut others = Vec::new();
    for (file, hit) in &hits {
        match hit.as_ref().filter(|hit| hit.is_sure || has_several) {
            Some(hit) => {
                let mut glob = escaped(&hit.path);
                if hit.is_folder {
                    glob.push_str("/**");
                }
                named.entry(hit.name.clone()).or_default().insert(glob);
            }
            None => others.push(*file),
        }
    }
    (named, others)
}

/// Returns whether one glob lies in the folder of another, `FOLDER/**`.
fn is_inside(path: &str, folder: &str) -> bool {
    let start = folder.strip_suffix("**");
    start.is_some_and(|start| path.len() > folder.len() && path.starts_with(start))
}

fn outside_name(drafts: &[EnvironmentDraft]) -> String {
    let name = if drafts.is_empty() {
        "default"
    } else {
        "shared"
    };
    match drafts.iter().any(|draft| draft.name == name) {
        true => "shared-files".to_owned(),
        false => name.to_owned(),
    }
}

/// Returns whether production includes one of some files: by a kustomization, a Flux or an Argo CD
/// object, or as the common values beside those of production.
fn is_included(
    files: &[&str],
    drafts: &[EnvironmentDraft],
    graph: &IncludeGraph<'_>,
    including: &[&str],
) -> bool {
    let production = drafts.iter().filter(|draft| draft.review.is_some());
    let globs: Vec<String> = production.flat_map(|draft| draft.paths.clone()).collect();
    if globs.is_empty() {
        return false;
    }
    let folder = |path: &str| {
        path.rsplit_once('/')
            .map_or(String::new(), |(folder, _)| folder.to_owned())
    };
    let beside: BTreeSet<String> = globs
        .iter()
        .filter(|glob| !glob.ends_with("/**"))
        .map(|glob| folder(glob))
        .collect();
    let Ok(paths) = Paths::new(&globs) else {
        return true;
    };
    let starts = including.iter().filter(|file| paths.contains(file));
    let reached = graph.reached_from(starts.copied());
    files
        .iter()
        .any(|file| reached.contains(file) || beside.contains(&escaped(&folder(file))))
}

/// Returns whether a name means production; `non-prod` and `pre-prod` do not.
fn is_production(name: &str) -> bool {
    let words: Vec<&str> = name.split(['-', '.']).collect();
    words.iter().enumerate().any(|(index, word)| {
        let before = index.checked_sub(1).map(|before| words[before]);
        PRODUCTION.contains(&undigited(word)) && !matches!(before, Some("non" | "pre" | "not"))
    })
}

/// Returns the environment of a file: the outermost clear folder name, else a folder below one such
/// as `clusters`, else an ambiguous folder name, else the name of the file.
fn hit(file: &str) -> Option<Hit> {
    let parts: Vec<&str> = file.split('/').collect();
    let (last, folders) = parts.split_last()?;
    let path_of = |at: usize| parts[..=at].join("/");
    let mut best: Option<(u8, Hit)> = None;
    for (at, folder) in folders.iter().enumerate() {
        let parent = at.checked_sub(1).map(|parent| folders[parent]);
        let is_child = parent.is_some_and(|parent| PARENTS.contains(&parent));
        let found = folder_name(folder, parent == Some("overlays"));
        let (rank, name, is_sure) = match found {
            Some((_, is_sure)) if is_child => (0, label(folder), is_sure || is_child),
            Some((name, true)) => (0, name, true),
            Some((name, false)) => (2, name, false),
            None if is_child => (1, label(folder), true),
            None => continue,
        };
        if best.as_ref().is_none_or(|(known, _)| rank < *known) && name::is_subdomain(&name) {
            let path = path_of(at);
            let hit = Hit {
                name,
                path,
                is_folder: true,
                is_sure,
            };
            best = Some((rank, hit));
        }
    }
    let by_file = || {
        let (name, is_sure) = file_name(last)?;
        Some(Hit {
            name,
            path: file.to_owned(),
            is_folder: false,
            is_sure,
        })
    };
    best.map(|(_, hit)| hit).or_else(by_file)
}

/// Returns the environment that a folder's name means. Below `overlays` other words may stand
/// beside it, as in `web-prod`.
fn folder_name(folder: &str, has_other_words: bool) -> Option<(String, bool)> {
    let lower = folder.to_lowercase();
    let words: Vec<&str> = lower.split(['-', '_', '.']).collect();
    let known: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| is_known(word))
        .collect();
    let is_named = has_other_words || known.len() == words.len();
    (is_named && known.iter().any(|word| is_word(word))).then(|| (known.join("-"), is_sure(&known)))
}

/// Returns the environment that a file's name means: `values-prod.yaml`, `prod.yaml`,
/// `prod-values.yaml`.
fn file_name(file: &str) -> Option<(String, bool)> {
    let lower = file.to_lowercase();
    let (stem, _) = lower.rsplit_once('.')?;
    let words: Vec<&str> = stem.split(['-', '_', '.']).collect();
    let ends = words.iter().rev().take_while(|word| is_known(word)).count();
    let end = &words[words.len() - ends..];
    let starts = words.iter().take_while(|word| is_known(word)).count();
    let (start, rest) = words.split_at(starts);
    let has_word = |words: &[&str]| words.iter().any(|word| is_word(word));
    let run = match () {
        () if has_word(end) => end,
        () if has_word(start) && rest.iter().all(|word| FILES.contains(word)) => start,
        () => return None,
    };
    Some((run.join("-"), is_sure(run)))
}

fn is_known(word: &str) -> bool {
    is_word(word) || BESIDE.contains(&word) || BESIDE.contains(&undigited(word)) || is_index(word)
}

fn is_word(word: &str) -> bool {
    WORDS.contains(&undigited(word))
}

fn is_sure(words: &[&str]) -> bool {
    let is_clear = |word: &&str| is_word(word) && !AMBIGUOUS.contains(&undigited(word));
    words.iter().any(is_clear)
}

/// Returns whether a word is a short number: the 1 of `prod-eu-west-1`.
fn is_index(word: &str) -> bool {
    (1..=3).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns a word without the digits at its end: `prod2`.
fn undigited(word: &str) -> &str {
    word.trim_end_matches(|c: char| c.is_ascii_digit())
}

fn label(folder: &str) -> String {
    let lower = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_lowercase(),
        false => '-',
    };
    let name: String = folder.chars().map(lower).collect();
    name.trim_matches('-').to_owned()
}

/// Returns the glob of a path, with special characters escaped.
fn escaped(path: &str) -> String {
    let mut glob = String::new();
    for c in path.chars() {
        if c.is_control() {
            glob.push('?');
        } else if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '!') {
            glob.push_str(&format!("[{c}]"));
        } else {
            glob.push(c);
        }
    }
    glob
}

#[cfg(test)]
mod tests;
