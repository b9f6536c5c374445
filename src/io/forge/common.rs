//! Steps that all forges share.

use super::{
    Forge, ForgeError, ForgeOperation, ForgeProblem, MergeCommand, NewRequest, OpenedRequest,
    PullRequest, RequestPatch, RequestStatus, api::ForgeApi,
};
use serde_json::{Map, Value, json};

impl ForgeApi {
    /// A request whose head is not in the repository is none of ours.
    pub(crate) fn foreign(&self, operation: ForgeOperation) -> ForgeError {
        self.error(
            operation,
            ForgeProblem::Unsupported("the request comes from a fork".to_owned()),
        )
    }
}

/// Returns the opened pull request: the new one, or an existing one, if the forge says it `exists`
/// or if only the response was lost.
pub(crate) async fn opened(
    forge: &dyn Forge,
    new: &NewRequest,
    answer: Result<PullRequest, ForgeError>,
    exists: impl FnOnce(&ForgeError) -> bool,
) -> Result<OpenedRequest, ForgeError> {
    let error = match answer {
        Ok(request) => {
            return Ok(OpenedRequest {
                request,
                found: false,
            });
        }
        Err(error) if error.problem.is_open() || exists(&error) => error,
        Err(error) => return Err(error),
    };
    match forge.find(&new.head).await? {
        Some(request) if request.state == RequestStatus::Open && request.base == new.base => {
            Ok(OpenedRequest {
                request,
                found: true,
            })
        }
        _ => Err(error),
    }
}

/// The fields of a request that change, with the forge's name of the text and the title as it
/// writes it; none if none does.
pub(crate) fn changed(
    change: &RequestPatch,
    body: &str,
    title: impl FnOnce(&str) -> String,
) -> Option<Value> {
    let mut fields = Map::new();
    fields.extend(
        change
            .title
            .as_ref()
            .map(|text| ("title".to_owned(), json!(title(text)))),
    );
    fields.extend(
        change
            .body
            .as_ref()
            .map(|text| (body.to_owned(), json!(text))),
    );
    (!fields.is_empty()).then_some(Value::Object(fields))
}

/// Resolves a merge that failed or whose answer was lost.
///
/// Returns the commit if the verified head was merged after all; else the error, which says so if
/// the head has changed.
pub(crate) async fn merged_after_all(
    forge: &dyn Forge,
    number: u64,
    merge: &MergeCommand,
    mut error: ForgeError,
) -> Result<Option<String>, ForgeError> {
    let unclear = error.problem.is_open();
    if !unclear
        && !error.problem.is_unmerged()
        && !matches!(error.problem, ForgeProblem::Refused { .. })
    {
        return Err(error);
    }
    // If it cannot be read, the error of the merge is all that is known.
    let Ok(request) = forge.get(number).await else {
        return Err(error);
    };
    if request.state == RequestStatus::Merged && request.head_commit == merge.head {
        return Ok(request.ended.and_then(|ended| ended.commit));
    }
    if request.state == RequestStatus::Open && request.head_commit != merge.head {
        error.problem = ForgeProblem::HeadChanged { message: None };
    }
    Err(error)
}
