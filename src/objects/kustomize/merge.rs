//! Strategic merge, as kustomize does it: lists of built-in kinds by their keys, everything else
//! as a whole; new elements come first.

use super::{
    node::{Fields, Node},
    problem::Problem,
    schema::{ListShape, Shape},
};

/// The field of a patch that says what to do with the mapping or list around it.
const DIRECTIVE: &str = "$patch";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

/// Merges a patch into an object; nothing is left where the patch deletes it.
pub(super) fn merge(object: Fields, patch: &Fields) -> Result<Option<Fields>, Problem> {
    let at_top = patch.get(DIRECTIVE).map(directive);
    if !matches!(at_top, None | Some(Ok(Directive::Delete))) {
        // kustomize merges into a copy that it drops.
        return Err(Problem::unsupported("the patch has a directive at its top"));
    }
    let merged = walk(
        Some(Node::Map(object)),
        Some(Node::Map(patch.clone())),
        None,
    )?;
    match merged {
        None => Ok(None),
        Some(node) if node.names_any(&|name| name == DIRECTIVE) => Err(Problem::unsupported(
            "a directive stands where the list it is for is new",
        )),
        Some(Node::Map(fields)) => Ok(Some(fields)),
        Some(_) => Err(Problem::refused(
            "the patch makes the object something else",
        )),
    }
}

/// Merges `patch` into `base`; `None` takes a field away.
fn walk(
    base: Option<Node>,
    patch: Option<Node>,
    shape: Option<Shape>,
) -> Result<Option<Node>, Problem> {
    let shape = shape.or_else(|| base.as_ref().and_then(shape_of));
    let shape = shape.or_else(|| patch.as_ref().and_then(shape_of));
    let some = |node: &Option<Node>| node.as_ref().is_some_and(|node| !node.is_null());
    let first = if some(&base) { &base } else { &patch };
    let patched = some(&patch);
    match first {
        Some(Node::Map(_)) => {
            if some(&base) && patched && !matches!(patch, Some(Node::Map(_))) {
                return Err(Problem::refused("a mapping is patched with something else"));
            }
            walk_map(base, patch, shape)
        }
        Some(Node::List(_)) => {
            if some(&base) && patched && !matches!(patch, Some(Node::List(_))) {
                return Err(Problem::refused("a list is patched with something else"));
            }
            match shape {
                Some(Shape::List(shape)) => walk_list(base, patch, shape),
                _ => whole_list(base, patch),
            }
        }
        Some(Node::Scalar(_)) => {
            if some(&base) && patched && !matches!(patch, Some(Node::Scalar(_))) {
                return Err(Problem::refused("a value is patched with something else"));
            }
            Ok(match patch {
                Some(Node::Null { .. }) => None,
                Some(patch) => Some(patch),
                None => base,
            })
        }
        // A null that is written stays where the patch does not name it.
        _ => Ok(match (base, patch) {
            (Some(Node::Null { written: true }), None) => Some(Node::Null { written: true }),
            _ => None,
        }),
    }
}

fn shape_of(node: &Node) -> Option<Shape> {
    let text = |name: &str| node.get(name).map_or("", Node::compared);
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if api_version.is_empty() || kind.is_empty() {
        return None;
    }
    Shape::of(api_version, kind)
}

