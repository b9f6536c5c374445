//! Health by the rules that users declare, which count more than those of built-in kinds.

use super::{Condition, Health, HealthStatus};
use crate::{
    objects::object::{Object, ObjectKey},
    spec::HealthRule,
};
use std::sync::Arc;

/// Returns the first rule for the kind of an object.
pub fn rule_for(rules: &[Arc<HealthRule>], key: &ObjectKey) -> Option<Arc<HealthRule>> {
    let is_of_kind = |rule: &&Arc<HealthRule>| rule.group == key.group && rule.kind == key.kind;
    rules.iter().find(is_of_kind).cloned()
}

/// Judges an object by a rule: in progress, failed, current, in this order (Flux, RFC 0009).
///
/// An expression that cannot be evaluated, mostly because a controller has not written a field yet,
/// means that the object is not healthy yet: Flux waits until its timeout.
pub(super) fn judge(object: &Object, rule: &HealthRule, conditions: &[Condition<'_>]) -> Health {
    let expressions = [
        (
            "inProgress",
            rule.in_progress.as_ref(),
            HealthStatus::InProgress,
        ),
        ("failed", rule.failed.as_ref(), HealthStatus::Failed),
        ("current", Some(&rule.current), HealthStatus::Current),
    ];
    for (name, expression, status) in expressions {
        let Some(expression) = expression else {
            continue;
        };
        match expression.evaluate(object.value()) {
            Ok(false) => {}
            Ok(true) if status == HealthStatus::Current => {
                return Health::current("its health rule `current` holds");
            }
            Ok(true) => {
                let why = reason(conditions).unwrap_or_else(|| expression.source().to_owned());
                return Health::new(status, format!("its health rule `{name}` holds: {why}"));
            }
            Err(error) => {
                return Health::in_progress(format!(
                    "its health rule `{name}` cannot be evaluated: {error}"
                ));
            }
        }
    }
    Health::in_progress(match reason(conditions) {
        Some(why) => format!("none of its health rules holds: {why}"),
        None => "none of its health rules holds".to_owned(),
    })
}

/// Returns the controller's own message about an object that is not ready.
fn reason(conditions: &[Condition<'_>]) -> Option<String> {
    let is_bad = |condition: &&Condition<'_>| match condition.kind {
        "Ready" | "Available" | "Healthy" | "Synced" => !condition.is("True"),
        "Stalled" | "Failed" | "Degraded" => condition.is("True"),
        _ => false,
    };
    let bad = conditions.iter().filter(is_bad);
    bad.map(Condition::text).next()
}
