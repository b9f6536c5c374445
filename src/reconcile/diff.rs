//! Diffs between Git and the cluster, object by object, with the managers of changed fields.
//!
//! Based on a server-side dry run, so that defaults and admission webhooks cause no differences. An
//! object whose record, manifest and live state agree needs none: a sync would leave it as it is.

mod dry_run;
mod foreign;
mod namespaces;
mod reads;
mod recorded;
mod text;

pub use dry_run::{ApplyRefusal, DryRun, DryRunResult};
pub use foreign::ForeignOwners;
pub(crate) use foreign::explain_missing;
pub use reads::ClusterReads;
pub use text::unified_diff;

use super::{
    ClusterKinds,
    cluster_state::observed::{self, ForeignChange},
    status::COMPLETED_AND_GONE,
};
use crate::{
    core::error::Classify as _,
    io::{
        cluster::{ClusterClient, ClusterError, ClusterProblem, RequestIdentity},
        render::Rendered,
    },
    objects::{
        health::{KindTraits, RunEnd},
        object::{ApplyMode, Gvk, Object, ObjectKey},
        plan::{self, DesiredObject, Inventory, LiveObject, ObjectOwner},
    },
    spec::Application,
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use recorded::Recorded;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex},
};
use text::diff_in_background;

/// What applying would do to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ChangeKind {
    Create,
    Change,
    Delete,
    None,
    /// The API server refuses the object.
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectDiff {
    pub object: String,
    /// File and line of the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    pub change: ChangeKind,
    /// A unified diff from the live object to the desired one, with values of Secrets masked.
    pub diff: String,
    /// Fields that other managers have changed, or added against what Git says.
    pub changed_by: Vec<ForeignChange>,
    /// Released fields whose live value differs from Git.
    pub notes: Vec<String>,
    /// Why the object is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ObjectDiff {
    fn new(key: &ObjectKey, place: Option<String>, change: ChangeKind) -> Self {
        Self {
            object: key.to_string(),
            place,
            change,
            diff: String::new(),
            changed_by: Vec::new(),
            notes: Vec::new(),
            error: None,
            hint: None,
        }
    }
}

/// Objects compared at once; the cluster bounds requests beside that.
const CONCURRENCY: usize = 8;

/// Returns the objects that an Application declares, as [`ObjectDiff::object`] names them.
///
/// # Errors
/// If the cluster does not answer.
pub async fn declared_objects(
    cluster: &ClusterClient,
    application: &Application,
    rendered: &Rendered,
) -> Result<HashSet<String>, ClusterError> {
    let kinds = ClusterKinds::new(cluster, cluster.resources().await?);
    let (desired, _) = plan::desired_objects(application, rendered.objects(), &kinds);
    Ok(desired.iter().map(|one| one.key.to_string()).collect())
}

/// Compares an Application with its cluster, without changing anything.
///
/// # Errors
/// If the cluster does not answer. An error about one object is part of its diff.
pub async fn diff_objects(
    cluster: &ClusterClient,
    application: &Application,
    rendered: &Rendered,
    reads: &ClusterReads,
) -> Result<Vec<ObjectDiff>, ClusterError> {
    let inventory = reads.inventory(&application.name);
    let resources = cluster.resources().await?;
    let (desired, refused) = plan::desired_objects(
        application,
        rendered.objects(),
        &ClusterKinds::new(cluster, Arc::clone(&resources)),
    );
    let identity = RequestIdentity::of(&application.name, application.service_account.as_deref());
    let refused = refused.into_iter().map(|refused| ObjectDiff {
        error: Some(refused.why),
        ..ObjectDiff::new(
            &refused.key,
            refused.origin.map(|origin| origin.to_string()),
            ChangeKind::Refused,
        )
    });
    let mut all: Vec<ObjectDiff> = refused.collect();
    let comparison = Comparison {
        cluster,
        identity: &identity,
        desired: &desired,
        application,
        inventory: &inventory,
        reads,
        missing_namespaces: Mutex::default(),
    };
    let diffs: Vec<BoxFuture<'_, ObjectDiff>> = desired
        .iter()
        .map(|one| comparison.diff_desired(one).boxed())
        .collect();
    let diffs = stream::iter(diffs).buffered(CONCURRENCY);
    let diffs = diffs.collect::<Vec<_>>().await;
    all.extend(comparison.diff_namespaces().await);
    all.extend(diffs);
    if application.prune {
        all.extend(comparison.diff_deleted().await);
    }
    Ok(all)
}

struct Comparison<'a> {
    cluster: &'a ClusterClient,
    identity: &'a RequestIdentity,
    desired: &'a [DesiredObject],
    application: &'a Application,
    inventory: &'a Inventory,
    reads: &'a ClusterReads,
    /// Missing namespaces that an apply would create.
    missing_namespaces: Mutex<BTreeSet<String>>,
}

