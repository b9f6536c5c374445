//! The bot's own comments: finds the one to update, even after the bot's account has changed.

use super::{
    CommentOutcome, ForgeError, ForgeProblem,
    api::{ApiCall, ForgeApi},
};
use crate::io::http::lock;
use crate::review::types::same_text;
use serde::Deserialize;

/// A comment that bears the marker, by whomever.
#[derive(Clone)]
pub(crate) struct MarkedComment {
    pub(crate) id: u64,
    pub(crate) login: String,
    pub(crate) body: String,
}

/// The calls that edit and post a comment.
pub(crate) struct CommentCalls<E: Fn(u64) -> ApiCall> {
    pub(crate) change: E,
    pub(crate) make: ApiCall,
}

impl ForgeApi {
    /// Updates one comment: written by this process, by the pull request's author, or by the
    /// current account `own`, which is looked up only if another account has written one with the
    /// marker. A comment that may no longer be edited, as another account's, is followed by a new
    /// one.
    pub(crate) async fn keep_comment<E: Fn(u64) -> ApiCall>(
        &self,
        found: Vec<MarkedComment>,
        author: &str,
        text: &str,
        calls: CommentCalls<E>,
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
            if let Some(done) = self.change(known, text, &calls).await? {
                return Ok(done);
            }
        }
        if !others.is_empty() {
            let login = self.standing.once("own login", async {
                match own.await {
                    // A token may be allowed to comment, and not to know whose it is.
                    Err(error) if is_refusal(&error.problem) => Ok(String::new()),
                    other => other,
                }
            });
            let login = login.await?;
            // GraphQL of GitHub may call a bot without its ending.
            let is_own = |name: &str| {
                !login.is_empty() && (name == *login || name.strip_suffix("[bot]") == Some(&login))
            };
            if let Some(known) = others.iter().find(|comment| is_own(&comment.login))
                && let Some(done) = self.change(known, text, &calls).await?
            {
                return Ok(done);
            }
        }
        #[derive(Deserialize)]
        struct Made {
            id: u64,
        }
        let answer = self.send(&calls.make).await?;
        // The comment was posted, even if the response cannot be read.
        if let Ok(Made { id }) = self.parse(&calls.make, &answer) {
            lock(&self.written).insert(id);
        }
        Ok(CommentOutcome::Made)
    }

    /// Edits a comment; `None` if this account may not edit it, or it was deleted.
    async fn change<E: Fn(u64) -> ApiCall>(
        &self,
        known: &MarkedComment,
        text: &str,
        calls: &CommentCalls<E>,
    ) -> Result<Option<CommentOutcome>, ForgeError> {
        if same_text(&known.body, text) {
            return Ok(Some(CommentOutcome::Same));
        }
        match self.send(&(calls.change)(known.id)).await {
            Err(error) if is_refusal(&error.problem) => Ok(None),
            other => other.map(|_| Some(CommentOutcome::Changed)),
        }
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
