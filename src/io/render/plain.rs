//! A folder of manifests: every `.yaml`, `.yml` and `.json` below it, in the order of paths.

use super::{
    error::RenderError,
    helm, kustomize,
    tree::{EntryType, FolderEntry, RenderTree},
};
use crate::objects::{
    manifest::{ManifestError, Manifests},
    object::ObjectOrigin,
};

/// Files that an error names.
const MOST_EXAMPLES: usize = 4;

/// Reads the manifests below `path`.
///
/// A folder without any is an error: what a generator, a plugin or jsonnet would make of its files
/// is not known. Hidden files and folders (names that begin with ".") are skipped; links and
/// submodules lead out of the revision and are skipped with a warning. A kustomization or a chart
/// further down is an error: its files are no manifests of their own.
pub(crate) fn read(
    tree: &RenderTree<'_>,
    path: &str,
    warnings: &mut Vec<String>,
) -> Result<Manifests, RenderError> {
    let mut manifests = Manifests::default();
    let entries = tree.list(path)?;
    let mut built = Vec::<&str>::new();
    let mut files: Vec<&FolderEntry> = entries
        .iter()
        .filter(|entry| entry.kind == EntryType::File && !is_hidden(&entry.path[path.len()..]))
        .collect();
    files.sort_by_key(|entry| entry.path.matches('/').count());
    for entry in files {
        let (folder, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
        let (what, program) = match name {
            helm::CHART => ("a chart", "Helm"),
            name if kustomize::NAMES.contains(&name) => ("a kustomization", "kustomize"),
            _ => continue,
        };
        // A chart has charts in it; the outermost is enough to say.
        if !built.iter().any(|outer| is_below(folder, outer)) {
            let message = format!(
                "{what} below a folder of plain manifests is not given to {program}; make {folder} the path of an Application"
            );
            manifests.mistakes.push(ManifestError {
                origin: ObjectOrigin {
                    file: entry.path.as_str().into(),
                    line: 0,
                },
                message,
            });
            built.push(folder);
        }
    }
    let (mut is_empty, mut others) = (true, Vec::new());
    for entry in &entries {
        let inside = entry.path[path.len()..].trim_start_matches('/');
        if is_hidden(inside) || built.iter().any(|folder| is_below(&entry.path, folder)) {
            continue;
        }
        let is_manifest = [".yaml", ".yml", ".json"]
            .iter()
            .any(|ending| inside.ends_with(ending));
        match entry.kind {
            EntryType::File if is_manifest => {
                is_empty = false;
                manifests.read(&entry.path, &tree.bytes(entry)?);
            }
            EntryType::File => others.push(inside),
            EntryType::Link => {
                warnings.push(format!("{}: symbolic links are not followed", entry.path))
            }
            EntryType::Submodule => {
                warnings.push(format!("{}: submodules are not read", entry.path))
            }
            _ => {}
        }
    }
    if is_empty && manifests.mistakes.is_empty() {
        return Err(RenderError::NoManifests {
            path: super::shown(path),
            others: examples(&others),
        });
    }
    Ok(manifests)
}

/// Returns a few of the files that are no manifests, for a message.
fn examples(files: &[&str]) -> String {
    let shown: Vec<&str> = files.iter().take(MOST_EXAMPLES).copied().collect();
    match files.len().saturating_sub(MOST_EXAMPLES) {
        _ if files.is_empty() => String::new(),
        0 => format!(", only {}", shown.join(", ")),
        more => format!(", only {} and {more} more", shown.join(", ")),
    }
}

fn is_hidden(inside: &str) -> bool {
    inside.split('/').any(|part| part.starts_with('.'))
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
