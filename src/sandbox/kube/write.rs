//! The writes: create, update, patch, apply, delete, each over one object of the store. No clock
//! and no network: the time is an argument.

mod stamp;

use super::{
    apply::{self, FieldWriter},
    defaults,
    kinds::SandboxKind,
    patch,
    refusal::KubeRefusal,
    schema::KindSchema,
    store::{Id, ObjectStore},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The part of an object that a request writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WritePart {
    /// Everything but the status, if that is a subresource.
    Main,
    Status,
    /// The number of replicas.
    Scale,
}

impl WritePart {
    /// Returns its name in paths and managedFields.
    pub(super) fn name(self) -> &'static str {
        match self {
            WritePart::Main => "",
            WritePart::Status => "status",
            WritePart::Scale => "scale",
        }
    }
}

/// The body of a PATCH.
#[derive(Debug, Clone)]
pub(super) enum PatchBody {
    /// RFC 6902.
    Json(json_patch::Patch),
    /// RFC 7396.
    Merge(Value),
    Strategic(Value),
    /// Server-side apply; with force.
    Apply(Value, bool),
}

/// Options of a deletion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Deletion {
    /// Only the object with this uid.
    pub uid: Option<String>,
    /// Only as long as it has this revision.
    pub revision: Option<String>,
    /// `Background` (the default), `Foreground` or `Orphan`.
    pub propagation: Option<String>,
}

/// A write of one object.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriteRequest<'a> {
    pub kind: &'a SandboxKind,
    /// The namespace; empty for cluster-scoped kinds.
    pub namespace: &'a str,
    pub name: &'a str,
    pub part: WritePart,
    pub manager: &'a str,
    pub dry_run: bool,
    /// RFC 3339, in seconds.
    pub time: &'a str,
}

