//! Fields of other tools that become ours, and of a record that must not.

use super::{entries, removed, text, union};
use crate::objects::object::{Object, PREFIX};
use serde_json::Value;

/// Returns which of `names` own fields of the object itself (not through a subresource), sorted.
pub(crate) fn legacy_managers(live: &Object, names: &[String], own: &str) -> Vec<String> {
    let mut found: Vec<String> = entries(live)
        .filter(|entry| is_legacy(entry, names, own))
        .map(|entry| text(entry, "manager").to_owned())
        .collect();
    found.sort();
    found.dedup();
    found
}

fn is_legacy(entry: &Value, names: &[String], own: &str) -> bool {
    let name = text(entry, "manager");
    let ours = name == own && (text(entry, "operation") == "Apply" || holds_record(entry));
    text(entry, "subresource").is_empty()
        && !ours
        && (name == own || names.iter().any(|legacy| legacy == name))
}

/// Returns whether an entry belongs to a record, which is not written by apply and must not be
/// taken over by a manifest.
fn holds_record(entry: &Value) -> bool {
    entry
        .pointer("/fieldsV1/f:metadata/f:labels")
        .is_some_and(|labels| labels.get(format!("f:{PREFIX}/record")).is_some())
}

/// Returns the managed fields after a take-over: the fields of `names` belong to `own`, and their
/// entries are gone. `None` if they own nothing.
///
/// Fields that `own` wrote by other operations than apply are merged too; otherwise they would be
/// owned for ever.
pub(crate) fn taken_over(live: &Object, names: &[String], own: &str) -> Option<Vec<Value>> {
    let (legacy, mut kept): (Vec<&Value>, Vec<&Value>) =
        entries(live).partition(|entry| is_legacy(entry, names, own));
    if legacy.is_empty() {
        return None;
    }
    let at = kept.iter().position(|entry| {
        text(entry, "manager") == own
            && text(entry, "operation") == "Apply"
            && text(entry, "subresource").is_empty()
    });
    let base = at.map(|at| kept.remove(at).clone());
    let mut merged = base.unwrap_or_else(|| {
        let mut first = legacy[0].clone();
        first["manager"] = own.into();
        first["operation"] = "Apply".into();
        first
    });
    for entry in legacy {
        if let Some(fields) = entry.get("fieldsV1") {
            match merged.get_mut("fieldsV1") {
                Some(mine) => union(mine, fields),
                None => merged["fieldsV1"] = fields.clone(),
            }
        }
    }
    Some(
        kept.into_iter()
            .cloned()
            .chain(std::iter::once(merged))
            .collect(),
    )
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
