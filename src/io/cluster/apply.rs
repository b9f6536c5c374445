//! Applies one object: server-side apply, with conflicts named, and fields of former tools taken
//! over.
//!
//! The first attempt is not forced. Only if the server reports that other managers own fields is it
//! sent again with force, so that the outcome names manager and field; an object with a single
//! writer costs one request.

use super::{
    ClusterClient, RequestIdentity,
    apply_target::{ApplyTarget, LAST_APPLIED, TakeOver, hand_over, is_stale},
    discovery::Resource,
    error::{ClusterError, ClusterProblem, FieldConflict},
    read::core,
    request::{ApiRequest, ApiResponse, RequestVerb, jitter},
    url,
};
use crate::objects::{
    managed_fields::{self, AddedField, TakeOverRules},
    object::{ApplyMode, MANAGER, Object, ObjectKey},
};
use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

/// Retries of an apply that collided with another write at the same moment.
const RACES: u32 = 3;
/// Retries of a take-over while the object keeps changing.
const TAKE_OVER_TRIES: usize = 5;

/// Options of an apply. The object's annotations (`ssa: Merge`, `ssa: IfNotPresent`) are honoured
/// as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyRequest {
    /// The server checks and answers, and keeps nothing.
    pub dry_run: bool,
    /// Fields that other managers hold become ours.
    pub force: bool,
    /// Take over fields of the managers in `clusters[].takeOver`, so that fields the manifest does
    /// not name are removed.
    pub take_over: bool,
    /// Fields that are never taken over, as `TakeOverRules::kept` has them.
    pub keep: Vec<String>,
    /// The resourceVersion of the object as last seen: tells exactly whether this changed
    /// something.
    pub previous: Option<String>,
}

impl Default for ApplyRequest {
    fn default() -> Self {
        Self {
            dry_run: false,
            force: true,
            take_over: true,
            keep: Vec::new(),
            previous: None,
        }
    }
}

/// The result of an apply.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplyResult {
    /// The object as the server has it now; in a dry run, as it would have it.
    pub live: Object,
    pub created: bool,
    /// True if the object may have changed. `false` is certain: the resourceVersion is the one seen
    /// before, or our last change is seconds old. `true` can mean "within this very second, by us"
    /// if no version was given.
    pub changed: bool,
    /// The fields that were held by others and are ours now.
    pub forced: Vec<FieldConflict>,
    /// The tools whose fields were taken over (in a dry run: would be).
    pub took_over: Vec<String>,
    /// In a dry run, the fields of these tools that would be removed, as paths.
    pub removes: Vec<String>,
    /// Warnings of the server, such as unknown or deprecated fields.
    pub warnings: Vec<String>,
}

impl ClusterClient {
    /// Applies an object.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`]. [`ClusterProblem::Conflict`] only if `how.force`
    /// is off, or if the object changes faster than fields can be taken over.
    pub async fn apply(
        &self,
        identity: &RequestIdentity,
        object: &Object,
        how: &ApplyRequest,
    ) -> Result<ApplyResult, ClusterError> {
        let key = object.key();
        let subject = key.to_string();
        let resource = self
            .resource(&object.gvk())
            .await
            .map_err(|error| ClusterError {
                subject: subject.clone(),
                ..error
            })?;
        let settings = object.settings();
        let body = {
            let mut sent = object.clone();
            sent.strip();
            serde_json::to_vec(sent.value()).map_err(|error| {
                self.fault(
                    &subject,
                    ClusterProblem::Protocol {
                        why: error.to_string(),
                    },
                )
            })?
        };
        let to = ApplyTarget {
            identity,
            resource: &resource,
            key: &key,
            subject: &subject,
            body: Bytes::from(body),
            dry_run: how.dry_run,
        };

        if settings.ssa == ApplyMode::IfNotPresent {
            return self.create_where_missing(&to).await;
        }
        let takes_over = how.take_over && settings.ssa != ApplyMode::Merge;
        let take_over = TakeOver {
            rules: TakeOverRules {
                managers: &self.inner.take_over,
                kept: &how.keep,
            },
            manifest: object,
        };
        let mut applied = match self.patch(&to, how.force).await {
            Ok((answer, forced)) => ApplyResult {
                forced,
                ..self.applied(&to, &answer, how.previous.as_deref())?
            },
            // A dry run hands nothing over, so it is refused.
            Err(refusal) if how.force && takes_over && !how.dry_run => {
                let again = self.apply_refused(&to, &take_over, refusal).await?;
                ApplyResult {
                    forced: again.claimed,
                    took_over: again.took_over,
                    ..self.applied(&to, &again.answer, None)?
                }
            }
            Err(error) => return Err(error),
        };
        if takes_over && !applied.created {
            applied = self.take_over(&to, &take_over, applied).await?;
        }
        Ok(applied)
    }

