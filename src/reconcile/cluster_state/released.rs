//! Leaves of a manifest that other managers may set, and the manifest as it is sent without them.

use crate::{
    core::pointer::decode,
    objects::{
        autoscale, ca_bundle, managed_fields,
        object::{Gvk, MANAGER, Object},
        plan::{AppliedState, FieldPath, FieldStep},
        quantity,
    },
};
use serde_json::{Map, Value};
use std::cmp::Ordering;

const REPLICAS: &str = "/spec/replicas";

/// A leaf of the manifest that another manager may set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReleasedField {
    pub path: FieldPath,
    /// The value to send: the live value while tagboat owns the field, because omitting it would
    /// delete it; nothing while another manager owns it.
    pub value: Option<Value>,
    /// The scaler, if the field is released because of a scale.
    pub scaled: Option<ScaledReplicas>,
    /// A remark, if the field is a volume that has grown.
    pub grown: Option<String>,
}

/// Replicas set through the scale subresource.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScaledReplicas {
    manager: String,
    /// The value in Git.
    git: Value,
    differs: bool,
}

impl ReleasedField {
    /// Returns whether an autoscaler set it to another value than Git says.
    pub(crate) fn is_set_by_autoscaler(&self) -> bool {
        let scaled = self.scaled.as_ref();
        scaled.is_some_and(|scaled| scaled.differs && autoscale::is_autoscaler(&scaled.manager))
    }

    /// Returns whether it is the number of replicas, kept although Git does not name it.
    pub(crate) fn is_kept_replicas(&self) -> bool {
        self.scaled.is_none() && self.grown.is_none() && self.path.to_string() == REPLICAS
    }

    /// Returns a remark if the live value differs from Git.
    pub(crate) fn note(&self) -> Option<String> {
        if self.grown.is_some() {
            return self.grown.clone();
        }
        let ScaledReplicas { manager, git, .. } =
            self.scaled.as_ref().filter(|scaled| scaled.differs)?;
        Some(format!(
            "spec.replicas is set by {manager} (scale), Git says {git}"
        ))
    }
}

pub(crate) fn replicas(manifest: &Object) -> Option<i32> {
    manifest
        .pointer(REPLICAS)
        .and_then(Value::as_i64)
        .and_then(|replicas| replicas.try_into().ok())
}

/// Returns whether a change of the replicas in Git overrides a scale, unless an autoscaler targets
/// the object: it would set them again at once.
pub(crate) fn overrides_scale(
    released: &[ReleasedField],
    manifest: &Object,
    applied: Option<&AppliedState>,
) -> bool {
    let before = applied.and_then(|applied| applied.replicas);
    before.is_some()
        && replicas(manifest).is_some_and(|now| Some(now) != before)
        && released.iter().any(|field| field.scaled.is_some())
}

/// Removes the release of scaled replicas, so that the number in Git is sent.
pub(crate) fn unscale(released: &mut Vec<ReleasedField>) {
    released.retain(|field| field.scaled.is_none());
}

/// The size of a PersistentVolumeClaim.
const STORAGE: &str = "/spec/resources/requests/storage";

/// Returns whether a leaf is the size of a volume that is larger than in Git: it cannot shrink, so
/// every apply of Git's size is refused.
fn has_grown(path: &FieldPath, desired: &Value, live: Option<&Value>, gvk: &Gvk) -> bool {
    gvk.is("", "PersistentVolumeClaim")
        && path.is_below(STORAGE)
        && live.is_some_and(|live| quantity::compare(live, desired) == Some(Ordering::Greater))
}

fn grown_note(git: &Value, live: Option<&Value>) -> String {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let live = live.map(text).unwrap_or_default();
    format!(
        "spec.resources.requests.storage is {live}, Git says {}; a volume cannot shrink, so it is left",
        text(git)
    )
}

/// The rules by which leaves of an object are released.
pub(super) struct ReleaseRules<'r> {
    /// JSON pointers of the Application.
    ignore: &'r [String],
    scaled_by: Option<String>,
    gvk: Gvk,
}

impl<'r> ReleaseRules<'r> {
    pub(super) fn new(manifest: &Object, live: &Object, ignore: &'r [String]) -> Self {
        Self {
            ignore,
            scaled_by: managed_fields::scaled_by(live),
            gvk: manifest.gvk(),
        }
    }

    /// Returns whether a leaf is released: by rule, as an injected certificate, as scaled replicas,
    /// or as the size of a volume that has grown.
    pub(super) fn releases(&self, path: &FieldPath, git: &Value, live: Option<&Value>) -> bool {
        self.ignores(path)
            || (self.scaled_by.is_some() && path.is_below("/spec/replicas"))
            || has_grown(path, git, live, &self.gvk)
    }

    fn ignores(&self, path: &FieldPath) -> bool {
        self.ignore.iter().any(|pointer| path.is_below(pointer))
            || ca_bundle::is_injected(&self.gvk, &path.to_string())
    }

