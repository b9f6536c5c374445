//! Closing pull requests and deleting their branches.

use super::{
    RequestReconciler,
    automerge::is_commit,
    execute::label,
    state::{DesiredRequest, StepOutcome},
};
use crate::{
    core::error::ErrorKind,
    io::{
        forge::{self, ForgeError},
        git::{GitError, PushOutcome},
    },
    review::{
        lifecycle::{self, BranchCommits, ClosedRequest, LifecycleStep, SUPERSEDED},
        merging::HOLD,
    },
    update::RequestState,
};

impl RequestReconciler<'_> {
    pub(super) async fn close(
        &mut self,
        item: &DesiredRequest<'_>,
        listed: forge::PullRequest,
        decision: &LifecycleStep,
    ) -> Result<StepOutcome, GitError> {
        // It may have changed since it was listed, and people notice a close.
        let request = match self.context.forge.get(listed.number).await {
            Ok(request) => request,
            Err(error) => return Ok(Self::failure(&error)),
        };
        if request.state != forge::RequestStatus::Open {
            self.open.retain(|known| known.number != request.number);
            return Ok(StepOutcome::Quiet);
        }
        if request.labels.iter().any(|label| label == HOLD) || request.base != listed.base {
            self.change(listed.number, |known| *known = request);
            return Ok(StepOutcome::Again);
        }
        // A person has pushed to the branch, or renamed it.
        let moved = self
            .branches
            .get(&item.branch)
            .is_some_and(|branch| !is_commit(&request.head_commit, branch.head));
        if moved || request.head != item.branch {
            self.change(listed.number, |known| *known = request);
            return Ok(StepOutcome::Conflict);
        }
        if let Err(error) = self.close_with_comment(&request, &decision.reason).await {
            return Ok(Self::failure(&error));
        }
        let row = self.report(item, RequestState::Closed, vec![decision.reason.clone()]);
        self.progress.ended.push((item.name.clone(), row));
        self.progress.states.remove(&item.branch);
        self.forget(&request, ClosedRequest::Superseded);
        match self.branches.contains_key(&item.branch) {
            true => self.delete(item).await,
            false => Ok(StepOutcome::Quiet),
        }
    }

    /// Closes a pull request, with the reason in a comment.
    pub(super) async fn close_with_comment(
        &self,
        request: &forge::PullRequest,
        reason: &str,
    ) -> Result<(), ForgeError> {
        let text = format!("Closed by tagboat: {}", lifecycle::comment_text(reason));
        let superseded = [label(SUPERSEDED, "Closed by tagboat itself")];
        // A close by a person holds back what was proposed. The label tells that the bot closed it,
        // so it is set before.
        self.context.forge.comment(request, "closed", &text).await?;
        self.context
            .forge
            .label(request.number, &superseded, &[])
            .await?;
        self.context.forge.close(request.number).await
    }

    /// Deletes a branch at its known head, unless a foreign pull request needs it.
    pub(crate) async fn delete(
        &mut self,
        item: &DesiredRequest<'_>,
    ) -> Result<StepOutcome, GitError> {
        if self.is_shared(&item.branch) {
            return Ok(StepOutcome::Quiet);
        }
        let Some(branch) = self.branches.remove(&item.branch) else {
            return Ok(StepOutcome::Quiet);
        };
        if matches!(branch.commits, BranchCommits::Others { .. }) {
            return Ok(StepOutcome::Quiet);
        }
        let name = item.branch.clone();
        let deleted = self
            .context
            .repo
            .read(move |mirror| mirror.delete_branch(&name, branch.head));
        match deleted.await {
            Ok(PushOutcome::Done) => Ok(StepOutcome::Quiet),
            Ok(PushOutcome::Rejected(refusals)) => match refusals.into_iter().next() {
                Some(refusal) if refusal.kind != ErrorKind::Conflict => Ok(Self::failure(&refusal)),
                _ => Ok(StepOutcome::Conflict),
            },
            Err(GitError::Unanswered { .. }) => Ok(StepOutcome::Conflict),
            Err(error @ GitError::Broken { .. }) => Err(error),
            Err(error) => Ok(Self::failure(&error)),
        }
    }
}
