//! Replacements: a value of one resource, copied into fields of others.

use super::{
    kustomization::{FieldOptions, ReplacementEntry, ReplacementSource, ReplacementTarget},
    node::{Fields, Node},
    problem::Problem,
    resource::{ObjectId, Resource, Resources, changes_shared},
    scalar::{ScalarKind, is_sure_text},
    select::Selection,
    source::Source,
};
use regex::Regex;

/// The field that is meant where none is named.
const USUAL_FIELD: &str = "metadata.name";

/// Steps of a path.
const LONGEST_PATH: usize = 50;

/// Integers that a JSON patch may have written with an exponent.
const LARGE: i64 = 1_000_000;

/// Applies one replacement.
pub(super) fn apply(
    resources: &mut Resources,
    source: &Source<'_>,
    entry: &ReplacementEntry,
) -> Result<(), Problem> {
    let (value, from) = match (&entry.source_value, &entry.source) {
        (Some(_), Some(_)) => {
            return Err(Problem::refused("a replacement has a source and a value"));
        }
        (None, None) => return Err(Problem::refused("a replacement has no source")),
        (Some(value), None) => (Node::text(value), None),
        (None, Some(from)) => {
            let (at, value) = source_value(resources, from)?;
            (value, Some(at))
        }
    };
    if entry.targets.is_empty() {
        return Err(Problem::unsupported("a replacement has no targets"));
    }
    for target in &entry.targets {
        apply_to(resources, source, (&value, from), target)?;
    }
    Ok(())
}

/// Returns the identities of a resource as replacements see them: no kind is cluster-scoped.
fn ids(resource: &Resource) -> Vec<ObjectId> {
    let now = ObjectId {
        is_cluster_scoped: false,
        ..resource.id()
    };
    std::iter::once(now).chain(resource.former_ids()).collect()
}

/// Returns the number of the source and the value there.
fn source_value(resources: &Resources, from: &ReplacementSource) -> Result<(usize, Node), Problem> {
    let namespace = match from.namespace.as_str() {
        "" => None,
        namespace => Some(namespace),
    };
    let is_meant = |id: &ObjectId| {
        (from.name.is_empty() || from.name == id.name)
            && namespace.is_none_or(|namespace| namespace == id.effective_namespace())
            && id.is_selected(&from.group, &from.version, &from.kind)
    };
    let mut found = resources
        .0
        .iter()
        .enumerate()
        .filter(|(_, resource)| ids(resource).iter().any(is_meant));
    let (Some((at, resource)), None) = (found.next(), found.next()) else {
        return Err(Problem::refused("the source is not exactly one object"));
    };
    let path = match from.field_path.as_str() {
        "" => USUAL_FIELD,
        path => path,
    };
    let root = Node::Map(resource.fields.clone());
    let parts = parts(path)?;
    check_path(&parts)?;
    let value = lookup(&root, &parts)?
        .filter(|value| !value.is_empty())
        .cloned()
        .ok_or_else(|| Problem::refused(format!("the source has no {path}")))?;
    if let Node::Scalar(scalar) = &value {
        let large = scalar
            .text
            .parse::<i64>()
            .is_ok_and(|number| number.abs() >= LARGE);
        if scalar.kind == ScalarKind::Float || scalar.kind == ScalarKind::Integer && large {
            return Err(Problem::unsupported(
                "the source is a large number or a fraction",
            ));
        }
    }
    let Some(options) = from.options.as_ref() else {
        return Ok((at, value));
    };
    check(options)?;
    if options.delimiter.is_empty() {
        return Ok((at, value));
    }
    let Some(text) = value.as_string() else {
        return Err(Problem::unsupported(
            "the source with a delimiter is no text",
        ));
    };
    usize::try_from(options.index)
        .ok()
        .and_then(|index| text.split(options.delimiter.as_str()).nth(index))
        .map(|text| (at, Node::text(text)))
        .ok_or_else(|| Problem::refused("the index is out of bounds"))
}

/// Leaves what leads to all annotations, among which kustomize keeps its own, to the program.
fn check_path(parts: &[String]) -> Result<(), Problem> {
    let is = |at: usize, name: &str| {
        parts
            .get(at)
            .is_some_and(|part| part == name || part == "*")
    };
    let leads_to_all = is(0, "metadata")
        && (parts.len() == 1 || is(1, "annotations") && (parts.len() == 2 || parts[2] == "*"));
    match leads_to_all {
        true => Err(Problem::unsupported(
            "a replacement reads or writes all annotations",
        )),
        false => Ok(()),
    }
}

fn check(options: &FieldOptions) -> Result<(), Problem> {
    if options.encoding.is_empty() {
        Ok(())
    } else {
        Err(Problem::unsupported("an encoding is named"))
    }
}