impl WriteRequest<'_> {
    pub(super) fn id(&self) -> Id {
        Id {
            group: self.kind.group.clone(),
            plural: self.kind.plural.clone(),
            namespace: self.namespace.to_owned(),
            name: self.name.to_owned(),
        }
    }

    fn schema(&self) -> KindSchema {
        KindSchema {
            builtin: self.kind.builtin,
        }
    }

    fn writer<'b>(&'b self, api_version: &'b str) -> FieldWriter<'b> {
        FieldWriter {
            manager: self.manager,
            api_version,
            subresource: self.part.name(),
            time: self.time,
        }
    }

    /// Creates an object. Its name is in the body, or generated from `generateName`.
    ///
    /// # Errors
    /// If it already exists, or is invalid.
    pub(super) fn create(
        &self,
        store: &mut ObjectStore,
        mut body: Value,
    ) -> Result<Arc<Value>, KubeRefusal> {
        if body["metadata"]["name"].is_null()
            && let Some(prefix) = body["metadata"]["generateName"].as_str()
        {
            body["metadata"]["name"] = json!(format!(
                "{prefix}{}",
                &hex(&format!("{prefix}{}", store.revision()))[..5]
            ));
        }
        let name = body["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let write = WriteRequest {
            name: &name,
            ..*self
        };
        if store.get(&write.id()).is_some() {
            return Err(KubeRefusal::AlreadyExists);
        }
        write.identify(&mut body)?;
        if let Some(metadata) = body["metadata"].as_object_mut() {
            for field in [
                "resourceVersion",
                "uid",
                "generation",
                "managedFields",
                "deletionTimestamp",
            ] {
                metadata.shift_remove(field);
            }
        }
        self.drop_status(&mut body);
        defaults::add(self.kind, &mut body);
        let version = self.kind.api_version();
        apply::own(None, &mut body, write.writer(&version), self.schema());
        write.store(store, None, body)
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// If it is not there, or changed meanwhile, or not as it should be.
    pub(super) fn update(
        &self,
        store: &mut ObjectStore,
        mut body: Value,
    ) -> Result<Arc<Value>, KubeRefusal> {
        let old = store
            .get(&self.id())
            .cloned()
            .ok_or(KubeRefusal::NotFound)?;
        if let Some(revision) = body["metadata"]["resourceVersion"]
            .as_str()
            .filter(|revision| !revision.is_empty())
            && old["metadata"]["resourceVersion"] != *revision
        {
            return Err(stale());
        }
        if body["metadata"]["uid"]
            .as_str()
            .is_some_and(|uid| old["metadata"]["uid"] != *uid)
        {
            return Err(other_uid(&body["metadata"]["uid"], &old));
        }
        if self.part == WritePart::Scale {
            let mut new = Value::clone(&old);
            new["spec"]["replicas"] = body["spec"]["replicas"].clone();
            body = new;
        }
        self.identify(&mut body)?;
        self.put_over(store, &old, body)
    }

    /// Patches an object; an apply creates a missing one. Returns whether it did.
    ///
    /// # Errors
    /// If it does not exist, others own applied fields, or the result is invalid.
    pub(super) fn patch(
        &self,
        store: &mut ObjectStore,
        body: PatchBody,
    ) -> Result<(bool, Arc<Value>), KubeRefusal> {
        let old = store.get(&self.id()).cloned();
        if let PatchBody::Apply(mut applied, force) = body {
            defaults::drop_nulls(&mut applied);
            if applied["metadata"]
                .get("managedFields")
                .is_some_and(|list| list.as_array().is_none_or(|list| !list.is_empty()))
            {
                return Err(KubeRefusal::BadRequest(
                    "metadata.managedFields must be nil".to_owned(),
                ));
            }
            let revision = applied["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if !revision.is_empty()
                && old
                    .as_ref()
                    .is_some_and(|old| old["metadata"]["resourceVersion"] != *revision)
            {
                return Err(stale());
            }
            self.identify(&mut applied)?;
            if self.part == WritePart::Main {
                self.drop_status(&mut applied);
            }
            let version = self.kind.api_version();
            let merged = apply::apply(
                old.as_deref(),
                &applied,
                self.writer(&version),
                force,
                self.schema(),
            )?;
            let stored = self.store(store, old.as_ref(), merged)?;
            return Ok((old.is_none(), stored));
        }
        let old = old.ok_or(KubeRefusal::NotFound)?;
        // A patch of the scale is one of the object that has it: both have their replicas in the
        // same place.
        let mut new = Value::clone(&old);
        match body {
            PatchBody::Json(patch) => {
                json_patch::patch(&mut new, &patch).map_err(|_| KubeRefusal::PatchMismatch)?
            }
            PatchBody::Merge(patch) => json_patch::merge(&mut new, &patch),
            PatchBody::Strategic(patch) => patch::strategic(&mut new, &patch, self.schema()),
            PatchBody::Apply(..) => {}
        }
        if new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
            return Err(stale());
        }
        if new["metadata"]["uid"] != old["metadata"]["uid"] {
            return Err(other_uid(&new["metadata"]["uid"], &old));
        }
        if self.part == WritePart::Scale {
            let replicas = new["spec"]["replicas"].clone();
            new = Value::clone(&old);
            new["spec"]["replicas"] = replicas;
        }
        self.identify(&mut new)?;
        self.put_over(store, &old, new)
            .map(|stored| (false, stored))
    }

    /// Deletes an object, or marks it where finalizers hold it. Gives it as it was last, and
    /// whether it is gone.
    ///
    /// # Errors
    /// If it is not there, or another one than meant.
    pub(super) fn delete(
        &self,
        store: &mut ObjectStore,
        options: &Deletion,
    ) -> Result<(Arc<Value>, bool), KubeRefusal> {
        let id = self.id();
        let old = store.get(&id).cloned().ok_or(KubeRefusal::NotFound)?;
        if let Some(uid) = &options.uid
            && old["metadata"]["uid"] != **uid
        {
            return Err(other_uid(&json!(uid), &old));
        }
        if options
            .revision
            .as_ref()
            .is_some_and(|revision| old["metadata"]["resourceVersion"] != **revision)
        {
            return Err(KubeRefusal::Conflict(
                "Precondition failed: the object has been modified".to_owned(),
            ));
        }
        if self.dry_run {
            return Ok((old, true));
        }
        let mut new = Value::clone(&old);
        match options.propagation.as_deref() {
            Some("Foreground") => add_finalizer(&mut new, "foregroundDeletion"),
            Some("Orphan") => add_finalizer(&mut new, "orphan"),
            _ => {}
        }
        let held = new["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|list| !list.is_empty())
            || is_namespace(self.kind);
        if !held {
            return Ok((store.remove(&id).unwrap_or(old), true));
        }
        if new["metadata"]["deletionTimestamp"].is_null() {
            new["metadata"]["deletionTimestamp"] = json!(self.time);
            new["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            if is_namespace(self.kind) {
                new["status"]["phase"] = json!("Terminating");
            }
        }
        Ok((if new == *old { old } else { store.put(id, new) }, false))
    }

    /// The object's kind, name and namespace are those of the path.
    fn identify(&self, body: &mut Value) -> Result<(), KubeRefusal> {
        defaults::check_shape(self.kind, body)?;
        for (field, wanted) in [
            ("apiVersion", self.kind.api_version()),
            ("kind", self.kind.kind.clone()),
        ] {
            let said = body[field].as_str().unwrap_or_default();
            if !said.is_empty() && said != wanted && self.part != WritePart::Scale {
                return Err(KubeRefusal::BadRequest(format!(
                    "{field} of the body is {said}, that of the request {wanted}"
                )));
            }
            body[field] = json!(wanted);
        }
        for (field, wanted) in [("name", self.name), ("namespace", self.namespace)] {
            let said = body["metadata"][field].as_str().unwrap_or_default();
            if !said.is_empty() && said != wanted {
                return Err(KubeRefusal::BadRequest(format!(
                    "the {field} of the object ({said}) does not match the {field} on the URL ({wanted})"
                )));
            }
            if !wanted.is_empty() {
                body["metadata"][field] = json!(wanted);
            }
        }
        Ok(())
    }

    fn drop_status(&self, body: &mut Value) {
        if self.kind.status
            && let Some(body) = body.as_object_mut()
        {
            body.shift_remove("status");
        }
    }

    /// Stores a write that is no apply.
    fn put_over(
        &self,
        store: &mut ObjectStore,
        old: &Arc<Value>,
        body: Value,
    ) -> Result<Arc<Value>, KubeRefusal> {
        let mut new = body;
        if self.kind.status {
            // Each path writes its own part only.
            let (keep, of) = if self.part == WritePart::Status {
                (new["status"].clone(), Value::clone(old))
            } else {
                (old["status"].clone(), new)
            };
            new = of;
            new["status"] = keep;
            defaults::drop_nulls(&mut new);
        }
        defaults::add(self.kind, &mut new);
        let version = self.kind.api_version();
        apply::own(Some(old), &mut new, self.writer(&version), self.schema());
        self.store(store, Some(old), new)
    }

    /// The last step of every write: what the server itself says about an object, and whether
    /// anything changed at all.
    fn store(
        &self,
        store: &mut ObjectStore,
        old: Option<&Arc<Value>>,
        mut new: Value,
    ) -> Result<Arc<Value>, KubeRefusal> {
        let id = self.id();
        defaults::add(self.kind, &mut new);
        self.stamp(store, old, &mut new);
        defaults::check(self.kind, old.map(|old| &**old), &new)?;
        let namespace = Id {
            group: String::new(),
            plural: "namespaces".to_owned(),
            namespace: String::new(),
            name: id.namespace.clone(),
        };
        if self.kind.namespaced && old.is_none() {
            let Some(home) = store.get(&namespace) else {
                return Err(KubeRefusal::NoNamespace(id.namespace));
            };
            if !home["metadata"]["deletionTimestamp"].is_null() {
                return Err(KubeRefusal::Terminating(id.namespace));
            }
        }
        if old.is_some_and(|old| **old == new) || self.dry_run {
            return Ok(match old {
                Some(old) if **old == new => old.clone(),
                _ => Arc::new(new),
            });
        }
        let ends = !new["metadata"]["deletionTimestamp"].is_null()
            && new["metadata"]["finalizers"]
                .as_array()
                .is_none_or(Vec::is_empty)
            && !is_namespace(self.kind);
        let stored = store.put(id.clone(), new);
        Ok(if ends {
            store.remove(&id).unwrap_or(stored)
        } else {
            stored
        })
    }
}

fn is_namespace(kind: &SandboxKind) -> bool {
    kind.group.is_empty() && kind.kind == "Namespace"
}

fn add_finalizer(object: &mut Value, name: &str) {
    let list = &mut object["metadata"]["finalizers"];
    match list.as_array_mut() {
        Some(list) if list.contains(&json!(name)) => {}
        Some(list) => list.push(json!(name)),
        None => *list = json!([name]),
    }
}

fn stale() -> KubeRefusal {
    KubeRefusal::Conflict("the object has been modified; please apply your changes to the latest version and try again".to_owned())
}

fn other_uid(wanted: &Value, old: &Value) -> KubeRefusal {
    let (wanted, found) = (
        wanted.as_str().unwrap_or_default(),
        old["metadata"]["uid"].as_str().unwrap_or_default(),
    );
    KubeRefusal::Conflict(format!(
        "Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
    ))
}

/// A hash in letters and digits, for names and uids that need not be secret.
pub(super) fn hex(text: &str) -> String {
    crate::core::text::hex(&Sha256::digest(text.as_bytes()))
}
