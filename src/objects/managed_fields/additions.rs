//! Fields that a manager owns and a manifest does not name.

use super::{entries, is_element, may_be, text};
use crate::{core::pointer, objects::object::Object};
use serde_json::{Map, Value};

/// A field that the manifest does not name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AddedField {
    /// For people, as `/spec/template/spec/containers[name=debug]`.
    pub path: String,
    /// The JSON pointer in the live object.
    pub pointer: String,
    pub manager: String,
    /// The keys of FieldsV1 on the way to it.
    pub(super) keys: Vec<String>,
}

/// The pod templates of workloads, as JSON pointers.
const POD_TEMPLATES: [&str; 2] = ["/spec/template", "/spec/jobTemplate/spec/template"];

impl AddedField {
    /// Returns whether the field is part of a pod template.
    pub(super) fn is_in_pod_template(&self, live: &Object) -> bool {
        POD_TEMPLATES.iter().any(|template| {
            is_at_or_below(&self.pointer, template)
                && live
                    .pointer(&format!("{template}/spec/containers"))
                    .is_some()
        })
    }
}

/// Returns whether a pointer or path names a value, or something in it.
pub(super) fn is_at_or_below(pointer: &str, value: &str) -> bool {
    pointer
        .strip_prefix(value.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '[']))
}

/// Returns the fields of one manager's entry that the manifest does not name. Of a list element
/// that it does not name only the element; of a map each field, since managers share maps.
pub(super) fn added_fields(entry: &Value, live: &Object, manifest: &Object) -> Vec<AddedField> {
    let mut walk = AdditionWalker {
        manager: text(entry, "manager"),
        path: String::new(),
        pointer: String::new(),
        keys: Vec::new(),
        found: Vec::new(),
    };
    if let Some(tree) = entry.get("fieldsV1").and_then(Value::as_object) {
        walk.map(tree, live.value(), Some(manifest.value()));
    }
    walk.found
}

/// Returns the fields of all managers that `counts` accepts, each once, with its last manager.
pub(super) fn added_by(
    live: &Object,
    manifest: &Object,
    counts: impl Fn(&Value) -> bool,
) -> Vec<AddedField> {
    let mut managers: Vec<&Value> = entries(live)
        .filter(|entry| text(entry, "subresource").is_empty() && counts(entry))
        .collect();
    managers.sort_by(|a, b| text(b, "time").cmp(text(a, "time")));
    let mut added: Vec<AddedField> = Vec::new();
    for entry in managers {
        for field in added_fields(entry, live, manifest) {
            if !added.iter().any(|known| known.pointer == field.pointer) {
                added.push(field);
            }
        }
    }
    added.sort();
    added
}

struct AdditionWalker<'w> {
    manager: &'w str,
    path: String,
    pointer: String,
    keys: Vec<String>,
    found: Vec<AddedField>,
}

impl AdditionWalker<'_> {
    /// Visits the fields of a map.
    fn map(
        &mut self,
        tree: &Map<String, Value>,
        live: &Map<String, Value>,
        manifest: Option<&Map<String, Value>>,
    ) {
        for (key, node) in tree {
            let Some(name) = key.strip_prefix("f:") else {
                continue;
            };
            let Some(value) = live.get(name) else {
                continue;
            };
            let wanted = manifest.and_then(|manifest| manifest.get(name));
            let step = format!("/{}", pointer::encode(name));
            self.step(key, (&step, &step), |walk| {
                walk.value(node, value, wanted.filter(|wanted| !wanted.is_null()));
            });
        }
    }

    fn value(&mut self, node: &Value, live: &Value, manifest: Option<&Value>) {
        let Some(tree) = node.as_object() else {
            return;
        };
        let is_leaf = tree.keys().all(|key| key == ".");
        match (live, manifest) {
            (_, Some(_)) if is_leaf => {}
            // An empty map or list says nothing.
            (Value::Object(fields), None) if is_leaf && fields.is_empty() => {}
            (Value::Array(elements), None) if is_leaf && elements.is_empty() => {}
            (_, None) if is_leaf => self.add(),
            (Value::Object(fields), manifest) => {
                self.map(tree, fields, manifest.and_then(Value::as_object));
            }
            (Value::Array(elements), manifest) => {
                let wanted = manifest.and_then(Value::as_array);
                self.list(tree, elements, wanted.map_or(&[], Vec::as_slice));
            }
            _ => {}
        }
    }

    /// Visits the elements of a list by their keys, and the members of a set.
    fn list(&mut self, tree: &Map<String, Value>, live: &[Value], manifest: &[Value]) {
        for (key, node) in tree {
            let mut elements = live.iter().enumerate();
            let Some((index, element)) =
                elements.find(|(index, element)| is_element(key, *index, element))
            else {
                continue;
            };
            let wanted = match key.split_at_checked(2) {
                Some(("k:", _)) => manifest.iter().find(|wanted| may_be(key, wanted)),
                Some(("v:", _)) => manifest.iter().find(|wanted| *wanted == element),
                // Nobody adds to a list that is merged by place.
                _ => continue,
            };
            let steps = (&*element_step(key), &*format!("/{index}"));
            self.step(key, steps, |walk| match wanted {
                Some(wanted) => walk.value(node, element, Some(wanted)),
                None => walk.add(),
            });
        }
    }

    fn step(&mut self, key: &str, (path, pointer): (&str, &str), visit: impl FnOnce(&mut Self)) {
        let before = (self.path.len(), self.pointer.len());
        self.path.push_str(path);
        self.pointer.push_str(pointer);
        self.keys.push(key.to_owned());
        visit(self);
        self.keys.pop();
        self.path.truncate(before.0);
        self.pointer.truncate(before.1);
    }

    fn add(&mut self) {
        self.found.push(AddedField {
            path: self.path.clone(),
            pointer: self.pointer.clone(),
            manager: self.manager.to_owned(),
            keys: self.keys.clone(),
        });
    }
}

/// Returns a list element as people read it: `[name=web]` for `k:{"name":"web"}`.
fn element_step(key: &str) -> String {
    let plain = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let (_, element) = key.split_at_checked(2).unwrap_or_default();
    match serde_json::from_str(element) {
        Ok(Value::Object(keys)) => {
            let keys: Vec<String> = keys
                .iter()
                .map(|(name, value)| format!("{name}={}", plain(value)))
                .collect();
            format!("[{}]", keys.join(","))
        }
        Ok(member) => format!("[{}]", plain(&member)),
        Err(_) => format!("[{element}]"),
    }
}
