//! Records: texts kept in the cluster for an Application, by name, in ConfigMaps.
//!
//! A record is one ConfigMap, the head, as long as it fits; a larger one is split into parts whose
//! names contain the digest of the whole. Parts are written before the head that names them and
//! removed after it: if a process dies in between, the old record stays valid, and the orphaned
//! parts are reported to the next reader and removed by the next save. Plain text, so that kubectl
//! shows it.

mod layout;

use super::{
    ClusterClient, RequestIdentity,
    delete::DeleteRequest,
    discovery::Resource,
    error::{ClusterError, ClusterProblem},
    read::core,
    request::{ApiRequest, RequestVerb},
    url,
};
use crate::{
    core::name::Name,
    events::{Event, EventReason},
    objects::object::{MANAGER, Object, ObjectKey, PREFIX},
};
use bytes::Bytes;
use hyper::Method;
use layout::{ConfigMapBody, assemble, digest, digest_of, part_name, pieces};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Bytes of text in one ConfigMap: the API server accepts at most 1 MiB, including names and
/// managedFields.
const ROOM: usize = 900 << 10;

/// The record of an Application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationRecord {
    /// The Application. The record is in its namespace.
    pub application: Name,
    /// Text by name, as "inventory.json".
    pub data: BTreeMap<String, String>,
    /// The version read, which a save must find unchanged; none for a record that was never saved.
    pub version: Option<String>,
    /// The reason why `data` is empty or not trusted: parts are missing or modified.
    pub damaged: Option<String>,
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
            leftovers: Vec::new(),
            parts: Vec::new(),
        }
    }
}

fn label() -> String {
    format!("{PREFIX}/record")
}

fn note(what: &str) -> String {
    format!("{PREFIX}/{what}")
}

fn config_maps() -> Resource {
    core("ConfigMap", "configmaps", true)
}

/// The name of the head. Names of Applications can be as long as those of ConfigMaps: a long one
/// ends in its digest.
fn head_name(application: &Name) -> String {
    let name = application.name();
    // Parts add ".", eight digits, "." and a number.
    if name.len() <= 200 {
        format!("tagboat-{name}")
    } else {
        format!(
            "tagboat-{}-{}",
            name[..180].trim_end_matches(['.', '-']),
            &digest(name.as_bytes())[..16]
        )
    }
}

/// Returns whether an object has the name of an Application's record.
pub fn is_record(key: &ObjectKey, application: &Name) -> bool {
    let (maps, head) = (config_maps(), head_name(application));
    let is_part = |rest: &str| {
        let numbers = rest.strip_prefix('.').and_then(|rest| rest.split_once('.'));
        numbers.is_some_and(|(digest, number)| digest.len() == 8 && number.parse::<usize>().is_ok())
    };
    *key == maps.key(key.namespace.as_deref(), &key.name)
        && key.namespace.as_deref() == Some(application.namespace())
        && key
            .name
            .strip_prefix(&*head)
            .is_some_and(|rest| rest.is_empty() || is_part(rest))
}

