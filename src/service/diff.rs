//! `diff`: the desired and the live objects of Applications.

mod elsewhere;
mod rendering;

use super::{
    Failure, Outcome, Progress, Service,
    scope::{self, MARGIN, QueryClusters, RepositoryScope},
};
use crate::{
    core::{error::ErrorKind, name::Name},
    io::cluster::ClusterClient,
    objects::tenancy,
    reconcile::{self, ChangeKind, ClusterReads, ObjectDiff, ReconcileMode, RenderFn},
    spec::Application,
    update::RefusedHead,
};
use elsewhere::DeclaredElsewhere;
use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream,
};
use rendering::{ClusterRoom, Renderings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Semaphore;

/// Applications of one cluster that are compared at once. The cluster bounds requests beside that,
/// and each Application its objects.
const AT_ONCE: usize = 16;

/// Applications of one cluster that are begun. Those that wait for a program to render them, or for
/// room, hold no permit.
const BEGUN: usize = 256;

/// The most bytes of diffs in one answer; changes beyond it are named without their diff.
const DIFF_BYTES: usize = 64 << 20;

/// Asks for the differences between Git and clusters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DiffQuery {
    /// The Applications; all if empty.
    pub applications: Vec<Name>,
}

/// The differences between Git and clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiffAnswer {
    /// The Applications that could be compared.
    pub applications: Vec<ApplicationDiff>,
    /// The others, each with the reason.
    pub failures: Vec<Failure>,
    /// Config repositories with invalid declarations, which are not used.
    pub invalid_declarations: Vec<String>,
    /// Heads of branches that are not deployed, because they are not verified.
    pub refused_heads: Vec<RefusedHead>,
}

/// The differences of one Application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationDiff {
    /// The Application.
    pub application: Name,
    /// The cluster.
    pub cluster: String,
    /// Every object of the Application; those without a difference have the change `none`.
    pub objects: Vec<ObjectDiff>,
}

impl DiffAnswer {
    /// Classifies the answer.
    pub fn outcome(&self) -> Outcome {
        let differs = |diff: &ApplicationDiff| diff.changed().next().is_some();
        let failures = self.failures.iter().map(|failure| failure.kind);
        match Outcome::of_parts(!self.applications.is_empty(), failures) {
            Outcome::Done => Outcome::findings_if(self.applications.iter().any(differs)),
            outcome => outcome,
        }
    }
}

impl ApplicationDiff {
    /// Iterates over the objects with a difference.
    pub fn changed(&self) -> impl Iterator<Item = &ObjectDiff> {
        self.objects
            .iter()
            .filter(|object| object.change != ChangeKind::None)
    }
}

/// Compares by server-side dry run, so that defaults and webhooks make no difference.
///
/// Many Applications are compared at once, cluster by cluster: one that fails or is slow stops no
/// other. The answer has them in the order of the repositories and names.
///
/// # Errors
/// If an Application is not declared, or the only one asked for cannot be compared.
pub async fn diff(
    service: &Service,
    query: &DiffQuery,
    progress: &dyn Progress,
) -> Result<DiffAnswer, Failure> {
    progress.update("reading Git");
    let selected = scope::select_declared(service, &query.applications).await?;
    let clusters = QueryClusters::shared(service, ReconcileMode::Plan).await?;
    let scopes: Vec<ScopeRendering<'_>> = selected
        .scopes
        .iter()
        .map(|scope| ScopeRendering::new(service, scope))
        .collect();
    let mut by_cluster: BTreeMap<&str, Vec<DiffTarget<'_>>> = BTreeMap::new();
    let mut total = 0;
    for scope in &scopes {
        for application in scope.scope.applications() {
            let targets = by_cluster.entry(&application.cluster).or_default();
            targets.push(DiffTarget {
                place: total,
                scope,
                application,
            });
            total += 1;
        }
    }
    let comparison = FleetComparison {
        clusters: &clusters,
        renderings: Renderings::new(),
        progress,
        total,
        compared: AtomicUsize::new(0),
        cluster_count: by_cluster.len(),
        room: AtomicUsize::new(DIFF_BYTES),
    };
    let mut all: Vec<BoxFuture<'_, Vec<Compared>>> = Vec::new();
    for targets in by_cluster.into_values() {
        all.push(comparison.compare_all(targets).boxed());
    }
    let mut compared: Vec<Compared> = join_all(all).await.into_iter().flatten().collect();
    compared.sort_by_key(|(place, _)| *place);
    clusters.close().await;
    let mut answer = DiffAnswer {
        applications: Vec::new(),
        failures: Vec::new(),
        invalid_declarations: selected.invalid_declarations,
        refused_heads: selected.refused_heads,
    };
    for (_, result) in compared {
        match result {
            Ok(diff) => answer.applications.push(diff),
            Err(failure) => answer.failures.push(failure),
        }
    }
    match answer.failures.pop() {
        Some(failure) if query.applications.len() == 1 => Err(failure),
        failure => {
            answer.failures.extend(failure);
            Ok(answer)
        }
    }
}

