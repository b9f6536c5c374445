//! Patches: reading them, finding what they change, changing it.

use super::{
    json_patch::JsonPatch,
    kustomization::{Patch, PatchOptions, Selector},
    merge,
    node::Node,
    parse,
    problem::Problem,
    resource::{Resource, Resources},
    select::Selection,
    source::Source,
};
use crate::objects::object::ObjectOrigin;

/// A patch that was read.
enum Change {
    Merge(Vec<Resource>),
    Json(JsonPatch),
}

/// Applies an entry of `patches`.
pub(super) fn apply(
    resources: &mut Resources,
    source: &Source<'_>,
    folder: &str,
    patch: &Patch,
    origin: &ObjectOrigin,
) -> Result<(), Problem> {
    let (text, origin) = text_of(source, folder, patch, origin)?;
    let selection = patch.target.as_ref().map(Selection::new).transpose()?;
    let options = patch.options.unwrap_or_default();
    match read(source, &text, &origin).map_err(|problem| problem.at(&origin))? {
        Change::Json(json) => {
            let Some(selection) = selection else {
                return Err(Problem::refused("a JSON patch has no target"));
            };
            apply_json(resources, source, &json, &selection, true)
                .map_err(|problem| problem.at(&origin))
        }
        Change::Merge(patches) => match selection {
            Some(selection) => {
                let [patch] = patches.as_slice() else {
                    return Err(Problem::refused("a patch with a target is one document"));
                };
                let selected: Vec<bool> = resources
                    .0
                    .iter()
                    .map(|resource| selection.selects(resource))
                    .collect();
                merge_into(resources, source, patch, options, &selected)
            }
            None => {
                for patch in &patches {
                    source.pass(resources.0.len())?;
                    let at = resources
                        .find(&patch.id())
                        .map_err(|problem| problem.at(&patch.origin))?;
                    merge_one(resources, source, patch, options, at)?;
                }
                Ok(())
            }
        },
    }
}

/// Applies an entry of `patchesStrategicMerge`: a file, or the patch itself.
pub(super) fn apply_strategic(
    resources: &mut Resources,
    source: &Source<'_>,
    folder: &str,
    entry: &str,
    origin: &ObjectOrigin,
) -> Result<(), Problem> {
    let patch = match entry.contains('\n') || entry.starts_with('{') {
        true => Patch {
            patch: entry.to_owned(),
            ..Patch::default()
        },
        false => Patch {
            path: entry.to_owned(),
            ..Patch::default()
        },
    };
    let (text, origin) = text_of(source, folder, &patch, origin)?;
    let patches = match read(source, &text, &origin).map_err(|problem| problem.at(&origin))? {
        Change::Merge(patches) if !patches.is_empty() => patches,
        _ => return Err(Problem::refused("this is no strategic merge patch").at(&origin)),
    };
    for patch in &patches {
        source.pass(resources.0.len())?;
        let at = resources
            .find(&patch.id())
            .map_err(|problem| problem.at(&patch.origin))?;
        let mut selected = vec![false; resources.0.len()];
        selected[at] = true;
        merge_into(resources, source, patch, PatchOptions::default(), &selected)?;
    }
    Ok(())
}

/// Applies an entry of `patchesJson6902`.
pub(super) fn apply_json6902(
    resources: &mut Resources,
    source: &Source<'_>,
    folder: &str,
    patch: &Patch,
    origin: &ObjectOrigin,
) -> Result<(), Problem> {
    let named = |target: &&Selector| !target.name.is_empty();
    let Some(target) = patch.target.as_ref().filter(named) else {
        return Err(Problem::refused("a JSON patch has no target with a name"));
    };
    if patch.options.is_some() {
        return Err(Problem::unsupported("a JSON patch has options"));
    }
    let (text, origin) = text_of(source, folder, patch, origin)?;
    let json = JsonPatch::read(&text).map_err(|problem| problem.at(&origin))?;
    apply_json(resources, source, &json, &Selection::new(target)?, false)
        .map_err(|problem| problem.at(&origin))
}

fn text_of(
    source: &Source<'_>,
    folder: &str,
    patch: &Patch,
    origin: &ObjectOrigin,
) -> Result<(String, ObjectOrigin), Problem> {
    match (patch.path.as_str(), patch.patch.trim()) {
        ("", "") | (_, "") if patch.path.is_empty() => {
            Err(Problem::refused("a patch has neither path nor patch"))
        }
        (path, "") => {
            let origin = ObjectOrigin {
                file: super::source::joined(folder, path)?.into(),
                line: 0,
            };
            Ok((source.text(folder, path)?, origin))
        }
        ("", text) => Ok((text.to_owned(), origin.clone())),
        _ => Err(Problem::refused("a patch has both path and patch")),
    }
}

/// Reads a patch: a list is a JSON patch, everything else a strategic merge patch.
fn read(source: &Source<'_>, text: &str, origin: &ObjectOrigin) -> Result<Change, Problem> {
    let text = &text.replace("\r\n", "\n");
    let documents =
        parse::read(text).map_err(|(line, problem)| problem.at(&below(origin, line)))?;
    if let [(_, Node::List(_))] = documents.as_slice() {
        return JsonPatch::read(text).map(Change::Json);
    }
    if documents.is_empty() {
        return Err(Problem::unsupported("the patch is empty"));
    }
    let mut patches = Vec::new();
    for (line, document) in documents {
        let origin = below(origin, line);
        source.keep(document.size())?;
        let Node::Map(fields) = document else {
            return Err(Problem::refused("a patch is a mapping or a list").at(&origin));
        };
        let patch = Resource::new(fields, origin.clone());
        check(&patch).map_err(|problem| problem.at(&origin))?;
        patches.push(patch);
    }
    Ok(Change::Merge(patches))
}

