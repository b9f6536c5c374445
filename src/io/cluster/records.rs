//! Records: texts kept in the cluster for an Application, by name, in ConfigMaps.
//!
//! All records are in the one namespace of the cluster that belongs to tagboat
//! (`clusters[].namespace`). Whoever may write there may do what tagboat may do. The digest of a
//! record finds damage; it proves nothing about its author.
//!
//! A record is one ConfigMap, the head, as long as it fits; a larger one is split into parts whose
//! names contain the digest of the whole. Parts are written before the head that names them and
//! removed after it: if a process dies in between, the old record stays valid, and the orphaned
//! parts are reported to the next reader and removed by the next save. Plain text, so that kubectl
//! shows it.

mod former;
mod layout;
#[cfg(test)]
mod tests;

pub use former::FormerRecord;

use super::{
    ClusterClient, RequestIdentity,
    delete::DeleteRequest,
    discovery::Resource,
    error::{ClusterError, ClusterProblem},
    list::Pages,
    read::core,
    request::{ApiRequest, RequestVerb},
    url,
};
use crate::{
    core::name::Name,
    events::{Event, EventReason},
    objects::{
        object::{MANAGER, Object, PREFIX},
        plan::RECORD_LABEL,
    },
};
use bytes::Bytes;
use hyper::Method;
use layout::{
    ConfigMapBody, RecordBudget, assemble, data_bytes, digest_of, head_name, part_name, pieces,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Bytes of text in one ConfigMap: the API server accepts at most 1 MiB, including names and
/// managedFields.
const ROOM: usize = 900 << 10;

/// The most bytes of one record: about 50,000 objects.
const RECORD_BYTES: usize = 16 << 20;

/// The most bytes of one record that are read: an interrupted save leaves parts of another one.
const READ_BYTES: usize = 2 * RECORD_BYTES;

/// The most bytes of all records of a cluster that are read.
const TOTAL_BYTES: usize = 256 << 20;

/// The record of an Application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationRecord {
    /// The Application.
    pub application: Name,
    /// Text by name, as "inventory.json".
    pub data: BTreeMap<String, String>,
    /// The version read, which a save must find unchanged; none for a record that was never saved.
    pub version: Option<String>,
    /// The reason why `data` is empty or not trusted: parts are missing or modified.
    pub damaged: Option<String>,
    /// The reason why `data` is empty: the record exceeds a bound.
    pub unread: Option<String>,
    /// ConfigMaps of this record that its head does not name: a save was interrupted. The next one
    /// removes them.
    pub leftovers: Vec<String>,
    /// The parts the head names.
    parts: Vec<String>,
}

impl ApplicationRecord {
    /// A record that was never saved.
    pub fn new(application: Name, data: BTreeMap<String, String>) -> Self {
        Self {
            application,
            data,
            version: None,
            damaged: None,
            unread: None,
            leftovers: Vec::new(),
            parts: Vec::new(),
        }
    }
}

fn note(what: &str) -> String {
    format!("{PREFIX}/{what}")
}

fn config_maps() -> Resource {
    core("ConfigMap", "configmaps", true)
}

impl ClusterClient {
    /// Returns the namespace of this cluster that belongs to tagboat.
    pub fn own_namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// Returns where the record of an Application is, as "namespace/name".
    pub fn record_place(&self, application: &Name) -> String {
        format!("{}/{}", self.own_namespace(), head_name(application))
    }

