//! The strategic merge patch of Kubernetes, in its simple form. JSON patch and merge patch come
//! from the json-patch crate. Pure.

use super::schema::{KindSchema, ListMerge};
use serde_json::{Map, Value};

/// Merges a patch: maps field by field, null removes, keyed lists by their first key; the
/// directives `$patch` (`replace`, `delete`) and `$deleteFromPrimitiveList/…` are followed, those
/// about order are not needed.
pub(super) fn strategic(live: &mut Value, patch: &Value, schema: KindSchema) {
    strategic_at(live, patch, schema, &mut Vec::new());
}

fn strategic_at<'a>(
    live: &mut Value,
    patch: &'a Value,
    schema: KindSchema,
    path: &mut Vec<&'a str>,
) {
    let Value::Object(patch) = patch else {
        *live = patch.clone();
        return;
    };
    if patch
        .get("$patch")
        .is_some_and(|directive| directive == "replace")
    {
        let rest = patch
            .iter()
            .filter(|(name, _)| *name != "$patch")
            .map(|(name, value)| (name.clone(), value.clone()));
        *live = Value::Object(rest.collect());
        return;
    }
    if !live.is_object() {
        *live = Value::Object(Map::new());
    }
    let Value::Object(map) = live else { return };
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(live)), Value::Array(gone)) = (map.get_mut(list), value) {
                live.retain(|element| !gone.contains(element));
            }
            continue;
        }
        if name.starts_with('$') {
            continue;
        }
        path.push(name);
        match value {
            Value::Null => {
                map.shift_remove(name);
            }
            Value::Object(inner)
                if inner
                    .get("$patch")
                    .is_some_and(|directive| directive == "delete") =>
            {
                map.shift_remove(name);
            }
            Value::Object(_) => strategic_at(
                map.entry(name.clone()).or_insert(Value::Null),
                value,
                schema,
                path,
            ),
            Value::Array(elements) => list(
                map.entry(name.clone())
                    .or_insert_with(|| Value::Array(Vec::new())),
                elements,
                schema,
                path,
            ),
            scalar => {
                map.insert(name.clone(), scalar.clone());
            }
        }
        path.pop();
    }
}

fn list<'a>(live: &mut Value, patch: &'a [Value], schema: KindSchema, path: &mut Vec<&'a str>) {
    let Value::Array(elements) = live else {
        *live = Value::Array(patch.to_vec());
        return;
    };
    let key = match schema.list(path) {
        ListMerge::Keyed([key, ..]) => *key,
        ListMerge::Set => {
            let fresh: Vec<Value> = patch
                .iter()
                .filter(|one| !elements.contains(one))
                .cloned()
                .collect();
            elements.extend(fresh);
            return;
        }
        ListMerge::Atomic | ListMerge::Keyed([]) => {
            *elements = patch.to_vec();
            return;
        }
    };
    if patch.iter().any(|element| element["$patch"] == "replace") {
        *elements = patch
            .iter()
            .filter(|element| element["$patch"] != "replace")
            .cloned()
            .collect();
        return;
    }
    // New elements come first, in the order of the patch.
    let mut fresh = 0;
    for element in patch {
        let at = elements.iter().position(|old| old[key] == element[key]);
        match (at, element["$patch"] == "delete") {
            (Some(at), true) => {
                elements.remove(at);
            }
            (Some(at), false) => strategic_at(&mut elements[at], element, schema, path),
            (None, true) => {}
            (None, false) => {
                elements.insert(fresh, element.clone());
                fresh += 1;
            }
        }
    }
}
