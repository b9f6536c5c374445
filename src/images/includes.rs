//! The files and folders that a file includes, and the images that a kustomization renames.
//!
//! Enough of kustomize, Flux and Argo CD to tell which files a folder of production leads to. A
//! remote base is no file here.

use super::references::{FileKind, YamlFile};
use crate::core::{image::ImageRepository, yaml::Node};
use regex::bytes::Regex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

/// The most paths of one file that are followed.
const MOST: usize = 10_000;

/// Groups of the units that include folders and files.
static UNITS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"kustomize\.toolkit\.fluxcd\.io/|argoproj\.io/").ok());

/// A file that includes others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Includes {
    pub file: String,
    /// Paths of files and folders from the root; the empty path is the root.
    pub paths: Vec<String>,
    /// Images that get another name, with that name.
    pub renames: Vec<(ImageRepository, ImageRepository)>,
}

/// Returns what a file includes; nothing if it includes nothing and renames nothing.
pub fn read(path: &str, file: &YamlFile<'_>) -> Option<Includes> {
    let has_unit = || {
        UNITS
            .as_ref()
            .is_none_or(|units| units.is_match(file.bytes()))
    };
    let is_kustomization = file.kind() == FileKind::Kustomization;
    if file.kind() == FileKind::ChartTemplate || !is_kustomization && !has_unit() {
        return None;
    }
    let stream = file.stream()?;
    let mut includes = Includes {
        file: path.to_owned(),
        paths: Vec::new(),
        renames: Vec::new(),
    };
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    for root in stream.documents().flatten() {
        if is_kustomization {
            kustomization(root, folder, &mut includes);
        } else {
            unit(root, &mut includes);
        }
    }
    includes.paths.truncate(MOST);
    (!includes.paths.is_empty() || !includes.renames.is_empty()).then_some(includes)
}

fn kustomization(root: Node<'_>, folder: &str, includes: &mut Includes) {
    for key in [
        "resources",
        "bases",
        "components",
        "patchesStrategicMerge",
        "patches",
        "patchesJson6902",
    ] {
        for entry in root.get(key).into_iter().flat_map(Node::items) {
            let node = entry.get("path").unwrap_or(entry);
            let path = node
                .value()
                .filter(|path| !path.contains('\n') && !is_remote(path));
            includes
                .paths
                .extend(path.and_then(|path| joined(folder, path)));
        }
    }
    for entry in root.get("images").into_iter().flat_map(Node::items) {
        let repository = |key| {
            let text = entry.get(key).and_then(Node::value)?;
            ImageRepository::new(text).ok()
        };
        if let (Some(name), Some(new_name)) = (repository("name"), repository("newName"))
            && name != new_name
        {
            includes.renames.push((name, new_name));
        }
    }
}

/// A Flux Kustomization or an Argo CD Application: its paths begin at the root.
fn unit(root: Node<'_>, includes: &mut Includes) {
    let Some(spec) = root.get("spec") else { return };
    let sources = spec.get("sources").into_iter().flat_map(Node::items);
    for holder in [spec].into_iter().chain(spec.get("source")).chain(sources) {
        let path = holder.get("path").and_then(Node::value).unwrap_or_default();
        let is_path = !path.is_empty() && !path.contains("{{");
        let folder = if is_path { joined("", path) } else { None };
        let files = holder.get("helm").and_then(|helm| helm.get("valueFiles"));
        for file in files
            .into_iter()
            .flat_map(Node::items)
            .filter_map(Node::value)
        {
            // `$values/web.yaml` begins at the root of the source of this name.
            let path = match file.strip_prefix('$').and_then(|rest| rest.split_once('/')) {
                Some((_, path)) => joined("", path),
                None => joined(folder.as_deref().unwrap_or_default(), file),
            };
            includes.paths.extend(path);
        }
        includes.paths.extend(folder);
    }
}

/// Returns whether an entry of `resources` lies in another repository, as kustomize tells.
pub(super) fn is_remote(entry: &str) -> bool {
    entry.contains("://")
        || entry.contains("?ref=")
        || entry.contains("&ref=")
        || entry.starts_with("git@")
        || ["github.com/", "gitlab.com/", "bitbucket.org/"]
            .iter()
            .any(|host| entry.starts_with(host))
}

/// Resolves a path against a folder; none if it leaves the repository.
fn joined(folder: &str, path: &str) -> Option<String> {
    let start = if path.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The includes of a repository, by file.
#[derive(Debug, Default)]
pub struct IncludeGraph<'i> {
    by_file: BTreeMap<&'i str, &'i Includes>,
}

impl<'i> IncludeGraph<'i> {
    pub fn new(includes: &'i [Includes]) -> Self {
        let by_file = includes.iter().map(|one| (one.file.as_str(), one));
        Self {
            by_file: by_file.collect(),
        }
    }

