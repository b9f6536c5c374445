//! `check --repository`: what a repository has no right to, as far as its files show it.
//!
//! Objects are read from folders of plain manifests alone: nothing is run and nothing is asked.

use super::{
    Failure,
    engine::{ServiceContext, SettingsFile},
};
use crate::{
    io::render::{RenderSource, Renderer},
    objects::{plan, tenancy},
    preview::BuiltinScopes,
    spec::{
        Application, Declarations, Diagnostic, Severity, SourcePlace, rights::RepositoryRights,
        settings::RenderSettings,
    },
};
use std::{path::Path, sync::Arc};

/// Files whose folders a program renders.
const RENDERED: [&str; 4] = [
    "kustomization.yaml",
    "kustomization.yml",
    "Kustomization",
    "Chart.yaml",
];

/// Returns the rights of the repository that the settings name.
///
/// # Errors
/// If the settings cannot be read, or have no repository of that name.
pub(super) fn rights(settings: &SettingsFile) -> Result<Arc<RepositoryRights>, Failure> {
    let context = ServiceContext::read(settings)?;
    let mut repositories = context.repositories();
    let repository = repositories
        .next()
        .ok_or_else(|| Failure::input("the settings name no repository"))?;
    Ok(Arc::clone(&repository.rights))
}

/// Returns a diagnostic for each Application and object below `root` that is refused.
pub(super) fn refusals(
    root: &Path,
    declared: &mut Declarations,
    rights: &Arc<RepositoryRights>,
) -> Result<Vec<Diagnostic>, Failure> {
    declared.restrict(rights);
    let copies = tempfile::tempdir()
        .map_err(|error| Failure::input(format!("cannot create a temporary folder: {error}")))?;
    let renderer = Renderer::new(&RenderSettings::default(), copies.path());
    let mut found = Vec::new();
    for application in declared.applications.values() {
        match tenancy::unit_refusal(application) {
            Some(message) => found.push(Diagnostic {
                place: application.place.clone(),
                severity: Severity::Error,
                message,
            }),
            None => found.extend(refused_objects(root, application, &renderer)),
        }
    }
    Ok(found)
}

/// Returns a diagnostic for each refused object of a folder of plain manifests.
fn refused_objects(root: &Path, application: &Application, renderer: &Renderer) -> Vec<Diagnostic> {
    let folder = root.join(&application.path);
    let is_rendered = RENDERED.iter().any(|name| folder.join(name).exists());
    if application.rights.tenant.is_none() || is_rendered {
        return Vec::new();
    }
    // A folder that cannot be read is a finding of others.
    let Ok(rendered) = renderer.render_folder(root, &RenderSource::from(application)) else {
        return Vec::new();
    };
    if let Some(message) =
        tenancy::objects_refusal(&application.rights, rendered.manifests.len(), 0)
    {
        return vec![Diagnostic {
            place: application.place.clone(),
            severity: Severity::Error,
            message,
        }];
    }
    let (_, refused) = plan::desired_objects(application, rendered.objects(), &BuiltinScopes);
    let refused = refused.into_iter().filter_map(|refused| {
        let (rights, cluster) = (&application.rights, &application.cluster);
        let why = tenancy::object_refusal(rights, cluster, &refused.key)?;
        let origin = refused.origin?;
        Some(Diagnostic {
            place: SourcePlace {
                file: origin.file.to_string(),
                line: origin.line,
                column: 1,
            },
            severity: Severity::Error,
            message: format!("{}: {why}", refused.key),
        })
    });
    refused.collect()
}
