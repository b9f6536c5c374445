//! Rendered objects → desired objects: namespaced, labelled with their owner, and ordered.

use super::{
    desired_object::{CRD, DesiredObject, RefusedObject},
    order::{OrderingHints, depend, wave},
    value_hash,
};
use crate::{
    core::name::Name,
    objects::{
        health,
        object::{CompactObject, Gvk, Object, ObjectKey},
        tenancy,
    },
    spec::Application,
};
use base64::Engine as _;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};

/// The labels that name the owner of an object.
pub const OWNER_LABELS: [&str; 2] = ["tagboat.dev/namespace", "tagboat.dev/name"];

/// The label of the ConfigMaps that hold records.
pub const RECORD_LABEL: &str = "tagboat.dev/record";

/// The beginning of the names of these ConfigMaps.
pub const RECORD_PREFIX: &str = "tagboat-record";

/// The scopes of the kinds that a cluster serves.
pub trait KindScopes {
    /// Returns whether a kind is namespaced; `None` if it is not served (yet).
    fn namespaced(&self, gvk: &Gvk) -> Option<bool>;

    /// Returns the namespace of the records in the cluster.
    fn own_namespace(&self) -> Option<&str> {
        None
    }
}

/// Turns rendered objects into desired ones. A refused object stops only its dependents.
pub fn desired_objects(
    application: &Application,
    objects: Vec<Object>,
    kinds: &dyn KindScopes,
) -> (Vec<DesiredObject>, Vec<RefusedObject>) {
    let declared = declared(&objects);
    let rights = &application.rights;
    let honors_annotations = rights.honors_live_annotations(&application.cluster);
    let mut refused = Vec::new();
    let mut desired: Vec<(DesiredObject, OrderingHints)> = Vec::new();
    let mut places: HashMap<ObjectKey, usize> = HashMap::new();
    for mut object in objects {
        let gvk = object.gvk();
        let served = kinds.namespaced(&gvk);
        let kind = (gvk.group.clone(), gvk.kind.clone());
        let namespaced = served.or_else(|| declared.get(&kind).copied());
        let mut result = place(application, &mut object, namespaced);
        let key = object.key();
        if let (Ok(()), Some(first)) = (&result, places.get(&key)) {
            let origin = desired[*first].0.manifest.origin.as_ref();
            let place = origin.map_or(String::new(), |origin| format!(" ({origin})"));
            result = Err(format!("it is declared twice; the first{place} counts"));
        }
        let result = result
            .and_then(|()| refuse_foreign(application, &key))
            .and_then(|()| refuse_record(&key, kinds.own_namespace()))
            .and_then(|()| normalise(application, &mut object));
        if let Err(why) = result {
            refused.push(RefusedObject {
                key,
                origin: object.origin.clone(),
                why,
            });
            continue;
        }
        places.insert(key.clone(), desired.len());
        let hints = OrderingHints::of(&object);
        let one = DesiredObject {
            settings: object.settings(),
            honors_annotations,
            expires: health::expires(&object),
            creates_namespace: key
                .namespace
                .as_deref()
                .is_some_and(|namespace| application.creates_namespace(namespace)),
            hash: value_hash::hash_manifest(&object),
            wave: wave(&gvk),
            manifest: CompactObject::new(object),
            key,
            version: gvk.version,
            after: Vec::new(),
            served: served.is_some(),
        };
        desired.push((one, hints));
    }
    (depend(desired, &places, &mut refused), refused)
}

/// Sets the namespace of an object by the scope of its kind; refuses records.
fn place(
    application: &Application,
    object: &mut Object,
    namespaced: Option<bool>,
) -> Result<(), String> {
    let has_namespace = object.namespace().is_some();
    match (namespaced, has_namespace, &application.target_namespace) {
        (Some(true) | None, false, Some(namespace)) => object.set_namespace(Some(namespace)),
        (Some(true), false, None) => {
            return Err(
                "it names no namespace, and the Application has no targetNamespace".to_owned(),
            );
        }
        (Some(false), true, _) => object.set_namespace(None),
        _ => {}
    }
    if object.gvk().is("", "ConfigMap") && object.label(RECORD_LABEL).is_some() {
        return Err(format!(
            "it carries the label {RECORD_LABEL}: a record of tagboat is no manifest"
        ));
    }
    Ok(())
}