fn walk_map(
    base: Option<Node>,
    patch: Option<Node>,
    shape: Option<Shape>,
) -> Result<Option<Node>, Problem> {
    let base = base.filter(|base| !base.is_null());
    let mut patch = match patch {
        Some(Node::Null { .. }) if base.is_some() => return Ok(None),
        Some(Node::Map(fields)) => Some(fields),
        _ => None,
    };
    let directive = match &mut patch {
        Some(fields) => take_directive(fields)?,
        None => Directive::Merge,
    };
    let base = match (base, directive) {
        (_, Directive::Delete) => return Ok(None),
        (Some(Node::Map(base)), Directive::Merge) => base,
        // The patch itself is walked, too, for directives and nulls in it.
        _ => patch.clone().unwrap_or_default(),
    };
    let (base, mut patch) = (base, patch.unwrap_or_default());
    let mut merged = Fields::default();
    let mut set = |name: &str, value: Option<Node>| {
        if let Some(value) = value {
            merged.push(name.to_owned(), value);
        }
    };
    let shape_at = |name: &str| shape.and_then(|shape| shape.field(name));
    for (name, value) in base.into_fields() {
        let change = patch.remove(&name);
        if name.starts_with('$') {
            return Err(Problem::unsupported(format!(
                "{name:?} is written where kustomize knows no directive"
            )));
        }
        let value =
            walk(Some(value), change, shape_at(&name)).map_err(|problem| problem.of(&name))?;
        set(&name, value);
    }
    for (name, change) in patch.into_fields() {
        if name.starts_with('$') {
            return Err(Problem::unsupported(format!(
                "the directive {name:?} is not known"
            )));
        }
        let value =
            walk(None, Some(change), shape_at(&name)).map_err(|problem| problem.of(&name))?;
        set(&name, value);
    }
    Ok(Some(Node::Map(merged)))
}

/// Takes the directive out of a mapping.
fn take_directive(fields: &mut Fields) -> Result<Directive, Problem> {
    match fields.remove(DIRECTIVE) {
        None => Ok(Directive::Merge),
        Some(value) => directive(&value),
    }
}

fn directive(value: &Node) -> Result<Directive, Problem> {
    match value.compared() {
        "merge" => Ok(Directive::Merge),
        "replace" => Ok(Directive::Replace),
        "delete" => Ok(Directive::Delete),
        other => Err(Problem::refused(format!(
            "{DIRECTIVE}: {other:?} is not known"
        ))),
    }
}

/// Returns whether an element only carries a directive.
fn is_directive(node: &Node) -> bool {
    node.as_map()
        .is_some_and(|fields| fields.len() == 1 && fields.get(DIRECTIVE).is_some())
}

fn whole_list(base: Option<Node>, patch: Option<Node>) -> Result<Option<Node>, Problem> {
    match patch {
        None => Ok(base),
        Some(Node::Null { .. }) => Ok(None),
        Some(patch) if holds_directive(&patch) => Err(Problem::unsupported(
            "a directive is written in a list that is replaced as a whole",
        )),
        Some(patch) => Ok(Some(patch)),
    }
}

fn holds_directive(node: &Node) -> bool {
    match node {
        Node::Map(fields) => fields
            .iter()
            .any(|(name, value)| name == DIRECTIVE || holds_directive(value)),
        Node::List(items) => items.iter().any(holds_directive),
        _ => false,
    }
}

fn walk_list(
    base: Option<Node>,
    patch: Option<Node>,
    shape: ListShape,
) -> Result<Option<Node>, Problem> {
    let base = match base {
        Some(Node::List(items)) => Some(items),
        _ => None,
    };
    let mut patch = match patch {
        Some(Node::Null { .. }) if base.is_some() => return Ok(None),
        Some(Node::List(items)) => Some(items),
        _ => None,
    };
    let base = match base {
        None => {
            let items = patch.clone().unwrap_or_default();
            if items.iter().any(is_directive) {
                return Err(Problem::unsupported(
                    "a directive is written in a list that is new",
                ));
            }
            items
        }
        Some(base) => {
            let marked = |node: &Node| {
                let value = node.get(DIRECTIVE)?;
                Some((is_directive(node), value.clone()))
            };
            // Only the first element with a directive counts, and only if it holds nothing else.
            let found = patch.iter().flatten().find_map(marked);
            let directive = match found {
                Some((true, value)) => {
                    let found = directive(&value)?;
                    let same = |node: &Node| {
                        node.get(DIRECTIVE).map(Node::compared) == Some(value.compared())
                    };
                    if let Some(patch) = &mut patch {
                        patch.retain(|node| !same(node) && !node.is_empty());
                    }
                    found
                }
                _ => Directive::Merge,
            };
            match directive {
                Directive::Delete => return Ok(None),
                Directive::Replace => patch.clone().unwrap_or_default(),
                Directive::Merge => base,
            }
        }
    };
    if patch.iter().flatten().any(is_directive) {
        return Err(Problem::unsupported("a list has more than one directive"));
    }
    merge_elements(base, patch.as_deref(), shape).map(|items| Some(Node::List(items)))
}

