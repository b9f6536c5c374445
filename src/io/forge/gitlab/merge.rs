//! Merging on GitLab.

use super::{Gitlab, read::MergeRequest};
use crate::{
    io::forge::{ForgeError, ForgeOperation, ForgeProblem, MergeCommand, api::ApiCall, common},
    spec::MergeMethod,
};
use reqwest::Method;
use serde_json::json;

impl Gitlab {
    /// Returns whether to squash, for a declared merge method. The rest of the method is the
    /// project's setting, which no call overrides.
    pub(super) async fn squash(
        &self,
        operation: ForgeOperation,
        declared: Option<MergeMethod>,
    ) -> Result<Option<bool>, ForgeError> {
        let Some(declared) = declared else {
            return Ok(None);
        };
        let project = self.settings().await?;
        let (method, squash) = (
            project.merge_method.as_deref(),
            project.squash_option.as_deref(),
        );
        let problem = match declared {
            MergeMethod::Squash if squash == Some("never") => {
                "the project never squashes, but mergeMethod: squash is declared"
            }
            MergeMethod::Merge | MergeMethod::Rebase if squash == Some("always") => {
                "the project always squashes, but mergeMethod is not squash"
            }
            MergeMethod::Merge if method == Some("ff") => {
                "the project merges by fast-forward only, but mergeMethod: merge is declared"
            }
            MergeMethod::Rebase if method == Some("merge") => {
                "the project makes merge commits, but mergeMethod: rebase is declared, which on GitLab is the project's setting"
            }
            MergeMethod::Squash => return Ok(Some(true)),
            MergeMethod::Merge | MergeMethod::Rebase => return Ok(Some(false)),
        };
        Err(self
            .api
            .error(operation, ForgeProblem::Unsupported(problem.to_owned())))
    }

    pub(super) async fn send_merge(
        &self,
        operation: ForgeOperation,
        number: u64,
        merge: &MergeCommand,
        later: bool,
    ) -> Result<Option<String>, ForgeError> {
        let squash = self.squash(operation, merge.method).await?;
        let mut body =
            json!({"sha": merge.head, "should_remove_source_branch": merge.delete_branch});
        if let Some(squash) = squash {
            body["squash"] = json!(squash);
        }
        if !merge.title.is_empty() {
            let text = if merge.message.is_empty() {
                merge.title.clone()
            } else {
                format!("{}\n\n{}", merge.title, merge.message)
            };
            body["merge_commit_message"] = json!(text);
            body["squash_commit_message"] = json!(text);
        }
        if later {
            // GitLab before 17.11 knows the second name only, and would merge at once without it.
            body["auto_merge"] = json!(true);
            body["merge_when_pipeline_succeeds"] = json!(true);
        }
        let call = ApiCall::once(
            operation,
            Method::PUT,
            self.project(&["merge_requests", &number.to_string(), "merge"], &[]),
            body,
        );
        match self.api.json::<MergeRequest>(&call).await {
            Ok(merged) if merged.is_merged() => Ok(merged.commit()),
            Ok(_) if later => Ok(None),
            Ok(_) => Err(self.api.error(
                operation,
                ForgeProblem::NotMergeable {
                    message: Some("it is not merged yet".to_owned()),
                },
            )),
            Err(mut error) => {
                error.problem = match error.problem {
                    // 401 here is "no permission to accept this merge request".
                    ForgeProblem::Unauthorized { message } => ForgeProblem::Forbidden { message },
                    ForgeProblem::Status {
                        status: 405 | 406,
                        message,
                    }
                    | ForgeProblem::Refused {
                        status: 422,
                        message,
                    } => ForgeProblem::NotMergeable { message },
                    ForgeProblem::Refused {
                        status: 409,
                        message,
                    } => ForgeProblem::HeadChanged { message },
                    other => other,
                };
                common::merged_after_all(self, number, merge, error).await
            }
        }
    }
}