    /// Applies; with the fields that had to be forced. A conflict that names no field is a race for
    /// the object itself, which the next try has won or lost for good.
    pub(super) async fn patch(
        &self,
        to: &ApplyTarget<'_>,
        may_force: bool,
    ) -> Result<(ApiResponse, Vec<FieldConflict>), ClusterError> {
        let (mut forced, mut races) = (Vec::new(), 0);
        loop {
            let force = if forced.is_empty() { "" } else { "true" };
            let query = url::query(&[
                ("fieldManager", MANAGER),
                ("force", force),
                ("dryRun", to.dry_run()),
            ]);
            let call = to.call(self, RequestVerb::Apply, Method::PATCH, &query)?;
            let error = match self
                .call(ApiRequest {
                    content: "application/apply-patch+yaml",
                    body: to.body.clone(),
                    ..call
                })
                .await
            {
                Ok(answer) => return Ok((answer, forced)),
                Err(error) => error,
            };
            match &*error.problem {
                ClusterProblem::Conflict { fields, .. }
                    if may_force && forced.is_empty() && !fields.is_empty() =>
                {
                    forced.clone_from(fields)
                }
                ClusterProblem::Conflict { fields, .. } if fields.is_empty() && races < RACES => {
                    races += 1;
                    tokio::time::sleep(jitter(50)).await;
                }
                _ => return Err(error),
            }
        }
    }

    fn applied(
        &self,
        to: &ApplyTarget<'_>,
        answer: &ApiResponse,
        previous: Option<&str>,
    ) -> Result<ApplyResult, ClusterError> {
        let live = self.object(to.subject, &answer.body)?;
        let created = answer.status == hyper::StatusCode::CREATED;
        let same = match previous {
            Some(previous) => live.resource_version() == Some(previous),
            None => is_older(&live, answer),
        };
        let warnings = answer
            .headers
            .get_all("warning")
            .iter()
            .filter_map(|value| warning(value.to_str().ok()?))
            .collect();
        Ok(ApplyResult {
            live,
            created,
            changed: created || !same,
            forced: Vec::new(),
            took_over: Vec::new(),
            removes: Vec::new(),
            warnings,
        })
    }

