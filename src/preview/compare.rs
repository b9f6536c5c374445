//! Two renderings of an Application → the objects that differ, each with its diff; which of them a
//! cluster is to be asked about.

use super::{PreviewSide, clusters::ClusterPermit, reach::ReachedApplication, text};
use crate::{
    core::error::{Classify as _, ErrorKind},
    io::render::{RenderError, Rendered},
    objects::{
        object::{DeletionRule, Gvk, Object, ObjectKey},
        plan::{self, DesiredObject, KindScopes, OWNER_LABELS, RefusedObject},
        tenancy,
    },
    reconcile::{self, ClusterKinds},
    review::{ApplicationChange, DryRunVerdict, ObjectChange, ObjectPreview, PreviewTrouble},
    spec::{Application, DeletionPolicy},
};
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// The labels of the two sides of a diff.
const SIDES: [&str; 2] = ["before", "after"];

/// Bytes of an object, as JSON, beyond which it is not compared: no cluster takes one half as long.
const LARGEST: usize = 4 << 20;

/// The information an object needs before it is shown.
#[derive(Debug)]
pub(super) enum ObjectQuestion {
    /// A dry run of this object.
    Ask(Box<DesiredObject>),
    /// The same, and it is shown only if it is refused: nothing of it changes but as whom it is
    /// sent.
    Check(Box<DesiredObject>),
    Known(DryRunVerdict),
}

/// An object that differs.
#[derive(Debug)]
pub(super) struct DifferingObject {
    pub key: ObjectKey,
    pub preview: ObjectPreview,
    pub question: ObjectQuestion,
}

/// The comparison of one Application.
#[derive(Debug, Default)]
pub(super) struct ComparedApplication {
    pub objects: Vec<DifferingObject>,
    pub notes: Vec<String>,
    pub trouble: Vec<PreviewTrouble>,
    /// Namespaces that come with this revision.
    pub namespaces: BTreeSet<String>,
    /// Kinds that come with this revision, by group and kind.
    pub kinds: HashSet<(String, String)>,
    /// The keys of all objects on the new side.
    pub keys: HashSet<ObjectKey>,
}

impl ComparedApplication {
    fn add(&mut self, key: &ObjectKey, preview: ObjectPreview, question: ObjectQuestion) {
        self.objects.push(DifferingObject {
            key: key.clone(),
            preview,
            question,
        });
    }
}

/// One side, by object key.
#[derive(Default)]
struct PlacedObject {
    wanted: Vec<DesiredObject>,
    refused: Vec<RefusedObject>,
}

impl PlacedObject {
    fn find(&self) -> HashMap<&ObjectKey, &DesiredObject> {
        self.wanted.iter().map(|one| (&one.key, one)).collect()
    }
}

pub(super) fn compare(
    one: &ReachedApplication,
    before: PreviewSide,
    after: PreviewSide,
    door: &ClusterPermit,
) -> ComparedApplication {
    let mut out = ComparedApplication::default();
    let Some((base, head)) = place_sides(&mut out, one, before, after, door) else {
        return out;
    };
    brings(&mut out, &head);
    add_desired(&mut out, one, &base, &head);
    add_refused(&mut out, &base, &head);
    add_removed(&mut out, one, &base, &head);
    out.keys = head.wanted.into_iter().map(|one| one.key).collect();
    if let Some(why) = &one.refusal {
        refuse_all(&mut out, why);
    }
    out
}

/// Returns the objects of both sides; none if one of them cannot be rendered, which is recorded.
fn place_sides(
    out: &mut ComparedApplication,
    one: &ReachedApplication,
    before: PreviewSide,
    after: PreviewSide,
    door: &ClusterPermit,
) -> Option<(PlacedObject, PlacedObject)> {
    let kinds: Box<dyn KindScopes> = match door {
        ClusterPermit::Open { cluster, served } => {
            Box::new(ClusterKinds::new(cluster, Arc::clone(served)))
        }
        ClusterPermit::Closed { .. } => Box::new(BuiltinScopes),
    };
    let place = |application: Option<&Application>, rendered: Option<&Rendered>| {
        let Some((application, rendered)) = application.zip(rendered) else {
            return PlacedObject::default();
        };
        let (wanted, refused) = plan::desired_objects(application, rendered.objects(), &*kinds);
        PlacedObject { wanted, refused }
    };
    let rendered = match after.transpose() {
        Ok(rendered) => rendered,
        Err(error) => {
            out.trouble.push(cannot(&error, ""));
            return None;
        }
    };
    let rights = one.after.as_ref().map(|after| &after.rights);
    let objects = rendered
        .as_ref()
        .map_or(0, |rendered| rendered.manifests.len());
    if let Some(why) = rights.and_then(|rights| tenancy::objects_refusal(rights, objects, 0)) {
        out.trouble.push(refused(&why));
        return None;
    }
    let head = place(one.after.as_ref(), rendered.as_deref());
    let base = match before.transpose() {
        Ok(rendered) => place(one.before.as_ref(), rendered.as_deref()),
        Err(error) if one.after.is_some() => {
            // The old side is unknown, so everything counts as new.
            out.notes.push(format!("what it was before cannot be rendered, so that every object is shown as new: {error}"));
            PlacedObject::default()
        }
        Err(error) => {
            out.trouble.push(cannot(&error, "what it was before: "));
            return None;
        }
    };
    let warnings = rendered.iter().flat_map(|rendered| &rendered.warnings);
    out.notes.extend(warnings.take(10).cloned());
    Some((base, head))
}

