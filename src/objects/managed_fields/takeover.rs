//! Fields of other tools that become ours, and those that stay theirs.

use super::{
    additions::{self, AddedField, is_at_or_below},
    entries, managers_of, removed, text, union,
};
use crate::{
    core::pointer,
    objects::{
        autoscale, ca_bundle,
        object::{MANAGER, Object, PREFIX, instructs_tools},
    },
};
use serde_json::{Map, Value};
use std::cmp::Reverse;

/// The rules by which fields of other tools become ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakeOverRules<'r> {
    /// Prefixes of the names of the tools' managers.
    pub managers: &'r [String],
    /// JSON pointers or paths ([`AddedField::path`]) of fields that stay with their managers.
    pub kept: &'r [String],
}

/// The managed fields after a take-over.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TakenFields {
    pub entries: Vec<Value>,
    /// The former managers, sorted.
    pub managers: Vec<String>,
}

/// The annotation in which `kubectl apply` keeps its last manifest.
const LAST_APPLIED: &str =
    "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";

/// The ends of the pointers of fields by which kubectl and its plugins restart pods. Without them
/// the pods would be restarted again, or not at all.
const RESTARTS: [&str; 2] = [
    "/metadata/annotations/kubectl.kubernetes.io~1restartedAt",
    "/spec/restartAt",
];

impl TakeOverRules<'_> {
    /// Returns whether fields of a manager become ours.
    fn takes(&self, manager: &str) -> bool {
        let mut prefixes = self.managers.iter().filter(|prefix| !prefix.is_empty());
        manager != MANAGER && prefixes.any(|prefix| manager.starts_with(prefix.as_str()))
    }

    /// Returns whether an entry of the object itself (not of a subresource) becomes ours. Fields
    /// that we wrote by other operations than apply are merged too; otherwise they would be owned
    /// for ever.
    fn takes_entry(&self, entry: &Value) -> bool {
        let name = text(entry, "manager");
        let ours = name == MANAGER && text(entry, "operation") != "Apply" && !holds_record(entry);
        text(entry, "subresource").is_empty() && (ours || self.takes(name))
    }

    /// Returns whether a field that Git does not name stays with its manager.
    fn stays(&self, live: &Object, field: &AddedField) -> bool {
        let pointer = &field.pointer;
        let annotation = pointer
            .strip_prefix("/metadata/annotations/")
            .map(pointer::decode);
        annotation.is_some_and(|name| instructs_tools(&name))
            || RESTARTS.iter().any(|restart| pointer.ends_with(restart))
            || ca_bundle::is_injected(&live.gvk(), pointer)
            || is_at_or_below(pointer, "/status")
            || self.is_kept(field)
    }

    fn is_kept(&self, field: &AddedField) -> bool {
        self.kept
            .iter()
            .any(|kept| is_at_or_below(&field.pointer, kept) || is_at_or_below(&field.path, kept))
    }

    /// Returns the managed fields after the tools' fields have become ours. `None` if they own
    /// nothing that could.
    pub(crate) fn take(&self, live: &Object, manifest: &Object) -> Option<TakenFields> {
        let (mut taken, mut kept): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
        for entry in entries(live) {
            if !self.takes_entry(entry) {
                kept.push(entry.clone());
                continue;
            }
            let mut entry = entry.clone();
            kept.extend(self.split_staying(&mut entry, live, manifest));
            let fields = entry.get("fieldsV1").and_then(Value::as_object);
            if fields.is_some_and(|fields| !fields.is_empty()) {
                taken.push(entry);
            }
        }
        if taken.is_empty() {
            return None;
        }
        let mut managers: Vec<String> = taken
            .iter()
            .map(|entry| text(entry, "manager").to_owned())
            .collect();
        managers.sort();
        managers.dedup();
        let at = kept.iter().position(|entry| {
            text(entry, "manager") == MANAGER
                && text(entry, "operation") == "Apply"
                && text(entry, "subresource").is_empty()
        });
        let mut merged = at.map(|at| kept.remove(at)).unwrap_or_else(|| {
            let mut first = taken[0].clone();
            first["manager"] = MANAGER.into();
            first["operation"] = "Apply".into();
            first
        });
        for entry in &taken {
            if let Some(fields) = entry.get("fieldsV1") {
                match merged.get_mut("fieldsV1") {
                    Some(mine) => union(mine, fields),
                    None => merged["fieldsV1"] = fields.clone(),
                }
            }
        }
        kept.push(merged);
        Some(TakenFields {
            entries: kept,
            managers,
        })
    }

    /// Moves the fields that stay with a tool into an entry of their own.
    fn split_staying(&self, entry: &mut Value, live: &Object, manifest: &Object) -> Option<Value> {
        let added = additions::added_fields(entry, live, manifest);
        let mut tree: Option<Value> = None;
        for field in added.iter().filter(|field| self.stays(live, field)) {
            let fields = entry.get_mut("fieldsV1")?;
            let Some(mut node) = removed(fields, &field.keys) else {
                continue;
            };
            for key in field.keys.iter().rev() {
                node = Value::Object(Map::from_iter([(key.clone(), node)]));
            }
            match &mut tree {
                Some(tree) => union(tree, &node),
                None => tree = Some(node),
            }
        }
        let mut staying = entry.clone();
        staying["fieldsV1"] = tree?;
        Some(staying)
    }

    /// Returns the fields that the tools have added to what Git says.
    pub(crate) fn additions(&self, live: &Object, manifest: &Object) -> Vec<AddedField> {
        let keeps_replicas = autoscale::keeps_replicas(&live.gvk());
        let mut added =
            additions::added_by(live, manifest, |entry| self.takes(text(entry, "manager")));
        added.retain(|field| {
            // What `kubectl apply` remembers is no content, and goes with the next apply.
            let is_memory = field.pointer == LAST_APPLIED;
            let is_scale = keeps_replicas && field.pointer == "/spec/replicas";
            !self.stays(live, field) && !is_memory && !is_scale
        });
        added
    }

    /// Returns the fields that others have added to the pod template and that stay, but those that
    /// the user has named to be kept.
    pub(crate) fn template_additions(&self, live: &Object, manifest: &Object) -> Vec<AddedField> {
        let is_other = |entry: &Value| text(entry, "manager") != MANAGER;
        let mut added = additions::added_by(live, manifest, is_other);
        added.retain(|field| {
            field.is_in_pod_template(live)
                && !self.is_kept(field)
                && (!self.takes(&field.manager) || self.stays(live, field))
        });
        added
    }

    /// Returns the tools' additions without another owner, from the last to the first, so that the
    /// indices of lists stay valid while they are removed.
    pub(crate) fn removable_additions(&self, live: &Object, manifest: &Object) -> Vec<AddedField> {
        let mut fields = self.additions(live, manifest);
        fields.retain(|field| {
            let managers = managers_of(live, &field.pointer);
            managers.iter().all(|manager| self.takes(&manager.name))
        });
        fields.sort_by_cached_key(|field| {
            let tokens = field.pointer.split('/');
            let steps = tokens.map(|token| (token.parse::<usize>().ok(), token.to_owned()));
            Reverse(steps.collect::<Vec<_>>())
        });
        fields
    }
}