fn apply_to(
    resources: &mut Resources,
    source: &Source<'_>,
    (value, from): (&Node, Option<usize>),
    target: &ReplacementTarget,
) -> Result<(), Problem> {
    let Some(select) = &target.select else {
        return Err(Problem::refused("a target selects nothing"));
    };
    let select = Selection::new(select)?;
    let reject = target
        .reject
        .iter()
        .map(Selection::new)
        .collect::<Result<Vec<_>, _>>()?;
    let usual = [USUAL_FIELD.to_owned()];
    let paths = match target.field_paths.as_slice() {
        [] => &usual,
        paths => paths,
    };
    let options = target.options.clone().unwrap_or_default();
    check(&options)?;
    for (at, resource) in resources.0.iter_mut().enumerate() {
        let ids = ids(resource);
        let is_rejected = reject.iter().any(|reject| {
            reject.has_texts() && reject.matches_texts(resource)
                || !reject.names_nothing && ids.iter().any(|id| reject.matches_id(id))
        });
        if !select.matches_texts(resource)
            || is_rejected
            || !ids.iter().any(|id| select.matches_id(id))
        {
            continue;
        }
        if from == Some(at) {
            // kustomize reads the value again after each change of it.
            return Err(Problem::unsupported("the source is a target, too"));
        }
        let id = resource.id();
        for path in paths {
            let parts = parts(path)?;
            check_path(&parts)?;
            if parts.iter().any(|part| resource.shared.contains(part))
                || parts.last().is_some_and(|last| last == "*") && !resource.shared.is_empty()
            {
                return Err(changes_shared());
            }
        }
        let mut root = Node::Map(std::mem::take(&mut resource.fields));
        for path in paths {
            set(&mut root, source, path, value, &options).map_err(|problem| problem.of(&id))?;
        }
        root.check_depth(0)?;
        if let Node::Map(fields) = root {
            resource.fields = fields;
        }
        resource.check()?;
    }
    Ok(())
}

fn set(
    root: &mut Node,
    source: &Source<'_>,
    path: &str,
    value: &Node,
    options: &FieldOptions,
) -> Result<(), Problem> {
    let parts = parts(path)?;
    for end in 1..parts.len() {
        if let Ok(Some(Node::Scalar(_))) = lookup(root, &parts[..end]) {
            return Err(Problem::unsupported(format!("{path} leads into a text")));
        }
    }
    let made = options.create.then_some(value);
    let mut count = 0;
    visit(root, &parts, made, &mut |field| {
        count += 1;
        source.keep(value.size())?;
        set_field(field, value, options)
    })?;
    match count {
        0 => Err(Problem::refused(format!("there is no field {path}"))),
        _ => Ok(()),
    }
}

fn set_field(field: &mut Node, value: &Node, options: &FieldOptions) -> Result<(), Problem> {
    if options.delimiter.is_empty() && matches!(field, Node::List(_) | Node::Map(_)) {
        if matches!(value, Node::Scalar(_)) {
            return Err(Problem::unsupported("a text replaces a list or mapping"));
        }
        *field = value.clone();
        return Ok(());
    }
    let (Node::Scalar(scalar), Some(text)) = (field, value.as_text()) else {
        return Err(Problem::unsupported("a replacement of another type"));
    };
    let text = match options.delimiter.as_str() {
        "" => text.to_owned(),
        delimiter => {
            let mut pieces: Vec<&str> = scalar.text.split(delimiter).collect();
            match usize::try_from(options.index) {
                Err(_) => pieces.insert(0, text),
                Ok(at) if at >= pieces.len() => pieces.push(text),
                Ok(at) => pieces[at] = text,
            }
            pieces.join(delimiter)
        }
    };
    // The type of the field stays.
    let fits = match scalar.kind {
        ScalarKind::Text => true,
        ScalarKind::Integer => text
            .parse::<i64>()
            .is_ok_and(|number| number.to_string() == text),
        ScalarKind::Boolean => matches!(text.as_str(), "true" | "false"),
        ScalarKind::Float => false,
    };
    let made = options.create && scalar.text.is_empty() && !is_sure_text(&text);
    if !fits || made {
        return Err(Problem::unsupported(
            "a value is put into a field of another type",
        ));
    }
    scalar.text = text;
    Ok(())
}

/// Splits a path at dots, except in brackets and after backslashes.
fn parts(path: &str) -> Result<Vec<String>, Problem> {
    let mut split: Vec<String> = Vec::new();
    // A dot at the beginning counts as none.
    for part in path.strip_prefix('.').unwrap_or(path).split('.') {
        match split.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push('.');
                last.push_str(part);
            }
            _ => split.push(part.to_owned()),
        }
    }
    let mut parts = Vec::new();
    let mut split = split.into_iter();
    while let Some(part) = split.next() {
        let mut part = part;
        if part.starts_with('[') && !part.ends_with(']') {
            for more in split.by_ref() {
                part.push('.');
                part.push_str(&more);
                if part.ends_with(']') {
                    break;
                }
            }
            if !part.contains('=') {
                part = part.trim_matches(['[', ']']).to_owned();
            }
        }
        if part.is_empty() || part.trim() != part || part == "-" || part.starts_with('+') {
            return Err(Problem::unsupported(format!(
                "the path {path:?} is not followed"
            )));
        }
        parts.push(part);
    }
    if parts.len() > LONGEST_PATH {
        return Err(Problem::unsupported("a path is too long"));
    }
    Ok(parts)
}

