//! Rendered objects → desired objects: namespaced, labelled with their owner, and ordered.

use super::field_paths::{self, ValueHash};
use crate::{
    core::name::Name,
    objects::object::{
        CompactObject, Gvk, Object, ObjectKey, ObjectOrigin, ObjectSetting, ObjectSettings, PREFIX,
    },
    spec::Application,
};
use base64::Engine as _;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The labels that name the owner of an object.
pub const OWNER_LABELS: [&str; 2] = ["tagboat.dev/namespace", "tagboat.dev/name"];

/// The label of the ConfigMaps that hold records.
pub const RECORD_LABEL: &str = "tagboat.dev/record";

/// The scopes of the kinds that a cluster serves.
pub trait KindScopes {
    /// Returns whether a kind is namespaced; `None` if it is not served (yet).
    fn namespaced(&self, gvk: &Gvk) -> Option<bool>;
}

#[derive(Debug, Clone)]
pub struct DesiredObject {
    /// The object, in its namespace and with its owner's labels.
    pub manifest: CompactObject,
    pub key: ObjectKey,
    /// The API version of the manifest.
    pub version: String,
    pub settings: ObjectSettings,
    /// The hash of the manifest.
    pub hash: ValueHash,
    /// Lower waves are answered before it is sent.
    pub wave: u8,
    /// Objects that must be applied first.
    pub after: Vec<ApplyOrder>,
    /// Whether the cluster serves its kind.
    pub served: bool,
}

impl DesiredObject {
    pub fn gvk(&self) -> Gvk {
        Gvk {
            group: self.key.group.clone(),
            version: self.version.clone(),
            kind: self.key.kind.clone(),
        }
    }
}

/// A dependency on another object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyOrder {
    /// The index of the dependency.
    pub index: usize,
    /// Whether the dependency must be healthy, not only applied.
    pub healthy: bool,
}

/// An object that cannot be applied as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedObject {
    pub key: ObjectKey,
    pub origin: Option<ObjectOrigin>,
    pub why: String,
}

/// Turns rendered objects into desired ones. A refused object stops only its dependents.
pub fn desired_objects(
    application: &Application,
    objects: Vec<Object>,
    kinds: &dyn KindScopes,
) -> (Vec<DesiredObject>, Vec<RefusedObject>) {
    let declared = declared(&objects);
    let mut refused = Vec::new();
    let mut desired: Vec<(DesiredObject, OrderingHints)> = Vec::new();
    let mut places: HashMap<ObjectKey, usize> = HashMap::new();
    for mut object in objects {
        let gvk = object.gvk();
        let served = kinds.namespaced(&gvk);
        let namespaced = served.or_else(|| {
            declared
                .get(&(gvk.group.clone(), gvk.kind.clone()))
                .copied()
        });
        match (
            namespaced,
            object.namespace(),
            &application.target_namespace,
        ) {
            (Some(true) | None, None, Some(namespace)) => object.set_namespace(Some(namespace)),
            (Some(true), None, None) => {
                refused.push(RefusedObject {
                    key: object.key(),
                    origin: object.origin.clone(),
                    why: "it names no namespace, and the Application has no targetNamespace"
                        .to_owned(),
                });
                continue;
            }
            (Some(false), Some(_), _) => object.set_namespace(None),
            _ => {}
        }
        let key = object.key();
        if gvk.is("", "ConfigMap") && object.label(RECORD_LABEL).is_some() {
            let why =
                format!("it carries the label {RECORD_LABEL}: a record of tagboat is no manifest");
            refused.push(RefusedObject {
                key,
                origin: object.origin.clone(),
                why,
            });
            continue;
        }
        if let Some(first) = places.get(&key) {
            let other = desired[*first]
                .0
                .manifest
                .origin
                .as_ref()
                .map_or(String::new(), |origin| format!(" ({origin})"));
            refused.push(RefusedObject {
                key,
                origin: object.origin.clone(),
                why: format!("it is written twice; the first{other} counts"),
            });
            continue;
        }
        for (label, value) in OWNER_LABELS
            .iter()
            .zip([application.name.namespace(), application.name.name()])
        {
            object.set_label(label, value);
        }
        object.strip();
        if object.gvk().is("", "Secret")
            && let Err(why) = encode(&mut object)
        {
            refused.push(RefusedObject {
                key,
                origin: object.origin.clone(),
                why,
            });
            continue;
        }
        leave_rules(&mut object);
        places.insert(key.clone(), desired.len());
        let (settings, hash, wave, needs) = (
            object.settings(),
            field_paths::hash_manifest(&object),
            wave(&gvk),
            OrderingHints::of(&object),
        );
        let manifest = CompactObject::new(object);
        let (version, after, served) = (gvk.version, Vec::new(), served.is_some());
        desired.push((
            DesiredObject {
                manifest,
                key,
                version,
                settings,
                hash,
                wave,
                after,
                served,
            },
            needs,
        ));
    }
    (depend(desired, &places, &mut refused), refused)
}

