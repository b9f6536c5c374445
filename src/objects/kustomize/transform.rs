//! Edits of all resources: namespace, names, labels, annotations, images, replicas.

use super::{
    field_spec::{FieldSpec, Made},
    kustomization::{Image, Label, LabelField, Replica},
    node::{Fields, Node},
    problem::Problem,
    resource::{Resource, Resources, changes_shared, check_reserved, sure_text},
    tables,
};
use regex::Regex;
use std::collections::BTreeMap;

/// Puts all resources into a namespace.
pub(super) fn namespace(resources: &mut Resources, namespace: &str) -> Result<(), Problem> {
    let value = Node::text(namespace);
    for resource in &mut resources.0 {
        resource.remember_id();
        let id = resource.id();
        if !id.is_cluster_scoped {
            resource
                .fields
                .map("metadata")
                .ok_or_else(|| Problem::refused("metadata is no mapping"))?
                .set("namespace", value.clone());
        }
        if matches!(id.kind.as_str(), "RoleBinding" | "ClusterRoleBinding") {
            default_subjects(&mut resource.fields, &value)?;
        }
        for spec in &tables::NAMESPACE {
            if spec.path == "metadata/name" && resource.api_version() != "v1" {
                continue;
            }
            spec.edit(resource, Made::Text, &mut |node| {
                set_scalar(node, value.clone())
            })?;
        }
    }
    resources.check_unique("is there twice in the namespace")
}

/// Sets the namespace of the subjects that are called "default".
fn default_subjects(fields: &mut Fields, namespace: &Node) -> Result<(), Problem> {
    let Some(subjects) = fields.get_mut("subjects") else {
        return Ok(());
    };
    let subjects = match subjects {
        Node::Null { .. } => return Ok(()),
        Node::List(subjects) => subjects,
        _ => return Err(Problem::refused("subjects is no list")),
    };
    for subject in subjects {
        let Node::Map(subject) = subject else {
            return Err(Problem::refused("a subject is no mapping"));
        };
        if subject.get("name").and_then(Node::as_text) == Some("default") {
            subject.set("namespace", namespace.clone());
        }
    }
    Ok(())
}

fn set_scalar(node: &mut Node, value: Node) -> Result<(), Problem> {
    match node {
        Node::List(_) | Node::Map(_) => Err(Problem::refused("the field is no text")),
        _ => {
            *node = value;
            Ok(())
        }
    }
}

/// Adds a prefix or a suffix to all names.
pub(super) fn rename(resources: &mut Resources, prefix: &str, suffix: &str) -> Result<(), Problem> {
    for resource in &mut resources.0 {
        let id = resource.original_id();
        let keeps_name = matches!(id.kind.as_str(), "CustomResourceDefinition" | "Namespace")
            || id.kind == "APIService" && id.group == "apiregistration.k8s.io";
        if keeps_name {
            continue;
        }
        if prefix.contains(',') || suffix.contains(',') {
            return Err(Problem::unsupported("a comma in a name"));
        }
        if !prefix.is_empty() {
            resource.prefixes.push(prefix.to_owned());
        }
        if !suffix.is_empty() {
            resource.suffixes.push(suffix.to_owned());
        }
        resource.remember_id();
        let name = format!("{prefix}{}{suffix}", resource.name());
        resource.set_metadata("name", &name)?;
    }
    Ok(())
}

/// Adds labels to the fields that a label entry means.
pub(super) fn labels(resources: &mut Resources, label: &Label) -> Result<(), Problem> {
    let mut specs: Vec<FieldSpec<'_>> = label.fields.iter().map(LabelField::spec).collect();
    let is_own = |spec: &FieldSpec<'_>| spec.path.trim_start_matches('/') == "metadata/annotations";
    if specs.iter().any(is_own) {
        return Err(Problem::unsupported(
            "labels are added to the annotations, where kustomize keeps its own",
        ));
    }
    if label.include_selectors {
        merge_specs(&mut specs, &tables::SELECTORS)?;
        merge_specs(&mut specs, &tables::TEMPLATE_LABELS)?;
    } else {
        if label.include_templates {
            merge_specs(&mut specs, &tables::TEMPLATE_LABELS)?;
        }
        merge_specs(&mut specs, &tables::TEMPLATE_LABELS[..1])?;
    }
    set_all(resources, &label.pairs, &specs)
}

