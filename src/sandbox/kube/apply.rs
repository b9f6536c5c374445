//! Server-side apply and field ownership: `metadata.managedFields` after a write. Pure.
//!
//! Follows Kubernetes' structured merge and diff: an applier owns the fields it applies; a field
//! that another manager owns with another value is a conflict unless forced; a field that is no
//! longer applied, and that no other manager owns, is removed.

use super::{
    fields::{self, Fields},
    refusal::{KubeRefusal, RefusalCause},
    schema::KindSchema,
};
use serde_json::{Value, json};

/// The manager and operation of a write.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldWriter<'a> {
    pub manager: &'a str,
    /// `apps/v1`.
    pub api_version: &'a str,
    /// Empty, `status` or `scale`.
    pub subresource: &'a str,
    /// RFC 3339.
    pub time: &'a str,
}

/// One entry of `managedFields`.
#[derive(Debug, Clone, PartialEq)]
struct ManagedEntry {
    manager: String,
    operation: String,
    subresource: String,
    api_version: String,
    time: String,
    fields: Fields,
}

impl ManagedEntry {
    fn is(&self, writer: &FieldWriter<'_>, operation: &str) -> bool {
        self.manager == writer.manager
            && self.operation == operation
            && self.subresource == writer.subresource
    }
}

fn entries(object: &Value) -> Vec<ManagedEntry> {
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let list = object["metadata"]["managedFields"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    list.iter()
        .map(|entry| ManagedEntry {
            manager: text(entry, "manager"),
            operation: text(entry, "operation"),
            subresource: text(entry, "subresource"),
            api_version: text(entry, "apiVersion"),
            time: text(entry, "time"),
            fields: Fields::from_json(&entry["fieldsV1"]),
        })
        .collect()
}

fn write_entries(object: &mut Value, entries: &[ManagedEntry]) {
    let write = |entry: &ManagedEntry| {
        let mut json = json!({
            "manager": entry.manager,
            "operation": entry.operation,
            "apiVersion": entry.api_version,
            "time": entry.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": entry.fields.to_json(),
        });
        if !entry.subresource.is_empty() {
            json["subresource"] = json!(entry.subresource);
        }
        json
    };
    object["metadata"]["managedFields"] = entries
        .iter()
        .filter(|entry| !entry.fields.is_empty())
        .map(write)
        .collect();
}

/// Applies an object and returns the result with its owners. `live` is absent for a new object.
///
/// # Errors
/// [`KubeRefusal::Conflicts`] if others own applied fields with another value, unless `force` takes
/// them over.
pub(super) fn apply(
    live: Option<&Value>,
    applied: &Value,
    writer: FieldWriter<'_>,
    force: bool,
    schema: KindSchema,
) -> Result<Value, KubeRefusal> {
    let mut applied = applied.clone();
    if let Some(metadata) = applied["metadata"].as_object_mut() {
        metadata.shift_remove("managedFields");
    }
    let wanted = Fields::of(&applied, schema);
    let empty = json!({});
    let mut owners = live.map(entries).unwrap_or_default();
    let mut merged = fields::merge(live.unwrap_or(&empty), &applied, schema);
    let changed = fields::compare(live.unwrap_or(&empty), &merged, schema).changed;

    let mut causes = Vec::new();
    for other in owners
        .iter_mut()
        .filter(|entry| !entry.is(&writer, "Apply"))
    {
        let both = other.fields.intersection(&changed).intersection(&wanted);
        if force {
            other.fields.subtract(&both);
        } else {
            causes.extend(both.paths().into_iter().map(|field| RefusalCause {
                reason: "FieldManagerConflict",
                message: conflict_with(other),
                field,
            }));
        }
    }
    if !causes.is_empty() {
        return Err(KubeRefusal::Conflicts(causes));
    }

    let last = owners
        .iter()
        .find(|entry| entry.is(&writer, "Apply"))
        .map(|entry| entry.fields.clone())
        .unwrap_or_default();
    let mut others = Fields::default();
    owners
        .iter()
        .filter(|entry| !entry.is(&writer, "Apply"))
        .for_each(|entry| others.union(&entry.fields));
    let mut dropped = last;
    dropped.subtract(&wanted);
    dropped.subtract(&others);
    spare(&mut dropped, &wanted);
    spare(&mut dropped, &others);
    fields::remove(&mut merged, &dropped, schema);

    match owners.iter_mut().find(|entry| entry.is(&writer, "Apply")) {
        Some(own) if own.fields == wanted && own.api_version == writer.api_version => {}
        Some(own) => {
            own.fields = wanted;
            own.api_version = writer.api_version.to_owned();
            own.time = writer.time.to_owned();
        }
        None => owners.push(entry(writer, "Apply", wanted)),
    }
    write_entries(&mut merged, &owners);
    Ok(merged)
}

/// Records a write that is no apply: `new` gets the owners, `old` is absent where the object is
/// new.
pub(super) fn own(
    old: Option<&Value>,
    new: &mut Value,
    writer: FieldWriter<'_>,
    schema: KindSchema,
) {
    let empty = json!({});
    let difference = fields::compare(old.unwrap_or(&empty), new, schema);
    // A client may hand fields over by writing the owners itself.
    let written = entries(new);
    let mut owners = match written.is_empty() {
        true => old.map(entries).unwrap_or_default(),
        false => written,
    };
    for other in owners
        .iter_mut()
        .filter(|entry| !entry.is(&writer, "Update"))
    {
        other.fields.subtract(&difference.changed);
    }
    for entry in &mut owners {
        entry.fields.subtract(&difference.removed);
    }
    if !difference.changed.is_empty() {
        match owners.iter_mut().find(|entry| entry.is(&writer, "Update")) {
            Some(own) => {
                own.fields.union(&difference.changed);
                own.api_version = writer.api_version.to_owned();
                own.time = writer.time.to_owned();
            }
            None => owners.push(entry(writer, "Update", difference.changed)),
        }
    }
    write_entries(new, &owners);
}

fn entry(writer: FieldWriter<'_>, operation: &str, fields: Fields) -> ManagedEntry {
    ManagedEntry {
        manager: writer.manager.to_owned(),
        operation: operation.to_owned(),
        subresource: writer.subresource.to_owned(),
        api_version: writer.api_version.to_owned(),
        time: writer.time.to_owned(),
        fields,
    }
}

/// Formats a conflict as the API server does.
fn conflict_with(other: &ManagedEntry) -> String {
    let mut text = format!("conflict with {:?}", other.manager);
    if !other.subresource.is_empty() {
        text += &format!(" with subresource {:?}", other.subresource);
    }
    if other.operation == "Update" {
        text += &format!(" using {}", other.api_version);
    }
    text
}

/// Keeps a list element as long as a manager owns something in it.
fn spare(dropped: &mut Fields, kept: &Fields) {
    for (step, below) in &mut dropped.below {
        if let Some(kept) = kept.below.get(step).filter(|kept| !kept.is_empty()) {
            below.owned = false;
            spare(below, kept);
        }
    }
}
