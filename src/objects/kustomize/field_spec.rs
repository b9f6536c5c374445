//! Paths to fields of some kinds, and edits of the values there.

use super::{
    node::{Fields, Node},
    problem::Problem,
    resource::{Resource, split_api_version},
};

/// Steps of a path.
const LONGEST_PATH: usize = 50;

/// A field of the objects of some kinds. Parts of the kind that are empty match all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FieldSpec<'p> {
    pub group: &'p str,
    pub version: &'p str,
    pub kind: &'p str,
    /// Names of fields between slashes; elements of lists on the way are all meant.
    pub path: &'p str,
    /// True if missing fields are made.
    pub create: bool,
}

/// The value of a missing field that is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    Nothing,
    Map,
    Text,
}

impl FieldSpec<'_> {
    pub(super) fn selects(&self, resource: &Resource) -> bool {
        let (group, version) = split_api_version(resource.api_version());
        (self.kind.is_empty() || self.kind == resource.kind())
            && (self.group.is_empty() || self.group == group)
            && (self.version.is_empty() || self.version == version)
    }

    /// Edits the values at the path in a resource, if it is of the kind.
    pub(super) fn edit(
        &self,
        resource: &mut Resource,
        made: Made,
        set: &mut dyn FnMut(&mut Node) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        if !self.selects(resource) {
            return Ok(());
        }
        let path = parts(self.path);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        if path.len() > LONGEST_PATH {
            return Err(Problem::unsupported("the path of a field is too long"));
        }
        let made = if self.create { made } else { Made::Nothing };
        edit_fields(&mut resource.fields, &path, made, set).map_err(|problem| problem.of(self.path))
    }
}

/// Splits a path at slashes; `\/` is one in a name.
pub(super) fn parts(path: &str) -> Vec<String> {
    let mut split = path.split('/').peekable();
    if path.starts_with('/') {
        split.next();
    }
    let mut parts: Vec<String> = Vec::new();
    for part in split {
        match parts.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push('/');
                last.push_str(part);
            }
            _ => parts.push(part.to_owned()),
        }
    }
    parts
}

fn edit(
    node: &mut Node,
    path: &[&str],
    made: Made,
    set: &mut dyn FnMut(&mut Node) -> Result<(), Problem>,
) -> Result<(), Problem> {
    if path.is_empty() {
        return set(node);
    }
    match node {
        Node::Null { .. } => Ok(()),
        Node::List(items) => items
            .iter_mut()
            .try_for_each(|item| edit(item, path, made, set)),
        Node::Map(fields) => edit_fields(fields, path, made, set),
        Node::Scalar(_) => Err(Problem::refused("a value stands where fields are expected")),
    }
}

fn edit_fields(
    fields: &mut Fields,
    path: &[&str],
    made: Made,
    set: &mut dyn FnMut(&mut Node) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(());
    };
    let (name, is_list) = match first.strip_suffix("[]") {
        Some(name) => (name, true),
        None => (*first, false),
    };
    if name.is_empty() || name == "-" || name == "*" || name.parse::<u64>().is_ok() {
        return Err(Problem::unsupported(format!(
            "{name:?} is no name of a field"
        )));
    }
    let made_here = match made {
        Made::Nothing => None,
        _ if is_list => None,
        Made::Text if rest.is_empty() => Some(Node::text("")),
        _ => Some(Node::Map(Fields::default())),
    };
    // A null becomes the value of a missing field, or a list if the path names one.
    let empty = match (&made_here, is_list) {
        (_, true) => Some(Node::List(Vec::new())),
        (made, false) => made.clone(),
    };
    let field = match made_here {
        Some(node) => fields.entry(name, || node),
        None => match fields.get_mut(name) {
            Some(field) => field,
            None => return Ok(()),
        },
    };
    if let (true, Some(empty)) = (field.is_null(), empty) {
        *field = empty;
    }
    edit(field, rest, made, set)
}