impl ClusterClient {
    /// Lists all records of the cluster.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub async fn records(&self) -> Result<Vec<ApplicationRecord>, ClusterError> {
        let maps = self
            .list_as(
                &RequestIdentity::Own,
                &config_maps(),
                None,
                Some(&label()),
                |object| ConfigMapBody::of(&object),
            )
            .await?;
        Ok(assemble(maps.into_iter().flatten()))
    }

    /// Saves a record by compare-and-swap, creating its namespace if it is missing. `holder`
    /// identifies us to another process that meets the record.
    ///
    /// # Errors
    /// [`ClusterProblem::Conflict`] if another process saved it since it was read, with that
    /// process's holder name; and as every request.
    pub async fn save(
        &self,
        record: &mut ApplicationRecord,
        holder: &str,
    ) -> Result<(), ClusterError> {
        let digest = digest_of(&record.data);
        let pieces = pieces(&record.data, ROOM);
        let mut parts = Vec::new();
        if pieces.len() > 1 {
            for (index, piece) in pieces.iter().enumerate() {
                let name = part_name(&record.application, &digest, index + 1);
                match self
                    .create_in_namespace(record, &name, &config_map(record, &name, piece, holder))
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
        let mut object = config_map(
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
                self.replace(record, &head, &object).await
            }
            None => self.create_in_namespace(record, &head, &object).await,
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
        record.leftovers = self.sweep(&record.application, gone).await;
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
            self.remove_map(&record.application, name).await?;
        }
        Ok(())
    }

    /// Deletes parts; what cannot be deleted is left for the next time.
    async fn sweep(&self, application: &Name, names: Vec<String>) -> Vec<String> {
        let mut left = Vec::new();
        for name in names {
            if let Err(error) = self.remove_map(application, &name).await {
                let message = format!("cannot delete a part of an old record yet: {error}");
                self.inner
                    .events
                    .record(Event::debug(EventReason::RecordNotCleared, message));
                left.push(name);
            }
        }
        left
    }

    async fn remove_map(&self, application: &Name, name: &str) -> Result<(), ClusterError> {
        let resource = config_maps();
        let key = resource.key(Some(application.namespace()), name);
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

    /// Creates a ConfigMap, and its namespace where that is missing.
    async fn create_in_namespace(
        &self,
        record: &ApplicationRecord,
        name: &str,
        object: &Value,
    ) -> Result<Object, ClusterError> {
        let namespace = record.application.namespace();
        let resource = config_maps();
        let key = resource.key(Some(namespace), name);
        match self.create_object(&resource, object, &key).await {
            Err(error) if matches!(*error.problem, ClusterProblem::NamespaceMissing { .. }) => {
                self.ensure_namespace(&RequestIdentity::Own, namespace)
                    .await?;
                self.create_object(&resource, object, &key).await
            }
            other => other,
        }
    }

    async fn replace(
        &self,
        record: &ApplicationRecord,
        name: &str,
        object: &Value,
    ) -> Result<Object, ClusterError> {
        let resource = config_maps();
        let key = resource.key(Some(record.application.namespace()), name);
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
        let resource = config_maps();
        let key = resource.key(Some(application.namespace()), &head_name(application));
        let found = self.get(&RequestIdentity::Own, &resource, &key).await?;
        Ok(found
            .and_then(|live| replaced(application, &live))
            .map(|problem| self.fault(key.to_string(), problem)))
    }

    /// Resolves a conflict of a save: either this very save succeeded and its response was lost, or
    /// another process, which is named, wrote the record.
    async fn met(
        &self,
        record: &ApplicationRecord,
        sent: &Value,
        error: ClusterError,
    ) -> Result<Object, ClusterError> {
        let resource = config_maps();
        let key = resource.key(
            Some(record.application.namespace()),
            &head_name(&record.application),
        );
        let Ok(found) = self.get(&RequestIdentity::Own, &resource, &key).await else {
            return Err(error);
        };
        let message = match found {
            Some(live) if replaced(&record.application, &live).is_some() => {
                return Err(replaced(&record.application, &live)
                    .map_or(error, |problem| self.fault(key.to_string(), problem)));
            }
            Some(live) => {
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
        Err(self.fault(
            key.to_string(),
            ClusterProblem::Conflict {
                message,
                fields: Vec::new(),
            },
        ))
    }
}

/// Returns the marks that a ConfigMap in the place of a record's head lacks; `None` for one of
/// ours.
fn replaced(application: &Name, live: &Object) -> Option<ClusterProblem> {
    let has = [
        (format!("label {}", label()), live.label(&label()).is_some()),
        (
            format!("annotation {}", note("holder")),
            live.annotation(&note("holder")).is_some(),
        ),
        (
            format!("annotation {}", note("digest")),
            live.annotation(&note("digest")).is_some(),
        ),
    ];
    let missing: Vec<String> = has
        .into_iter()
        .filter(|(_, there)| !there)
        .map(|(what, _)| what)
        .collect();
    let (namespace, name) = (application.namespace().to_owned(), head_name(application));
    (!missing.is_empty()).then_some(ClusterProblem::Replaced {
        missing,
        namespace,
        name,
    })
}

fn config_map(
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
            "namespace": record.application.namespace(),
            "labels": {label(): "v1"},
            "annotations": {note("application"): record.application.to_string(), note("holder"): holder},
        },
        "data": data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(objects: &[Object]) -> Vec<ApplicationRecord> {
        assemble(objects.iter().filter_map(ConfigMapBody::of))
    }

    fn application(name: &str) -> Name {
        Name::new("shop", name).unwrap()
    }

    /// Returns the objects that a save leaves in the cluster.
    fn stored(record: &ApplicationRecord, room: usize) -> Vec<Object> {
        let digest = digest_of(&record.data);
        let pieces = pieces(&record.data, room);
        let split = pieces.len() > 1;
        let head = head_name(&record.application);
        let empty = BTreeMap::new();
        let mut value = config_map(
            record,
            &head,
            if split { &empty } else { &record.data },
            "us",
        );
        value["metadata"]["annotations"][note("digest")] = digest.clone().into();
        value["metadata"]["annotations"][note("parts")] =
            if split { pieces.len() } else { 0 }.to_string().into();
        value["metadata"]["resourceVersion"] = "7".into();
        let mut objects = vec![Object::new(value).unwrap()];
        if split {
            for (index, piece) in pieces.iter().enumerate() {
                let name = part_name(&record.application, &digest, index + 1);
                objects.push(Object::new(config_map(record, &name, piece, "us")).unwrap());
            }
        }
        objects
    }

    fn sample(name: &str, text: &str) -> ApplicationRecord {
        ApplicationRecord::new(
            application(name),
            BTreeMap::from([("inventory.json".to_owned(), text.to_owned())]),
        )
    }

    proptest! {
        #[test]
        fn record_split_into_parts_round_trips(texts in proptest::collection::btree_map("[a-z]{1,8}", "\\PC{0,80}", 0..5), room in 20usize..200) {
            let record = ApplicationRecord::new(application("web"), texts);
            for piece in pieces(&record.data, room) {
                prop_assert!(piece.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>() <= room);
            }
            let read = read(&stored(&record, room));
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(&read[0].data, &record.data);
            prop_assert_eq!(read[0].damaged.as_ref(), None);
            prop_assert!(read[0].leftovers.is_empty());
        }
    }

    #[test]
    fn record_interrupted_save_keeps_the_old_one() {
        let (old, new) = (
            sample("web", &"old ".repeat(100)),
            sample("web", &"new ".repeat(100)),
        );
        let mut objects = stored(&old, 150);
        // The new parts exist, the new head does not; the last part is missing.
        let parts: Vec<Object> = stored(&new, 150).into_iter().skip(1).collect();
        objects.extend(parts[..parts.len() - 1].to_vec());
        let found = read(&objects);
        assert_eq!(
            (found.len(), &found[0].data, found[0].leftovers.len()),
            (1, &old.data, parts.len() - 1)
        );
        // Never saved before: nothing but parts.
        let found = read(&parts);
        assert_eq!(
            (
                found[0].data.len(),
                found[0].version.as_deref(),
                found[0].leftovers.len()
            ),
            (0, None, parts.len())
        );
    }

    #[test]
    fn record_missing_or_changed_part_is_damage() {
        let record = sample("web", &"old ".repeat(100));
        let mut objects = stored(&record, 150);
        let part = objects.remove(2);
        assert!(
            read(&objects)[0]
                .damaged
                .as_ref()
                .unwrap()
                .contains("is missing")
        );
        let mut value = part.into_value();
        value["data"]["inventory.json"] = "else".into();
        objects.push(Object::new(value).unwrap());
        assert!(
            read(&objects)[0]
                .damaged
                .as_ref()
                .unwrap()
                .contains("digest")
        );
    }

    #[test]
    fn record_ignores_foreign_objects_and_fits_names() {
        let mut value = stored(&sample("web", "x"), ROOM).remove(0).into_value();
        value["metadata"]["namespace"] = "elsewhere".into();
        assert_eq!(read(&[Object::new(value).unwrap()]), []);
        let plain = Object::new(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}),
        )
        .unwrap();
        assert_eq!(read(&[plain]), []);
        let long = application(&"a".repeat(253));
        let name = part_name(&long, &digest(b""), 1000);
        assert!(
            name.len() <= 253 && crate::core::name::is_subdomain(&name),
            "{name}"
        );
        assert_eq!(head_name(&application("web")), "tagboat-web");
        for (name, namespace, is) in [
            ("tagboat-web", "shop", true),
            ("tagboat-web.0a1b2c3d.12", "shop", true),
            ("tagboat-web", "other", false),
            ("tagboat-web.conf", "shop", false),
        ] {
            assert_eq!(
                is_record(
                    &config_maps().key(Some(namespace), name),
                    &application("web")
                ),
                is,
                "{namespace}/{name}"
            );
        }
        assert!(!is_record(
            &core("Secret", "secrets", true).key(Some("shop"), "tagboat-web"),
            &application("web")
        ));
    }
}
