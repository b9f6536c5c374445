//! Validation of fields that exclude each other, in the words of the API server. Pure.

use super::kinds::SandboxKind;
use crate::objects::quantity;
use serde_json::Value;
use std::{cmp::Ordering, collections::BTreeSet};

/// Handlers of a probe.
const HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];

/// Reports the first refused field of each kind.
pub(super) fn check(
    kind: &SandboxKind,
    old: Option<&Value>,
    new: &Value,
    wrong: &mut dyn FnMut(&str, String),
) {
    match kind.kind.as_str() {
        "Service" => service(new, wrong),
        "Deployment" => strategy(new, wrong),
        "PersistentVolumeClaim" => claim(old, new, wrong),
        _ => {}
    }
    for place in ["spec", "spec.template.spec"] {
        let pointer = format!("/{}", place.replace('.', "/"));
        if let Some(spec) = new.pointer(&pointer).filter(|spec| spec.is_object()) {
            pod(place, spec, wrong);
        }
    }
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = (usize, &'v Value)> {
    value[name].as_array().into_iter().flatten().enumerate()
}

fn service(new: &Value, wrong: &mut dyn FnMut(&str, String)) {
    let mut names = BTreeSet::new();
    for (index, port) in list(&new["spec"], "ports") {
        if let Some(name) = port["name"].as_str()
            && !names.insert(name)
        {
            let field = format!("spec.ports[{index}].name");
            wrong(&field, format!("Duplicate value: {name:?}"));
        }
    }
}

fn strategy(new: &Value, wrong: &mut dyn FnMut(&str, String)) {
    let strategy = &new["spec"]["strategy"];
    if strategy["type"] == "Recreate" && !strategy["rollingUpdate"].is_null() {
        let message = "Forbidden: may not be specified when strategy `type` is 'Recreate'";
        wrong("spec.strategy.rollingUpdate", message.to_owned());
    }
}

fn claim(old: Option<&Value>, new: &Value, wrong: &mut dyn FnMut(&str, String)) {
    let storage = |claim: &Value| claim.pointer("/spec/resources/requests/storage").cloned();
    let (before, after) = (old.and_then(storage), storage(new));
    if let (Some(before), Some(after)) = (before, after)
        && quantity::compare(&after, &before) == Some(Ordering::Less)
    {
        let message = "Forbidden: field can not be less than status.capacity";
        wrong("spec.resources.requests.storage", message.to_owned());
    }
}

fn pod(place: &str, spec: &Value, wrong: &mut dyn FnMut(&str, String)) {
    for (index, volume) in list(spec, "volumes") {
        let types = volume
            .as_object()
            .into_iter()
            .flat_map(|volume| volume.keys());
        if let Some(second) = types.filter(|name| *name != "name").nth(1) {
            let field = format!("{place}.volumes[{index}].{second}");
            let message = "Forbidden: may not specify more than 1 volume type";
            wrong(&field, message.to_owned());
        }
    }
    for (index, container) in list(spec, "containers") {
        let place = format!("{place}.containers[{index}]");
        for (index, variable) in list(container, "env") {
            let value = variable["value"].as_str().unwrap_or_default();
            if !value.is_empty() && !variable["valueFrom"].is_null() {
                let message = "Invalid value: \"\": may not be specified when `value` is not empty";
                wrong(
                    &format!("{place}.env[{index}].valueFrom"),
                    message.to_owned(),
                );
            }
        }
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            let handlers = HANDLERS
                .iter()
                .filter(|name| !container[probe][**name].is_null());
            if let Some(second) = handlers.into_iter().nth(1) {
                let message = "Forbidden: may not specify more than 1 handler type";
                wrong(&format!("{place}.{probe}.{second}"), message.to_owned());
            }
        }
    }
}
