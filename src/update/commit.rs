//! A change set becomes a commit on the branch, or must wait.

use super::{
    CommitReport, EnvironmentReport, EnvironmentState, FailureReport, ImageUpdater, blocking,
};
use crate::{
    core::{error::ErrorKind, schedule},
    io::git::{self, CommitDraft, GitError, Mirror, Person, PushOutcome, RepoPath},
    review::{ChangeSet, FileChange},
    spec::Environment,
};
use jiff::Timestamp;
use std::sync::{Arc, atomic::Ordering};

/// Makes a draft on a head.
type CommitInput = Box<
    dyn FnOnce(
            &Mirror,
            git::ObjectId,
            &git::CommitMeta<'_>,
        ) -> Result<Option<CommitDraft>, GitError>
        + Send,
>;

/// What became of a push.
pub(crate) enum PublishOutcome {
    Done(git::ObjectId),
    /// The commit was sent and no answer came.
    Unsure(git::ObjectId),
    Conflict,
    Refused(git::PushRejection),
}

impl ImageUpdater {
    /// Commits a change set on the head that was read, and pushes it.
    pub(crate) async fn publish(
        &self,
        set: &ChangeSet,
        message: &str,
        person: Option<&Person>,
        now: Timestamp,
    ) -> Result<PublishOutcome, GitError> {
        self.publish_files(set.files.clone(), message, person, now)
            .await
    }

    /// Commits files on the head that was read, and pushes them.
    pub(crate) async fn publish_files(
        &self,
        files: Vec<FileChange>,
        message: &str,
        person: Option<&Person>,
        now: Timestamp,
    ) -> Result<PublishOutcome, GitError> {
        self.push(message, person, now, edits(files)?).await
    }

    /// Commits a change set on the head that was read, and pushes it to a branch of its own, which
    /// must be at `old`.
    pub(crate) async fn publish_branch(
        &self,
        branch: &str,
        old: Option<git::ObjectId>,
        set: &ChangeSet,
        message: &str,
        person: Option<&Person>,
        now: Timestamp,
    ) -> Result<PublishOutcome, GitError> {
        self.push_to(
            Some((branch.to_owned(), old)),
            message,
            person,
            now,
            edits(set.files.clone())?,
        )
        .await
    }

    /// Makes a commit on the head of the branch as it was seen last, and pushes it; where nothing
    /// is made, the head is another one than was thought.
    pub(crate) async fn push(
        &self,
        message: &str,
        person: Option<&Person>,
        now: Timestamp,
        make: impl FnOnce(
            &Mirror,
            git::ObjectId,
            &git::CommitMeta<'_>,
        ) -> Result<Option<CommitDraft>, GitError>
        + Send
        + 'static,
    ) -> Result<PublishOutcome, GitError> {
        self.push_to(None, message, person, now, make).await
    }

    /// The same to a branch of its own, from what it must be at; or to the followed branch.
    pub(crate) async fn push_to(
        &self,
        branch: Option<(String, Option<git::ObjectId>)>,
        message: &str,
        person: Option<&Person>,
        now: Timestamp,
        make: impl FnOnce(
            &Mirror,
            git::ObjectId,
            &git::CommitMeta<'_>,
        ) -> Result<Option<CommitDraft>, GitError>
        + Send
        + 'static,
    ) -> Result<PublishOutcome, GitError> {
        let mirror = Arc::clone(&self.mirror);
        let key = self.key.clone();
        let bot = Person::new(&self.config.author.name, &self.config.author.email)?;
        let author = person.cloned().unwrap_or_else(|| bot.clone());
        let message = message.to_owned();
        self.publishing.store(true, Ordering::SeqCst);
        blocking(move || {
            let Some(head) = mirror.head() else {
                return Ok(PublishOutcome::Conflict);
            };
            let text = git::CommitMeta {
                author: &author,
                committer: &bot,
                seconds: now.as_second(),
                text: &message,
                key: key.as_deref(),
            };
            let Some(draft) = make(&mirror, head, &text)? else {
                return Ok(PublishOutcome::Conflict);
            };
            let pushed = match &branch {
                None => mirror.push(&draft),
                Some((branch, old)) => mirror.push_branch(&draft, branch, *old),
            };
            match pushed {
                Ok(PushOutcome::Done) => Ok(PublishOutcome::Done(draft.commit)),
                Err(GitError::Unanswered { .. }) => Ok(PublishOutcome::Unsure(draft.commit)),
                Err(error) => Err(error),
                Ok(PushOutcome::Rejected(refusals)) => match refusals.into_iter().next() {
                    Some(refusal) if refusal.kind != ErrorKind::Conflict => {
                        Ok(PublishOutcome::Refused(refusal))
                    }
                    _ => Ok(PublishOutcome::Conflict),
                },
            }
        })
        .await
    }
}

/// A draft of files on whatever head it is asked for; none where one of them is not what it was.
pub(crate) fn edits(files: Vec<FileChange>) -> Result<CommitInput, GitError> {
    let edits = files
        .iter()
        .map(|file| {
            Ok(git::FileEdit {
                path: RepoPath::new(&file.path)?,
                bytes: file.after.clone(),
            })
        })
        .collect::<Result<Vec<_>, GitError>>()?;
    Ok(Box::new(move |mirror, head, text| {
        // The head may be another one than the edits were made on; then their sources differ, or
        // nothing is lost.
        let revision = mirror.at(head)?;
        for file in &files {
            if revision
                .read(&file.path)?
                .is_none_or(|found| found.bytes != file.before)
            {
                return Ok(None);
            }
        }
        mirror.draft(head, &edits, text)
    }))
}

/// Whether commits must wait for a window.
pub(crate) fn gate(
    environment: Option<&Environment>,
    now: Timestamp,
    row: &mut EnvironmentReport,
) -> bool {
    let Some(environment) = environment else {
        return true;
    };
    if let Err(next) = schedule::open(&environment.windows, now) {
        (row.state, row.until) = (EnvironmentState::WindowClosed, next);
        return true;
    }
    false
}

/// The same change is wanted again right after it was pushed: somebody undoes it, and a pass does
/// not fight.
pub(crate) fn undone(remote: &str, commit: &CommitReport) -> FailureReport {
    let subject = commit.message.lines().next().unwrap_or_default();
    FailureReport {
        kind: ErrorKind::Conflict,
        message: format!("git remote {remote}: \"{subject}\" was pushed and is gone again"),
        hint: Some(
            "Another program or a hook rewrites these files; let one of the two leave them alone."
                .to_owned(),
        ),
        repository: None,
        retry_after: None,
        forge: false,
    }
}
