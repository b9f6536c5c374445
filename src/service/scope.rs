//! The Applications of a query: their repositories, their revision, and clusters to ask.

use super::{Failure, Service, types::available};
use crate::{
    core::{error::Classify as _, name::Name},
    io::{cluster::ClusterClient, git::ObjectId},
    reconcile::{self, ReconcileMode, Reconciler, RenderFn, RepositoryId},
    spec::{Application, Declarations},
    update::{ImageUpdater, RefusedHead},
};
use futures::future::try_join_all;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Time for clusters beside the timeouts of the Applications themselves.
pub(super) const MARGIN: Duration = Duration::from_secs(60);

/// The selected Applications of one repository at one revision.
pub(super) struct RepositoryScope {
    pub updater: Arc<ImageUpdater>,
    pub commit: ObjectId,
    pub declared: Arc<Declarations>,
    /// The selection; none for all Applications.
    pub only: Option<BTreeSet<Name>>,
}

impl RepositoryScope {
    pub(super) fn applications(&self) -> Vec<&Application> {
        self.declared
            .applications
            .values()
            .filter(|application| self.selects(&application.name))
            .collect()
    }

    pub(super) fn selects(&self, name: &Name) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(name))
    }

    /// Returns false if a selection was made and nothing of it is in this repository.
    pub(super) fn is_relevant(&self) -> bool {
        self.only.as_ref().is_none_or(|only| !only.is_empty())
    }

    pub(super) fn repository(&self) -> &str {
        &self.updater.repo.config.name
    }

    pub(super) fn revision(&self) -> String {
        self.commit.to_string()
    }

    /// Returns the function that renders Applications at this revision.
    pub(super) fn render(&self, service: &Service) -> Arc<RenderFn> {
        reconcile::from_git(
            Arc::clone(&service.renderer),
            Arc::clone(&self.updater.repo.mirror),
            self.commit,
        )
    }

    /// Starts reconciling the selected Applications at this revision.
    pub(super) fn follow(&self, service: &Service, reconciler: &Arc<Reconciler>) {
        self.follow_only(service, reconciler, self.only.as_ref());
    }

    /// The same with another selection.
    pub(super) fn follow_only(
        &self,
        service: &Service,
        reconciler: &Arc<Reconciler>,
        only: Option<&BTreeSet<Name>>,
    ) {
        reconciler.reconcile(
            &RepositoryId::from(&self.updater.repo.config),
            &self.revision(),
            &self.declared,
            only,
            &self.render(service),
        );
    }

    /// Returns the time after which a result is not waited for any longer.
    pub(super) fn deadline(&self) -> Duration {
        let timeouts = self
            .applications()
            .into_iter()
            .map(|application| application.timeout);
        timeouts.max().unwrap_or_default() + MARGIN
    }
}

/// The scopes of a selection, with the names that no repository declares.
pub(super) struct SelectedScopes {
    pub scopes: Vec<RepositoryScope>,
    pub undeclared: Vec<Name>,
    /// Repositories with invalid declarations.
    pub invalid_declarations: Vec<String>,
    /// Heads of branches that are not deployed; older revisions stand in the scopes.
    pub refused_heads: Vec<RefusedHead>,
}

/// Reads the branch of each repository and selects Applications; all if `names` is empty.
///
/// # Errors
/// If a Git server cannot be asked.
pub(super) async fn select(service: &Service, names: &[Name]) -> Result<SelectedScopes, Failure> {
    let mut scopes: Vec<RepositoryScope> = Vec::new();
    let (mut invalid_declarations, mut refused_heads) = (Vec::new(), Vec::new());
    // All Git servers are asked at once, so that none delays another.
    let asked = service.updaters.iter().map(|updater| async move {
        let snapshot = {
            let _lock = updater.repo.lock.lock().await;
            updater.repo.refresh(&mut Vec::new()).await?
        };
        let deployable = updater.deployable(&snapshot).await?;
        Ok::<_, Failure>((updater, deployable))
    });
    for (updater, deployable) in try_join_all(asked).await? {
        refused_heads.extend(deployable.refused);
        let Some((commit, declared)) = deployable.revision else {
            continue;
        };
        if declared.has_errors() {
            invalid_declarations.push(updater.repo.config.name.clone());
        }
        let applications = &declared.applications;
        let only = (!names.is_empty()).then(|| {
            names
                .iter()
                .filter(|name| applications.contains_key(*name))
                .cloned()
                .collect()
        });
        scopes.push(RepositoryScope {
            updater: Arc::clone(updater),
            commit,
            declared,
            only,
        });
    }
    let is_declared = |name: &&Name| {
        scopes
            .iter()
            .any(|scope| scope.declared.applications.contains_key(*name))
    };
    let undeclared = names
        .iter()
        .filter(|name| !is_declared(name))
        .cloned()
        .collect();
    if scopes.is_empty()
        && let Some(refused) = refused_heads.first()
    {
        return Err(Failure::input(refused.to_string()).hint(RefusedHead::HINT));
    }
    Ok(SelectedScopes {
        scopes,
        undeclared,
        invalid_declarations,
        refused_heads,
    })
}