/// Refuses an object that the repository has no right to.
fn refuse_foreign(application: &Application, key: &ObjectKey) -> Result<(), String> {
    let refusal = tenancy::object_refusal(&application.rights, &application.cluster, key);
    refusal.map_or(Ok(()), Err)
}

/// Refuses an object with the name of a record.
fn refuse_record(key: &ObjectKey, own_namespace: Option<&str>) -> Result<(), String> {
    let is_here = own_namespace.filter(|own| key.namespace.as_deref() == Some(own));
    let is_record =
        key.group.is_empty() && key.kind == "ConfigMap" && key.name.starts_with(RECORD_PREFIX);
    match is_here.filter(|_| is_record) {
        Some(namespace) => Err(format!(
            "names that begin with {RECORD_PREFIX} belong to the records of tagboat in namespace {namespace}; rename it"
        )),
        None => Ok(()),
    }
}

/// Brings an object into the form in which it is applied.
fn normalise(application: &Application, object: &mut Object) -> Result<(), String> {
    let values = [application.name.namespace(), application.name.name()];
    for (label, value) in OWNER_LABELS.iter().zip(values) {
        object.set_label(label, value);
    }
    object.strip();
    if object.gvk().is("", "Secret") {
        encode(object)?;
    }
    leave_rules(object);
    Ok(())
}

/// Returns the Application whose labels an object carries.
pub fn owner(object: &Object) -> Option<Name> {
    Name::new(
        object.label(OWNER_LABELS[0])?,
        object.label(OWNER_LABELS[1])?,
    )
    .ok()
}

/// Returns the kinds declared by CRDs among the objects, and whether they are namespaced.
fn declared(objects: &[Object]) -> BTreeMap<(String, String), bool> {
    let text = |object: &Object, pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    objects
        .iter()
        .filter(|object| object.gvk().is(CRD.0, CRD.1))
        .filter_map(|object| {
            let scope = text(object, "/spec/scope")?;
            Some((
                (
                    text(object, "/spec/group")?,
                    text(object, "/spec/names/kind")?,
                ),
                scope == "Namespaced",
            ))
        })
        .collect()
}

/// Moves the write-only `stringData` of a Secret into `data`, as an API server does, so that drift
/// is visible. A null is an empty text; any other value is refused, and the message does not quote
/// it.
fn encode(object: &mut Object) -> Result<(), String> {
    let plain = match object.value().get("stringData") {
        None => return Ok(()),
        Some(Value::Null) => Map::new(),
        Some(Value::Object(plain)) => plain.clone(),
        Some(other) => {
            return Err(format!(
                "stringData is {}, not a mapping of names to texts",
                shape(other)
            ));
        }
    };
    if let Some(data) = object
        .value()
        .get("data")
        .filter(|data| !data.is_object() && !data.is_null())
    {
        return Err(format!(
            "data is {}, not a mapping of names to texts in base64",
            shape(data)
        ));
    }
    let mut encoded = Map::new();
    for (name, value) in plain {
        let text = match &value {
            Value::Null => "",
            Value::String(text) => text,
            other => {
                return Err(format!(
                    "stringData.{name} is {}, not text; put it in quotes",
                    shape(other)
                ));
            }
        };
        encoded.insert(
            name,
            base64::engine::general_purpose::STANDARD
                .encode(text)
                .into(),
        );
    }
    let edited = object.edit(|fields| {
        fields.shift_remove("stringData");
        let data = fields
            .entry("data")
            .or_insert_with(|| Value::Object(Map::new()));
        match data {
            Value::Object(data) => data.extend(encoded),
            empty => *empty = Value::Object(encoded),
        }
    });
    edited.map_err(|error| error.to_string())
}

/// Removes the rules of an aggregated ClusterRole, which its controller overwrites (Kubernetes,
/// "Using RBAC Authorization", Aggregated ClusterRoles). Many manifests declare an empty list.
fn leave_rules(object: &mut Object) {
    let aggregated = |object: &Object| {
        object
            .value()
            .get("aggregationRule")
            .is_some_and(|rule| !rule.is_null())
    };
    if object.gvk().is("rbac.authorization.k8s.io", "ClusterRole")
        && object.value().contains_key("rules")
        && aggregated(object)
    {
        // Only apiVersion, kind and name can make an edit fail.
        let _ = object.edit(|fields| drop(fields.shift_remove("rules")));
    }
}

fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
