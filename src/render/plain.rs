//! A folder of manifests: every `.yaml`, `.yml` and `.json` below it, in the order of paths.

use super::{
    error::RenderError,
    tree::{Kind, Tree},
};
use crate::manifest::Manifests;

/// Reads the manifests below `path`. Names that begin with "." and what is below them are left out, as hidden files are
/// everywhere; links and submodules lead out of the revision and are left out with a warning.
pub(super) fn read(tree: &Tree<'_>, path: &str, warnings: &mut Vec<String>) -> Result<Manifests, RenderError> {
    let mut manifests = Manifests::default();
    for entry in tree.list(path)? {
        let inside = entry.path[path.len()..].trim_start_matches('/');
        if inside.split('/').any(|part| part.starts_with('.')) {
            continue;
        }
        let is_manifest = [".yaml", ".yml", ".json"].iter().any(|ending| inside.ends_with(ending));
        match entry.kind {
            Kind::File if is_manifest => manifests.read(&entry.path, &tree.bytes(&entry)?),
            Kind::Link => warnings.push(format!("{}: symbolic links are not followed", entry.path)),
            Kind::Submodule => warnings.push(format!("{}: submodules are not read", entry.path)),
            _ => {}
        }
    }
    Ok(manifests)
}
