//! Deployments: a ReplicaSet for each template, scaled step by step.

use super::*;

impl ClusterView<'_> {
    /// A ReplicaSet for its template; those of older templates shrink as the new one's pods become
    /// ready.
    pub(super) fn deployment(&mut self, deployment: &Value) {
        let (namespace, name, uid) = (
            text(deployment, "/metadata/namespace"),
            text(deployment, "/metadata/name"),
            text(deployment, "/metadata/uid"),
        );
        let wanted = number(deployment, "/spec/replicas");
        let template = &deployment["spec"]["template"];
        let hash = &hex(&template.to_string())[..10];
        let id = Id {
            group: "apps".to_owned(),
            plural: "replicasets".to_owned(),
            namespace: namespace.to_owned(),
            name: format!("{name}-{hash}"),
        };
        let owned = |look: &Self| -> Vec<Value> {
            look.store
                .list("apps", "replicasets", Some(namespace))
                .filter(|set| owned_by(set, uid))
                .map(|set| Value::clone(set))
                .collect()
        };
        let revision = |set: &Value| {
            set["metadata"]["annotations"][REVISION]
                .as_str()
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let last = owned(self)
            .iter()
            .filter(|set| set["metadata"]["name"] != id.name)
            .map(revision)
            .max()
            .unwrap_or(0);
        if self.store.get(&id).is_none() && deployment["spec"]["paused"] != true {
            let mut template = template.clone();
            template["metadata"]["labels"][HASH] = json!(hash);
            let mut selector = deployment["spec"]["selector"].clone();
            selector["matchLabels"][HASH] = json!(hash);
            let mut set = json!({
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {"name": id.name, "namespace": namespace, "labels": template["metadata"]["labels"], "annotations": {}},
                "spec": {"replicas": wanted, "selector": selector, "template": template},
                "status": {},
            });
            set["metadata"]["ownerReferences"] = owner(deployment, "apps/v1", "Deployment");
            self.make(id.clone(), set);
        }
        let ready = self
            .store
            .get(&id)
            .map_or(0, |set| number(set, "/status/readyReplicas"));
        let recreate = deployment["spec"]["strategy"]["type"] == "Recreate";
        let mut others = 0;
        for set in owned(self)
            .iter()
            .filter(|set| set["metadata"]["name"] != id.name)
        {
            let most = if recreate { 0 } else { (wanted - ready).max(0) };
            others += number(set, "/status/replicas");
            self.change(&id_of("apps", "replicasets", set), |set, _| {
                set["spec"]["replicas"] = json!(number(set, "/spec/replicas").min(most));
            });
        }
        self.change(&id, |set, _| {
            set["spec"]["replicas"] = json!(if recreate && others > 0 { 0 } else { wanted });
            if revision(set) <= last {
                set["metadata"]["annotations"][REVISION] = json!((last + 1).to_string());
            }
        });
        let sets = owned(self);
        let sum = |field: &str| sets.iter().map(|set| number(set, field)).sum::<i64>();
        let (total, available) = (sum("/status/replicas"), sum("/status/availableReplicas"));
        let (updated, number_of) = self.store.get(&id).map_or((0, 0), |set| {
            (number(set, "/status/replicas"), revision(set))
        });
        let complete = updated == wanted && total == wanted && available == wanted;
        let rounded_down = wanted / 4;
        let deadline =
            SignedDuration::from_secs(number(deployment, "/spec/progressDeadlineSeconds"));
        let mut due = None;
        self.change(
            &id_of("apps", "deployments", deployment),
            |deployment, now| {
                if !deployment["metadata"]["annotations"].is_object() {
                    deployment["metadata"]["annotations"] = json!({});
                }
                deployment["metadata"]["annotations"][REVISION] = json!(number_of.to_string());
                count(
                    deployment,
                    &[
                        ("replicas", total),
                        ("updatedReplicas", updated),
                        ("readyReplicas", available),
                        ("availableReplicas", available),
                        (
                            "unavailableReplicas",
                            (wanted.max(total) - available).max(0),
                        ),
                    ],
                );
                match available >= wanted - rounded_down {
                    true => {
                        condition(
                            deployment,
                            "Available",
                            "True",
                            "MinimumReplicasAvailable",
                            "Deployment has minimum availability.",
                            now,
                        );
                    }
                    false => {
                        let message = "Deployment does not have minimum availability.";
                        condition(
                            deployment,
                            "Available",
                            "False",
                            "MinimumReplicasUnavailable",
                            message,
                            now,
                        );
                    }
                }
                let set = format!("ReplicaSet \"{}\"", id.name);
                let progress = deployment["status"]["conditions"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .find(|one| one["type"] == "Progressing");
                let since = progress.filter(|one| {
                    one["message"]
                        .as_str()
                        .is_some_and(|text| text.starts_with(&set))
                });
                let gave_up = since.is_some_and(|one| one["status"] == "False");
                let end = since
                    .and_then(|one| one["lastUpdateTime"].as_str()?.parse().ok())
                    .unwrap_or(now)
                    + deadline;
                if complete {
                    condition(
                        deployment,
                        "Progressing",
                        "True",
                        "NewReplicaSetAvailable",
                        &format!("{set} has successfully progressed."),
                        now,
                    );
                } else if gave_up || end <= now {
                    condition(
                        deployment,
                        "Progressing",
                        "False",
                        "ProgressDeadlineExceeded",
                        &format!("{set} has timed out progressing."),
                        now,
                    );
                } else {
                    condition(
                        deployment,
                        "Progressing",
                        "True",
                        "ReplicaSetUpdated",
                        &format!("{set} is progressing."),
                        now,
                    );
                    due = Some(end);
                }
            },
        );
        if let Some(due) = due {
            self.again(due);
        }
    }
}