/// What an object declares about the order.
struct OrderingHints {
    /// The text of `depends-on`.
    depends_on: String,
    /// The group and kind of a CRD.
    declares: Option<(String, String)>,
}

impl OrderingHints {
    fn of(object: &Object) -> Self {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let is_crd = object.gvk().is(CRD.0, CRD.1);
        Self {
            depends_on: ObjectSetting::DependsOn
                .of(object)
                .unwrap_or_default()
                .to_owned(),
            declares: if is_crd {
                text("/spec/group").zip(text("/spec/names/kind"))
            } else {
                None
            },
        }
    }
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

const CRD: (&str, &str) = ("apiextensions.k8s.io", "CustomResourceDefinition");

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

/// Returns the wave of a kind: referenced kinds first, webhooks and admission policies last. Kinds
/// of one wave have no order.
pub(crate) fn wave(gvk: &Gvk) -> u8 {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Namespace") | CRD => 0,
        ("scheduling.k8s.io", _)
        | ("storage.k8s.io", _)
        | ("node.k8s.io", _)
        | ("networking.k8s.io", "IngressClass") => 0,
        ("rbac.authorization.k8s.io", _)
        | ("policy", _)
        | ("networking.k8s.io", "NetworkPolicy") => 1,
        (
            "",
            "ServiceAccount"
            | "Secret"
            | "ConfigMap"
            | "ResourceQuota"
            | "LimitRange"
            | "PersistentVolume"
            | "PersistentVolumeClaim",
        ) => 1,
        ("", "Service" | "Endpoints") | ("discovery.k8s.io", _) => 2,
        ("apps" | "batch", _) | ("", "Pod" | "ReplicationController") => 3,
        ("admissionregistration.k8s.io", _) | ("apiregistration.k8s.io", _) => 5,
        _ => 4,
    }
}