/// Adds the objects that are new or differ. If only the service account changes, the others are
/// checked, too.
fn add_desired(
    out: &mut ComparedApplication,
    one: &ReachedApplication,
    base: &PlacedObject,
    head: &PlacedObject,
) {
    let known = base.find();
    let other_account = one
        .before
        .as_ref()
        .zip(one.after.as_ref())
        .is_some_and(|(before, after)| before.service_account != after.service_account);
    for wanted in &head.wanted {
        let old = known.get(&wanted.key).copied();
        let object = Box::new(wanted.clone());
        if old.is_some_and(|old| old.hash == wanted.hash) {
            if other_account {
                let preview = preview(&wanted.key, ObjectChange::Change, String::new());
                out.add(&wanted.key, preview, ObjectQuestion::Check(object));
            }
            continue;
        }
        let diff = diff(&wanted.key, old, Some(wanted));
        let preview = preview(&wanted.key, change_of(old), diff);
        out.add(&wanted.key, preview, ObjectQuestion::Ask(object));
    }
}

/// Adds the objects that are refused before a cluster sees them, and were not before.
fn add_refused(out: &mut ComparedApplication, base: &PlacedObject, head: &PlacedObject) {
    let known = base.find();
    for refused in &head.refused {
        if base
            .refused
            .iter()
            .any(|old| old.key == refused.key && old.why == refused.why)
        {
            continue;
        }
        let change = change_of(known.get(&refused.key).copied());
        let place = refused
            .origin
            .as_ref()
            .map_or(String::new(), |origin| format!("{origin}: "));
        let reason = text::line(&format!("{place}{}", refused.why));
        let question = ObjectQuestion::Known(DryRunVerdict::Refused { reason });
        let preview = preview(&refused.key, change, String::new());
        out.add(&refused.key, preview, question);
    }
}

/// Adds the objects that are not desired any more.
fn add_removed(
    out: &mut ComparedApplication,
    one: &ReachedApplication,
    base: &PlacedObject,
    head: &PlacedObject,
) {
    let is_gone = one.change == ApplicationChange::Gone;
    // Of one that goes and leaves everything behind there is nothing to show.
    if is_gone
        && one
            .before
            .as_ref()
            .is_some_and(|before| before.deletion == DeletionPolicy::Orphan)
    {
        return;
    }
    let wanted = head.wanted.iter().map(|one| &one.key);
    let refused = head.refused.iter().map(|one| &one.key);
    let keep: HashSet<&ObjectKey> = wanted.chain(refused).collect();
    let is_pruned = is_gone || one.after.as_ref().is_some_and(|after| after.prune);
    for old in base.wanted.iter().filter(|old| !keep.contains(&old.key)) {
        let retention = old.manifest.object().map(|old| old.retention());
        let retention = retention.unwrap_or_default();
        let rule = if is_gone {
            retention.delete
        } else {
            retention.prune
        };
        let reason = match (rule, is_pruned) {
            (DeletionRule::Kept(words), _) => format!("it stays in the cluster: {words}"),
            (DeletionRule::Confirmed(words), true) => {
                format!("it would be deleted after a confirmation: {words}")
            }
            (DeletionRule::Allowed, true) => "it would be deleted".to_owned(),
            (_, false) => "it stays in the cluster: prune is not set".to_owned(),
        };
        let question = ObjectQuestion::Known(DryRunVerdict::NotAsked { reason });
        let diff = diff(&old.key, Some(old), None);
        let preview = preview(&old.key, ObjectChange::Delete, diff);
        out.add(&old.key, preview, question);
    }
}

fn change_of(old: Option<&DesiredObject>) -> ObjectChange {
    if old.is_some() {
        ObjectChange::Change
    } else {
        ObjectChange::Create
    }
}

