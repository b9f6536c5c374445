//! `rollback`: a commit that restores the files of an Application.

use super::{
    Failure, Progress, Service,
    suspend::{application, declaring_repository},
};
use crate::{
    core::name::Name,
    update::{CommandCommit, RollbackOutcome},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks to restore the files of an Application.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RollbackQuery {
    /// The Application.
    pub application: Name,
    /// The commit to restore, or the first digits of its id; none for the state before the last
    /// change.
    pub to: Option<String>,
    /// The person's part of the commit.
    pub commit: CommandCommit,
}

/// The rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackAnswer {
    /// The config repository.
    pub repository: String,
    /// The commit and its effects.
    #[serde(flatten)]
    pub rollback: RollbackOutcome,
}

/// Commits the restored files.
///
/// # Errors
/// If no repository declares the Application, the commit does not exist, or the push fails.
pub async fn rollback(
    service: &Service,
    query: &RollbackQuery,
    progress: &dyn Progress,
) -> Result<RollbackAnswer, Failure> {
    let _locks = service.lock_repositories().await;
    progress.update("reading Git");
    let result = commit(service, query).await;
    service.fetch_after_write().await;
    result
}

async fn commit(service: &Service, query: &RollbackQuery) -> Result<RollbackAnswer, Failure> {
    let updater = declaring_repository(service, &application(&query.application)).await?;
    let to = match &query.to {
        Some(text) => Some(updater.repo.resolve(text).await?),
        None => None,
    };
    let rollback = updater
        .roll_back(&query.application, to, &query.commit, Timestamp::now())
        .await?;
    Ok(RollbackAnswer {
        repository: updater.repo.config.name.clone(),
        rollback,
    })
}