/// Resolves the dependencies of all objects.
fn depend(
    desired: Vec<(DesiredObject, OrderingHints)>,
    places: &HashMap<ObjectKey, usize>,
    refused: &mut Vec<RefusedObject>,
) -> Vec<DesiredObject> {
    let (mut desired, needs): (Vec<DesiredObject>, Vec<OrderingHints>) =
        desired.into_iter().unzip();
    let numbered = desired.iter().enumerate();
    let namespaces: HashMap<&str, usize> = numbered
        .filter(|(_, one)| one.key.group.is_empty() && one.key.kind == "Namespace")
        .map(|(index, one)| (one.key.name.as_str(), index))
        .collect();
    let kinds: HashMap<&(String, String), usize> = needs
        .iter()
        .enumerate()
        .filter_map(|(index, needs)| needs.declares.as_ref().map(|kind| (kind, index)))
        .collect();
    let mut all: Vec<Vec<ApplyOrder>> = Vec::with_capacity(desired.len());
    let mut bad: Vec<(usize, String)> = Vec::new();
    for (index, (one, needs)) in desired.iter().zip(&needs).enumerate() {
        let mut after = Vec::new();
        if let Some(index) = one
            .key
            .namespace
            .as_deref()
            .and_then(|namespace| namespaces.get(namespace))
        {
            after.push(ApplyOrder {
                index: *index,
                healthy: false,
            });
        }
        if let Some(index) = kinds.get(&(one.key.group.clone(), one.key.kind.clone())) {
            after.push(ApplyOrder {
                index: *index,
                healthy: true,
            });
        }
        for text in needs
            .depends_on
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            match reference(text).map(|key| places.get(&key)) {
                Some(Some(other)) if *other != index => after.push(ApplyOrder { index: *other, healthy: true }),
                Some(_) => bad.push((index, format!("{PREFIX}/depends-on names {text:?}, which is no other object of this Application"))),
                None => bad.push((
                    index,
                    format!("{PREFIX}/depends-on: write group/namespaces/NAMESPACE/Kind/name or group/Kind/name, not {text:?}"),
                )),
            }
        }
        all.push(after);
    }
    for (one, after) in desired.iter_mut().zip(all) {
        one.after = after;
    }
    for index in circles(&desired) {
        bad.push((index, format!("its {PREFIX}/depends-on leads in a circle")));
    }
    // A dependent of a refused object is refused with it.
    let mut gone: BTreeMap<usize, String> = BTreeMap::new();
    for (index, why) in bad {
        gone.entry(index).or_insert(why);
    }
    if gone.is_empty() {
        return desired;
    }
    loop {
        let more = desired.iter().enumerate().find_map(|(index, one)| {
            let lost = one
                .after
                .iter()
                .find(|after| gone.contains_key(&after.index))?;
            (!gone.contains_key(&index)).then(|| {
                (
                    index,
                    format!(
                        "it needs {}, which cannot be applied",
                        desired[lost.index].key
                    ),
                )
            })
        });
        match more {
            Some((index, why)) => drop(gone.insert(index, why)),
            None => break,
        }
    }
    let mut moved: Vec<Option<usize>> = Vec::with_capacity(desired.len());
    let mut kept = 0;
    for index in 0..desired.len() {
        moved.push((!gone.contains_key(&index)).then_some(kept));
        kept += usize::from(!gone.contains_key(&index));
    }
    let mut left = Vec::with_capacity(kept);
    for (index, mut one) in desired.into_iter().enumerate() {
        if let Some(why) = gone.remove(&index) {
            refused.push(RefusedObject {
                key: one.key,
                origin: one.manifest.origin,
                why,
            });
            continue;
        }
        one.after = one
            .after
            .into_iter()
            .filter_map(|after| moved[after.index].map(|index| ApplyOrder { index, ..after }))
            .collect();
        left.push(one);
    }
    left
}

/// Parses `apps/namespaces/shop/Deployment/web` or `rbac.authorization.k8s.io/ClusterRole/web`, the
/// form of `config.kubernetes.io/depends-on`; the core group is empty.
fn reference(text: &str) -> Option<ObjectKey> {
    let parts: Vec<&str> = text.split('/').collect();
    let (group, namespace, kind, name) = match parts.as_slice() {
        [group, "namespaces", namespace, kind, name] => {
            (group, Some((*namespace).to_owned()), kind, name)
        }
        [group, kind, name] => (group, None, kind, name),
        _ => return None,
    };
    Some(ObjectKey::new(*group, *kind, namespace, *name))
}

/// Returns the objects that depend on themselves. A lower wave counts as a dependency, so that a
/// Namespace cannot depend on an object in it.
fn circles(desired: &[DesiredObject]) -> Vec<usize> {
    // Remove what has no open dependency until nothing changes; the rest is in a cycle or behind
    // one.
    let mut left: HashSet<usize> = (0..desired.len()).collect();
    loop {
        let free: Vec<usize> = left
            .iter()
            .copied()
            .filter(|index| {
                !desired[*index]
                    .after
                    .iter()
                    .any(|after| left.contains(&after.index))
            })
            .collect();
        if free.is_empty() {
            break;
        }
        for index in free {
            left.remove(&index);
        }
    }
    // Behind a cycle, the cycle is the cause.
    let mut circle: Vec<usize> = left
        .iter()
        .copied()
        .filter(|start| {
            let (mut seen, mut open) = (HashSet::new(), vec![*start]);
            while let Some(index) = open.pop() {
                for after in &desired[index].after {
                    if after.index == *start {
                        return true;
                    }
                    if seen.insert(after.index) {
                        open.push(after.index);
                    }
                }
            }
            false
        })
        .collect();
    circle.sort_unstable();
    circle
}