    /// Lists all records of the cluster. A record beyond the bounds is not read, with that reason.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub async fn records(&self) -> Result<Vec<ApplicationRecord>, ClusterError> {
        let maps = config_maps();
        let own = RequestIdentity::Own;
        let mut pages = Pages::new(&own, &maps, Some(self.own_namespace()), Some(RECORD_LABEL));
        let (mut bodies, mut budget) = (Vec::new(), RecordBudget::new(READ_BYTES, TOTAL_BYTES));
        while let Some(page) = self.next_page(&mut pages).await? {
            if page.restarted {
                bodies.clear();
                budget = RecordBudget::new(READ_BYTES, TOTAL_BYTES);
            }
            for object in page.objects {
                let object = object.map_err(|problem| self.fault(maps.dotted(), problem))?;
                bodies.extend(ConfigMapBody::of(&object).map(|body| budget.bound(body)));
            }
        }
        Ok(assemble(bodies))
    }

    /// Reads the record of one Application, without leftovers; `None` if there is none.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub async fn record(
        &self,
        application: &Name,
    ) -> Result<Option<ApplicationRecord>, ClusterError> {
        let Some(live) = self.own_map(&head_name(application)).await? else {
            return Ok(None);
        };
        let ours = self.replaced(application, &live).is_none();
        let Some(head) = ConfigMapBody::of(&live).filter(|_| ours) else {
            return Ok(None);
        };
        let mut budget = RecordBudget::new(READ_BYTES, TOTAL_BYTES);
        let mut bodies = Vec::new();
        for index in 1..=head.parts {
            let name = part_name(application, &head.digest, index);
            let Some(part) = self.own_map(&name).await? else {
                break;
            };
            bodies.extend(ConfigMapBody::of(&part).map(|body| budget.bound(body)));
            if bodies.last().is_none_or(|body| body.over.is_some()) {
                break;
            }
        }
        bodies.push(head);
        let mut records = assemble(bodies).into_iter();
        Ok(records.find(|record| record.application == *application))
    }

    async fn own_map(&self, name: &str) -> Result<Option<Object>, ClusterError> {
        let maps = config_maps();
        let key = maps.key(Some(self.own_namespace()), name);
        self.get(&RequestIdentity::Own, &maps, &key).await
    }

    /// Saves a record by compare-and-swap, creating its namespace if it is missing. `holder`
    /// identifies us to another process that meets the record.
    ///
    /// # Errors
    /// [`ClusterProblem::NoRecordNamespace`] if the namespace cannot be created;
    /// [`ClusterProblem::Refused`] if the record is too large;
    /// [`ClusterProblem::Conflict`] if another process saved it since it was read, with that
    /// process's holder name; and as every request.
    pub async fn save(
        &self,
        record: &mut ApplicationRecord,
        holder: &str,
    ) -> Result<(), ClusterError> {
        let bytes = data_bytes(&record.data);
        if bytes > RECORD_BYTES {
            let why = format!(
                "the record of Application {} is larger than {} MiB: it has too many objects; split the Application",
                record.application,
                RECORD_BYTES >> 20
            );
            let subject = record.application.to_string();
            return Err(self.fault(subject, ClusterProblem::Refused { why }));
        }
        let digest = digest_of(&record.data);
        let pieces = pieces(&record.data, ROOM);
        let mut parts = Vec::new();
        if pieces.len() > 1 {
            for (index, piece) in pieces.iter().enumerate() {
                let name = part_name(&record.application, &digest, index + 1);
                match self
                    .create_map(&name, &self.config_map(record, &name, piece, holder))
                    .await
                {
                    Ok(_) => {}
                    // The name is the digest of the content: an interrupted save wrote this part.
                    // If the content differs, the next reader detects it by the digest.
                    Err(error) if matches!(*error.problem, ClusterProblem::Conflict { .. }) => {}
                    Err(error) => return Err(error),
                }
                parts.push(name);
            }
        }
        let head = head_name(&record.application);
        let empty = BTreeMap::new();
        let mut object = self.config_map(
            record,
            &head,
            if parts.is_empty() {
                &record.data
            } else {
                &empty
            },
            holder,
        );
        object["metadata"]["annotations"][note("digest")] = digest.into();
        object["metadata"]["annotations"][note("parts")] = parts.len().to_string().into();
        let saved = match &record.version {
            Some(version) => {
                object["metadata"]["resourceVersion"] = version.clone().into();
                self.replace(&head, &object).await
            }
            None => self.create_map(&head, &object).await,
        };
        let saved = match saved {
            Err(error)
                if matches!(
                    *error.problem,
                    ClusterProblem::Conflict { .. } | ClusterProblem::NotFound
                ) =>
            {
                self.met(record, &object, error).await?
            }
            other => other?,
        };
        record.version = saved.resource_version().map(str::to_owned);
        record.damaged = None;
        let old = std::mem::replace(&mut record.parts, parts);
        let gone: Vec<String> = old
            .into_iter()
            .chain(std::mem::take(&mut record.leftovers))
            .filter(|name| !record.parts.contains(name))
            .collect();
        record.leftovers = self.sweep(gone).await;
        Ok(())
    }

    /// Removes a record, its head first: what an interrupted removal leaves is leftovers.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub async fn remove(&self, record: &ApplicationRecord) -> Result<(), ClusterError> {
        let head = head_name(&record.application);
        let names = std::iter::once(&head)
            .chain(&record.parts)
            .chain(&record.leftovers);
        for name in names {
            self.remove_map(name).await?;
        }
        Ok(())
    }

    /// Deletes parts; what cannot be deleted is left for the next time.
    async fn sweep(&self, names: Vec<String>) -> Vec<String> {
        let mut left = Vec::new();
        for name in names {
            if let Err(error) = self.remove_map(&name).await {
                let message = format!("cannot delete a part of an old record yet: {error}");
                self.inner
                    .events
                    .record(Event::debug(EventReason::RecordNotCleared, message));
                left.push(name);
            }
        }
        left
    }

    async fn remove_map(&self, name: &str) -> Result<(), ClusterError> {
        self.remove_config_map(self.own_namespace(), name).await
    }

    async fn remove_config_map(&self, namespace: &str, name: &str) -> Result<(), ClusterError> {
        let resource = config_maps();
        let key = resource.key(Some(namespace), name);
        if let Some(live) = self.get(&RequestIdentity::Own, &resource, &key).await?
            && let Some(uid) = live.uid()
        {
            self.delete(
                &RequestIdentity::Own,
                &resource,
                &key,
                &DeleteRequest::uid(uid),
            )
            .await?;
        }
        Ok(())
    }

    /// Creates a ConfigMap in our namespace, which is created if it is missing.
    async fn create_map(&self, name: &str, object: &Value) -> Result<Object, ClusterError> {
        let namespace = self.own_namespace();
        let resource = config_maps();
        let key = resource.key(Some(namespace), name);
        match self.create_object(&resource, object, &key).await {
            Err(error) if matches!(*error.problem, ClusterProblem::NamespaceMissing { .. }) => {
                self.ensure_namespace(&RequestIdentity::Own, namespace)
                    .await
                    .map_err(|error| self.no_namespace(error))?;
                self.create_object(&resource, object, &key).await
            }
            other => other,
        }
    }

    /// Explains that our namespace cannot be created, unless that may pass.
    fn no_namespace(&self, error: ClusterError) -> ClusterError {
        match *error.problem {
            ClusterProblem::Forbidden { .. } | ClusterProblem::Denied { .. } => {
                let namespace = self.own_namespace().to_owned();
                let why = error.problem.to_string();
                self.fault("", ClusterProblem::NoRecordNamespace { namespace, why })
            }
            _ => error,
        }
    }

    async fn replace(&self, name: &str, object: &Value) -> Result<Object, ClusterError> {
        let resource = config_maps();
        let key = resource.key(Some(self.own_namespace()), name);
        let subject = key.to_string();
        let path = url::item(&resource, &key).map_err(|problem| self.fault(&subject, problem))?;
        let call = ApiRequest {
            method: Method::PUT,
            body: Bytes::from(object.to_string()),
            subject: subject.clone(),
            resource: resource.dotted(),
            namespace: key.namespace.as_deref(),
            gvk: Some(&resource.gvk),
            // Sent twice, the second one meets what the first one wrote: see `met`.
            ..ApiRequest::get(
                RequestVerb::Update,
                format!("{path}{}", url::query(&[("fieldManager", MANAGER)])),
                &RequestIdentity::Own,
            )
        };
        let answer = self.call(call).await?;
        self.object(&subject, &answer.body)
    }

    /// Returns the foreign object in the place of a record's head, if there is one.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub async fn in_place_of_record(
        &self,
        application: &Name,
    ) -> Result<Option<ClusterError>, ClusterError> {
        let found = self.own_map(&head_name(application)).await?;
        Ok(found.and_then(|live| {
            let problem = self.replaced(application, &live)?;
            Some(self.fault(live.key().to_string(), problem))
        }))
    }

    /// Resolves a conflict of a save: either this very save succeeded and its response was lost, or
    /// another process, which is named, wrote the record.
    async fn met(
        &self,
        record: &ApplicationRecord,
        sent: &Value,
        error: ClusterError,
    ) -> Result<Object, ClusterError> {
        let head = head_name(&record.application);
        let subject = config_maps().key(Some(self.own_namespace()), &head);
        let Ok(found) = self.own_map(&head).await else {
            return Err(error);
        };
        let message = match found {
            Some(live) => {
                if let Some(problem) = self.replaced(&record.application, &live) {
                    return Err(self.fault(subject.to_string(), problem));
                }
                let as_sent = |what: &str| {
                    live.annotation(&note(what))
                        == sent["metadata"]["annotations"][note(what)].as_str()
                };
                if ["digest", "parts", "holder"].into_iter().all(as_sent) {
                    return Ok(live);
                }
                let holder = live
                    .annotation(&note("holder"))
                    .unwrap_or("an unnamed program");
                format!(
                    "the record was saved by {holder} since it was read: two tagboat processes reconcile this Application"
                )
            }
            None => "the record was removed since it was read".to_owned(),
        };
        let fields = Vec::new();
        let problem = ClusterProblem::Conflict { message, fields };
        Err(self.fault(subject.to_string(), problem))
    }

    /// Returns the marks that a ConfigMap in the place of a record's head lacks; `None` for one of
    /// ours.
    fn replaced(&self, application: &Name, live: &Object) -> Option<ClusterProblem> {
        let has = |what: &str| live.annotation(&note(what)).is_some();
        let is_about =
            live.annotation(&note("application")) == Some(application.to_string().as_str());
        let marks = [
            (
                format!("label {RECORD_LABEL}"),
                live.label(RECORD_LABEL).is_some(),
            ),
            (
                format!("annotation {} of it", note("application")),
                is_about,
            ),
            (format!("annotation {}", note("holder")), has("holder")),
            (format!("annotation {}", note("digest")), has("digest")),
        ];
        let missing: Vec<String> = marks
            .into_iter()
            .filter(|(_, there)| !there)
            .map(|(what, _)| what)
            .collect();
        let namespace = self.own_namespace().to_owned();
        let name = head_name(application);
        (!missing.is_empty()).then_some(ClusterProblem::Replaced {
            missing,
            namespace,
            name,
        })
    }

    fn config_map(
        &self,
        record: &ApplicationRecord,
        name: &str,
        data: &BTreeMap<String, String>,
        holder: &str,
    ) -> Value {
        config_map(self.own_namespace(), record, name, data, holder)
    }
}

fn config_map(
    namespace: &str,
    record: &ApplicationRecord,
    name: &str,
    data: &BTreeMap<String, String>,
    holder: &str,
) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {RECORD_LABEL: "v1"},
            "annotations": {note("application"): record.application.to_string(), note("holder"): holder},
        },
        "data": data,
    })
}
