//! What Git says and what the cluster has, object by object, and who changed it: asked of the
//! cluster now, with a dry run, so that defaults and webhooks make no difference.

use super::{
    ClusterKinds,
    cluster_state::observed::{self, ForeignChange},
};
use crate::{
    core::error::{Classify as _, ErrorKind},
    io::{
        cluster::{
            ApplyRequest, ApplyResult, ClusterClient, ClusterError, ClusterProblem, RequestIdentity,
        },
        render::Rendered,
    },
    objects::{
        manifest,
        object::{ApplyMode, Gvk, Object, ObjectKey},
        plan::{self, DesiredObject, Inventory, KindAtomicFields, LiveObject, ObjectOwner},
    },
    spec::Application,
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use serde::{Deserialize, Serialize};
use similar::TextDiff;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// What applying would do to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ChangeKind {
    /// It would be created.
    Create,
    /// It would be changed.
    Change,
    /// It would be deleted.
    Delete,
    /// It stays as it is.
    None,
    /// It cannot be applied.
    Refused,
}

/// An object, as Git says and as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectDiff {
    /// The object.
    pub object: String,
    /// Where its manifest stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What applying would do.
    pub change: ChangeKind,
    /// From what the cluster has to what Git says, as a unified diff; values of Secrets are masked.
    pub diff: String,
    /// Who changed what Git says.
    pub changed_by: Vec<ForeignChange>,
    /// What is left to others although Git says something else.
    pub notes: Vec<String>,
    /// Why it cannot be applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What to do about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Objects asked about at once; the cluster has its own bound beside that.
const AT_ONCE: usize = 8;

