//! The end of objects that run once: Jobs and their like.

use crate::objects::object::Object;
use serde_json::Value;

/// The end of an object that runs once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunEnd {
    Completed,
    Failed,
}

/// Returns how an object that runs once has ended; `None` while it runs, and for other kinds.
pub fn run_end(object: &Object) -> Option<RunEnd> {
    let gvk = object.gvk();
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("batch", "Job") => condition_end(object, "Complete", "Failed"),
        ("", "Pod") => phase_end(object),
        ("argoproj.io", "Workflow") => phase_end(object),
        ("tekton.dev", "TaskRun" | "PipelineRun") => match condition_status(object, "Succeeded")? {
            "True" => Some(RunEnd::Completed),
            "False" => Some(RunEnd::Failed),
            _ => None,
        },
        _ => None,
    }
}

/// Returns whether the cluster deletes an object some time after it has ended.
pub fn expires(object: &Object) -> bool {
    let gvk = object.gvk();
    let field = match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("batch", "Job") => "/spec/ttlSecondsAfterFinished",
        ("argoproj.io", "Workflow") => "/spec/ttlStrategy",
        _ => return false,
    };
    object.pointer(field).is_some_and(|value| !value.is_null())
}

fn phase_end(object: &Object) -> Option<RunEnd> {
    match object.pointer("/status/phase")?.as_str()? {
        "Succeeded" => Some(RunEnd::Completed),
        "Failed" | "Error" => Some(RunEnd::Failed),
        _ => None,
    }
}

fn condition_end(object: &Object, completed: &str, failed: &str) -> Option<RunEnd> {
    if condition_status(object, completed) == Some("True") {
        return Some(RunEnd::Completed);
    }
    (condition_status(object, failed) == Some("True")).then_some(RunEnd::Failed)
}

fn condition_status<'o>(object: &'o Object, kind: &str) -> Option<&'o str> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let is_kind = |condition: &&Value| condition.get("type").and_then(Value::as_str) == Some(kind);
    conditions.iter().find(is_kind)?.get("status")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn run_end_table() {
        let conditions =
            |kind: &str, status: &str| json!({"conditions": [{"type": kind, "status": status}]});
        for (api_version, kind, status, end) in [
            ("batch/v1", "Job", json!({"active": 1}), None),
            ("batch/v1", "Job", conditions("Complete", "False"), None),
            (
                "batch/v1",
                "Job",
                conditions("SuccessCriteriaMet", "True"),
                None,
            ),
            (
                "batch/v1",
                "Job",
                conditions("Complete", "True"),
                Some(RunEnd::Completed),
            ),
            (
                "batch/v1",
                "Job",
                conditions("Failed", "True"),
                Some(RunEnd::Failed),
            ),
            ("v1", "Pod", json!({"phase": "Running"}), None),
            (
                "v1",
                "Pod",
                json!({"phase": "Succeeded"}),
                Some(RunEnd::Completed),
            ),
            (
                "argoproj.io/v1alpha1",
                "Workflow",
                json!({"phase": "Error"}),
                Some(RunEnd::Failed),
            ),
            (
                "tekton.dev/v1",
                "TaskRun",
                conditions("Succeeded", "Unknown"),
                None,
            ),
            (
                "tekton.dev/v1",
                "PipelineRun",
                conditions("Succeeded", "True"),
                Some(RunEnd::Completed),
            ),
            (
                "tekton.dev/v1",
                "PipelineRun",
                conditions("Succeeded", "False"),
                Some(RunEnd::Failed),
            ),
            (
                "apps/v1",
                "Deployment",
                conditions("Complete", "True"),
                None,
            ),
            ("acme.io/v1", "Job", conditions("Complete", "True"), None),
        ] {
            let object = Object::new(json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, "status": status})).unwrap();
            assert_eq!(run_end(&object), end, "{object:?}");
        }
    }
}
