//! Objects for display: without server-side fields, and with the values of Secrets masked.

use crate::objects::object::Object;
use base64::Engine as _;
use serde_json::{Map, Value};

const HIDDEN: &str = "***";

const VALUES: [&str; 2] = ["data", "stringData"];

/// Annotations in which tools keep a copy of the whole object.
const COPIES: [&str; 2] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
];

/// Returns two states of an object for a comparison, without server-side fields. A Secret shows
/// that a value differs, not which value it is.
pub fn redact_pair(
    before: Option<&Object>,
    after: Option<&Object>,
) -> (Option<Object>, Option<Object>) {
    let (mut left, mut right) = (before.map(bare), after.map(bare));
    if [before, after]
        .iter()
        .flatten()
        .any(|object| is_secret(object))
    {
        let alone = before.is_none() || after.is_none();
        let mark = |same: bool, side: &str| {
            if same || alone {
                HIDDEN.to_owned()
            } else {
                format!("{HIDDEN} ({side})")
            }
        };
        let both = [before, after];
        for (object, side) in [(&mut left, "before"), (&mut right, "after")] {
            let Some(object) = object else { continue };
            // Only apiVersion, kind and name can make an edit fail.
            let _ = object.edit(|fields| {
                for field in VALUES {
                    let of = |object: Option<&Object>| object?.value().get(field).cloned();
                    match fields.get_mut(field) {
                        Some(Value::Object(values)) => {
                            for (name, shown) in values.iter_mut() {
                                let value = |object| of(object)?.get(name).cloned();
                                *shown = mark(value(before) == value(after), side).into();
                            }
                        }
                        // Not a map: masked as a whole.
                        Some(other) if !other.is_null() => {
                            *other = mark(of(before) == of(after), side).into()
                        }
                        _ => {}
                    }
                }
                if let Some(Value::Object(annotations)) = fields
                    .get_mut("metadata")
                    .and_then(|metadata| metadata.get_mut("annotations"))
                {
                    without_copies(annotations, both);
                }
            });
        }
    }
    (left, right)
}