    /// Returns every file and folder that some files lead to. Each file is followed once.
    pub fn reached_from<'f>(&self, files: impl Iterator<Item = &'f str>) -> Reached<'i> {
        let mut paths: BTreeSet<&'i str> = BTreeSet::new();
        let start = files.filter_map(|file| self.by_file.get(file));
        let mut queue: Vec<&Includes> = start.copied().collect();
        let mut seen: BTreeSet<&str> = queue.iter().map(|one| one.file.as_str()).collect();
        while let Some(includes) = queue.pop() {
            for path in &includes.paths {
                if !paths.insert(path) {
                    continue;
                }
                let below = self.below(path).into_iter();
                queue.extend(below.filter(|one| seen.insert(&one.file)));
            }
        }
        Reached { paths }
    }

    /// The including files that a path stands for: the file itself, the kustomization of a folder,
    /// or all files of a folder without one, as Flux takes it.
    fn below(&self, path: &str) -> Vec<&'i Includes> {
        let start = match path {
            "" => String::new(),
            path => format!("{path}/"),
        };
        let inside = || {
            let from = self.by_file.range(start.as_str()..);
            from.map(|(file, one)| (*file, *one))
                .take_while(|(file, _)| file.starts_with(&start))
        };
        let is_kustomization = |(file, _): &(&str, &Includes)| {
            let name = &file[start.len()..];
            !name.contains('/') && FileKind::of(name, |_| false) == FileKind::Kustomization
        };
        let file = self.by_file.get(path).copied();
        match inside().find(is_kustomization) {
            Some((_, own)) => file.into_iter().chain([own]).collect(),
            None => file
                .into_iter()
                .chain(inside().map(|(_, one)| one))
                .collect(),
        }
    }
}

/// Files and folders that some files lead to.
#[derive(Debug)]
pub struct Reached<'i> {
    paths: BTreeSet<&'i str>,
}

impl Reached<'_> {
    /// Returns whether a file is one of these, or lies below a folder of these.
    pub fn contains(&self, file: &str) -> bool {
        self.paths.contains(file)
            || self.paths.contains("")
            || file
                .match_indices('/')
                .any(|(at, _)| self.paths.contains(&file[..at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn includes(path: &str, source: &str) -> Includes {
        let kind = FileKind::of(path, |_| false);
        read(path, &YamlFile::new(kind, source.as_bytes())).unwrap()
    }

    #[test]
    fn includes_resolve_paths_and_renames() {
        let found = includes(
            "apps/web/overlays/prod/kustomization.yaml",
            "resources: [../../base, ns.yaml, 'https://example.com/x?ref=v1', ../../../../..]\n\
             patches: [{path: p.yaml}, {patch: '- op: add'}]\n\
             images: [{name: web, newName: ghcr.io/acme/web, newTag: 1.0.0}, {name: x, newTag: '1'}]\n",
        );
        assert_eq!(
            found.paths,
            [
                "apps/web/base",
                "apps/web/overlays/prod/ns.yaml",
                "apps/web/overlays/prod/p.yaml"
            ]
        );
        let renames: Vec<String> = found
            .renames
            .iter()
            .map(|(name, new_name)| format!("{name} {new_name}"))
            .collect();
        assert_eq!(renames, ["docker.io/library/web ghcr.io/acme/web"]);
    }

    #[test]
    fn includes_are_followed_once() {
        let all = [
            includes(
                "clusters/prod/apps.yaml",
                "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nspec: {path: ./apps/prod}\n",
            ),
            includes(
                "apps/prod/kustomization.yaml",
                "resources: [../base/web, ../prod]\n",
            ),
            includes(
                "apps/base/web/kustomization.yaml",
                "resources: [d.yaml, ../common]\n",
            ),
            includes(
                "apps/base/common/x.yaml",
                "apiVersion: argoproj.io/v1alpha1\nspec: {source: {path: charts/web, helm: {valueFiles: [values.yaml, /v.yaml]}}}\n",
            ),
        ];
        let graph = IncludeGraph::new(&all);
        let reached = graph.reached_from(["clusters/prod/apps.yaml", "unknown"].into_iter());
        for (file, expected) in [
            ("apps/base/web/d.yaml", true),
            ("apps/base/common/x.yaml", true),
            ("charts/web/values.yaml", true),
            ("v.yaml", true),
            ("apps/base/webs.yaml", false),
            ("clusters/dev/x.yaml", false),
        ] {
            assert_eq!(reached.contains(file), expected, "{file}");
        }
        let rooted = [includes("x/kustomization.yaml", "resources: [..]\n")];
        let reached = IncludeGraph::new(&rooted);
        let reached = reached.reached_from(["x/kustomization.yaml"].into_iter());
        assert!(reached.contains("any/file.yaml"));
    }
}