/// The same, where every name has to be declared.
pub(super) async fn select_declared(
    service: &Service,
    names: &[Name],
) -> Result<SelectedScopes, Failure> {
    let mut selected = select(service, names).await?;
    if let Some(name) = selected.undeclared.first() {
        return Err(selected.undeclared_failure(name));
    }
    selected.scopes.retain(RepositoryScope::is_relevant);
    Ok(selected)
}

impl SelectedScopes {
    /// The failure for an Application that no deployed revision declares. A head that is not
    /// deployed may declare it.
    pub(super) fn undeclared_failure(&self, name: &Name) -> Failure {
        let scopes = self.scopes.iter();
        let names =
            scopes.flat_map(|scope| scope.declared.applications.keys().map(ToString::to_string));
        let message = format!("no Application {name}; {}", available(names));
        match self.refused_heads.first() {
            Some(refused) => {
                Failure::input(format!("{message}; {refused}")).hint(RefusedHead::HINT)
            }
            None => Failure::input(message),
        }
    }
}

/// The clusters for one query: those of the daemon, or connections of its own.
pub(super) struct QueryClusters {
    pub reconciler: Arc<Reconciler>,
    /// Stops the reconciler, where it is the query's own.
    own: Option<CancellationToken>,
}

impl QueryClusters {
    /// Uses the clusters of the daemon, or else opens them. Sends nothing yet.
    pub(super) async fn shared(service: &Service, mode: ReconcileMode) -> Result<Self, Failure> {
        match &service.reconciler {
            Some(reconciler) => Ok(Self {
                reconciler: Arc::clone(reconciler),
                own: None,
            }),
            None => Self::open(service, mode).await,
        }
    }

    /// Opens the clusters of the settings. Sends nothing yet.
    pub(super) async fn open(service: &Service, mode: ReconcileMode) -> Result<Self, Failure> {
        let opened = service.open_clusters(mode).await?;
        let (reconciler, stop) = opened.ok_or_else(|| {
            Failure::input("tagboat.yaml names no clusters").hint(
                "Write clusters: [{name: dev, kubeconfig: PATH, context: NAME}]; \
                 `tagboat schema tagboat.yaml` has all fields.",
            )
        })?;
        Ok(Self {
            reconciler,
            own: Some(stop),
        })
    }

    /// Returns true if no daemon shares these clusters.
    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Stops a reconciler of the query's own at a safe point.
    pub(super) async fn close(self) {
        if let Some(stop) = &self.own {
            stop.cancel();
            self.reconciler.shut_down().await;
        }
    }

    /// Returns the cluster that an Application names, if it is open.
    pub(super) fn cluster_of(&self, application: &Application) -> Option<&ClusterClient> {
        self.reconciler.cluster(&application.cluster)
    }

    /// Explains why a cluster that an Application names is not open.
    pub(super) fn unavailable(&self, application: &Application) -> Failure {
        let place = &application.place;
        match self.reconciler.connection_error(&application.cluster) {
            Some(error) => Failure {
                hint: error.hint(),
                ..Failure::input(format!("{place}: {error}"))
            },
            None => Failure::input(format!(
                "{place}: no cluster {:?} in tagboat.yaml",
                application.cluster
            )),
        }
    }
}

/// Stops the clusters of a query that is dropped: its client has disconnected, or a signal ends the
/// command.
impl Drop for QueryClusters {
    fn drop(&mut self) {
        if let Some(stop) = &self.own {
            stop.cancel();
        }
    }
}
