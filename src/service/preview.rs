//! `preview`: the effect of a change on clusters, before it is merged.

use super::{
    Failure, Outcome, Progress, Service, checkout_trust,
    engine::{ServiceContext, SettingsFile},
    types::available,
};
use crate::{
    core::{error::ErrorKind, name::Name},
    io::{
        git::{Checkout, GitError, Mirror, ObjectId},
        render::{Renderer, sandbox_warning},
    },
    preview::{PreviewClusters, Previewer, RevisionFiles},
    review::{ApplicationPreview, Preview, PreviewTrouble},
    spec::settings::RenderSettings,
    update::DeclarationScope,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Asks for the effect of a change.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviewQuery {
    /// The Applications; all if empty.
    pub applications: Vec<Name>,
    /// The revision before; by default where the head left the branch.
    pub base: Option<String>,
    /// The revision after; by default the newest of the branch.
    pub head: Option<String>,
    /// True to render only and ask no cluster.
    pub no_cluster: bool,
}

/// The effect of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviewAnswer {
    /// The Applications reached, by name.
    pub applications: Vec<ApplicationPreview>,
    /// Problems of the change as a whole.
    pub trouble: Vec<PreviewTrouble>,
    /// The commit before.
    pub base: String,
    /// The commit after.
    pub head: String,
    /// Warnings about the settings and the sandbox.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl PreviewAnswer {
    fn new(preview: Preview, base: ObjectId, head: ObjectId) -> Self {
        Self {
            applications: preview.applications,
            trouble: preview.trouble,
            base: base.to_string(),
            head: head.to_string(),
            warnings: Vec::new(),
        }
    }

    /// Returns the preview without its revisions, as the pull request texts take it.
    pub fn preview(&self) -> Preview {
        Preview {
            applications: self.applications.clone(),
            trouble: self.trouble.clone(),
        }
    }

    /// Classifies the answer.
    pub fn outcome(&self) -> Outcome {
        let preview = self.preview();
        if preview.is_refused() || preview.is_broken() {
            Outcome::Findings
        } else {
            Outcome::partly_if(preview.may_tell_more())
        }
    }
}

/// A Git working copy to preview, in place of a repository of the settings.
#[derive(Debug, Clone)]
pub struct WorkingCopy {
    /// The folder.
    pub folder: PathBuf,
    /// The settings, which need not exist.
    pub settings: SettingsFile,
    /// The programs that render, where there are no settings.
    pub programs: RenderSettings,
}

const NO_CLUSTER: &str = "no cluster is asked (--no-cluster)";

/// Previews a change from the mirror of the only repository.
///
/// # Errors
/// If there are several repositories, a revision or Application does not exist, or the Git server
/// cannot be asked.
pub async fn preview(
    service: &Service,
    query: &PreviewQuery,
    progress: &dyn Progress,
) -> Result<PreviewAnswer, Failure> {
    let [updater] = service.updaters.as_slice() else {
        let names: Vec<&str> = service
            .updaters
            .iter()
            .map(|updater| updater.repo.config.name.as_str())
            .collect();
        return Err(Failure::input(format!(
            "tagboat.yaml has several repositories: {}",
            names.join(", ")
        ))
        .hint("Name one of them with --repository."));
    };
    progress.update("reading Git");
    let (base, head) = {
        let _lock = updater.repo.lock.lock().await;
        let branch = updater.repo.refresh(&mut Vec::new()).await?.commit;
        let (mirror, query) = (Arc::clone(&updater.repo.mirror), query.clone());
        blocking(move || revisions(&mirror, branch, &query)).await??
    };
    let mut previewer = service
        .context
        .previewer(updater, &service.renderer, service.reconciler.as_deref())
        .await;
    if query.no_cluster {
        previewer.clusters = PreviewClusters::none(NO_CLUSTER);
    }
    progress.update("rendering and asking clusters");
    let preview = between(&previewer, base, head, &query.applications).await?;
    Ok(PreviewAnswer::new(preview, base, head))
}

fn revisions(
    mirror: &Mirror,
    branch: ObjectId,
    query: &PreviewQuery,
) -> Result<(ObjectId, ObjectId), GitError> {
    let head = match &query.head {
        Some(head) => mirror.named(head)?,
        None => branch,
    };
    let base = match &query.base {
        Some(base) => mirror.named(base)?,
        None => mirror.before(head, branch)?,
    };
    Ok((base, head))
}

/// Previews a change from a working copy.
///
/// # Errors
/// If the folder is no working copy, a revision or Application does not exist, or the settings are
/// invalid.
pub async fn preview_working_copy(
    copy: &WorkingCopy,
    query: &PreviewQuery,
    progress: &dyn Progress,
) -> Result<PreviewAnswer, Failure> {
    let checkout = Arc::new(Checkout::open(&copy.folder)?);
    let head = match &query.head {
        Some(head) => checkout.named(head)?,
        None => checkout.head()?,
    };
    let base = match &query.base {
        Some(base) => checkout.named(base)?,
        None => checkout.before(head)?,
    };
    let mut warnings = Vec::new();
    let context = settings_of(copy, &checkout, base, &mut warnings)?;
    let temporary = tempfile::tempdir()
        .map_err(|error| Failure::input(format!("cannot create a temporary folder: {error}")))?;
    let render = context
        .as_ref()
        .map_or_else(|| copy.programs.clone(), ServiceContext::render);
    let scope = match &context {
        Some(context) => DeclarationScope::from(only_repository(context)?),
        None => DeclarationScope::default(),
    };
    warnings.extend(sandbox_warning(&render));
    let previewer = Previewer {
        files: RevisionFiles::Checkout(checkout),
        scope,
        renderer: Arc::new(Renderer::new(&render, temporary.path())),
        clusters: clusters(context.as_ref(), query).await?,
    };
    progress.update("rendering and asking clusters");
    let preview = between(&previewer, base, head, &query.applications).await?;
    Ok(PreviewAnswer {
        warnings,
        ..PreviewAnswer::new(preview, base, head)
    })
}

