//! Applies again what the API server refused because of fields that are in the way.

use super::{
    ClusterClient,
    apply_target::{ApplyTarget, TakeOver, hand_over, is_stale},
    error::{ClusterError, ClusterProblem, FieldConflict},
    request::{ApiRequest, ApiResponse, RequestVerb},
    url,
};
use crate::objects::{
    managed_fields,
    object::{MANAGER, Object},
    refused_fields,
};
use bytes::Bytes;
use hyper::Method;
use serde_json::Value;

/// Refusals of one apply that are looked into: each may reveal another field.
const ROUNDS: usize = 4;

/// Named in place of a manager for a field that the API server set by default.
const SERVER_DEFAULT: &str = "a default of the API server";

/// The answer to an apply that had been refused.
pub(super) struct ClaimedApply {
    pub answer: ApiResponse,
    /// The fields that were in the way, with their former managers.
    pub claimed: Vec<FieldConflict>,
    /// The tools whose fields were taken over.
    pub took_over: Vec<String>,
}

impl ClusterClient {
    /// Claims the fields that made the API server refuse an apply, and applies again. Nothing of
    /// the object changes before the apply succeeds.
    ///
    /// # Errors
    /// The last refusal.
    pub(super) async fn apply_refused(
        &self,
        to: &ApplyTarget<'_>,
        take_over: &TakeOver<'_>,
        refusal: ClusterError,
    ) -> Result<ClaimedApply, ClusterError> {
        let mut refusal = refusal;
        let (mut claimed, mut took_over) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let ClusterProblem::Invalid { causes, .. } = &*refusal.problem else {
                break;
            };
            let Some(live) = self.get(to.identity, to.resource, to.key).await? else {
                break;
            };
            let Some(claim) = self.claim(to, &live, take_over, causes) else {
                break;
            };
            let patch = hand_over(&live, Some(claim.entries), false);
            match self.hand_over_fields(to, &patch).await {
                Ok(()) => {}
                Err(error) if is_stale(&error) => continue,
                Err(error) => return Err(error),
            }
            claimed.extend(claim.fields);
            took_over.extend(claim.took_over);
            took_over.sort();
            took_over.dedup();
            match self.patch(to, true).await {
                Ok((answer, forced)) => {
                    claimed.extend(forced);
                    return Ok(ClaimedApply {
                        answer,
                        claimed,
                        took_over,
                    });
                }
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// Returns the field ownership with which the apply may succeed.
    fn claim(
        &self,
        to: &ApplyTarget<'_>,
        live: &Object,
        take_over: &TakeOver<'_>,
        causes: &[String],
    ) -> Option<Claim> {
        let TakeOver { rules, manifest } = take_over;
        let mut live = live.clone();
        let mut took_over = Vec::new();
        let taken = rules.take(&live, manifest).map(|taken| {
            took_over = taken.managers;
            to.keep_replicas(taken.entries)
        });
        if let Some(entries) = &taken {
            let entries = entries.clone();
            live.edit(|fields| fields["metadata"]["managedFields"] = entries.into())
                .ok()?;
        }
        let pointers = refused_fields::in_the_way(&live, manifest, causes);
        let claimed = managed_fields::claimed(&live, &pointers, MANAGER);
        let (entries, fields) = match (claimed, taken) {
            (Some(claimed), _) => (claimed.entries, claimed.fields),
            (None, Some(entries)) => (entries, Vec::new()),
            (None, None) => return None,
        };
        let fields = fields.into_iter().flat_map(|(pointer, managers)| {
            let managers = match managers.is_empty() {
                true => vec![SERVER_DEFAULT.to_owned()],
                false => managers,
            };
            let field = pointer.replace('/', ".");
            managers.into_iter().map(move |manager| FieldConflict {
                manager,
                field: field.clone(),
            })
        });
        Some(Claim {
            entries,
            fields: fields.collect(),
            took_over,
        })
    }

    /// Sends the patch that hands fields over.
    pub(super) async fn hand_over_fields(
        &self,
        to: &ApplyTarget<'_>,
        patch: &Value,
    ) -> Result<(), ClusterError> {
        self.json_patch(to, patch).await.map(drop)
    }

    /// Sends a JSON patch, as a dry run where the apply is one.
    pub(super) async fn json_patch(
        &self,
        to: &ApplyTarget<'_>,
        patch: &Value,
    ) -> Result<ApiResponse, ClusterError> {
        let query = url::query(&[("fieldManager", MANAGER), ("dryRun", to.dry_run())]);
        let call = to.call(self, RequestVerb::Patch, Method::PATCH, &query)?;
        self.call(ApiRequest {
            content: "application/json-patch+json",
            body: Bytes::from(patch.to_string()),
            ..call
        })
        .await
    }
}

/// Field ownership to write before an apply.
struct Claim {
    entries: Vec<Value>,
    fields: Vec<FieldConflict>,
    took_over: Vec<String>,
}
