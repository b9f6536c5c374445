//! The apply of one object: with released fields as they are, and again where the API server shows
//! what the watch has not.

use crate::{
    core::name::Name,
    events::{Event, EventReason},
    io::cluster::{ApplyRequest, ApplyResult, ClusterError, ClusterProblem, RequestIdentity},
    objects::{
        health::{self, KindTraits},
        managed_fields,
        object::{ApplyMode, MANAGER, Object},
        plan::{self, AppliedState, DesiredObject, KindAtomicFields, LeafHashes},
    },
    reconcile::{
        autoscalers,
        cluster_state::{
            ClusterHandle, observed,
            released::{self, ReleasedField},
        },
        diff::{self, ApplyRefusal},
        permits::WorkPermit,
    },
    spec::rights::RepositoryRights,
};
use std::{sync::Arc, time::Duration};

/// The time for the old object of a re-creation to disappear.
const RECREATE_TIMEOUT: Duration = Duration::from_secs(60);

/// The apply of one object.
pub(super) struct ObjectApply {
    pub(super) cluster: Arc<ClusterHandle>,
    pub(super) application: Name,
    pub(super) identity: RequestIdentity,
    pub(super) one: DesiredObject,
    /// The last apply according to the inventory.
    pub(super) before: Option<AppliedState>,
    pub(super) ignore: Arc<[String]>,
    pub(super) permit: WorkPermit,
    /// True if the autoscaler that scaled it is gone.
    pub(super) unscaled: bool,
    /// True if its namespace is created if it is missing.
    pub(super) creates_namespace: bool,
    /// The rights of the repository.
    pub(super) rights: Arc<RepositoryRights>,
}

impl ObjectApply {
    /// Applies the object; creates its namespace if the API server misses it.
    pub(super) async fn run(&self) -> Result<(ApplyResult, AppliedState), ClusterError> {
        match self.apply().await {
            Err(error) if self.creates_namespace => {
                let ClusterProblem::NamespaceMissing { namespace, .. } = &*error.problem else {
                    return Err(error);
                };
                self.create_namespace(namespace).await?;
                self.apply().await
            }
            Err(mut error) => {
                if let ClusterProblem::NamespaceMissing {
                    namespace,
                    declared,
                } = &mut *error.problem
                {
                    *declared = self.cluster.state().is_namespace_claimed(namespace);
                }
                Err(diff::explain_missing(&self.rights, error))
            }
            applied @ Ok(_) => applied,
        }
    }

    /// Creates the namespace for the Application. Another one may have been faster.
    async fn create_namespace(&self, namespace: &str) -> Result<(), ClusterError> {
        let client = &self.cluster.client;
        let created = client
            .create_namespace(&self.identity, namespace, &self.application, false)
            .await?;
        if created {
            let message = format!("created namespace {namespace}");
            let event = Event::info(EventReason::NamespaceCreated, message);
            client.events().record(event.application(&self.application));
        }
        Ok(())
    }

