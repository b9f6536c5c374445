//! Objects as people may see them: without what only servers write, and without the values of Secrets.

use crate::object::Object;
use serde_json::Value;

/// What stands in place of a Secret's value.
const HIDDEN: &str = "***";

/// Two states of an object for a comparison: without the server's own fields; of a Secret one sees that a value differs,
/// not which it is.
pub fn shown(before: Option<&Object>, after: Option<&Object>) -> (Option<Object>, Option<Object>) {
    let (mut left, mut right) = (before.map(bare), after.map(bare));
    if [before, after].iter().flatten().any(|object| object.gvk().is("", "Secret")) {
        let value = |object: Option<&Object>, field: &str, name: &str| object?.value().get(field)?.get(name).cloned();
        for (object, mark) in [(&mut left, "before"), (&mut right, "after")] {
            let Some(object) = object else { continue };
            // The edit leaves alone what makes an object.
            let _ = object.edit(|fields| {
                for field in ["data", "stringData"] {
                    let Some(Value::Object(values)) = fields.get_mut(field) else { continue };
                    for (name, shown) in values.iter_mut() {
                        let same = value(before, field, name) == value(after, field, name);
                        let alone = before.is_none() || after.is_none();
                        *shown = if same || alone { HIDDEN.into() } else { format!("{HIDDEN} ({mark})").into() };
                    }
                }
            });
        }
    }
    (left, right)
}

/// An object without what only servers and kubectl write.
fn bare(object: &Object) -> Object {
    let mut object = object.clone();
    object.strip();
    let _ = object.edit(|fields| {
        // In the order in which people write them.
        let first = ["apiVersion", "kind", "metadata"].map(|name| fields.shift_remove_entry(name));
        let rest = std::mem::take(fields);
        fields.extend(first.into_iter().flatten().chain(rest));
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
                annotations.shift_remove("kubectl.kubernetes.io/last-applied-configuration");
                annotations.shift_remove("deployment.kubernetes.io/revision");
                if annotations.is_empty() {
                    metadata.shift_remove("annotations");
                }
            }
        }
    });
    object
}
