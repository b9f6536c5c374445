//! Helm: the inputs of a chart, the call of `helm template`, and the filter of its objects.

use super::{
    RenderSource,
    error::RenderError,
    kustomize::ReadPaths,
    tree::{EntryType, RenderTree},
};
use crate::{
    core::{text::without_controls, yaml},
    objects::manifest::Manifests,
};
use std::{ffi::OsString, path::Path};

/// The file that makes a folder a chart.
pub(crate) const CHART: &str = "Chart.yaml";

/// Returns the inputs of a chart: its folder and the files of values.
///
/// # Errors
/// [`RenderError::Failed`] if a file of values or a dependency is missing.
pub(crate) fn scan(tree: &RenderTree<'_>, source: &RenderSource) -> Result<ReadPaths, RenderError> {
    let failed = |why: String| {
        Err(RenderError::Failed {
            path: source.path.clone(),
            program: "helm",
            why,
            remote: false,
        })
    };
    let mut reads = ReadPaths::default();
    reads.paths.insert(source.path.clone());
    for file in source.helm.iter().flat_map(|helm| &helm.value_files) {
        match tree.kind(file)? {
            Some(EntryType::File) => drop(reads.paths.insert(file.clone())),
            Some(_) => return failed(format!("the file of values {file} is no file")),
            None => return failed(format!("there is no file of values {file}")),
        }
    }
    let missing = missing(tree, &source.path)?;
    if !missing.is_empty() {
        return failed(format!(
            "the chart depends on {}, which {} not in its folder charts/: run `helm dependency build` and commit that folder",
            missing.join(", "),
            if missing.len() == 1 { "is" } else { "are" }
        ));
    }
    Ok(reads)
}

/// Dependencies that Chart.yaml names and `charts/` lacks. Nothing is fetched while rendering.
fn missing(tree: &RenderTree<'_>, path: &str) -> Result<Vec<String>, RenderError> {
    let bytes = tree.read(&super::join(path, CHART))?.unwrap_or_default();
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Ok(Vec::new());
    };
    let Ok(stream) = yaml::parse(text) else {
        return Ok(Vec::new());
    };
    let Some(dependencies) = stream.document(0).and_then(|root| root.get("dependencies")) else {
        return Ok(Vec::new());
    };
    let charts = super::join(path, "charts");
    let vendored = match tree.kind(&charts)? {
        Some(EntryType::Folder) => tree.list(&charts)?,
        _ => Vec::new(),
    };
    let is_there = |name: &str| {
        vendored.iter().any(|entry| {
            let inside = &entry.path[charts.len() + 1..];
            inside.strip_prefix(name).is_some_and(|rest| {
                rest.starts_with('/') || (rest.starts_with('-') && rest.ends_with(".tgz"))
            })
        })
    };
    let names = dependencies
        .items()
        .filter_map(|dependency| dependency.get("name")?.value());
    Ok(names
        .filter(|name| !is_there(name))
        .map(str::to_owned)
        .collect())
}

/// The arguments. `copy` is where the repository was copied to, `values` a file with the
/// Application's own values.
pub(crate) fn arguments(
    source: &RenderSource,
    copy: &Path,
    values: Option<&Path>,
) -> Vec<OsString> {
    let release = source
        .helm
        .as_ref()
        .and_then(|helm| helm.release_name.as_deref())
        .unwrap_or(&source.name);
    let mut arguments: Vec<OsString> = [
        "template",
        release,
        ".",
        "--include-crds",
        "--skip-tests",
        "--namespace",
        &source.namespace,
    ]
    .map(OsString::from)
    .into();
    let files = source
        .helm
        .iter()
        .flat_map(|helm| &helm.value_files)
        .map(|file| copy.join(file));
    for file in files.chain(values.map(Path::to_owned)) {
        arguments.push("--values".into());
        arguments.push(file.into());
    }
    arguments
}

/// Removes hooks, which nothing runs here, with a warning for each.
pub(crate) fn without_hooks(manifests: &mut Manifests, path: &str, warnings: &mut Vec<String>) {
    manifests
        .objects
        .retain(|object| match object.annotation("helm.sh/hook") {
            None => true,
            Some(hook) => {
                let hook = without_controls(hook, 80);
                warnings.push(format!(
                    "{path}: {} is a hook ({hook}) and left out: hooks are not run",
                    object.key()
                ));
                false
            }
        });
}
