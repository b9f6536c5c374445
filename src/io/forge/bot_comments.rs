//! The bot's own comments: finds the one to update, even after the bot's account has changed.

use super::{
    CommentOutcome, ForgeError, ForgeOperation, ForgeProblem,
    api::{ApiCall, ForgeApi},
};
use crate::{
    io::http::lock,
    review::types::{cut, is_login, same_text},
};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::json;

/// A comment with the marker, of any account.
#[derive(Clone)]
pub(crate) struct MarkedComment {
    pub(crate) id: u64,
    pub(crate) login: String,
    pub(crate) body: String,
}

/// The addresses of a pull request's comments.
pub(crate) struct CommentThread<U: Fn(u64) -> Url> {
    pub(crate) post: Url,
    pub(crate) edit: U,
    pub(crate) edit_method: Method,
}

/// Returns the line by which a comment is found again, and which people do not see; and the text
/// below it, cut to the forge's limit.
pub(crate) fn marked_text(marker: &str, text: &str, limit: usize) -> (String, String) {
    let word: String = marker
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect();
    let line = format!("<!-- tagboat:{word} -->");
    let text = cut(&format!("{line}\n{text}"), limit);
    (line, text)
}

impl ForgeApi {
    /// Updates one comment: written by this process, by the pull request's author, or by the
    /// current account `own`, which is looked up only if another account has written one with the
    /// marker. A comment that may no longer be edited, as another account's, is followed by a new
    /// one.
    pub(crate) async fn keep_comment<U: Fn(u64) -> Url>(
        &self,
        found: Vec<MarkedComment>,
        author: &str,
        text: &str,
        thread: CommentThread<U>,
        own: impl Future<Output = Result<String, ForgeError>> + Send,
    ) -> Result<CommentOutcome, ForgeError> {
        let (mine, others): (Vec<_>, Vec<_>) = {
            let written = lock(&self.written);
            found
                .into_iter()
                .partition(|comment| written.contains(&comment.id))
        };
        let (authors, others): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|comment| comment.login == author);
        for known in mine.iter().chain(&authors).take(1) {
            if let Some(done) = self.edit_comment(known, text, &thread).await? {
                return Ok(done);
            }
        }
        if !others.is_empty() {
            let login = self
                .pass_cache
                .once("own login", async { told_login(own.await) });
            let login = login.await?;
            let is_own = |name: &str| {
                login
                    .as_ref()
                    .as_ref()
                    .is_some_and(|own| is_login(own, name))
            };
            if let Some(known) = others.iter().find(|comment| is_own(&comment.login))
                && let Some(done) = self.edit_comment(known, text, &thread).await?
            {
                return Ok(done);
            }
        }
        #[derive(Deserialize)]
        struct Made {
            id: u64,
        }
        let body = json!({"body": text});
        let call = ApiCall::once(ForgeOperation::Comment, Method::POST, thread.post, body);
        let response = self.send(&call).await?;
        // The comment was posted, even if the response cannot be read.
        if let Ok(Made { id }) = self.parse(&call, &response) {
            lock(&self.written).insert(id);
        }
        Ok(CommentOutcome::Made)
    }

    /// Edits a comment; `None` if this account may not edit it, or it was deleted.
    async fn edit_comment<U: Fn(u64) -> Url>(
        &self,
        known: &MarkedComment,
        text: &str,
        thread: &CommentThread<U>,
    ) -> Result<Option<CommentOutcome>, ForgeError> {
        if same_text(&known.body, text) {
            return Ok(Some(CommentOutcome::Same));
        }
        let (method, url) = (thread.edit_method.clone(), (thread.edit)(known.id));
        let edited = self.apply(ForgeOperation::Comment, method, url, json!({"body": text}));
        match edited.await {
            Err(error) if is_refusal(&error.problem) => Ok(None),
            other => other.map(|()| Some(CommentOutcome::Changed)),
        }
    }
}

/// Turns the refusal to tell the token's login into none: a token may be allowed to write, and not
/// to know whose it is.
pub(crate) fn told_login(answer: Result<String, ForgeError>) -> Result<Option<String>, ForgeError> {
    match answer {
        Ok(login) => Ok(Some(login).filter(|login| !login.is_empty())),
        Err(error)
            if is_refusal(&error.problem)
                || matches!(error.problem, ForgeProblem::Unauthorized { .. }) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_refusal(problem: &ForgeProblem) -> bool {
    matches!(
        problem,
        ForgeProblem::Forbidden { .. }
            | ForgeProblem::NotFound { .. }
            | ForgeProblem::Refused { .. }
    )
}
