//! Pods and the volumes they claim: what a scheduler and a kubelet would report.

use super::{ClusterView, Id, id_of, seconds, text};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The annotation with the time at which a pod was first seen, in nanoseconds: its own times have
/// seconds.
const SEEN: &str = "sandbox.tagboat.dev/seen";

impl ClusterView<'_> {
    /// Each pod a step further.
    pub(super) fn pods(&mut self) {
        for pod in self.all("", "pods") {
            let id = id_of("", "pods", &pod);
            if matches!(text(&pod, "/status/phase"), "Succeeded" | "Failed") {
                continue;
            }
            let now = self.now;
            let seen: Timestamp = pod["metadata"]["annotations"][SEEN]
                .as_str()
                .and_then(|time| time.parse().ok())
                .unwrap_or(now);
            let due = seen + self.settings.ready_after;
            let missing = image_tagged(&pod, &self.settings.missing_tag);
            let fails = image_tagged(&pod, &self.settings.failing_tag).is_some();
            if due > now {
                self.again(due);
            }
            self.change(&id, |pod, now| {
                if !pod["metadata"]["annotations"].is_object() {
                    pod["metadata"]["annotations"] = json!({});
                }
                pod["metadata"]["annotations"][SEEN] = json!(seen.to_string());
                pod["spec"]["nodeName"] = json!("sandbox");
                report(pod, due <= now, missing.as_deref(), fails, now);
            });
            if let Some(image) = missing.filter(|_| due <= now) {
                self.tell(&pod, &image);
            }
        }
    }

    /// Binds volume claims at once.
    pub(super) fn claims(&mut self) {
        for claim in self.all("", "persistentvolumeclaims") {
            self.change(&id_of("", "persistentvolumeclaims", &claim), |claim, _| {
                claim["status"] = json!({
                    "phase": "Bound",
                    "accessModes": claim["spec"]["accessModes"],
                    "capacity": claim["spec"]["resources"]["requests"],
                });
            });
        }
    }

    /// The event that `kubectl describe` shows.
    fn tell(&mut self, pod: &Value, image: &str) {
        let namespace = text(pod, "/metadata/namespace").to_owned();
        let name = format!(
            "{}.{}",
            text(pod, "/metadata/name"),
            &text(pod, "/metadata/uid").replace('-', "")[..12]
        );
        let id = Id {
            group: String::new(),
            plural: "events".to_owned(),
            namespace: namespace.clone(),
            name: name.clone(),
        };
        if self.store.get(&id).is_some() {
            return;
        }
        let time = seconds(self.now);
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "type": "Warning",
            "reason": "Failed",
            "message": format!("Failed to pull image \"{image}\": not found"),
            "count": 1,
            "firstTimestamp": time,
            "lastTimestamp": time,
            "source": {"component": "kubelet", "host": "sandbox"},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "namespace": namespace,
                "name": text(pod, "/metadata/name"), "uid": text(pod, "/metadata/uid"),
            },
        });
        self.make(id, event);
    }
}

/// The first image whose tag has a word.
fn image_tagged(pod: &Value, word: &str) -> Option<String> {
    let images = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|container| container["image"].as_str());
    let mut tagged = images.filter(|image| {
        let last = image.rsplit('/').next().unwrap_or_default();
        last.split_once(':')
            .is_some_and(|(_, tag)| !word.is_empty() && tag.contains(word))
    });
    tagged.next().map(str::to_owned)
}

/// Writes the status of a pod: starting, ready (a Job's has ended), or without its image.
fn report(pod: &mut Value, due: bool, missing: Option<&str>, fails: bool, now: Timestamp) {
    let owner = pod["metadata"]["ownerReferences"][0]["kind"]
        .as_str()
        .unwrap_or_default();
    let done = due && missing.is_none() && owner == "Job";
    let ready = due && missing.is_none() && !done;
    let started = pod["status"]["startTime"]
        .as_str()
        .map_or_else(|| seconds(now), str::to_owned);
    let containers = pod["spec"]["containers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let status = |container: &Value| {
        let image = text(container, "/image");
        let state = if done {
            let (code, reason) = if fails {
                (1, "Error")
            } else {
                (0, "Completed")
            };
            json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": seconds(now)}})
        } else if ready {
            json!({"running": {"startedAt": started}})
        } else if due && missing == Some(image) {
            let message =
                format!("Back-off pulling image \"{image}\": ErrImagePull: {image}: not found");
            json!({"waiting": {"reason": "ImagePullBackOff", "message": message}})
        } else {
            json!({"waiting": {"reason": "ContainerCreating"}})
        };
        json!({
            "name": container["name"], "image": image, "imageID": "", "ready": ready, "started": ready, "restartCount": 0,
            "state": state, "lastState": {},
        })
    };
    pod["status"]["phase"] = json!(if done && fails {
        "Failed"
    } else if done {
        "Succeeded"
    } else if ready {
        "Running"
    } else {
        "Pending"
    });
    pod["status"]["startTime"] = json!(started);
    pod["status"]["qosClass"] = json!("BestEffort");
    pod["status"]["containerStatuses"] = containers.iter().map(status).collect();
    if ready {
        pod["status"]["podIP"] = json!("127.0.0.1");
        pod["status"]["hostIP"] = json!("127.0.0.1");
    }
    super::condition(pod, "PodScheduled", "True", "", "", now);
    super::condition(pod, "Initialized", "True", "", "", now);
    let names: Vec<&str> = containers
        .iter()
        .map(|container| text(container, "/name"))
        .collect();
    let (state, reason, message) = match (ready, done) {
        (true, _) => ("True", "", String::new()),
        (_, true) => ("False", "PodCompleted", String::new()),
        _ => (
            "False",
            "ContainersNotReady",
            format!("containers with unready status: [{}]", names.join(" ")),
        ),
    };
    super::condition(pod, "ContainersReady", state, reason, &message, now);
    super::condition(pod, "Ready", state, reason, &message, now);
}
