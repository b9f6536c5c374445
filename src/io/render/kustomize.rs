//! kustomize: the inputs of a build, found before it runs, and the build itself.
//!
//! A build reads the folders of its kustomizations, as a whole, and the files that they name
//! elsewhere. Every text of a kustomization that resolves to something in the repository is
//! followed, whatever its field is called, so that a field of a later version is not missed. With
//! plugins (generators, transformers, validators), whose files name files in ways of their own, the
//! whole repository counts as read.

use super::{
    error::RenderError,
    tree::{EntryType, RenderTree},
};
use crate::{
    core::yaml::{self, Node},
    objects::object::ObjectOrigin,
};
use std::collections::BTreeSet;

/// The names of a kustomization.
pub(crate) const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// The arguments of a build, in the folder.
///
/// Patches and generators may name files above the folder, as Flux and Argo CD allow it: the copy
/// holds only what [`scan`] has found, and no path that leads out of it.
pub(crate) fn arguments() -> Vec<std::ffi::OsString> {
    ["build", ".", "--load-restrictor", "LoadRestrictionsNone"]
        .map(Into::into)
        .into()
}

/// The kustomization of a folder: its path.
pub(crate) fn file(tree: &RenderTree<'_>, folder: &str) -> Result<Option<String>, RenderError> {
    for name in NAMES {
        let path = super::join(folder, name);
        if tree.is_file(&path)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The paths that a build may read.
#[derive(Debug, Default)]
pub(crate) struct ReadPaths {
    /// Folders and files, from the root; the root itself is the empty path. Some may not be there.
    pub paths: BTreeSet<String>,
    /// True if something is read from another host, which has no id.
    pub remote: bool,
}

/// Fields whose texts are paths, or addresses of other hosts.
const PATHS: [&str; 18] = [
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
    "paths",
    "files",
    "envs",
    "env",
    "valuesFile",
    "additionalValuesFiles",
    "repo",
];

/// Fields whose texts name folders or files, and nothing else.
const BASES: [&str; 3] = ["resources", "bases", "components"];

/// Fields that configure plugins, each by a folder or file, or in place.
const PLUGINS: [&str; 3] = ["generators", "transformers", "validators"];

/// Fields that inflate charts.
const CHARTS: [&str; 2] = ["helmCharts", "helmChartInflationGenerator"];

/// The longest text that is looked at where no path is expected.
const LONGEST: usize = 1024;

/// Nodes looked at, those that aliases repeat counted each time; and nodes within nodes.
const MOST: (usize, usize) = (1_000_000, 300);

/// Finds the paths that a build of `folder` may read.
///
/// # Errors
/// [`RenderError::Outside`] if it would read from another host (unless `allow_remote`) or from
/// outside the repository, or if that cannot be ruled out.
pub(crate) fn scan(
    tree: &RenderTree<'_>,
    folder: &str,
    allow_remote: bool,
) -> Result<ReadPaths, RenderError> {
    let mut scan = KustomizationScan {
        tree,
        allow_remote,
        reads: ReadPaths::default(),
        plugins: BTreeSet::new(),
        whole: false,
        left: MOST.0,
    };
    scan.folder(folder, false)?;
    if scan.whole {
        scan.reads.paths = BTreeSet::from([String::new()]);
    }
    Ok(scan.reads)
}

struct KustomizationScan<'t> {
    tree: &'t RenderTree<'t>,
    allow_remote: bool,
    reads: ReadPaths,
    /// Folders and files that configure plugins.
    plugins: BTreeSet<String>,
    whole: bool,
    /// Nodes that may still be looked at.
    left: usize,
}

/// The context of a node.
#[derive(Clone, Copy)]
struct KustomizationFolder<'h> {
    folder: &'h str,
    file: &'h str,
    /// True if the document configures a plugin.
    plugin: bool,
    /// The line of the alias that leads here.
    alias: Option<u32>,
    depth: usize,
}

impl KustomizationFolder<'_> {
    fn origin(&self, node: Node<'_>) -> ObjectOrigin {
        ObjectOrigin {
            file: self.file.into(),
            line: self.alias.unwrap_or(node.line()) as usize,
        }
    }
}

