//! Steps that all forges share.

use super::{
    Forge, ForgeError, ForgeOperation, ForgeProblem, NewRequest, OpenedRequest, PullRequest,
    RequestPatch, RequestStatus, api::ForgeApi,
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