/// A result, with the place of its Application in the answer.
type Compared = (usize, Result<ApplicationDiff, Failure>);

/// The Applications of a repository, and how they are rendered.
struct ScopeRendering<'a> {
    scope: &'a RepositoryScope,
    render: Arc<RenderFn>,
    elsewhere: DeclaredElsewhere,
}

impl<'a> ScopeRendering<'a> {
    fn new(service: &Service, scope: &'a RepositoryScope) -> Self {
        Self {
            scope,
            render: scope.render(service),
            elsewhere: DeclaredElsewhere::default(),
        }
    }
}

/// An Application to compare.
struct DiffTarget<'a> {
    /// Its place in the answer.
    place: usize,
    scope: &'a ScopeRendering<'a>,
    application: &'a Application,
}

/// The bounds of the comparisons with one cluster.
struct ClusterBounds {
    /// One for each comparison.
    permits: Semaphore,
    room: ClusterRoom,
}

/// The state that all comparisons of a query share.
struct FleetComparison<'a> {
    clusters: &'a QueryClusters,
    renderings: Renderings,
    progress: &'a dyn Progress,
    total: usize,
    compared: AtomicUsize,
    cluster_count: usize,
    /// The bytes left for diffs.
    room: AtomicUsize,
}

impl FleetComparison<'_> {
    /// Compares the Applications of one cluster.
    async fn compare_all(&self, targets: Vec<DiffTarget<'_>>) -> Vec<Compared> {
        let cluster = targets
            .first()
            .and_then(|target| self.clusters.cluster_of(target.application));
        // Applications that may not be there are not looked up.
        let names: HashSet<Name> = targets
            .iter()
            .map(|target| target.application)
            .filter(|application| tenancy::unit_refusal(application).is_none())
            .map(|application| application.name.clone())
            .collect();
        let reads = match cluster {
            Some(cluster) if !names.is_empty() => ClusterReads::new(cluster, &names).await,
            _ => Ok(ClusterReads::default()),
        };
        let reads = reads.map_err(Failure::from);
        let bounds = ClusterBounds {
            permits: Semaphore::new(AT_ONCE),
            room: ClusterRoom::new(self.cluster_count),
        };
        // By index, so that the futures of those that wait do not exist yet.
        let compared = (0..targets.len()).map(|index| {
            let (target, reads, bounds) = (&targets[index], &reads, &bounds);
            async move {
                let result = self.compare(target, cluster, reads, bounds).await;
                self.report();
                (target.place, result)
            }
            .boxed()
        });
        stream::iter(compared)
            .buffer_unordered(BEGUN)
            .collect()
            .await
    }

    fn report(&self) {
        let compared = self.compared.fetch_add(1, Ordering::Relaxed) + 1;
        let total = self.total;
        self.progress.update(&format!(
            "comparing with clusters: {compared} of {total} Applications"
        ));
    }

    /// Compares one Application.
    async fn compare(
        &self,
        target: &DiffTarget<'_>,
        cluster: Option<&ClusterClient>,
        reads: &Result<ClusterReads, Failure>,
        bounds: &ClusterBounds,
    ) -> Result<ApplicationDiff, Failure> {
        let application = target.application;
        let mut objects = self.objects(target, cluster, reads, bounds).await?;
        if let Some(cluster) = cluster {
            self.keep_declared(target, cluster, &mut objects).await;
        }
        self.bound(&mut objects);
        Ok(ApplicationDiff {
            application: application.name.clone(),
            cluster: application.cluster.clone(),
            objects,
        })
    }

    async fn objects(
        &self,
        target: &DiffTarget<'_>,
        cluster: Option<&ClusterClient>,
        reads: &Result<ClusterReads, Failure>,
        bounds: &ClusterBounds,
    ) -> Result<Vec<ObjectDiff>, Failure> {
        let application = target.application;
        let refused = |why| Failure::input(format!("{}: {why}", application.place));
        if let Some(why) = tenancy::unit_refusal(application) {
            return Err(refused(why));
        }
        let Some(cluster) = cluster else {
            return Err(self.clusters.unavailable(application));
        };
        let reads = reads.as_ref().map_err(Clone::clone)?;
        let render = &target.scope.render;
        let held = self
            .renderings
            .render_within(&bounds.room, render, application)
            .await?;
        let rendered = &held.rendered;
        let objects = rendered.manifests.len();
        if let Some(why) = tenancy::objects_refusal(&application.rights, objects, 0) {
            return Err(refused(why));
        }
        // The semaphore is never closed.
        let _permit = bounds.permits.acquire().await;
        // Rendering has limits of its own, and may wait for the programs of others.
        let time = application.timeout.saturating_add(MARGIN);
        let compared = reconcile::diff_objects(cluster, application, rendered, reads);
        match tokio::time::timeout(time, compared).await {
            Ok(compared) => Ok(compared?),
            Err(_) => {
                let (name, seconds) = (&application.name, time.as_secs());
                let message = format!("{name}: the comparison took longer than {seconds} s");
                Err(Failure::new(ErrorKind::Remote, message))
            }
        }
    }

    /// Announces no deletion that a sync would not make: of objects that other Applications of the
    /// repository declare, or may declare.
    async fn keep_declared(
        &self,
        target: &DiffTarget<'_>,
        cluster: &ClusterClient,
        objects: &mut [ObjectDiff],
    ) {
        let ScopeRendering {
            scope,
            render,
            elsewhere,
        } = target.scope;
        let is_deleted = |object: &&mut ObjectDiff| object.change == ChangeKind::Delete;
        for object in objects.iter_mut().filter(is_deleted) {
            let applications = &scope.declared.applications;
            let declared = elsewhere.on(cluster, applications, render, &self.renderings);
            let declared = declared.await;
            let name = &target.application.name;
            let note = declared
                .get()
                .and_then(|all| all.note(name, &object.object));
            if let Some(note) = note {
                object.change = ChangeKind::None;
                object.diff.clear();
                object.notes = vec![note];
            }
        }
    }

    /// Drops diffs for which the answer has no room.
    fn bound(&self, objects: &mut [ObjectDiff]) {
        for object in objects.iter_mut() {
            let take = |room: usize| room.checked_sub(object.diff.len());
            let order = Ordering::Relaxed;
            if self.room.fetch_update(order, order, take).is_err() {
                object.diff.clear();
                let most = DIFF_BYTES >> 20;
                object.notes.push(format!(
                    "its diff is left out: this answer has more than {most} MiB of them; compare this Application alone"
                ));
            }
        }
    }
}