impl KustomizationScan<'_> {
    fn folder(&mut self, folder: &str, plugin: bool) -> Result<(), RenderError> {
        // Kustomizations that name each other in a circle end here.
        let new = self.reads.paths.insert(folder.to_owned());
        if !new && (!plugin || !self.plugins.insert(folder.to_owned())) {
            return Ok(());
        }
        match file(self.tree, folder)? {
            Some(file) => self.file(folder, &file, plugin),
            None => Ok(()),
        }
    }

    fn file(&mut self, folder: &str, file: &str, plugin: bool) -> Result<(), RenderError> {
        let bytes = self.tree.read(file)?.unwrap_or_default();
        match std::str::from_utf8(&bytes) {
            Ok(text) => self.yaml(folder, file, plugin, text),
            Err(_) => self.unsure(
                ObjectOrigin {
                    file: file.into(),
                    line: 1,
                },
                "it is not UTF-8 text",
            ),
        }
    }

    fn yaml(
        &mut self,
        folder: &str,
        file: &str,
        plugin: bool,
        text: &str,
    ) -> Result<(), RenderError> {
        // Older YAML, which kustomize reads, ends lines here, and so comments, too.
        let strange = |(at, c): (usize, char)| match c {
            '\u{85}' | '\u{2028}' | '\u{2029}' => Some(at),
            '\r' if !text[at + 1..].starts_with('\n') => Some(at),
            _ => None,
        };
        if let Some(at) = text.char_indices().find_map(strange) {
            let line = text[..at].matches('\n').count() + 1;
            return self.unsure(
                ObjectOrigin {
                    file: file.into(),
                    line,
                },
                "a character here may end the line",
            );
        }
        let stream = match yaml::parse(text) {
            Ok(stream) => stream,
            Err(error) => {
                return self.unsure(
                    ObjectOrigin {
                        file: file.into(),
                        line: error.line as usize,
                    },
                    &error.message,
                );
            }
        };
        for root in stream.documents().flatten() {
            self.node(
                KustomizationFolder {
                    folder,
                    file,
                    plugin,
                    alias: None,
                    depth: 0,
                },
                "",
                root,
            )?;
        }
        Ok(())
    }

    /// Reports text that kustomize may read differently: its target is unknown.
    fn unsure(&mut self, origin: ObjectOrigin, why: &str) -> Result<(), RenderError> {
        if !self.allow_remote {
            return Err(RenderError::Outside {
                origin,
                what: format!("{why}: so it cannot be said whether it reads from another host"),
            });
        }
        self.whole = true;
        Ok(())
    }

    /// Scans a node; `key` is its field, empty for one that leads nowhere.
    fn node(
        &mut self,
        here: KustomizationFolder<'_>,
        key: &'static str,
        node: Node<'_>,
    ) -> Result<(), RenderError> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || here.depth > MOST.1 {
            return self.unsure(
                here.origin(node),
                "aliases repeat too much here, or something that holds itself",
            );
        }
        // The target of an alias counts at the place of the alias: the field decides what a text
        // means.
        let (here, node) = match node.target() {
            Some(target) => (
                KustomizationFolder {
                    alias: Some(here.alias.unwrap_or(node.line())),
                    ..here
                },
                target,
            ),
            None => (here, node),
        };
        if node.tag() == Some("!!binary") {
            return self.unsure(here.origin(node), "it is written as !!binary");
        }
        if let Some(text) = node.value() {
            return self.text(here, &here.origin(node), key, text);
        }
        let below = KustomizationFolder {
            depth: here.depth + 1,
            ..here
        };
        for item in node.items() {
            self.node(below, key, item)?;
        }
        for (name, value) in node.entries() {
            let name = name.target().unwrap_or(name);
            if name.tag() == Some("!!binary") {
                return self.unsure(here.origin(name), "a name is written as !!binary");
            }
            let field = field(name.value().unwrap_or_default());
            if CHARTS.contains(&field) {
                let what =
                    "charts are not inflated by kustomize here; make an Application of the chart"
                        .to_owned();
                return Err(RenderError::Outside {
                    origin: here.origin(name),
                    what,
                });
            }
            self.node(below, field, value)?;
        }
        Ok(())
    }

    fn text(
        &mut self,
        here: KustomizationFolder<'_>,
        origin: &ObjectOrigin,
        key: &'static str,
        text: &str,
    ) -> Result<(), RenderError> {
        let plugin = PLUGINS.contains(&key);
        let base = plugin || BASES.contains(&key);
        let is_path = base || PATHS.contains(&key);
        self.whole |= plugin;
        let in_one_line = !text.contains(['\n', '\0']);
        if text.is_empty() || !is_path && (text.len() > LONGEST || !in_one_line) {
            return Ok(());
        }
        // `name=path` in generators of ConfigMaps and Secrets.
        let path = match key {
            "files" | "envs" | "env" => text.split_once('=').map_or(text, |(_, path)| path),
            _ => text,
        };
        let refuse = |what: String| {
            Err(RenderError::Outside {
                origin: origin.clone(),
                what,
            })
        };
        let elsewhere = is_path && is_address(path, base);
        // Patches, resources and plugins written in place are no paths.
        if !elsewhere && (!in_one_line || !base && path.starts_with('{')) {
            return if plugin {
                self.in_place(here, text)
            } else {
                Ok(())
            };
        }
        let resolved = match path.starts_with('/') {
            true if is_path => return refuse(format!("{path:?} leads out of the repository")),
            true => return Ok(()),
            false => super::resolve(here.folder, path),
        };
        // An address is one even where a folder of the repository is called like it.
        let found = match &resolved {
            Some(resolved) if !elsewhere => self.tree.kind(resolved)?,
            _ => None,
        };
        if elsewhere || found.is_none() && is_path && is_remote(path, base) {
            if !self.allow_remote {
                return refuse(match elsewhere || path.contains("://") {
                    true => format!("{path:?} would be read from another host"),
                    false => format!(
                        "{path:?} is not in the repository, so it would be read from another host"
                    ),
                });
            }
            self.reads.remote = true;
            return Ok(());
        }
        let plugin = plugin || here.plugin;
        match (resolved, found) {
            (None, _) if is_path => return refuse(format!("{path:?} leads out of the repository")),
            (Some(resolved), Some(EntryType::Folder)) if is_path => {
                self.folder(&resolved, plugin)?
            }
            // The configuration of a plugin may name files, too.
            (Some(resolved), Some(EntryType::File)) if is_path && plugin => {
                self.configuration(&resolved)?
            }
            (Some(_), None) if PLUGINS.contains(&key) => self.in_place(here, text)?,
            // Its possible location counts, too; below the folder everything counts.
            (Some(resolved), _) if path.contains("..") => drop(self.reads.paths.insert(resolved)),
            _ => {}
        }
        Ok(())
    }

    /// A file that configures a plugin.
    fn configuration(&mut self, path: &str) -> Result<(), RenderError> {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if self.plugins.insert(path.to_owned()) {
            self.file(folder, path, true)
        } else {
            Ok(())
        }
    }

    /// Scans an inline plugin; text that is not YAML is none.
    fn in_place(&mut self, here: KustomizationFolder<'_>, text: &str) -> Result<(), RenderError> {
        let Ok(stream) = yaml::parse(text) else {
            return Ok(());
        };
        for root in stream
            .documents()
            .flatten()
            .filter(|root| root.is_mapping())
        {
            // Its lines are counted from its own first line, so only the file is named.
            self.node(
                KustomizationFolder {
                    plugin: true,
                    depth: here.depth + 1,
                    ..here
                },
                "",
                root,
            )?;
        }
        Ok(())
    }
}