/// Notes what others of this revision may rely on.
fn brings(out: &mut ComparedApplication, head: &PlacedObject) {
    for wanted in &head.wanted {
        if wanted.key.group.is_empty() && wanted.key.kind == "Namespace" {
            out.namespaces.insert(wanted.key.name.clone());
        }
        if wanted.key.kind == "CustomResourceDefinition"
            && let Ok(object) = wanted.manifest.object()
            && let Some(group) = object.pointer("/spec/group").and_then(Value::as_str)
            && let Some(kind) = object.pointer("/spec/names/kind").and_then(Value::as_str)
        {
            out.kinds.insert((group.to_owned(), kind.to_owned()));
        }
    }
}

/// Asks nothing about an Application that its repository has no right to deploy.
fn refuse_all(out: &mut ComparedApplication, why: &str) {
    out.trouble.push(refused(why));
    for object in &mut out.objects {
        if !matches!(object.question, ObjectQuestion::Known(_)) {
            object.question = ObjectQuestion::Known(DryRunVerdict::NotAsked {
                reason: text::line(why),
            });
        }
    }
}

/// Returns the trouble of an Application that its repository has no right to deploy.
fn refused(why: &str) -> PreviewTrouble {
    PreviewTrouble {
        message: text::line(why),
        transient: false,
    }
}

fn cannot(error: &RenderError, what: &str) -> PreviewTrouble {
    let hint = error
        .hint()
        .map_or(String::new(), |hint| format!(" ({hint})"));
    let here = matches!(error, RenderError::NoProgram { .. });
    PreviewTrouble {
        message: text::line(&format!("{what}it cannot be rendered: {error}{hint}")),
        transient: here || error.kind() != ErrorKind::Config,
    }
}

/// Builds the preview of an object, its verdict still open.
fn preview(key: &ObjectKey, change: ObjectChange, diff: String) -> ObjectPreview {
    ObjectPreview {
        object: text::line(&key.to_string()),
        change,
        diff,
        verdict: DryRunVerdict::NotAsked {
            reason: String::new(),
        },
    }
}

fn diff(key: &ObjectKey, before: Option<&DesiredObject>, after: Option<&DesiredObject>) -> String {
    let bytes: usize = [before, after]
        .into_iter()
        .flatten()
        .map(|one| one.manifest.bytes())
        .sum();
    if bytes > LARGEST {
        return format!("\\ {} MiB are too much to compare\n", bytes >> 20);
    }
    let plain = |one: Option<&DesiredObject>| {
        one.and_then(|one| one.manifest.object().ok())
            .map(unlabelled)
    };
    let (before, after) = (plain(before), plain(after));
    // Names are foreign text and part of the diff's header.
    let line = |text: &str| text::line(text);
    let key = ObjectKey::new(
        line(&key.group),
        line(&key.kind),
        key.namespace.as_deref().map(line),
        line(&key.name),
    );
    text::diff(&reconcile::unified_diff(
        &key,
        SIDES,
        before.as_ref(),
        after.as_ref(),
    ))
}

/// Removes the labels that name the Application: no manifest has them.
fn unlabelled(mut object: Object) -> Object {
    // The edit leaves alone what makes an object.
    let _ = object.edit(|fields| {
        let Some(Value::Object(metadata)) = fields.get_mut("metadata") else {
            return;
        };
        let Some(Value::Object(labels)) = metadata.get_mut("labels") else {
            return;
        };
        for label in OWNER_LABELS {
            labels.shift_remove(label);
        }
        if labels.is_empty() {
            metadata.shift_remove("labels");
        }
    });
    object
}

/// The scopes of built-in kinds, for use without a cluster.
pub(crate) struct BuiltinScopes;

/// Cluster-scoped built-in kinds, of the core group and of others.
const WIDE: [&str; 30] = [
    "Namespace",
    "Node",
    "PersistentVolume",
    "APIService",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "StorageClass",
    "VolumeAttachment",
    "VolumeAttributesClass",
    "CSIDriver",
    "CSINode",
    "PriorityClass",
    "RuntimeClass",
    "IngressClass",
    "IPAddress",
    "ServiceCIDR",
    "PriorityLevelConfiguration",
    "FlowSchema",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "CertificateSigningRequest",
    "ClusterTrustBundle",
    "DeviceClass",
    "ResourceSlice",
    "StorageVersion",
];

impl KindScopes for BuiltinScopes {
    fn namespaced(&self, gvk: &Gvk) -> Option<bool> {
        let built_in = !gvk.group.contains('.') || gvk.group.ends_with(".k8s.io");
        built_in.then(|| !WIDE.contains(&gvk.kind.as_str()))
    }
}