/// Compares an Application with its cluster; nothing is changed. `inventory` is what lies in the
/// cluster of it.
///
/// # Errors
/// If the cluster cannot be asked at all; what is wrong with one object is told with it.
pub async fn diff_objects(
    cluster: &ClusterClient,
    application: &Application,
    rendered: &Rendered,
    inventory: &Inventory,
) -> Result<Vec<ObjectDiff>, ClusterError> {
    let served = cluster.resources().await?;
    let (desired, refused) = plan::desired_objects(
        application,
        rendered.objects(),
        &ClusterKinds(Arc::clone(&served)),
    );
    let identity = RequestIdentity::of(&application.name, application.service_account.as_deref());
    let mut all: Vec<ObjectDiff> = refused
        .into_iter()
        .map(|refused| ObjectDiff {
            object: refused.key.to_string(),
            place: refused.origin.map(|origin| origin.to_string()),
            change: ChangeKind::Refused,
            diff: String::new(),
            changed_by: Vec::new(),
            notes: Vec::new(),
            error: Some(refused.why),
            hint: None,
        })
        .collect();
    let asked: Vec<BoxFuture<'_, ObjectDiff>> = desired
        .iter()
        .map(|one| of_wanted(cluster, &identity, one, &desired, application, inventory).boxed())
        .collect();
    all.extend(
        stream::iter(asked)
            .buffered(AT_ONCE)
            .collect::<Vec<_>>()
            .await,
    );
    if application.prune {
        let keep: HashSet<&ObjectKey> = desired.iter().map(|one| &one.key).collect();
        let old = inventory
            .entries
            .iter()
            .filter(|(key, _)| !keep.contains(key));
        let old: Vec<BoxFuture<'_, Option<(ObjectKey, LiveObject, Object)>>> = old
            .map(|(key, entry)| of_old(cluster, key, &entry.version).boxed())
            .collect();
        let old = stream::iter(old)
            .buffered(AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        let old: HashMap<ObjectKey, (LiveObject, Object)> = old
            .into_iter()
            .flatten()
            .map(|(key, live, object)| (key, (live, object)))
            .collect();
        // By the rule that prunes; whether somebody must say yes first makes no difference here.
        let owner = ObjectOwner {
            application: &application.name,
            prune: true,
            deleting: false,
            revision: "",
        };
        let pruning = plan::plan_prune(
            owner,
            &desired,
            inventory,
            |key| old.get(key).map(|(live, _)| live),
            |_| false,
        );
        all.extend(
            pruning
                .delete
                .iter()
                .filter_map(|prune| Some(of_gone(&prune.key, &old.get(&prune.key)?.1))),
        );
    }
    Ok(all)
}

/// An object that is wanted.
async fn of_wanted(
    cluster: &ClusterClient,
    identity: &RequestIdentity,
    one: &DesiredObject,
    all: &[DesiredObject],
    application: &Application,
    inventory: &Inventory,
) -> ObjectDiff {
    let mut difference = ObjectDiff {
        object: one.key.to_string(),
        place: one.manifest.origin.as_ref().map(ToString::to_string),
        change: ChangeKind::None,
        diff: String::new(),
        changed_by: Vec::new(),
        notes: Vec::new(),
        error: None,
        hint: None,
    };
    if one.settings.reconcile_disabled || one.settings.ssa == ApplyMode::Ignore {
        return difference;
    }
    let noted = inventory
        .entries
        .get(&one.key)
        .and_then(|entry| entry.applied.as_ref());
    match dry_run(cluster, identity, one, application, noted).await {
        Ok(DryRunResult {
            live: Some(live), ..
        }) if live.settings().reconcile_disabled => {}
        Ok(DryRunResult {
            live,
            manifest,
            applied,
            ignore,
            notes,
        }) => {
            difference.notes = notes;
            difference.diff = unified_diff(&one.key, SIDES, live.as_ref(), Some(&applied.live));
            difference.change = match (&live, difference.diff.is_empty()) {
                (None, _) => ChangeKind::Create,
                (Some(_), false) => ChangeKind::Change,
                (Some(_), true) => ChangeKind::None,
            };
            // Who else wrote is of interest where Git has not moved.
            let same = inventory
                .entries
                .get(&one.key)
                .and_then(|entry| entry.applied.as_ref());
            if difference.change == ChangeKind::Change
                && let Some(live) =
                    live.filter(|_| same.is_none_or(|applied| applied.manifest == one.hash))
            {
                let atoms = same
                    .map(|applied| applied.atoms.clone())
                    .unwrap_or_default();
                difference.changed_by = observed::changed_by(&manifest, &live, &ignore, &atoms);
            }
        }
        // What it needs comes with it: the server cannot say yet what it would make of it.
        Err(ApplyRefusal { error, .. }) if comes_first(&error, one, all) => {
            difference.change = ChangeKind::Create;
            difference.diff = one
                .manifest
                .object()
                .map(|manifest| unified_diff(&one.key, SIDES, None, Some(&manifest)))
                .unwrap_or_default();
        }
        Err(ApplyRefusal { error, why }) => {
            difference.change = ChangeKind::Refused;
            difference.hint = error.hint();
            difference.error = Some(why);
        }
    }
    difference
}

/// Whether something is missing that the same Application brings.
fn comes_first(error: &ClusterError, one: &DesiredObject, all: &[DesiredObject]) -> bool {
    match &*error.problem {
        ClusterProblem::NamespaceMissing { namespace } => all.iter().any(|other| {
            other.key.group.is_empty()
                && other.key.kind == "Namespace"
                && other.key.name == *namespace
        }),
        ClusterProblem::UnknownKind { .. } => !one.known && !one.after.is_empty(),
        _ => false,
    }
}

/// What is live of an object that is noted and no longer wanted; nothing if it is gone already.
async fn of_old(
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
    Some((key.clone(), observed::look(&object, None).live, object))
}

/// An object that is to be deleted.
fn of_gone(key: &ObjectKey, live: &Object) -> ObjectDiff {
    ObjectDiff {
        object: key.to_string(),
        place: None,
        change: ChangeKind::Delete,
        diff: unified_diff(key, SIDES, Some(live), None),
        changed_by: Vec::new(),
        notes: Vec::new(),
        error: None,
        hint: None,
    }
}

/// The server's dry run of an object, with what it was asked about.
#[derive(Debug)]
pub struct DryRunResult {
    /// What the cluster has now.
    pub live: Option<Object>,
    /// What Git says.
    pub manifest: Object,
    /// What the server would make of it.
    pub applied: ApplyResult,
    /// Pointers that the Application's rules ignore.
    pub(crate) ignore: Arc<[String]>,
    /// What is left to others, and worth knowing.
    pub(crate) notes: Vec<String>,
}

/// Why an object was not taken, in truth or in a dry run.
#[derive(Debug)]
pub struct ApplyRefusal {
    /// The server's refusal, or why it could not be asked.
    pub error: ClusterError,
    /// The same in words that people may see: a server quotes what it refuses, and a Secret is
    /// masked in that.
    pub why: String,
}

impl ApplyRefusal {
    /// Where the live object is not at hand: policies quote what is there, too, so that a Secret is
    /// read, as whoever watches.
    pub(crate) async fn of(
        cluster: &ClusterClient,
        key: &ObjectKey,
        gvk: &Gvk,
        manifest: Option<&Object>,
        error: ClusterError,
    ) -> Self {
        let live = async {
            let resource = cluster.resource(gvk).await?;
            cluster.get(&RequestIdentity::Own, &resource, key).await
        };
        let quotes = gvk.is("", "Secret") && error.kind() == ErrorKind::Config;
        let live = if quotes {
            live.await.ok().flatten()
        } else {
            None
        };
        Self::new(error, live.as_ref(), manifest)
    }
}

impl ApplyRefusal {
    fn new(error: ClusterError, live: Option<&Object>, manifest: Option<&Object>) -> Self {
        Self {
            why: plan::mask_values(&error.problem.to_string(), [live, manifest]),
            error,
        }
    }
}

/// Asks a cluster what it would make of an object, sent as it would be: as this identity, with
/// fields that are left to others left out; `noted` is what the inventory says of it. Nothing is
/// changed.
///
/// # Errors
/// The server's refusal, or why it could not be asked.
pub async fn dry_run(
    cluster: &ClusterClient,
    identity: &RequestIdentity,
    one: &DesiredObject,
    application: &Application,
    noted: Option<&plan::AppliedState>,
) -> Result<DryRunResult, ApplyRefusal> {
    let manifest = one.manifest.object().map_err(|error| {
        let problem = Box::new(ClusterProblem::Protocol {
            why: error.to_string(),
        });
        ApplyRefusal::new(
            ClusterError {
                cluster: cluster.name().to_owned(),
                subject: one.key.to_string(),
                problem,
            },
            None,
            None,
        )
    })?;
    let refusal = |error| ApplyRefusal::new(error, None, Some(&manifest));
    let resource = cluster.resource(&one.gvk()).await.map_err(refusal)?;
    // Read as whoever watches: an account that may only apply needs no more.
    let live = cluster
        .get(&RequestIdentity::Own, &resource, &one.key)
        .await
        .map_err(refusal)?;
    let ignore = observed::ignored(&application.ignore, &one.key);
    let watched = observed::WatchedManifest {
        manifest: one.manifest.clone(),
        ignore: Arc::clone(&ignore),
        expected: None,
        atoms: KindAtomicFields::NONE,
    };
    let held = live
        .as_ref()
        .map(|live| observed::look(live, Some(&watched)).held)
        .unwrap_or_default();
    let held = observed::still_held(held, &manifest, noted);
    let notes = held
        .iter()
        .filter_map(observed::ReleasedField::note)
        .collect();
    let sent = observed::sent(manifest.clone(), &held);
    let applied = cluster
        .apply(
            identity,
            &sent,
            &ApplyRequest {
                dry_run: true,
                ..ApplyRequest::default()
            },
        )
        .await;
    let applied =
        applied.map_err(|error| ApplyRefusal::new(error, live.as_ref(), Some(&manifest)))?;
    Ok(DryRunResult {
        live,
        manifest,
        applied,
        ignore,
        notes,
    })
}

/// What the two states of a diff with a cluster are called.
const SIDES: [&str; 2] = ["cluster", "git"];

/// How long a diff may look for the shortest way to say it: beyond, it says more than it needs.
const SEARCH: Duration = Duration::from_millis(500);

/// Two states of an object as a unified diff of their YAML, with what their sides are called; empty
/// if there is no difference.
pub fn unified_diff(
    key: &ObjectKey,
    sides: [&str; 2],
    before: Option<&Object>,
    after: Option<&Object>,
) -> String {
    let (left, right) = plan::redact_pair(before, after);
    let text = |object: &Option<Object>| {
        object
            .as_ref()
            .map(|object| manifest::to_yaml(object.value()))
            .unwrap_or_default()
    };
    let (left, right) = (text(&left), text(&right));
    if left == right {
        return String::new();
    }
    let name = |there: bool, side: &str| {
        if there {
            format!("{side}/{key}")
        } else {
            "/dev/null".to_owned()
        }
    };
    TextDiff::configure()
        .timeout(SEARCH)
        .diff_lines(&left, &right)
        .unified_diff()
        .context_radius(3)
        .header(
            &name(before.is_some(), sides[0]),
            &name(after.is_some(), sides[1]),
        )
        .to_string()
}