/// Returns the canonical field of a name that can lead somewhere. kustomize matches names
/// case-insensitively, as Go does, for which a long s is an s and the Kelvin sign a k.
fn field(name: &str) -> &'static str {
    let plain = |c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c,
    };
    let plain: String = name.chars().map(plain).collect();
    PATHS
        .iter()
        .chain(&PLUGINS)
        .chain(&CHARTS)
        .find(|known| known.eq_ignore_ascii_case(&plain))
        .copied()
        .unwrap_or_default()
}

/// Returns whether kustomize takes a text for a URL before it looks into the repository: by its
/// scheme, and in lists of bases by a user before an @, or as GitHub's.
fn is_address(text: &str, base: bool) -> bool {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_prefix("git::").unwrap_or(&lower);
    let starts = |all: &[&str]| all.iter().any(|start| lower.starts_with(start));
    let user = || {
        let (user, _) = lower.split_once('@')?;
        (user.starts_with(|c: char| c.is_ascii_alphabetic())
            && user.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
        .then_some(())
    };
    starts(&["http:", "https:"])
        || base
            && (starts(&["ssh://", "file://", "github.com/", "github.com:"]) || user().is_some())
}

/// Returns whether kustomize would take a text that is no path of the repository for a URL. In
/// lists of bases it takes nearly everything for one: `github.com/a/b//base?ref=v1`,
/// `git@host:a/b`, `host:a/b`.
fn is_remote(text: &str, base: bool) -> bool {
    let lower = text.to_ascii_lowercase();
    let is_url = [
        "http://", "https://", "ssh://", "git://", "file://", "git::", "gh:", "git@",
    ]
    .iter()
    .any(|start| lower.starts_with(start));
    let host = text.split(['/', ':']).next().unwrap_or_default();
    is_url
        || lower.contains("://")
        || (base
            && (lower.contains("?ref=")
                || lower.contains("?version=")
                || text.contains("//")
                || text.contains("_git/")
                || text.contains('@')))
        || (base
            && host.len() < text.len()
            && host.trim_start_matches('.').contains('.')
            && !text.starts_with('.'))
        || (base && lower.contains(".git/"))
        || (base && lower.ends_with(".git"))
}
