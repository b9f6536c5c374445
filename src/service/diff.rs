//! `diff`: the desired and the live objects of Applications.

use super::{
    Failure, Outcome, Progress, Service,
    scope::{self, QueryClusters, RepositoryScope},
};
use crate::{
    core::{error::ErrorKind, name::Name},
    objects::tenancy,
    reconcile::{self, ChangeKind, ObjectDiff, ReconcileMode, RenderFn},
    spec::Application,
    update::RefusedHead,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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
    let mut answer = DiffAnswer {
        applications: Vec::new(),
        failures: Vec::new(),
        invalid_declarations: selected.invalid_declarations,
        refused_heads: selected.refused_heads,
    };
    for scope in &selected.scopes {
        let render = scope.render(service);
        for application in scope.applications() {
            let (name, cluster) = (&application.name, &application.cluster);
            progress.update(&format!("comparing {name} with cluster {cluster}"));
            match compare(&clusters, application, &render).await {
                Ok(mut objects) => {
                    keep_declared(&clusters, scope, application, &render, &mut objects).await;
                    answer.applications.push(ApplicationDiff {
                        application: name.clone(),
                        cluster: cluster.clone(),
                        objects,
                    });
                }
                Err(failure) => answer.failures.push(failure),
            }
        }
    }
    clusters.close().await;
    match answer.failures.pop() {
        Some(failure) if query.applications.len() == 1 => Err(failure),
        failure => {
            answer.failures.extend(failure);
            Ok(answer)
        }
    }
}

/// Announces no deletion that a sync would not make: of objects that other Applications of the
/// repository declare, or may declare.
async fn keep_declared(
    clusters: &QueryClusters,
    scope: &RepositoryScope,
    application: &Application,
    render: &Arc<RenderFn>,
    objects: &mut [ObjectDiff],
) {
    let is_deleted = |object: &ObjectDiff| object.change == ChangeKind::Delete;
    let Some(cluster) = clusters.reconciler.cluster(&application.cluster) else {
        return;
    };
    let others = scope.declared.applications.values().filter(|other| {
        other.name != application.name
            && other.cluster == application.cluster
            && !other.suspend
            && tenancy::unit_refusal(other).is_none()
    });
    for other in others {
        if !objects.iter().any(is_deleted) {
            return;
        }
        let (render, declared) = (Arc::clone(render), other.clone());
        let rendered = crate::io::try_blocking(move || render.begin(&declared)?.finish()).await;
        let declared = match rendered {
            Ok(Ok(rendered)) => reconcile::declared_objects(cluster, other, &rendered)
                .await
                .map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(error.message.to_string()),
            Err(error) => Err(error.to_string()),
        };
        for object in objects.iter_mut().filter(|object| is_deleted(object)) {
            let name = &other.name;
            let note = match &declared {
                Ok(declared) if !declared.contains(&object.object) => continue,
                Ok(_) => format!("not deleted: Application {name} declares it, and takes it over"),
                Err(why) => {
                    format!("not deleted before {name}, which may declare it, can be read: {why}")
                }
            };
            object.change = ChangeKind::None;
            object.diff.clear();
            object.notes = vec![note];
        }
    }
}

async fn compare(
    clusters: &QueryClusters,
    application: &Application,
    render: &Arc<RenderFn>,
) -> Result<Vec<ObjectDiff>, Failure> {
    let refused = |why| Failure::input(format!("{}: {why}", application.place));
    if let Some(why) = tenancy::unit_refusal(application) {
        return Err(refused(why));
    }
    let Some(cluster) = clusters.reconciler.cluster(&application.cluster) else {
        return Err(clusters.unavailable(application));
    };
    let (render, declared) = (Arc::clone(render), application.clone());
    let rendered = crate::io::try_blocking(move || render.begin(&declared)?.finish())
        .await
        .map_err(|error| Failure::new(ErrorKind::Bug, format!("rendering panicked: {error}")))?
        .map_err(|error| Failure {
            hint: error.message.hint.clone(),
            ..Failure::input(format!("{}: {}", application.name, error.message))
        })?;
    let objects = rendered.manifests.len();
    if let Some(why) = tenancy::objects_refusal(&application.rights, objects, 0) {
        return Err(refused(why));
    }
    let records = clusters
        .reconciler
        .records_of(&application.name, |cluster| cluster == application.cluster)
        .await?;
    let inventory = records
        .get(&application.cluster)
        .map(|record| record.inventory.clone())
        .unwrap_or_default();
    Ok(reconcile::diff_objects(cluster, application, &rendered, &inventory).await?)
}