/// A step of a path.
enum Step<'p> {
    Field(&'p str),
    Index(usize),
    Every,
    Element(&'p str, &'p str),
}

fn step(part: &str) -> Result<Step<'_>, Problem> {
    if part == "*" {
        return Ok(Step::Every);
    }
    if let Ok(index) = part.parse() {
        return Ok(Step::Index(index));
    }
    let Some(inner) = part
        .strip_prefix('[')
        .and_then(|part| part.strip_suffix(']'))
    else {
        return Ok(Step::Field(part));
    };
    let is_plain = |text: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_/.:".contains(c))
    };
    match inner.split_once('=') {
        Some((key, value)) if is_plain(key) && is_plain(value) => Ok(Step::Element(key, value)),
        _ => Err(Problem::unsupported(format!("{part:?} is not followed"))),
    }
}

/// Follows a path to one value.
fn lookup<'n>(root: &'n Node, parts: &[String]) -> Result<Option<&'n Node>, Problem> {
    let mut node = root;
    for part in parts {
        let next = match (step(part)?, node) {
            (_, Node::Null { .. }) => None,
            (Step::Field(name), Node::Map(fields)) => fields.get(name),
            (Step::Index(at), Node::List(items)) => items.get(at),
            (Step::Element(key, value), Node::List(items)) => items
                .iter()
                .find(|item| item.get(key).is_some_and(|node| node.compared() == value)),
            (Step::Every, _) => return Err(Problem::refused("the path means many fields")),
            _ => return Err(Problem::refused("the path leads elsewhere")),
        };
        match next {
            Some(next) => node = next,
            None => return Ok(None),
        }
    }
    Ok(Some(node))
}

/// Edits all values at a path, which is made for a value if one is given.
fn visit(
    node: &mut Node,
    parts: &[String],
    made: Option<&Node>,
    edit: &mut dyn FnMut(&mut Node) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let Some((part, rest)) = parts.split_first() else {
        return edit(node);
    };
    match (step(part)?, node) {
        (Step::Field(name), Node::Map(fields)) => {
            match (fields.get(name).is_some(), made) {
                (false, None) => return Ok(()),
                (false, Some(value)) => {
                    let new = new_node(rest, value)?;
                    fields.set(name, new);
                }
                (true, _) => {}
            }
            let Some(field) = fields.get_mut(name) else {
                return Ok(());
            };
            if matches!(field, Node::Scalar(_)) && !rest.is_empty() {
                return Err(Problem::unsupported("the path leads into a text"));
            }
            visit(field, rest, made, edit)
        }
        (Step::Index(at), Node::List(items)) => {
            if let (true, Some(value)) = (items.len() == at, made) {
                items.push(new_node(rest, value)?);
            }
            match items.get_mut(at) {
                Some(item) => visit(item, rest, made, edit),
                None => Err(Problem::refused("the index is out of bounds")),
            }
        }
        (Step::Every, Node::List(items)) => items
            .iter_mut()
            .try_for_each(|item| visit(item, rest, made, edit)),
        (Step::Element(key, value), Node::List(items)) => {
            let pattern =
                Regex::new(value).map_err(|error| Problem::unsupported(error.to_string()))?;
            let mut found = false;
            for item in items.iter_mut() {
                if item
                    .get(key)
                    .is_some_and(|node| pattern.is_match(node.compared()))
                {
                    found = true;
                    visit(item, rest, made, edit)?;
                }
            }
            match (found, made) {
                (false, Some(_)) => {
                    if !is_sure_text(value) || !is_sure_text(key) {
                        return Err(Problem::unsupported("an element with a number is made"));
                    }
                    let mut fields = Fields::default();
                    fields.set(key, Node::text(value));
                    let mut item = Node::Map(fields);
                    visit(&mut item, rest, made, edit)?;
                    items.push(item);
                    Ok(())
                }
                _ => Ok(()),
            }
        }
        (_, Node::Null { .. }) => Err(Problem::unsupported("the path leads through a null")),
        _ => Err(Problem::refused("the path leads elsewhere")),
    }
}

/// Returns what a missing field becomes, before the rest of the path is made in it.
fn new_node(rest: &[String], value: &Node) -> Result<Node, Problem> {
    let Some(next) = rest.first() else {
        return match value {
            Node::Scalar(scalar) if is_sure_text(&scalar.text) => Ok(Node::text("")),
            Node::Scalar(_) => Err(Problem::unsupported("a field with a number is made")),
            Node::List(_) => Ok(Node::List(Vec::new())),
            _ => Ok(Node::Map(Fields::default())),
        };
    };
    Ok(match step(next)? {
        Step::Field(_) | Step::Every => Node::Map(Fields::default()),
        Step::Index(_) | Step::Element(..) => Node::List(Vec::new()),
    })
}
