//! `suspend` and `resume`: a commit that sets or removes `suspend: true` of a declaration.

use super::{Failure, Progress, Service};
use crate::{
    core::name::Name,
    spec::SourcePlace,
    update::{CommandCommit, DeclarationRef, ImageUpdater},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Asks to suspend or resume a declaration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SuspendQuery {
    /// The declaration.
    pub declaration: DeclarationRef,
    /// True to suspend, false to resume.
    pub suspend: bool,
    /// The person's part of the commit.
    pub commit: CommandCommit,
}

/// The suspended or resumed declaration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuspendAnswer {
    /// The config repository.
    pub repository: String,
    /// The kind.
    pub kind: String,
    /// The name, with the namespace where the kind has one.
    pub name: String,
    /// The state from now on.
    pub suspended: bool,
    /// The commit; none if the declaration had that state already.
    pub commit: Option<String>,
    /// The place of the declaration.
    pub place: SourcePlace,
    /// A remark about the effect.
    pub note: Option<String>,
}

/// Commits the change of `suspend`.
///
/// # Errors
/// If no repository, or more than one, has the declaration, or the push fails.
pub async fn suspend(
    service: &Service,
    query: &SuspendQuery,
    progress: &dyn Progress,
) -> Result<SuspendAnswer, Failure> {
    let _locks = service.lock_repositories().await;
    progress.update("reading Git");
    let result = commit(service, query).await;
    service.fetch_after_write().await;
    result
}

async fn commit(service: &Service, query: &SuspendQuery) -> Result<SuspendAnswer, Failure> {
    let updater = declaring_repository(service, &query.declaration).await?;
    let outcome = updater
        .suspend(
            &query.declaration,
            query.suspend,
            &query.commit,
            Timestamp::now(),
        )
        .await?;
    Ok(SuspendAnswer {
        repository: updater.repo.config.name.clone(),
        kind: query.declaration.kind.to_string(),
        name: query.declaration.name.clone(),
        suspended: query.suspend,
        commit: outcome.commit,
        place: outcome.place,
        note: outcome.note,
    })
}

/// Finds the one repository that declares something.
pub(super) async fn declaring_repository<'s>(
    service: &'s Service,
    declaration: &DeclarationRef,
) -> Result<&'s Arc<ImageUpdater>, Failure> {
    let mut found: Vec<&Arc<ImageUpdater>> = Vec::new();
    let mut missing: Option<Failure> = None;
    for updater in &service.updaters {
        let snapshot = updater.repo.refresh(&mut Vec::new()).await?;
        if declaration.find(&snapshot.declared).is_some() {
            found.push(updater);
        } else if missing.as_ref().is_none_or(|known| known.hint.is_none()) {
            // The failure of the repository with a similar name is the most helpful one.
            missing = Some(declaration.unknown(&snapshot.declared).into());
        }
    }
    match found.as_slice() {
        [updater] => Ok(*updater),
        [] => Err(missing.unwrap_or_else(|| Failure::input(format!("no {declaration}")))),
        several => {
            let names: Vec<&str> = several
                .iter()
                .map(|updater| updater.repo.config.name.as_str())
                .collect();
            Err(Failure::input(format!(
                "{declaration} is declared in several repositories: {}",
                names.join(", ")
            ))
            .hint("Name one of them with --repository."))
        }
    }
}

impl SuspendAnswer {
    /// Returns the declaration as `Kind name`.
    pub fn declaration(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }
}

/// The reference to an Application.
pub(super) fn application(name: &Name) -> DeclarationRef {
    DeclarationRef {
        kind: crate::update::DeclarationKind::Application,
        name: name.to_string(),
    }
}