/// Adds labels to objects, templates and selectors.
pub(super) fn common_labels(
    resources: &mut Resources,
    labels: &BTreeMap<String, String>,
) -> Result<(), Problem> {
    let specs = [&tables::SELECTORS[..], &tables::TEMPLATE_LABELS[..]].concat();
    set_all(resources, labels, &specs)
}

pub(super) fn common_annotations(
    resources: &mut Resources,
    annotations: &BTreeMap<String, String>,
) -> Result<(), Problem> {
    set_all(resources, annotations, &tables::ANNOTATIONS)
}

fn merge_specs<'p>(specs: &mut Vec<FieldSpec<'p>>, more: &[FieldSpec<'p>]) -> Result<(), Problem> {
    let selected = |part: &str, by: &str| by.is_empty() || part == by;
    for spec in more {
        let known = specs.iter().find(|known| {
            known.path == spec.path
                && selected(known.group, spec.group)
                && selected(known.version, spec.version)
                && selected(known.kind, spec.kind)
        });
        match known {
            Some(known) if known.create != spec.create => {
                return Err(Problem::refused(format!(
                    "{} is created by one rule and not by another",
                    spec.path
                )));
            }
            Some(_) => {}
            None => specs.push(*spec),
        }
    }
    Ok(())
}

fn set_all(
    resources: &mut Resources,
    pairs: &BTreeMap<String, String>,
    specs: &[FieldSpec<'_>],
) -> Result<(), Problem> {
    for name in pairs.keys() {
        sure_text(name)?;
        check_reserved(name)?;
    }
    if pairs.is_empty() {
        return Ok(());
    }
    for resource in &mut resources.0 {
        let origin = resource.origin.clone();
        let shared = std::mem::take(&mut resource.shared);
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut changes = false;
        for spec in specs {
            spec.edit(resource, Made::Map, &mut |node| match node {
                // A null that is not made a mapping stays null.
                Node::Null { .. } => Ok(()),
                Node::Map(fields) => {
                    for (name, value) in pairs {
                        let value = Node::text(value);
                        match fields.get(name) {
                            None => *places.entry(name).or_default() += 1,
                            Some(old) => changes |= *old != value && shared.contains(name),
                        }
                        fields.set(name, value);
                    }
                    Ok(())
                }
                _ => Err(Problem::refused("the field is no mapping")),
            })
            .map_err(|problem| problem.at(&origin))?;
        }
        if changes {
            return Err(changes_shared().at(&origin));
        }
        resource.shared = shared;
        let several = places.into_iter().filter(|(_, places)| *places > 1);
        let several = several.map(|(name, _)| name.to_owned());
        resource.shared.extend(several);
    }
    Ok(())
}

/// Sets the replicas of the workloads that have or had a name.
pub(super) fn replicas(resources: &mut Resources, replica: &Replica) -> Result<(), Problem> {
    let mut found = false;
    for spec in &tables::REPLICAS {
        for resource in &mut resources.0 {
            let named = resource.any_id(|id| {
                id.name == replica.name && id.is_selected(spec.group, spec.version, spec.kind)
            });
            if !named {
                continue;
            }
            found = true;
            spec.edit(resource, Made::Text, &mut |node| {
                set_scalar(node, Node::integer(replica.count))
            })?;
        }
    }
    if found {
        Ok(())
    } else {
        Err(Problem::refused(format!(
            "no workload is called {:?}",
            replica.name
        )))
    }
}

/// Changes the images that an entry names.
pub(super) fn images(resources: &mut Resources, image: &Image) -> Result<(), Problem> {
    let is_simple = |c: char| c.is_ascii_alphanumeric() || "/._-:@".contains(c);
    if !image.name.chars().all(is_simple) {
        return Err(Problem::unsupported(format!(
            "the name {:?} is a pattern",
            image.name
        )));
    }
    let pattern = format!(
        "^{}(:[a-zA-Z0-9_.{{}}-]*)?(@sha256:[a-zA-Z0-9_.{{}}-]*)?$",
        image.name
    );
    let pattern = Regex::new(&pattern).map_err(|error| Problem::unsupported(error.to_string()))?;
    let mut change = |node: &mut Node| -> Result<(), Problem> {
        match node {
            Node::Scalar(scalar) => {
                if pattern.is_match(&scalar.text) {
                    *node = sure_text(&renamed(&scalar.text, image))?;
                }
                Ok(())
            }
            // kustomize handles a null in two ways.
            Node::Null { .. } => Err(Problem::unsupported("an image is null")),
            _ => Err(Problem::refused("an image is no text")),
        }
    };
    for resource in &mut resources.0 {
        if resource.kind() == "CustomResourceDefinition" {
            continue;
        }
        let origin = resource.origin.clone();
        walk_containers(&mut resource.fields, &mut change)
            .map_err(|problem| problem.at(&origin))?;
        for path in tables::IMAGES {
            let spec = FieldSpec {
                group: "",
                version: "",
                kind: "",
                path,
                create: true,
            };
            spec.edit(resource, Made::Nothing, &mut change)
                .map_err(|problem| problem.at(&origin))?;
        }
    }
    Ok(())
}

type Change<'c> = dyn FnMut(&mut Node) -> Result<(), Problem> + 'c;

/// Changes `image` in every list that is called containers or initContainers.
fn walk_containers(fields: &mut Fields, change: &mut Change<'_>) -> Result<(), Problem> {
    for (name, value) in fields.iter_mut() {
        walk_node(value, change)?;
        if !matches!(name, "containers" | "initContainers") {
            continue;
        }
        let Node::List(items) = value else { continue };
        for item in items {
            match item {
                Node::Map(item) => {
                    if let Some(image) = item.get_mut("image") {
                        change(image)?;
                    }
                }
                Node::Null { .. } => {}
                _ => return Err(Problem::refused("a container is no mapping")),
            }
        }
    }
    Ok(())
}

fn walk_node(node: &mut Node, change: &mut Change<'_>) -> Result<(), Problem> {
    match node {
        Node::Map(fields) => walk_containers(fields, change),
        Node::List(items) => items
            .iter_mut()
            .try_for_each(|item| walk_node(item, change)),
        _ => Ok(()),
    }
}

fn renamed(text: &str, image: &Image) -> String {
    let (name, mut tag, mut digest) = split_image(text);
    let name = if image.new_name.is_empty() {
        name
    } else {
        image.new_name.as_str()
    };
    let joined;
    if !image.new_tag.is_empty() {
        (tag, digest) = (&image.new_tag, &image.digest);
    } else if !image.digest.is_empty() {
        (tag, digest) = ("", &image.digest);
    } else if !image.tag_suffix.is_empty() {
        joined = format!("{tag}{}", image.tag_suffix);
        (tag, digest) = (&joined, "");
    }
    let mut renamed = name.to_owned();
    if !tag.is_empty() {
        renamed.push(':');
        renamed.push_str(tag);
    }
    if !digest.is_empty() {
        renamed.push('@');
        renamed.push_str(digest);
    }
    renamed
}

/// Splits an image into name, tag and digest. A colon before the first slash belongs to the name.
fn split_image(image: &str) -> (&str, &str, &str) {
    let start = image.find('/').filter(|at| *at > 0).unwrap_or(0);
    let at = |c: char| image[start..].find(c).map(|found| found + start);
    match (at(':'), at('@')) {
        (None, None) => (image, "", ""),
        (Some(colon), None) => (&image[..colon], &image[colon + 1..], ""),
        (Some(colon), Some(digest)) if colon < digest => (
            &image[..colon],
            &image[colon + 1..digest],
            &image[digest + 1..],
        ),
        (_, Some(digest)) => (&image[..digest], "", &image[digest + 1..]),
    }
}

/// Drops resources that are not for the cluster.
pub(super) fn drop_local(resources: &mut Resources) {
    let is_local = |resource: &Resource| {
        resource
            .texts("annotations")
            .into_iter()
            .any(|(name, value)| name == super::resource::LOCAL && value != "false")
    };
    resources.0.retain(|resource| !is_local(resource));
}