/// Returns an object without additions, in the order of [`TakeOverRules::removable_additions`],
/// and the JSON pointers of everything removed, in the same order.
pub(crate) fn without(
    live: &Object,
    additions: &[AddedField],
    manifest: &Object,
) -> (Object, Vec<String>) {
    let mut without = live.clone().into_value();
    let mut removed = Vec::new();
    for AddedField { pointer, .. } in additions {
        remove_value(&mut without, pointer);
        removed.push(pointer.clone());
        remove_empty_parents(&mut without, pointer, manifest, &mut removed);
    }
    // Neither name nor kind is an addition.
    let without = Object::new(without).unwrap_or_else(|_| live.clone());
    (without, removed)
}

fn remove_value(root: &mut Value, pointer: &str) {
    let Some((parent, last)) = pointer.rsplit_once('/') else {
        return;
    };
    match root.pointer_mut(parent) {
        Some(Value::Object(fields)) => drop(fields.shift_remove(&*pointer::decode(last))),
        Some(Value::Array(elements)) => {
            if let Ok(index) = last.parse::<usize>()
                && index < elements.len()
            {
                elements.remove(index);
            }
        }
        _ => {}
    }
}

/// Removes maps and lists that a removal has emptied, unless the manifest names them. The spec
/// itself stays.
fn remove_empty_parents(
    root: &mut Value,
    pointer: &str,
    manifest: &Object,
    removed: &mut Vec<String>,
) {
    let mut pointer = pointer;
    while let Some((parent, _)) = pointer.rsplit_once('/') {
        let is_empty = match root.pointer(parent) {
            Some(Value::Object(fields)) => fields.is_empty(),
            Some(Value::Array(elements)) => elements.is_empty(),
            _ => false,
        };
        let is_deep = parent.matches('/').count() > 1;
        if !is_empty || !is_deep || manifest.pointer(parent).is_some() {
            return;
        }
        remove_value(root, parent);
        removed.push(parent.to_owned());
        pointer = parent;
    }
}

/// Returns whether an entry belongs to a record, which is not written by apply and must not be
/// taken over by a manifest.
fn holds_record(entry: &Value) -> bool {
    entry
        .pointer("/fieldsV1/f:metadata/f:labels")
        .is_some_and(|labels| labels.get(format!("f:{PREFIX}/record")).is_some())
}

/// Removes a field of the object's spec from what `own` manages, so that it has no owner.
pub(crate) fn disowned(mut entries: Vec<Value>, field: &str, own: &str) -> Vec<Value> {
    let keys = ["f:spec".to_owned(), format!("f:{field}")];
    let ours = entries
        .iter_mut()
        .filter(|entry| text(entry, "manager") == own && text(entry, "subresource").is_empty());
    for fields in ours.filter_map(|entry| entry.get_mut("fieldsV1")) {
        removed(fields, &keys);
    }
    entries
}
