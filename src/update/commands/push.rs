//! The loop that plans a command on the head of the branch and pushes it.

use super::{CommandCommit, CommandError};
use crate::{
    io::git::ObjectId,
    update::{
        RepoFollower, RepoSnapshot,
        commit::{CommitText, MakeDraft, PublishOutcome, Publisher, PushRace, PushTarget},
    },
};
use jiff::Timestamp;

/// What a command does with the branch, planned on one snapshot.
pub(crate) enum CommandPlan<T> {
    /// Nothing has to be changed.
    Done(T),
    /// The snapshot is stale.
    Stale,
    Push {
        message: String,
        make: MakeDraft,
        outcome: T,
    },
}

/// A command that makes one commit on the branch.
pub(crate) trait BranchCommand: Send {
    type Outcome: Send;

    /// Plans the change on a snapshot.
    fn plan(
        &mut self,
        snapshot: RepoSnapshot,
    ) -> impl Future<Output = Result<CommandPlan<Self::Outcome>, CommandError>> + Send;
}

/// Plans a command on the head of the branch and pushes it, until the push wins the race.
///
/// Returns the outcome with the commit, if one was made.
///
/// # Errors
/// Those of the plan and of Git; then nothing was changed.
pub(crate) async fn push_command<C: BranchCommand>(
    repo: &RepoFollower,
    publisher: &Publisher,
    commit: &CommandCommit,
    now: Timestamp,
    command: C,
) -> Result<(C::Outcome, Option<ObjectId>), CommandError> {
    let done = push_loop(repo, publisher, commit, now, command).await;
    publisher.end();
    done
}

async fn push_loop<C: BranchCommand>(
    repo: &RepoFollower,
    publisher: &Publisher,
    by: &CommandCommit,
    now: Timestamp,
    mut command: C,
) -> Result<(C::Outcome, Option<ObjectId>), CommandError> {
    let mut race = PushRace::default();
    // A push whose answer was lost.
    let mut unsure: Option<(ObjectId, C::Outcome)> = None;
    loop {
        let snapshot = repo.refresh(&mut Vec::new()).await?;
        if let Some((commit, outcome)) = unsure.take() {
            let head = snapshot.commit;
            if repo
                .read(move |mirror| mirror.contains(head, commit))
                .await?
            {
                return Ok((outcome, Some(commit)));
            }
        }
        match command.plan(snapshot).await? {
            CommandPlan::Done(outcome) => return Ok((outcome, None)),
            CommandPlan::Stale => {}
            CommandPlan::Push {
                message,
                make,
                outcome,
            } => {
                let (message, person) = (by.describe(&message), by.person());
                let text = CommitText {
                    message: &message,
                    author: person.as_ref(),
                    now,
                };
                match publisher.push(PushTarget::Followed, text, make).await? {
                    PublishOutcome::Done(commit) => return Ok((outcome, Some(commit))),
                    PublishOutcome::Unsure(commit) => unsure = Some((commit, outcome)),
                    PublishOutcome::Conflict => {}
                    PublishOutcome::Refused(refusal) => return Err(refusal.into()),
                }
            }
        }
        if !race.retry().await {
            return Err(CommandError::PushedFirst {
                remote: repo.mirror.remote().shown().to_owned(),
            });
        }
    }
}
