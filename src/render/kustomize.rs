//! kustomize: what a build reads, found before it runs, and the build itself.
//!
//! A build reads the folders of its kustomizations, as a whole, and the files that they name elsewhere. Every text of a
//! kustomization that leads to something in the repository is followed, whatever the field is called, so that a field of a
//! later version is not missed. Where plugins are configured (generators, transformers, validators), whose files name files
//! in ways of their own, the whole repository counts as read.

use super::{
    error::RenderError,
    tree::{Kind, Tree},
};
use crate::{
    object::Origin,
    yaml::{self, Node},
};
use std::collections::BTreeSet;

/// The names of a kustomization.
pub(super) const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// The kustomization of a folder: its path.
pub(super) fn file(tree: &Tree<'_>, folder: &str) -> Result<Option<String>, RenderError> {
    for name in NAMES {
        let path = super::join(folder, name);
        if tree.is_file(&path)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// What a build may read.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Folders and files, from the root; the root itself is the empty path. Some may not be there.
    pub paths: BTreeSet<String>,
    /// Whether something is read from another host, which no id stands for.
    pub remote: bool,
}

/// Fields whose texts are paths, or addresses of other hosts.
const PATHS: [&str; 17] = [
    "resources",
    "bases",
    "components",
    "patches",
    "patchesStrategicMerge",
    "patchesJson6902",
    "configurations",
    "crds",
    "openapi",
    "replacements",
    "path",
    "files",
    "envs",
    "env",
    "valuesFile",
    "additionalValuesFiles",
    "repo",
];

/// Fields whose texts name folders or files, and nothing else.
const BASES: [&str; 3] = ["resources", "bases", "components"];

/// Fields that configure plugins.
const PLUGINS: [&str; 3] = ["generators", "transformers", "validators"];

/// Finds what a build of `folder` may read.
///
/// # Errors
/// [`RenderError::Outside`] where it would read from another host (unless `allow_remote`) or from outside the repository.
pub(super) fn scan(tree: &Tree<'_>, folder: &str, allow_remote: bool) -> Result<Reads, RenderError> {
    let mut scan = Scan { tree, allow_remote, reads: Reads::default(), whole: false };
    scan.folder(folder)?;
    if scan.whole {
        scan.reads.paths = BTreeSet::from([String::new()]);
    }
    Ok(scan.reads)
}

struct Scan<'t> {
    tree: &'t Tree<'t>,
    allow_remote: bool,
    reads: Reads,
    whole: bool,
}

impl Scan<'_> {
    fn folder(&mut self, folder: &str) -> Result<(), RenderError> {
        // Kustomizations that name each other in a circle end here.
        if !self.reads.paths.insert(folder.to_owned()) {
            return Ok(());
        }
        let Some(file) = file(self.tree, folder)? else { return Ok(()) };
        let bytes = self.tree.read(&file)?.unwrap_or_default();
        let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(()) };
        let Ok(stream) = yaml::parse(text) else {
            // What it cannot read, kustomize says better; nothing it names can be read either.
            return Ok(());
        };
        for root in stream.documents().flatten() {
            if let Some((key, _)) = ["helmCharts", "helmChartInflationGenerator"].iter().find_map(|name| root.entry(name)) {
                let origin = Origin { file: file.as_str().into(), line: key.line() as usize };
                let what = "charts are not inflated by kustomize here; make an Application of the chart".to_owned();
                return Err(RenderError::Outside { origin, what });
            }
            for (key, value) in root.entries() {
                let key = key.value().unwrap_or_default();
                self.whole |= PLUGINS.contains(&key) && value.items().next().is_some();
                self.node(folder, &file, key, value, 0)?;
            }
        }
        Ok(())
    }

    fn node(&mut self, folder: &str, file: &str, key: &str, node: Node<'_>, depth: usize) -> Result<(), RenderError> {
        if let Some(text) = node.value() {
            return self.text(folder, &Origin { file: file.into(), line: node.line() as usize }, key, text);
        }
        // An alias repeats what is looked at where it is written.
        for item in node.items() {
            self.node(folder, file, key, item, depth + 1)?;
        }
        for (name, value) in node.entries() {
            self.node(folder, file, name.value().unwrap_or_default(), value, depth + 1)?;
        }
        Ok(())
    }

    fn text(&mut self, folder: &str, origin: &Origin, key: &str, text: &str) -> Result<(), RenderError> {
        // Patches and resources written in place are no paths.
        if text.is_empty() || text.len() > 1024 || text.contains(['\n', '\0']) {
            return Ok(());
        }
        // `name=path` in generators of ConfigMaps and Secrets.
        let path = match key {
            "files" | "envs" | "env" => text.split_once('=').map_or(text, |(_, path)| path),
            _ => text,
        };
        let is_path = PATHS.contains(&key) || PLUGINS.contains(&key);
        let refuse = |what: String| Err(RenderError::Outside { origin: origin.clone(), what });
        let resolved = match path.starts_with('/') {
            // A field of an object may be called `path`, too, and hold a path of a web server or a JSON pointer.
            true if BASES.contains(&key) => return refuse(format!("{path:?} leads out of the repository")),
            true => return Ok(()),
            false => super::resolve(folder, path),
        };
        let found = match &resolved {
            Some(resolved) => self.tree.kind(resolved)?,
            None => None,
        };
        if found.is_none() && is_path && is_remote(path, BASES.contains(&key)) {
            if !self.allow_remote {
                return refuse(format!("{path:?} would be read from another host"));
            }
            self.reads.remote = true;
            return Ok(());
        }
        match (resolved, found) {
            (None, _) if is_path => return refuse(format!("{path:?} leads out of the repository")),
            (Some(resolved), Some(Kind::Folder)) if is_path => self.folder(&resolved)?,
            // Where it may come to lie, it counts, too; below the folder everything does.
            (Some(resolved), _) if path.contains("..") => drop(self.reads.paths.insert(resolved)),
            _ => {}
        }
        Ok(())
    }
}

/// Whether kustomize would take a text that is no path of the repository for an address. In lists of bases it takes nearly
/// everything for one: `github.com/a/b//base?ref=v1`, `git@host:a/b`, `host:a/b`.
fn is_remote(text: &str, base: bool) -> bool {
    let lower = text.to_ascii_lowercase();
    let is_url =
        ["http://", "https://", "ssh://", "git://", "file://", "git::", "gh:", "git@"].iter().any(|start| lower.starts_with(start));
    let host = text.split(['/', ':']).next().unwrap_or_default();
    is_url
        || lower.contains("://")
        || (base
            && (lower.contains("?ref=")
                || lower.contains("?version=")
                || text.contains("//")
                || text.contains("_git/")
                || text.contains('@')))
        || (base && host.len() < text.len() && host.trim_start_matches('.').contains('.') && !text.starts_with('.'))
        || (base && lower.contains(".git/"))
        || (base && lower.ends_with(".git"))
}
