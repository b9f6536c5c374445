//! Merging on Gitea, which refuses while it still checks for conflicts.

use super::Gitea;
use crate::{
    io::forge::{ForgeError, ForgeOperation, ForgeProblem, MergeCommand, api::ApiCall, common},
    spec::MergeMethod,
};
use backon::Retryable;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

/// The number of repeated merge attempts while Gitea checks for conflicts: some eight seconds.
const REPETITIONS: u32 = 5;

/// Gitea's message while it is still checking for conflicts.
const BUSY: &str = "try again later";

/// Returns whether Gitea refused because it is still checking for conflicts.
fn is_busy(error: &ForgeError) -> bool {
    matches!(&error.problem, ForgeProblem::Status { status: 405, message: Some(text) } if text.contains(BUSY))
}

#[derive(Deserialize)]
struct GiteaRepository {
    default_merge_style: Option<String>,
}

impl Gitea {
    /// The declared way to merge, or the repository's.
    async fn method(&self, declared: Option<MergeMethod>) -> Result<String, ForgeError> {
        Ok(match declared {
            Some(method) => common::method_name(method).to_owned(),
            None => {
                let read = self
                    .api
                    .get::<GiteaRepository>(ForgeOperation::Settings, self.repo(&[], &[]));
                let repository = self.api.pass_cache.once("repository", read).await?;
                repository
                    .default_merge_style
                    .clone()
                    .filter(|style| !style.is_empty())
                    .unwrap_or_else(|| "merge".to_owned())
            }
        })
    }

    pub(super) async fn send_merge(
        &self,
        operation: ForgeOperation,
        number: u64,
        merge: &MergeCommand,
        later: bool,
    ) -> Result<(), ForgeError> {
        let body = json!({
            "Do": self.method(merge.method).await?,
            "head_commit_id": merge.head,
            "MergeTitleField": merge.title,
            "MergeMessageField": merge.message,
            "delete_branch_after_merge": merge.delete_branch,
            "merge_when_checks_succeed": later,
        });
        let call = ApiCall::once(
            operation,
            Method::POST,
            self.repo(&["pulls", &number.to_string(), "merge"], &[]),
            body,
        );
        // After each push to head or base it looks for conflicts, for a moment.
        let answer = (|| self.api.send(&call))
            .retry(self.api.backoffs(REPETITIONS))
            .when(is_busy)
            .await;
        answer.map(drop).map_err(|mut error| {
            error.problem = match error.problem {
                ForgeProblem::Status {
                    status: 405,
                    message,
                } => match message.as_deref() {
                    Some(text) if text.contains(BUSY) => ForgeProblem::NotYet { message },
                    Some(text) if text.contains("behind the base branch") => {
                        ForgeProblem::Behind { message }
                    }
                    _ => ForgeProblem::NotMergeable { message },
                },
                ForgeProblem::Refused {
                    status: 409,
                    message,
                } if message
                    .as_deref()
                    .is_some_and(|text| text.contains("head out of date")) =>
                {
                    ForgeProblem::HeadChanged { message }
                }
                ForgeProblem::Refused {
                    status: 409,
                    message,
                } if !later => ForgeProblem::NotMergeable { message },
                other => other,
            };
            error
        })
    }
}