/// Returns the settings of a preview: those that the user has named; else those found outside of
/// the working copy, or those of the base revision, which may choose no program and no credential.
fn settings_of(
    copy: &WorkingCopy,
    checkout: &Checkout,
    base: ObjectId,
    warnings: &mut Vec<String>,
) -> Result<Option<ServiceContext>, Failure> {
    let settings = &copy.settings;
    let name = settings.config.display();
    let is_inside = checkout_trust::is_inside(&settings.config, checkout.dir());
    let context = if settings.is_named || !is_inside {
        // Settings that the user did not name may be absent.
        let is_wanted =
            settings.is_named || settings.config.exists() || settings.repository.is_some();
        is_wanted
            .then(|| ServiceContext::read(settings))
            .transpose()?
    } else {
        let path = checkout.path_of(&settings.config)?;
        let written = checkout.at(base)?.read(&path)?;
        let text = written.map(|file| String::from_utf8_lossy(&file.bytes).into_owned());
        match text {
            Some(text) => {
                let context = ServiceContext::parse(settings, &text)?;
                checkout_trust::check_revision(&context.settings, &settings.config)?;
                Some(context)
            }
            None if settings.config.exists() => {
                warnings.push(format!(
                    "{name} is not in the base revision, and is not used; name it with --config \
                     if you trust it"
                ));
                None
            }
            None => None,
        }
    };
    if !settings.is_named {
        let mut programs = Vec::new();
        if let Some(RenderSettings {
            kustomize, helm, ..
        }) = context.as_ref().map(ServiceContext::render)
        {
            programs.extend([kustomize, helm]);
        } else {
            // Of those on the command line, the names that PATH leads somewhere.
            let given = [&copy.programs.kustomize, &copy.programs.helm];
            let names = given
                .into_iter()
                .filter(|one| one.components().count() == 1);
            programs.extend(names.cloned());
        }
        let kubeconfigs = context
            .as_ref()
            .map(ServiceContext::kubeconfigs)
            .unwrap_or_default();
        checkout_trust::check_paths(&programs, &kubeconfigs, checkout.dir())?;
    }
    Ok(context)
}

async fn clusters(
    context: Option<&ServiceContext>,
    query: &PreviewQuery,
) -> Result<PreviewClusters, Failure> {
    if query.no_cluster {
        return Ok(PreviewClusters::none(NO_CLUSTER));
    }
    let Some(context) = context else {
        return Ok(PreviewClusters::none("no tagboat.yaml names clusters"));
    };
    let resolve = |path: &Path| context.connect.path(path);
    Ok(PreviewClusters::open(&context.settings.clusters, resolve, &context.events).await)
}

fn only_repository(
    context: &ServiceContext,
) -> Result<&crate::spec::settings::ConfigRepository, Failure> {
    let mut repositories = context.repositories();
    match (repositories.next(), repositories.next()) {
        (Some(repository), None) => Ok(repository),
        _ => Err(Failure::input(
            "tagboat.yaml has several repositories, and any of them may be the one of this copy",
        )
        .hint("Name it with --repository.")),
    }
}

/// Makes the preview; a name that neither revision declares is an error.
async fn between(
    previewer: &Previewer,
    base: ObjectId,
    head: ObjectId,
    names: &[Name],
) -> Result<Preview, Failure> {
    let only: BTreeSet<Name> = names.iter().cloned().collect();
    let preview = previewer
        .between(base, head, (!only.is_empty()).then_some(&only))
        .await;
    let is_reached = |name: &Name| {
        preview
            .applications
            .iter()
            .any(|application| application.name == *name)
    };
    if only.iter().all(is_reached) {
        return Ok(preview);
    }
    let previewer = previewer.clone();
    let declared = blocking(move || {
        let mut declared = BTreeSet::new();
        for commit in [base, head] {
            declared.extend(previewer.declared(commit)?.applications.into_keys());
        }
        Ok::<_, GitError>(declared)
    });
    let declared = declared.await??;
    let is_unknown = |name: &&Name| !is_reached(name) && !declared.contains(*name);
    match only.iter().find(is_unknown) {
        None => Ok(preview),
        Some(name) => Err(Failure::input(format!(
            "no Application {name} in either revision; {}",
            available(declared.iter().map(Name::to_string))
        ))),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    crate::io::try_blocking(work)
        .await
        .map_err(|error| Failure::new(ErrorKind::Bug, format!("a task panicked: {error}")))
}
