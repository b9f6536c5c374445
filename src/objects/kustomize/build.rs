//! The build of one kustomization: resources, generators, components, then transformers.

use super::{
    generate, kustomization,
    kustomization::Kustomization,
    node::{Fields, Node, text_size},
    order, parse, patch,
    problem::{Handover, Problem},
    references, replace,
    resource::{Resource, Resources},
    source::{DEEPEST_BASE, Source, joined},
    transform,
};
use crate::objects::object::ObjectOrigin;
use std::{collections::BTreeMap, sync::Arc};

/// The names of a kustomization.
const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Characters of the longest name of an object.
const LONGEST_NAME: usize = 253;

/// Characters of the longest part of an image that is read in the process.
const LONGEST_IMAGE: usize = 1024;

/// Builds the kustomization of a folder.
pub(super) fn build(source: &Source<'_>, folder: &str) -> Result<Vec<Resource>, Handover> {
    let usual = || ObjectOrigin {
        file: folder.into(),
        line: 0,
    };
    build_root(source, folder).map_err(|problem| problem.into_handover(usual()))
}

fn build_root(source: &Source<'_>, folder: &str) -> Result<Vec<Resource>, Problem> {
    let root = load(source, folder)?;
    if let Some(option) = root.build_metadata.first() {
        let why = match option.as_str() {
            "managedByLabel" => "the label names the version of the program",
            _ => "kustomize writes down where objects come from",
        };
        return Err(
            Problem::unsupported(format!("{option}: {why}")).at(&root.place("buildMetadata"))
        );
    }
    let mut resources = accumulate(source, folder, &root, Resources::default(), &[])?;
    generate::hash_names(&mut resources)?;
    references::update(&mut resources, source)?;
    transform::drop_local(&mut resources);
    resources.check_unique("is there twice")?;
    sort(&mut resources.0, &root)?;
    for resource in &mut resources.0 {
        let origin = resource.origin.clone();
        resource
            .settle_texts("annotations")
            .map_err(|problem| problem.at(&origin))?;
        let is_printable = resource
            .fields
            .iter()
            .all(|(_, value)| value.is_printable());
        if !is_printable {
            return Err(Problem::unsupported(
                "a text holds control characters, which printing may change",
            )
            .at(&origin));
        }
    }
    Ok(resources.0)
}

fn sort(resources: &mut [Resource], root: &Kustomization) -> Result<(), Problem> {
    let Some(options) = &root.sort_options else {
        order::by_kind(resources, None);
        return Ok(());
    };
    let kinds = options
        .legacy_sort_options
        .as_ref()
        .map(|kinds| (kinds.order_first.as_slice(), kinds.order_last.as_slice()));
    match (options.order.as_str(), kinds) {
        ("legacy", kinds) => order::by_kind(resources, kinds),
        ("fifo", None) => {}
        _ => {
            return Err(Problem::refused("the order is not known").at(&root.place("sortOptions")));
        }
    }
    Ok(())
}

/// Reads the kustomization of a folder.
fn load(source: &Source<'_>, folder: &str) -> Result<Kustomization, Problem> {
    source.enter()?;
    let mut found = None;
    for name in NAMES {
        let path = joined(folder, name)?;
        let Some(bytes) = source.read(&path)? else {
            continue;
        };
        let place = ObjectOrigin {
            file: path.as_str().into(),
            line: 1,
        };
        if found.is_some() {
            return Err(Problem::refused("there is another kustomization beside it").at(&place));
        }
        found = Some((path, place, bytes));
    }
    let Some((path, place, bytes)) = found else {
        return Err(Problem::refused("the folder has no kustomization"));
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| Problem::refused("the kustomization is no UTF-8 text").at(&place))?;
    Kustomization::read(&path, &text).map_err(|problem| problem.at(&place))
}

/// Adds what a kustomization makes to the resources so far.
fn accumulate(
    source: &Source<'_>,
    folder: &str,
    root: &Kustomization,
    mut resources: Resources,
    above: &[String],
) -> Result<Resources, Problem> {
    let mut above = above.to_vec();
    above.push(folder.to_owned());
    let bases = root.resources.iter().zip(0..);
    for (path, at) in bases {
        let place = root.item("resources", at);
        add_resource(source, folder, path, &mut resources, &above)
            .map_err(|problem| problem.at(&place))?;
    }
    resources.check_unique("is already there")?;
    generate_all(source, folder, root, &mut resources)?;
    for (path, at) in root.components.iter().zip(0..) {
        let place = root.item("components", at);
        resources = add_component(source, folder, path, resources, &above)
            .map_err(|problem| problem.at(&place))?;
    }
    transform_all(source, folder, root, &mut resources)?;
    Ok(resources)
}