/// Masks the values of Secrets in a text that may quote them, as a refusal or a warning does, also
/// if a value is cut off.
pub fn mask_values(text: &str, objects: [Option<&Object>; 2]) -> String {
    let values = values(objects);
    if values.is_empty() {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut hidden = vec![false; bytes.len()];
    for value in values
        .iter()
        .map(String::as_bytes)
        .filter(|value| !value.is_empty())
    {
        // A short value is masked only in quotes, because it occurs in many words; of a long one,
        // every fragment is masked.
        if value.len() < PIECE {
            for quote in [b'"', b'\''] {
                let quoted: Vec<u8> = [&[quote], value, &[quote]].concat();
                for at in memchr::memmem::find_iter(bytes, &quoted) {
                    hidden[at + 1..=at + value.len()].fill(true);
                }
            }
            continue;
        }
        let pieces: std::collections::HashSet<&[u8]> = bytes.windows(PIECE).collect();
        let there: std::collections::HashSet<&[u8]> = value
            .windows(PIECE)
            .filter(|piece| pieces.contains(piece))
            .collect();
        for (at, piece) in bytes.windows(PIECE).enumerate() {
            if there.contains(piece) {
                hidden[at..at + PIECE].fill(true);
            }
        }
    }
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for (at, c) in text.char_indices() {
        let hide = hidden[at..at + c.len_utf8()].contains(&true);
        match (hide, inside) {
            (true, false) => out.push_str(HIDDEN),
            (false, _) => out.push(c),
            (true, true) => {}
        }
        inside = hide;
    }
    out
}

/// The length of a fragment that is no coincidence.
const PIECE: usize = 6;

fn is_secret(object: &Object) -> bool {
    object.gvk().is("", "Secret")
}

/// Returns the values of Secrets, encoded and decoded.
fn values(objects: [Option<&Object>; 2]) -> Vec<String> {
    let mut out = Vec::new();
    for object in objects
        .into_iter()
        .flatten()
        .filter(|object| is_secret(object))
    {
        for field in VALUES {
            let texts: Vec<String> = match object.value().get(field) {
                Some(Value::Object(values)) => values.values().map(text).collect(),
                Some(Value::Null) | None => Vec::new(),
                Some(other) => vec![text(other)],
            };
            for text in texts {
                let decoded = base64::engine::general_purpose::STANDARD.decode(text.trim());
                out.extend(decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()));
                out.push(base64::engine::general_purpose::STANDARD.encode(&text));
                out.push(text);
            }
        }
    }
    // A value of several lines is quoted line by line, or with its ends escaped.
    let lines: Vec<String> = out
        .iter()
        .filter(|value| value.contains('\n'))
        .flat_map(|value| value.lines().map(str::to_owned))
        .collect();
    out.extend(lines);
    out.retain(|value| !value.is_empty());
    out.sort();
    out.dedup();
    out
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Masks annotations of a Secret that hold a copy of it, or a fragment of a value.
fn without_copies(annotations: &mut Map<String, Value>, both: [Option<&Object>; 2]) {
    for value in annotations.values_mut() {
        let said = text(value);
        let copy =
            said.trim_start().starts_with('{') && VALUES.iter().any(|field| said.contains(field));
        if copy || mask_values(&said, both) != said {
            *value = HIDDEN.into();
        }
    }
}

/// Removes what only API servers and kubectl write.
fn bare(object: &Object) -> Object {
    let mut object = object.clone();
    object.strip();
    let _ = object.edit(|fields| {
        // In the usual order of manifests.
        let first = ["apiVersion", "kind", "metadata"].map(|name| fields.shift_remove_entry(name));
        let rest = std::mem::take(fields);
        fields.extend(first.into_iter().flatten().chain(rest));
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata")
            && let Some(Value::Object(annotations)) = metadata.get_mut("annotations")
        {
            for copy in COPIES {
                annotations.shift_remove(copy);
            }
            if annotations.is_empty() {
                metadata.shift_remove("annotations");
            }
        }
    });
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(value: &Value) -> Object {
        let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
        for (name, value) in value.as_object().unwrap() {
            object[name] = value.clone();
        }
        Object::new(object).unwrap()
    }

    #[test]
    fn redact_pair_masks_every_copy() {
        let one = secret(&json!({
            "metadata": {"name": "s", "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{\"stringData\":{\"a\":\"korrekt-pferd\"}}",
                "tool/original": "{\"data\": {\"a\": \"x\"}}",
                "note": "it was korrekt-pf once",
                "plain": "words",
            }},
            "stringData": {"a": "korrekt-pferd"},
            "data": "korrekt-pferd",
        }));
        let (_, after) = redact_pair(None, Some(&one));
        let after = after.unwrap().into_value();
        assert_eq!(after["stringData"]["a"], "***");
        assert_eq!(after["data"], "***");
        assert_eq!(
            after["metadata"]["annotations"],
            json!({"tool/original": "***", "note": "***", "plain": "words"})
        );
        let two = secret(&json!({"data": {"a": "eA==", "b": "eQ=="}}));
        let three = secret(&json!({"data": {"a": "eA==", "b": "eg=="}}));
        let (before, after) = redact_pair(Some(&two), Some(&three));
        assert_eq!(
            before.unwrap().value()["data"],
            json!({"a": "***", "b": "*** (before)"})
        );
        assert_eq!(
            after.unwrap().value()["data"],
            json!({"a": "***", "b": "*** (after)"})
        );
    }

    #[test]
    fn mask_values_truncated_value_is_masked() {
        let one = secret(&json!({"data": {"a": "a29ycmVrdC1wZmVyZA==", "b": "b24="}}));
        let said = |text: &str| mask_values(text, [None, Some(&one)]);
        assert_eq!(
            said("bigger context ...|a29ycmVrdC1w|..."),
            "bigger context ...|***|..."
        );
        assert_eq!(said("it is \"korrekt-pferd\", no"), "it is \"***\", no");
        assert_eq!(said("found ekt-pfe in it"), "found *** in it");
        assert_eq!(said("on is not \"on\""), "on is not \"***\"");
        assert_eq!(said("nothing of it"), "nothing of it");
        let map =
            Object::new(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "korrekt"}})).unwrap();
        assert_eq!(mask_values("korrekt", [Some(&map), None]), "korrekt");
    }
}