impl Comparison<'_> {
    async fn diff_desired(&self, one: &DesiredObject) -> ObjectDiff {
        let place = one.manifest.origin.as_ref().map(ToString::to_string);
        let mut diff = ObjectDiff::new(&one.key, place, ChangeKind::None);
        if one.settings.reconcile_disabled || one.settings.ssa == ApplyMode::Ignore {
            return diff;
        }
        let entry = self.inventory.entries.get(&one.key);
        let applied = entry.and_then(|entry| entry.applied.as_ref());
        // Applying would run a Job again that has completed and is gone.
        let has_completed =
            entry.is_some_and(|entry| entry.ended(one.hash) == Some(RunEnd::Completed));
        let live = match self.recorded(one, entry).await {
            Recorded::Synced(notes) => {
                diff.notes = notes;
                return diff;
            }
            Recorded::Unknown(live) => live,
        };
        let question = DryRun {
            cluster: self.cluster,
            identity: self.identity,
            one,
            application: self.application,
            applied,
            foreign_owners: &self.reads.foreign_owners,
        };
        let result = match live {
            Some(live) => question.against(Some(live)).await,
            None => question.ask().await,
        };
        match result {
            Ok(result) if one.honors_annotations && is_frozen(&result) => {}
            Ok(result) if result.live.is_none() && has_completed => {
                diff.notes.push(COMPLETED_AND_GONE.to_owned());
            }
            Ok(result) => {
                let DryRunResult {
                    live,
                    manifest,
                    applied: answer,
                    ignore,
                    notes,
                    removed,
                } = result;
                diff.notes = notes;
                diff.diff = diff_in_background(&one.key, live.clone(), Some(answer.live)).await;
                diff.change = match (&live, diff.diff.is_empty()) {
                    (None, _) => ChangeKind::Create,
                    (Some(_), false) => ChangeKind::Change,
                    (Some(_), true) => ChangeKind::None,
                };
                // Other managers matter only if Git has not changed since the last apply.
                let git_unchanged = applied.is_none_or(|applied| applied.manifest == one.hash);
                if let (ChangeKind::Change, Some(live), true) = (diff.change, &live, git_unchanged)
                {
                    let atomic_fields = applied
                        .map(|applied| applied.atomic_fields.clone())
                        .unwrap_or_default();
                    diff.changed_by =
                        observed::changed_by(&manifest, live, &ignore, &atomic_fields);
                }
                if diff.change == ChangeKind::Change {
                    diff.changed_by.extend(removed);
                }
            }
            // The API server cannot judge an object whose namespace or kind comes with it.
            Err(ApplyRefusal { error, .. }) if self.provides_missing(&error, one) => {
                diff.change = ChangeKind::Create;
                diff.diff = match one.manifest.object() {
                    Ok(manifest) => diff_in_background(&one.key, None, Some(manifest)).await,
                    Err(_) => String::new(),
                };
            }
            Err(ApplyRefusal { error, why }) => {
                let error = explain_missing(&self.application.rights, error);
                let why = match &*error.problem {
                    ClusterProblem::Refused { why } => why.clone(),
                    _ => why,
                };
                diff.change = ChangeKind::Refused;
                diff.hint = error.hint();
                diff.error = Some(why);
            }
        }
        diff
    }

    /// Returns the objects that a prune would delete, whether or not it needs a confirmation.
    async fn diff_deleted(&self) -> Vec<ObjectDiff> {
        let desired: HashSet<&ObjectKey> = self.desired.iter().map(|one| &one.key).collect();
        let reads: Vec<BoxFuture<'_, Option<(ObjectKey, LiveObject, Object)>>> = self
            .inventory
            .entries
            .iter()
            .filter(|(key, _)| !desired.contains(key))
            .map(|(key, entry)| read_live(self.cluster, key, &entry.version).boxed())
            .collect();
        let reads = stream::iter(reads).buffered(CONCURRENCY);
        let live: HashMap<ObjectKey, (LiveObject, Object)> = reads
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .flatten()
            .map(|(key, live, object)| (key, (live, object)))
            .collect();
        let owner = ObjectOwner {
            own_namespace: self.cluster.own_namespace(),
            application: &self.application.name,
            prune: true,
            deleting: false,
            revision: "",
            rights: &self.application.rights,
            cluster: self.cluster.name(),
        };
        let prune = plan::plan_prune(
            owner,
            self.desired,
            self.inventory,
            |key| live.get(key).map(|(live, _)| live),
            |_| false,
        );
        let confirmation = prune.confirmation.map(|why| {
            let application = &self.application.name;
            format!("only after `tagboat sync {application} --confirm-prune`: {why}")
        });
        let mut deleted = Vec::new();
        for object in &prune.delete {
            if let Some((_, before)) = live.get(&object.key) {
                let diff = diff_in_background(&object.key, Some(before.clone()), None).await;
                deleted.push(ObjectDiff {
                    diff,
                    notes: confirmation.iter().cloned().collect(),
                    ..ObjectDiff::new(&object.key, None, ChangeKind::Delete)
                });
            }
        }
        deleted
    }
}

fn is_frozen(result: &DryRunResult) -> bool {
    let live = result.live.as_ref();
    live.is_some_and(|live| live.settings().reconcile_disabled)
}

/// Reads an object of the inventory; `None` if it is gone or cannot be read.
async fn read_live(
    cluster: &ClusterClient,
    key: &ObjectKey,
    version: &str,
) -> Option<(ObjectKey, LiveObject, Object)> {
    let gvk = Gvk {
        group: key.group.clone(),
        version: version.to_owned(),
        kind: key.kind.clone(),
    };
    let resource = cluster.resource(&gvk).await.ok()?;
    let object = cluster
        .get(&RequestIdentity::Own, &resource, key)
        .await
        .ok()??;
    Some((
        key.clone(),
        observed::observe(&object, None, KindTraits::default()).live,
        object,
    ))
}