    /// Returns a released leaf.
    pub(super) fn field(
        &self,
        object: &Object,
        path: &FieldPath,
        git: &Value,
        live: Option<&Value>,
    ) -> ReleasedField {
        let grown = has_grown(path, git, live, &self.gvk);
        let scaled_by = self.scaled_by.clone();
        let scaled = scaled_by.filter(|_| !grown && !self.ignores(path));
        ReleasedField {
            path: path.clone(),
            value: live.filter(|_| is_ours(object, path)).cloned(),
            scaled: scaled.map(|manager| ScaledReplicas {
                manager,
                git: git.clone(),
                differs: Some(git) != live,
            }),
            grown: grown.then(|| grown_note(git, live)),
        }
    }
}

/// Returns the replicas that are ours although Git does not name them any more. Left out of an
/// apply, they would become the server's default.
pub(super) fn kept_replicas(manifest: &Object, live: &Object) -> Option<ReleasedField> {
    let field = |name: &str| FieldStep::Field(name.to_owned());
    let path = FieldPath(vec![field("spec"), field("replicas")]);
    let value = path.of(live)?;
    let is_kept = autoscale::keeps_replicas(&manifest.gvk())
        && manifest.pointer("/spec").is_some_and(Value::is_object)
        && path.of(manifest).is_none()
        && is_ours(live, &path);
    is_kept.then(|| ReleasedField {
        value: Some(value.clone()),
        path,
        scaled: None,
        grown: None,
    })
}

/// Removes maps that became empty with a released field: we would own the whole of them. A spec
/// stays.
fn remove_empty_parents(sent: &mut Value, pointer: &str) {
    let mut parent = pointer;
    while let Some((above, _)) = parent.rsplit_once('/') {
        parent = above;
        let is_empty = sent
            .pointer(parent)
            .and_then(Value::as_object)
            .is_some_and(Map::is_empty);
        let split = parent
            .rsplit_once('/')
            .filter(|(above, _)| !above.is_empty() && is_empty);
        let Some((grandparent, name)) = split else {
            return;
        };
        match sent.pointer_mut(grandparent) {
            Some(Value::Object(fields)) => drop(fields.shift_remove(&*decode(name))),
            _ => return,
        }
    }
}

/// Returns the manifest as it is sent: released leaves carry their live value, or are left out.
pub(crate) fn outgoing(manifest: Object, released: &[ReleasedField]) -> Object {
    if released.is_empty() {
        return manifest;
    }
    let manifest_before = manifest.clone();
    let mut sent = manifest.into_value();
    // From the last to the first, so that list indices stay valid.
    for ReleasedField {
        path, value: live, ..
    } in released.iter().rev()
    {
        let pointer = path.pointer_in(&manifest_before);
        // Only kept replicas are no part of the manifest.
        let pointer = pointer.or_else(|| (path.to_string() == REPLICAS).then(|| REPLICAS.into()));
        let pointer = pointer.unwrap_or_default();
        let Some((above, last)) = pointer.rsplit_once('/') else {
            continue;
        };
        match (sent.pointer_mut(above), live) {
            (Some(Value::Object(fields)), Some(live)) => {
                drop(fields.insert(decode(last).into_owned(), live.clone()))
            }
            (Some(Value::Object(fields)), None) => drop(fields.shift_remove(&*decode(last))),
            (Some(Value::Array(elements)), live) => {
                if let Some(index) = last
                    .parse::<usize>()
                    .ok()
                    .filter(|index| *index < elements.len())
                {
                    match live {
                        Some(live) => elements[index] = live.clone(),
                        None => drop(elements.remove(index)),
                    }
                }
            }
            _ => {}
        }
    }
    for ReleasedField { path, value, .. } in released {
        if value.is_none()
            && let Some(pointer) = path.pointer_in(&manifest_before)
        {
            remove_empty_parents(&mut sent, &pointer);
        }
    }
    // A rule cannot remove what makes an object.
    Object::new(sent)
        .map(|sent| match &manifest_before.origin {
            Some(origin) => sent.at(origin.clone()),
            None => sent,
        })
        .unwrap_or(manifest_before)
}

/// Returns the fields that an apply must leave with their managers: those that the user has named,
/// and released ones that others manage.
pub(crate) fn kept_fields(ignore: &[String], released: &[ReleasedField]) -> Vec<String> {
    let others = released.iter().filter(|field| field.value.is_none());
    let others = others.map(|field| field.path.to_string());
    ignore.iter().cloned().chain(others).collect()
}

/// Returns whether a field is managed by us, among others.
pub(super) fn is_ours(live: &Object, path: &FieldPath) -> bool {
    path.pointer_in(live).is_some_and(|pointer| {
        managed_fields::managers_of(live, &pointer)
            .iter()
            .any(|manager| manager.name == MANAGER)
    })
}
