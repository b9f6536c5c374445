//! Server-set metadata of a written object.

use super::{WritePart, WriteRequest, hex};
use crate::sandbox::kube::{defaults, fields, schema::KindSchema, store::ObjectStore};
use serde_json::{Value, json};
use std::sync::Arc;

/// A custom resource's generation counts every change but those of its metadata and status.
pub(super) fn other_than_status(old: &Value, new: &Value) -> bool {
    let difference = fields::compare(old, new, KindSchema { builtin: false });
    let of = |fields: &fields::Fields| {
        fields.below.keys().any(|step| !matches!(step, fields::FieldSegment::Field(name) if matches!(name.as_str(), "metadata" | "status")))
    };
    of(&difference.changed) || of(&difference.removed)
}

pub(super) fn fields_of(object: &Value) -> Vec<&Value> {
    object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| &entry["fieldsV1"])
        .collect()
}

impl WriteRequest<'_> {
    pub(super) fn stamp(&self, store: &ObjectStore, old: Option<&Arc<Value>>, new: &mut Value) {
        let Some(old) = old else {
            let uid = hex(&format!(
                "{}/{}/{}/{}",
                self.kind.resource(),
                self.namespace,
                self.name,
                store.revision()
            ));
            new["metadata"]["uid"] = json!(format!(
                "{}-{}-4{}-8{}-{}",
                &uid[..8],
                &uid[8..12],
                &uid[13..16],
                &uid[17..20],
                &uid[20..32]
            ));
            new["metadata"]["creationTimestamp"] = json!(self.time);
            if self.kind.counts_generations() {
                new["metadata"]["generation"] = json!(1);
            }
            if self.kind.kind == "Service"
                && new["spec"]["clusterIP"].is_null()
                && new["spec"]["type"] != "ExternalName"
            {
                let number = store.list("", "services", None).count() + 1;
                new["spec"]["clusterIP"] =
                    json!(format!("10.0.{}.{}", number / 250, number % 250 + 1));
                new["spec"]["clusterIPs"] = json!([new["spec"]["clusterIP"]]);
                new["spec"]["ipFamilies"] = json!(["IPv4"]);
                new["spec"]["ipFamilyPolicy"] = json!("SingleStack");
            }
            return;
        };
        for field in [
            "uid",
            "creationTimestamp",
            "generation",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
        ] {
            match old["metadata"].get(field) {
                Some(value) => new["metadata"][field] = value.clone(),
                None => {
                    new["metadata"]
                        .as_object_mut()
                        .and_then(|metadata| metadata.shift_remove(field));
                }
            }
        }
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if self.kind.kind == "Service" && new["spec"][field].is_null() {
                new["spec"][field] = old["spec"][field].clone();
            }
        }
        defaults::drop_nulls(new);
        let spec = |object: &Value| object.get("spec").cloned().unwrap_or_default();
        if self.part != WritePart::Status
            && self.kind.counts_generations()
            && (spec(old) != spec(new) || !self.kind.builtin && other_than_status(old, new))
        {
            new["metadata"]["generation"] =
                json!(old["metadata"]["generation"].as_u64().unwrap_or_default() + 1);
        }
        // The time of a write that changed nothing else is no change.
        let unowned = |object: &Value| {
            let mut object = object.clone();
            object["metadata"]
                .as_object_mut()
                .and_then(|metadata| metadata.shift_remove("managedFields"));
            object
        };
        if unowned(old) == unowned(new) && fields_of(old) == fields_of(new) {
            new["metadata"]["managedFields"] = old["metadata"]["managedFields"].clone();
        }
    }
}