/// Returns the place of a line of a file; lines of a text in a kustomization stay at its beginning.
fn below(origin: &ObjectOrigin, line: u32) -> ObjectOrigin {
    ObjectOrigin {
        file: origin.file.clone(),
        line: if origin.line == 0 {
            line as usize
        } else {
            origin.line
        },
    }
}

/// Refuses patches that touch what kustomize notes in annotations.
fn check(patch: &Resource) -> Result<(), Problem> {
    patch.check_named()?;
    if patch.kind().ends_with("List") {
        return Err(Problem::unsupported("the patch is a list of objects"));
    }
    let metadata = patch.fields.get("metadata");
    let annotations = metadata.and_then(|metadata| metadata.get("annotations"));
    for node in [metadata, annotations].into_iter().flatten() {
        if node.is_null() || node.get("$patch").is_some() {
            return Err(Problem::unsupported(
                "the annotations are changed as a whole, where kustomize keeps notes",
            ));
        }
    }
    if annotations.is_some_and(|annotations| annotations.as_map().is_none()) {
        return Err(Problem::refused("annotations are no mapping"));
    }
    Ok(())
}

/// Merges a patch into all resources that are selected.
fn merge_into(
    resources: &mut Resources,
    source: &Source<'_>,
    patch: &Resource,
    options: PatchOptions,
    selected: &[bool],
) -> Result<(), Problem> {
    // kustomize writes these again as text.
    let mut patch = patch.clone();
    for field in ["labels", "annotations"] {
        let odd = patch
            .fields
            .get("metadata")
            .and_then(|metadata| metadata.get(field))
            .is_some_and(|texts| {
                texts.as_map().is_none_or(|texts| {
                    texts.is_empty() || texts.iter().any(|(_, text)| text.as_string().is_none())
                })
            });
        if odd {
            return Err(Problem::unsupported(format!(
                "metadata.{field} of the patch holds what is no text"
            ))
            .at(&patch.origin));
        }
    }
    if patch.namespace().is_empty() {
        patch.remove_metadata("namespace");
    }
    let origin = patch.origin.clone();
    let targets: Vec<usize> = (0..selected.len()).filter(|at| selected[*at]).collect();
    for at in targets.into_iter().rev() {
        let mut patch = patch.clone();
        patch
            .fields
            .set("apiVersion", Node::text(resources.0[at].api_version()));
        merge_one(resources, source, &patch, options, at)?;
    }
    resources
        .check_unique("is there twice after a patch")
        .map_err(|problem| problem.at(&origin))
}

fn patch_size(patch: &Resource) -> usize {
    patch.fields.iter().map(|(_, value)| value.size()).sum()
}

/// Merges a patch into one resource, which is taken away where the patch deletes it.
fn merge_one(
    resources: &mut Resources,
    source: &Source<'_>,
    patch: &Resource,
    options: PatchOptions,
    at: usize,
) -> Result<(), Problem> {
    let resource = &mut resources.0[at];
    let id = resource.id();
    if !resource.shared.is_empty() {
        let changes = Node::Map(patch.fields.clone());
        resource
            .check_shared(&changes)
            .map_err(|problem| problem.of(&id).at(&patch.origin))?;
    }
    let object = Node::Map(std::mem::take(&mut resource.fields));
    let cost = object.merge_cost(patch_size(patch));
    let Node::Map(fields) = object else {
        return Ok(());
    };
    resource.fields = fields;
    source.work(cost)?;
    source.keep(patch_size(patch))?;
    if options.allow_name_change || options.allow_kind_change {
        resource.remember_id();
    }
    let fields = std::mem::take(&mut resource.fields);
    let merged =
        merge::merge(fields, &patch.fields).map_err(|problem| problem.of(&id).at(&patch.origin))?;
    let Some(fields) = merged.filter(|fields| !fields.is_empty()) else {
        resources.0.remove(at);
        return Ok(());
    };
    resource.fields = fields;
    if !options.allow_kind_change {
        resource.fields.set("kind", Node::text(&id.kind));
    }
    let restore = |resource: &mut Resource| -> Result<(), Problem> {
        if !options.allow_name_change {
            resource.set_metadata("name", &id.name)?;
        }
        match id.namespace.as_str() {
            "" => resource.remove_metadata("namespace"),
            namespace => resource.set_metadata("namespace", namespace)?,
        }
        resource.check()
    };
    restore(resource).map_err(|problem| problem.at(&patch.origin))
}

/// Applies a JSON patch to all resources that are selected.
fn apply_json(
    resources: &mut Resources,
    source: &Source<'_>,
    patch: &JsonPatch,
    selection: &Selection,
    remembers: bool,
) -> Result<(), Problem> {
    for resource in &mut resources.0 {
        if !selection.selects(resource) {
            continue;
        }
        let id = resource.id();
        if remembers {
            resource.remember_id();
        }
        // kustomize's own notes make the annotations a mapping that patches can add to.
        if resource.has_notes()
            && let Some(metadata) = resource.fields.map("metadata")
        {
            let _ = metadata.map("annotations");
        }
        let fields = std::mem::take(&mut resource.fields);
        resource.fields = patch
            .apply(fields, source)
            .map_err(|problem| problem.of(&id))?;
        resource.settle_texts("annotations")?;
        resource.check().map_err(|problem| problem.of(&id))?;
    }
    Ok(())
}