/// Merges lists by the values that their elements have in the keys.
fn merge_elements(
    mut base: Vec<Node>,
    patch: Option<&[Node]>,
    shape: ListShape,
) -> Result<Vec<Node>, Problem> {
    let scalars = shape.keys.is_empty();
    let keys: &[&str] = if scalars { &[""] } else { shape.keys };
    let mut all = values_of(patch.unwrap_or_default(), keys)?;
    for values in values_of(&base, keys)? {
        if !all.contains(&values) {
            all.push(values);
        }
    }
    if keys.len() > 1 {
        join_values(&mut all);
    }
    let mut added = Vec::new();
    let mut used: Vec<&str> = Vec::new();
    for at in 0..all.len() {
        let (valid_keys, valid_values) = valid(&all, &all[at], keys);
        let (found_keys, found_values) = valid(
            std::slice::from_ref(&valid_values),
            &valid_values,
            &valid_keys,
        );
        let in_base = position(&base, &found_keys, &found_values)?;
        let in_patch = match patch {
            Some(patch) => position(patch, &found_keys, &found_values)?,
            None => None,
        };
        let change = in_patch.and_then(|at| patch.and_then(|patch| patch.get(at)));
        if in_base.is_some()
            && change
                .and_then(|change| change.get(DIRECTIVE))
                .map(Node::compared)
                == Some("replace")
        {
            return Err(Problem::unsupported(
                "an element of a list is replaced by a directive",
            ));
        }
        let merged = walk(
            in_base.map(|at| base[at].clone()),
            change.cloned(),
            shape.element(),
        )?;
        used.clone_from(&valid_keys);
        let merged = merged.filter(|node| !node.is_null() && !is_empty_map(node));
        let Some(merged) = merged else {
            put(&mut base, None, &valid_keys, &valid_values)?;
            continue;
        };
        let lacks = |(key, value): (&&str, &String)| {
            !value.is_empty() && !scalars && merged.get(key).is_none()
        };
        if valid_keys.iter().zip(&valid_values).any(lacks) {
            return Err(Problem::unsupported("an element of a list loses its key"));
        }
        if scalars && !super::scalar::is_sure_text(merged.compared()) {
            return Err(Problem::unsupported("a list holds values that are no text"));
        }
        if let Some(at) = in_base {
            base[at] = merged.clone();
        }
        put(&mut added, Some(&merged), &valid_keys, &valid_values)?;
    }
    if all.is_empty() {
        return Ok(base);
    }
    for element in &base {
        if scalars {
            let value = [element.compared().to_owned()];
            put(&mut added, Some(element), &[""], &value)?;
            continue;
        }
        let mut values = Vec::new();
        for key in &used {
            match element.get(key) {
                Some(value) => values.push(value.compared().to_owned()),
                None => added.push(element.clone()),
            }
        }
        if used.len() > 1 {
            put(&mut added, None, &used, &values)?;
        }
        put(&mut added, Some(element), &used, &values)?;
    }
    Ok(added)
}

fn is_empty_map(node: &Node) -> bool {
    matches!(node, Node::Map(fields) if fields.is_empty())
}

/// Returns the distinct values of the keys, of each element; empty where one lacks a key.
fn values_of(items: &[Node], keys: &[&str]) -> Result<Vec<Vec<String>>, Problem> {
    let mut all: Vec<Vec<String>> = Vec::new();
    for item in items {
        let values: Vec<String> = match (keys, item) {
            ([""], Node::Scalar(scalar)) => vec![scalar.text.clone()],
            ([""], _) => {
                return Err(Problem::unsupported("a list of texts holds something else"));
            }
            (_, Node::Map(fields)) => keys
                .iter()
                .map(|key| fields.get(key).map_or("", Node::compared).to_owned())
                .collect(),
            _ => {
                return Err(Problem::unsupported(
                    "a list of objects holds something else",
                ));
            }
        };
        if !all.contains(&values) {
            all.push(values);
        }
    }
    Ok(all)
}