    /// Makes the fields of former tools ours and applies again: then what the manifest does not
    /// name goes.
    async fn take_over(
        &self,
        to: &ApplyTarget<'_>,
        take_over: &TakeOver<'_>,
        mut applied: ApplyResult,
    ) -> Result<ApplyResult, ClusterError> {
        let TakeOver { rules, manifest } = take_over;
        let mut took_over = std::mem::take(&mut applied.took_over);
        for _ in 0..TAKE_OVER_TRIES {
            let remembers = !rules.managers.is_empty()
                && applied.live.annotation(LAST_APPLIED).is_some()
                && !to.names_annotation(LAST_APPLIED);
            let taken = rules.take(&applied.live, manifest);
            if taken.is_none() && !remembers {
                return Ok(ApplyResult {
                    took_over,
                    ..applied
                });
            }
            let entries = taken.map(|taken| {
                took_over.extend(taken.managers);
                to.keep_replicas(taken.entries)
            });
            took_over.sort();
            took_over.dedup();
            if to.dry_run {
                let removed = self.removed_additions(to, take_over, &applied.live).await;
                return Ok(ApplyResult {
                    live: managed_fields::without(&applied.live, &removed, manifest).0,
                    took_over,
                    removes: removed.into_iter().map(|field| field.path).collect(),
                    ..applied
                });
            }
            let patch = hand_over(&applied.live, entries, remembers);
            match self.hand_over_fields(to, &patch).await {
                Ok(()) => {
                    let (answer, _) = self.patch(to, true).await?;
                    let again = self.applied(to, &answer, None)?;
                    applied = ApplyResult {
                        live: again.live,
                        changed: true,
                        ..applied
                    };
                }
                // Changed in between, or a former tool wrote again: read the object again.
                Err(error) if is_stale(&error) => {
                    match self.get(to.identity, to.resource, to.key).await? {
                        Some(live) => applied.live = live,
                        None => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let fields = took_over
            .iter()
            .map(|manager| FieldConflict {
                manager: manager.clone(),
                field: "(all)".to_owned(),
            })
            .collect();
        let message = format!(
            "{} writes it as fast as its fields are taken over",
            took_over.join(", ")
        );
        Err(self.fault(to.subject, ClusterProblem::Conflict { message, fields }))
    }

    /// Returns the additions that an apply removes for good: tools that create objects own the
    /// defaults of the API server, too, and it sets them again. A dry run shows which.
    async fn removed_additions(
        &self,
        to: &ApplyTarget<'_>,
        TakeOver { rules, manifest }: &TakeOver<'_>,
        live: &Object,
    ) -> Vec<AddedField> {
        let mut additions = rules.removable_additions(live, manifest);
        if additions.is_empty() {
            return additions;
        }
        let (_, removed) = managed_fields::without(live, &additions, manifest);
        let operations = removed
            .iter()
            .map(|pointer| json!({"op": "remove", "path": pointer}));
        let patch = Value::Array(operations.collect());
        // A patch that is refused says nothing: then all of them may go.
        if let Ok(answer) = self.json_patch(to, &patch).await
            && let Ok(after) = self.object(to.subject, &answer.body)
        {
            additions.retain(|field| after.pointer(&field.pointer) != live.pointer(&field.pointer));
        }
        additions
    }

    /// `ssa: IfNotPresent`: what exists is left alone.
    async fn create_where_missing(
        &self,
        to: &ApplyTarget<'_>,
    ) -> Result<ApplyResult, ClusterError> {
        let left = |live| ApplyResult {
            live,
            created: false,
            changed: false,
            forced: Vec::new(),
            took_over: Vec::new(),
            removes: Vec::new(),
            warnings: Vec::new(),
        };
        if let Some(live) = self.get(to.identity, to.resource, to.key).await? {
            return Ok(left(live));
        }
        match self.create(to).await {
            Ok(answer) => self.applied(to, &answer, None),
            Err(error) if matches!(*error.problem, ClusterProblem::Conflict { .. }) => {
                match self.get(to.identity, to.resource, to.key).await? {
                    Some(live) => Ok(left(live)),
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn create(&self, to: &ApplyTarget<'_>) -> Result<ApiResponse, ClusterError> {
        let query = url::query(&[("fieldManager", MANAGER), ("dryRun", to.dry_run())]);
        // The name is validated although it is only part of the body.
        url::item(to.resource, to.key).map_err(|problem| self.fault(to.subject, problem))?;
        let collection = url::collection(to.resource, to.key.namespace.as_deref())
            .map_err(|problem| self.fault(to.subject, problem))?;
        let call = to.call(self, RequestVerb::Create, Method::POST, "")?;
        // Sent twice it answers that the object exists, which every caller reads as such.
        self.call(ApiRequest {
            path: format!("{collection}{query}"),
            body: to.body.clone(),
            ..call
        })
        .await
    }

    /// Creates an object and nothing else: [`ClusterProblem::Conflict`] where it exists.
    pub(crate) async fn create_object(
        &self,
        resource: &Resource,
        object: &Value,
        key: &ObjectKey,
    ) -> Result<Object, ClusterError> {
        let subject = key.to_string();
        let body = Bytes::from(object.to_string());
        let to = ApplyTarget {
            identity: &RequestIdentity::Own,
            resource,
            key,
            subject: &subject,
            body,
            dry_run: false,
        };
        let answer = self.create(&to).await?;
        self.object(&subject, &answer.body)
    }

    /// Makes sure that a namespace exists; whether it had to be created. Nothing of an existing one
    /// is changed.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub async fn ensure_namespace(
        &self,
        identity: &RequestIdentity,
        name: &str,
    ) -> Result<bool, ClusterError> {
        let resource = core("Namespace", "namespaces", false);
        let key = resource.key(None, name);
        let subject = key.to_string();
        let body = Bytes::from(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
                .to_string(),
        );
        let to = ApplyTarget {
            identity,
            resource: &resource,
            key: &key,
            subject: &subject,
            body,
            dry_run: false,
        };
        match self.create(&to).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(*error.problem, ClusterProblem::Conflict { .. }) => Ok(false),
            // Creating the namespace may be forbidden and unnecessary at once.
            Err(error) if matches!(*error.problem, ClusterProblem::Forbidden { .. }) => {
                match self.get(identity, &resource, &key).await {
                    Ok(Some(_)) => Ok(false),
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }
}

/// Returns whether our last change is older than this response, by the server's own clock: then
/// this one changed nothing.
fn is_older(live: &Object, answer: &ApiResponse) -> bool {
    let now = answer
        .headers
        .get("date")
        .and_then(|date| jiff::fmt::rfc2822::parse(date.to_str().ok()?).ok());
    let entries = live
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    let ours = entries
        .into_iter()
        .flatten()
        .filter(|entry| entry["manager"] == MANAGER && entry["operation"] == "Apply");
    let last = ours
        .filter_map(|entry| entry["time"].as_str()?.parse::<jiff::Timestamp>().ok())
        .max();
    match (now, last) {
        (Some(now), Some(last)) => now.timestamp().duration_since(last).as_secs() >= 2,
        _ => false,
    }
}

/// The text of a `Warning` header: `299 - "unknown field \"spec.x\""`.
fn warning(value: &str) -> Option<String> {
    let text = value.split_once('"')?.1;
    let text = text.rsplit_once('"').map_or(text, |(text, _)| text);
    Some(text.replace("\\\"", "\"").replace("\\\\", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apply_warning_headers_are_parsed() {
        assert_eq!(
            warning(r#"299 - "unknown field \"spec.x\"""#).as_deref(),
            Some(r#"unknown field "spec.x""#)
        );
        assert_eq!(warning("299"), None);
    }
}