    async fn apply(&self) -> Result<(ApplyResult, AppliedState), ClusterError> {
        let client = &self.cluster.client;
        let manifest = self.one.manifest.object().map_err(|error| ClusterError {
            cluster: client.name().to_owned(),
            subject: self.one.key.to_string(),
            problem: Box::new(ClusterProblem::Protocol {
                why: error.to_string(),
            }),
        })?;
        let known = self
            .cluster
            .state()
            .observed(&self.one.key)
            .map(|observed| (observed.live.uid.clone(), observed.released.clone()));
        let (uid, released) =
            known.map_or((None, None), |(uid, released)| (Some(uid), Some(released)));
        // An object that another tool may have created: released fields must not be taken by the
        // first apply.
        let may_exist = released.is_none() && self.before.is_none();
        let mut released = released.unwrap_or_default();
        // An autoscaler may have set the number since it was observed.
        let keeps_replicas = released.iter().any(ReleasedField::is_kept_replicas);
        let drops_replicas = keeps_replicas || self.drops_replicas(&manifest);
        if (may_exist && !self.ignore.is_empty()) || drops_replicas {
            released = self.released_now().await?;
        }
        if self.unscaled || self.overrides_scale(&released, &manifest).await {
            released::unscale(&mut released);
        }
        // Replicas that an autoscaler set to another number are a conflict. Most objects are new:
        // an apply without force spares a GET for each of them.
        let without_force =
            may_exist && self.ignore.is_empty() && manifest.pointer("/spec/replicas").is_some();
        let request = ApplyRequest {
            force: !without_force,
            keep: released::kept_fields(&self.ignore, &released),
            ..ApplyRequest::default()
        };
        let sent = released::outgoing(manifest.clone(), &released);
        let mut result = client.apply(&self.identity, &sent, &request).await;
        let may_retry = |error: &ClusterError| match &*error.problem {
            ClusterProblem::Conflict { .. } => without_force,
            // An existing volume may be larger than in Git.
            ClusterProblem::Invalid { .. } | ClusterProblem::Immutable { .. } => {
                may_exist && self.one.gvk().is("", "PersistentVolumeClaim")
            }
            _ => false,
        };
        if result.as_ref().is_err_and(may_retry) {
            let released = self.released_now().await?;
            let sent = released::outgoing(manifest.clone(), &released);
            let request = ApplyRequest {
                keep: released::kept_fields(&self.ignore, &released),
                ..ApplyRequest::default()
            };
            result = client.apply(&self.identity, &sent, &request).await;
        }
        let result = match (result, uid) {
            (Err(error), Some(uid))
                if self.one.settings.force
                    && matches!(*error.problem, ClusterProblem::Immutable { .. }) =>
            {
                // The deletion of the old object can take a minute.
                self.permit.release();
                let request = ApplyRequest::default();
                client
                    .recreate(&self.identity, &sent, &uid, &request, RECREATE_TIMEOUT)
                    .await?
            }
            (result, _) => result?,
        };
        let applied = self.applied_state(&manifest, &result);
        Ok((result, applied))
    }

    /// Returns whether the last apply set replicas that Git does not name any more.
    fn drops_replicas(&self, manifest: &Object) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|before| before.replicas.is_some())
            && released::replicas(manifest).is_none()
    }

    /// Returns whether the number of replicas changed in Git, and no autoscaler sets it.
    async fn overrides_scale(&self, released: &[ReleasedField], manifest: &Object) -> bool {
        released::overrides_scale(released, manifest, self.before.as_ref())
            && autoscalers::is_free(&self.cluster.client, &self.one.key, released).await
    }

    /// Reads the live object, and returns its released fields.
    async fn released_now(&self) -> Result<Vec<ReleasedField>, ClusterError> {
        let client = &self.cluster.client;
        let resource = client.resource(&self.one.gvk()).await?;
        let live = client.get(&self.identity, &resource, &self.one.key).await?;
        let released = |live: &Object| {
            let watched = observed::WatchedManifest {
                manifest: self.one.manifest.clone(),
                ignore: Arc::clone(&self.ignore),
                expected: None,
                expected_leaves: LeafHashes::default(),
                atomic_fields: KindAtomicFields::NONE,
                take_over: Arc::clone(client.take_over_managers()),
                health: None,
            };
            observed::observe(live, Some(&watched), KindTraits::default()).released
        };
        Ok(live.as_ref().map(released).unwrap_or_default())
    }

    fn applied_state(&self, manifest: &Object, result: &ApplyResult) -> AppliedState {
        let live = &result.live;
        let atomic_fields = managed_fields::atomic_fields(manifest, live, MANAGER);
        let atomic_fields = self.cluster.state().atomic_fields.intern(atomic_fields);
        let is_owner = plan::owner(live).as_ref() == Some(&self.application);
        let (whole, leaves) = observed::hash_observed(manifest, live, &self.ignore, &atomic_fields);
        AppliedState {
            uid: live.uid().unwrap_or_default().to_owned(),
            manifest: self.one.hash,
            live: whole,
            leaves,
            atomic_fields,
            untouched: self.one.settings.ssa == ApplyMode::IfNotPresent
                && !result.created
                && !is_owner,
            replicas: released::replicas(manifest),
            ended: health::run_end(live),
        }
    }

    pub(super) async fn refusal(&self, error: ClusterError) -> ApplyRefusal {
        let manifest = self.one.manifest.object().ok();
        ApplyRefusal::of(
            &self.cluster.client,
            &self.one.key,
            &self.one.gvk(),
            manifest.as_ref(),
            error,
        )
        .await
    }
}
