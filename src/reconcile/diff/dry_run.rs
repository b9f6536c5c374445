//! The server-side dry run of an apply.

use super::ForeignOwners;
use crate::{
    core::error::{Classify as _, ErrorKind},
    io::cluster::{
        ApplyRequest, ApplyResult, ClusterClient, ClusterError, ClusterProblem, RequestIdentity,
    },
    objects::{
        health::KindTraits,
        object::{Gvk, Object, ObjectKey},
        plan::{self, DesiredObject, KindAtomicFields, LeafHashes},
    },
    reconcile::{
        autoscalers,
        cluster_state::{
            observed::{self, ForeignChange},
            released,
        },
    },
    spec::Application,
};
use std::sync::Arc;

/// The server-side dry run of an object, with its inputs.
#[derive(Debug)]
pub struct DryRunResult {
    pub live: Option<Object>,
    /// The manifest in Git.
    pub manifest: Object,
    pub applied: ApplyResult,
    /// JSON pointers that the Application's `ignore` rules release.
    pub(crate) ignore: Arc<[String]>,
    /// Released fields whose live value differs from Git, and additions of others that stay.
    pub(crate) notes: Vec<String>,
    /// Fields that others have added, and that the apply removes.
    pub(crate) removed: Vec<ForeignChange>,
}

/// Why an object was not applied, for real or in a dry run.
#[derive(Debug)]
pub struct ApplyRefusal {
    pub error: ClusterError,
    /// The error in words, with values of Secrets masked: an API server quotes what it refuses.
    pub why: String,
}

impl ApplyRefusal {
    /// Creates a refusal when the live object is not at hand.
    ///
    /// Admission policies quote live objects too: a live Secret is read to mask its values.
    pub(crate) async fn of(
        cluster: &ClusterClient,
        key: &ObjectKey,
        gvk: &Gvk,
        manifest: Option<&Object>,
        error: ClusterError,
    ) -> Self {
        let may_quote = gvk.is("", "Secret") && error.kind() == ErrorKind::Config;
        if !may_quote {
            return Self::new(error, None, manifest);
        }
        let live = async {
            let resource = cluster.resource(gvk).await?;
            cluster.get(&RequestIdentity::Own, &resource, key).await
        };
        Self::new(error, live.await.ok().flatten().as_ref(), manifest)
    }

    pub(super) fn new(
        error: ClusterError,
        live: Option<&Object>,
        manifest: Option<&Object>,
    ) -> Self {
        Self {
            why: plan::mask_values(&error.problem.to_string(), [live, manifest]),
            error,
        }
    }
}

/// A server-side dry run of the apply of an object, with released fields as they would be sent.
#[derive(Debug, Clone, Copy)]
pub struct DryRun<'a> {
    pub cluster: &'a ClusterClient,
    pub identity: &'a RequestIdentity,
    pub one: &'a DesiredObject,
    pub application: &'a Application,
    /// The last apply, as the inventory has it.
    pub applied: Option<&'a plan::AppliedState>,
    pub foreign_owners: &'a ForeignOwners,
}

impl DryRun<'_> {
    /// Reads the live object, and asks the API server.
    ///
    /// # Errors
    /// The refusal of the API server, or why it does not answer.
    pub async fn ask(self) -> Result<DryRunResult, ApplyRefusal> {
        let refusal = |error| {
            let manifest = self.one.manifest.object().ok();
            ApplyRefusal::new(error, None, manifest.as_ref())
        };
        let resource = self.cluster.resource(&self.one.gvk()).await;
        let resource = resource.map_err(refusal)?;
        // Read under our own identity, like the watches: an impersonated account that may only
        // apply needs no right to read.
        let own = RequestIdentity::Own;
        let live = self.cluster.get(&own, &resource, &self.one.key).await;
        self.against(live.map_err(refusal)?).await
    }

    /// Asks the API server, where the live object was read just now.
    pub(super) async fn against(self, live: Option<Object>) -> Result<DryRunResult, ApplyRefusal> {
        let Self {
            cluster,
            identity,
            one,
            application,
            applied,
            foreign_owners,
        } = self;
        let manifest = one.manifest.object().map_err(|error| {
            let problem = Box::new(ClusterProblem::Protocol {
                why: error.to_string(),
            });
            let error = ClusterError {
                cluster: cluster.name().to_owned(),
                subject: one.key.to_string(),
                problem,
            };
            ApplyRefusal::new(error, None, None)
        })?;
        if let Some(live) = &live {
            foreign_owners
                .refuse(cluster, application, &one.key, live)
                .await?;
        }
        let watched = take_over_manifest(cluster, one, application);
        let ignore = Arc::clone(&watched.ignore);
        let observed = live
            .as_ref()
            .map(|live| observed::observe(live, Some(&watched), KindTraits::default()));
        // Without the answer to the last apply, additions are the only changes known.
        let (mut released, additions, removed) =
            observed.map_or_else(Default::default, |observed| {
                (
                    observed.released,
                    observed.template_additions,
                    observed.changed,
                )
            });
        if released::overrides_scale(&released, &manifest, applied)
            && autoscalers::is_free(cluster, &one.key, &released).await
        {
            released::unscale(&mut released);
        }
        let notes = released
            .iter()
            .filter_map(released::ReleasedField::note)
            .chain(observed::addition_notes(&additions))
            .collect();
        let sent = released::outgoing(manifest.clone(), &released);
        let request = ApplyRequest {
            dry_run: true,
            keep: released::kept_fields(&ignore, &released),
            ..ApplyRequest::default()
        };
        let result = cluster.apply(identity, &sent, &request).await;
        let applied =
            result.map_err(|error| ApplyRefusal::new(error, live.as_ref(), Some(&manifest)))?;
        let removed = removed
            .into_iter()
            .filter(|change| applied.removes.contains(&change.path))
            .collect();
        Ok(DryRunResult {
            live,
            manifest,
            applied,
            ignore,
            notes,
            removed,
        })
    }
}

/// Returns the manifest that judges a live object of which no apply is known.
pub(super) fn take_over_manifest(
    cluster: &ClusterClient,
    one: &DesiredObject,
    application: &Application,
) -> observed::WatchedManifest {
    observed::WatchedManifest {
        manifest: one.manifest.clone(),
        ignore: observed::ignore_pointers(&application.ignore, &one.key),
        expected: None,
        expected_leaves: LeafHashes::default(),
        atomic_fields: KindAtomicFields::NONE,
        take_over: Arc::clone(cluster.take_over_managers()),
        health: None,
    }
}