/// Lets elements that name fewer keys stand for those that name more and agree.
fn join_values(all: &mut [Vec<String>]) {
    for one in 0..all.len() {
        let first = all[one].clone();
        for other in 0..all.len() {
            if let Some(values) = joined(&first, &all[other]) {
                all[one].clone_from(&values);
                all[other] = values;
            }
        }
    }
}

fn joined(one: &[String], other: &[String]) -> Option<Vec<String>> {
    let mut agree = false;
    let mut values = Vec::with_capacity(one.len());
    for (a, b) in one.iter().zip(other) {
        if a == b {
            agree = true;
        } else if !a.is_empty() && !b.is_empty() {
            return None;
        }
        values.push(if a.is_empty() { b.clone() } else { a.clone() });
    }
    agree.then_some(values)
}

/// Returns the keys that any element has, and the values that count.
fn valid<'k>(
    all: &[Vec<String>],
    values: &[String],
    keys: &[&'k str],
) -> (Vec<&'k str>, Vec<String>) {
    let used: Vec<bool> = (0..keys.len())
        .map(|at| {
            all.iter()
                .any(|values| values.get(at).is_some_and(|value| !value.is_empty()))
        })
        .collect();
    if !used.contains(&true) {
        return (keys.to_vec(), values.to_vec());
    }
    let valid_keys = keys
        .iter()
        .zip(&used)
        .filter(|(_, used)| **used)
        .map(|(key, _)| *key)
        .collect();
    let valid_values = values
        .iter()
        .zip(&used)
        .filter(|(value, used)| !value.is_empty() || **used)
        .map(|(value, _)| value.clone())
        .collect();
    (valid_keys, valid_values)
}

/// Finds the first element whose keys have these values.
fn position(items: &[Node], keys: &[&str], values: &[String]) -> Result<Option<usize>, Problem> {
    if keys == [""] {
        let value = values.first().map_or("", String::as_str);
        return Ok(items.iter().position(|item| item.compared() == value));
    }
    if keys.len() != values.len() {
        return Err(Problem::unsupported("elements of a list lack their keys"));
    }
    Ok(items.iter().position(|item| {
        item.as_map().is_some_and(|fields| {
            keys.iter()
                .zip(values)
                .all(|(key, value)| fields.get(key).is_some_and(|node| node.compared() == value))
        })
    }))
}

/// Puts an element in place of those with the same values, or at the end; takes them away where
/// there is none.
fn put(
    items: &mut Vec<Node>,
    element: Option<&Node>,
    keys: &[&str],
    values: &[String],
) -> Result<(), Problem> {
    let mut found = false;
    let mut kept = Vec::with_capacity(items.len() + 1);
    for item in items.drain(..) {
        if item.is_null() || is_empty_map(&item) {
            continue;
        }
        if !matches_element(&item, keys, values)? {
            if !values.is_empty() {
                kept.push(item);
            }
            continue;
        }
        found = true;
        kept.extend(element.cloned());
    }
    if let Some(element) = element.filter(|element| !element.is_null() && !found) {
        kept.push(element.clone());
    }
    *items = kept;
    Ok(())
}

fn matches_element(item: &Node, keys: &[&str], values: &[String]) -> Result<bool, Problem> {
    if keys == [""] {
        return match item {
            Node::Scalar(scalar) => Ok(values.first().is_some_and(|value| *value == scalar.text)),
            _ => Err(Problem::unsupported("a list of texts holds something else")),
        };
    }
    let Some(fields) = item.as_map() else {
        return Err(Problem::unsupported(
            "a list of objects holds something else",
        ));
    };
    // Keys beyond the values are not compared.
    Ok(!values.is_empty()
        && keys.iter().zip(values).all(|(key, value)| {
            fields
                .get(key)
                .is_some_and(|node| value.is_empty() || node.compared() == value)
        }))
}