fn add_resource(
    source: &Source<'_>,
    folder: &str,
    path: &str,
    resources: &mut Resources,
    above: &[String],
) -> Result<(), Problem> {
    let file = joined(folder, path)?;
    let more = match source.read(&file)? {
        Some(bytes) => read_file(source, &file, bytes)?,
        None => {
            let base = enter(source, &file, path, above)?;
            if base.is_component {
                return Err(Problem::refused(format!("{path} is a component")));
            }
            accumulate(source, &file, &base, Resources::default(), above)?.0
        }
    };
    resources.0.extend(more);
    Ok(())
}

fn add_component(
    source: &Source<'_>,
    folder: &str,
    path: &str,
    resources: Resources,
    above: &[String],
) -> Result<Resources, Problem> {
    let inner = joined(folder, path)?;
    let component = enter(source, &inner, path, above)?;
    if !component.is_component {
        return Err(Problem::refused(format!("{path} is no component")));
    }
    let resources = accumulate(source, &inner, &component, resources, above)?;
    resources.check_unique("is there twice")?;
    Ok(resources)
}

/// Reads the kustomization of another folder.
fn enter(
    source: &Source<'_>,
    folder: &str,
    path: &str,
    above: &[String],
) -> Result<Kustomization, Problem> {
    if !source.is_folder(folder)? {
        return Err(Problem::refused(format!("there is no {path:?}")));
    }
    let holds = |inner: &String| {
        folder.is_empty()
            || inner
                .strip_prefix(folder)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if above.len() > DEEPEST_BASE {
        return Err(Problem::unsupported("too many bases lead to each other"));
    }
    if let Some(inner) = above.iter().find(|inner| holds(inner)) {
        return Err(Problem::refused(format!(
            "{path} goes in a circle: it holds {inner}, which leads here"
        )));
    }
    load(source, folder)
}

/// Reads the objects of a file.
fn read_file(source: &Source<'_>, file: &str, bytes: Vec<u8>) -> Result<Vec<Resource>, Problem> {
    let name: Arc<str> = file.into();
    let at = |line: u32| ObjectOrigin {
        file: Arc::clone(&name),
        line: line as usize,
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| Problem::refused("the file is no UTF-8 text").at(&at(0)))?;
    let text = if text.contains('\r') {
        text.replace("\r\n", "\n")
    } else {
        text
    };
    let documents = parse::read(&text).map_err(|(line, problem)| problem.at(&at(line)))?;
    let mut resources = Vec::with_capacity(documents.len());
    let mut later = Vec::new();
    for (line, document) in documents {
        let origin = at(line);
        source.keep(document.size())?;
        let Node::Map(mut fields) = document else {
            return Err(Problem::refused("the document is no object").at(&origin));
        };
        if fields.is_empty() {
            continue;
        }
        let kind = fields.get("kind").map_or("", Node::compared).to_owned();
        if !kind.ends_with("List") || fields.get("items").is_none() {
            resources.push(resource(fields, origin)?);
            continue;
        }
        if kind == "ResourceList" {
            return Err(Problem::unsupported("a ResourceList is for functions").at(&origin));
        }
        match fields.remove("items") {
            Some(Node::List(items)) => {
                for item in items {
                    let Node::Map(fields) = item else {
                        return Err(Problem::unsupported("an item is no object").at(&origin));
                    };
                    later.push(resource(fields, origin.clone())?);
                }
            }
            Some(Node::Null { .. }) => {}
            _ => return Err(Problem::refused("items is no list").at(&origin)),
        }
    }
    resources.append(&mut later);
    Ok(resources)
}

fn resource(fields: Fields, origin: ObjectOrigin) -> Result<Resource, Problem> {
    let resource = Resource::new(fields, origin);
    if resource.kind().ends_with("List") {
        return Err(Problem::unsupported("a list is not read in the process").at(&resource.origin));
    }
    match resource.check() {
        Ok(()) => Ok(resource),
        Err(problem) => Err(problem.at(&resource.origin)),
    }
}

fn generate_all(
    source: &Source<'_>,
    folder: &str,
    root: &Kustomization,
    resources: &mut Resources,
) -> Result<(), Problem> {
    let global = root.generator_options.as_ref();
    for (field, kind, generators) in [
        ("configMapGenerator", "ConfigMap", &root.config_maps),
        ("secretGenerator", "Secret", &root.secrets),
    ] {
        for (generator, at) in generators.iter().zip(0..) {
            let place = root.item(field, at);
            generate::generate(source, folder, kind, generator, global, place.clone())
                .and_then(|new| generate::absorb(resources, new))
                .map_err(|problem| problem.at(&place))?;
        }
    }
    Ok(())
}

/// Applies the transformers in kustomize's order.
fn transform_all(
    source: &Source<'_>,
    folder: &str,
    root: &Kustomization,
    resources: &mut Resources,
) -> Result<(), Problem> {
    for (entry, at) in root.patches_strategic_merge.iter().zip(0..) {
        let place = root.item("patchesStrategicMerge", at);
        patch::apply_strategic(resources, source, folder, entry, &place)
            .map_err(|problem| problem.at(&place))?;
    }
    for (entry, at) in root.patches.iter().zip(0..) {
        let place = root.item("patches", at);
        source.pass(resources.0.len())?;
        patch::apply(resources, source, folder, entry, &place)
            .map_err(|problem| problem.at(&place))?;
    }
    let texts = [&root.namespace, &root.name_prefix, &root.name_suffix];
    if texts.iter().any(|text| text.len() > LONGEST_NAME) {
        return Err(Problem::refused(
            "a name or namespace is longer than one may be",
        ));
    }
    if !root.namespace.is_empty() {
        transform::namespace(resources, &root.namespace)
            .map_err(|problem| problem.at(&root.place("namespace")))?;
    }
    if !root.name_prefix.is_empty() {
        transform::rename(resources, &root.name_prefix, "")
            .map_err(|problem| problem.at(&root.place("namePrefix")))?;
    }
    if !root.name_suffix.is_empty() {
        transform::rename(resources, "", &root.name_suffix)
            .map_err(|problem| problem.at(&root.place("nameSuffix")))?;
    }
    for (label, at) in root.labels.iter().zip(0..) {
        source
            .pass(resources.0.len())
            .and_then(|()| pay(source, resources, &label.pairs))
            .and_then(|()| transform::labels(resources, label))
            .map_err(|problem| problem.at(&root.item("labels", at)))?;
    }
    pay(source, resources, &root.common_labels)
        .and_then(|()| transform::common_labels(resources, &root.common_labels))
        .map_err(|problem| problem.at(&root.place("commonLabels")))?;
    pay(source, resources, &root.common_annotations)
        .and_then(|()| transform::common_annotations(resources, &root.common_annotations))
        .map_err(|problem| problem.at(&root.place("commonAnnotations")))?;
    for (entry, at) in root.patches_json6902.iter().zip(0..) {
        let place = root.item("patchesJson6902", at);
        source.pass(resources.0.len())?;
        patch::apply_json6902(resources, source, folder, entry, &place)
            .map_err(|problem| problem.at(&place))?;
    }
    for (replica, at) in root.replicas.iter().zip(0..) {
        source
            .pass(resources.0.len())
            .and_then(|()| transform::replicas(resources, replica))
            .map_err(|problem| problem.at(&root.item("replicas", at)))?;
    }
    for (image, at) in root.images.iter().zip(0..) {
        let texts = [
            &image.new_name,
            &image.new_tag,
            &image.tag_suffix,
            &image.digest,
        ];
        if texts.iter().any(|text| text.len() > LONGEST_IMAGE) {
            let problem = Problem::unsupported("a part of the image is too long");
            return Err(problem.at(&root.item("images", at)));
        }
        source
            .pass(resources.0.len())
            .and_then(|()| transform::images(resources, image))
            .map_err(|problem| problem.at(&root.item("images", at)))?;
    }
    for (entry, at) in root.replacements.iter().zip(0..) {
        let place = root.item("replacements", at);
        source.pass(resources.0.len())?;
        apply_replacement(source, folder, entry, resources)
            .map_err(|problem| problem.at(&place))?;
    }
    Ok(())
}

/// Counts labels or annotations that are added to all resources, and the search for each in its
/// mapping.
fn pay(
    source: &Source<'_>,
    resources: &Resources,
    pairs: &BTreeMap<String, String>,
) -> Result<(), Problem> {
    let size: usize = pairs
        .iter()
        .map(|(name, value)| text_size(name) + text_size(value))
        .sum();
    source.keep(size * resources.0.len())?;
    source.work(pairs.len() * pairs.len() * resources.0.len())
}

fn apply_replacement(
    source: &Source<'_>,
    folder: &str,
    entry: &kustomization::ReplacementEntry,
    resources: &mut Resources,
) -> Result<(), Problem> {
    if entry.path.is_empty() {
        return replace::apply(resources, source, entry);
    }
    if entry.source.is_some() || !entry.targets.is_empty() {
        return Err(Problem::refused("a replacement has a path and more"));
    }
    for entry in kustomization::replacements(&source.text(folder, &entry.path)?)? {
        if !entry.path.is_empty() {
            return Err(Problem::unsupported("a file of replacements names another"));
        }
        replace::apply(resources, source, &entry)?;
    }
    Ok(())
}
