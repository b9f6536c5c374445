//! Commits on the branch, and pushes.

use super::{CommitReport, EnvironmentReport, EnvironmentState, FailureReport, blocking};
use crate::{
    core::{error::ErrorKind, retry, schedule},
    io::git::{
        self, CommitDraft, CommitSigner, GitError, Mirror, ObjectId, Person, PushOutcome, RepoPath,
    },
    review::FileChange,
    spec::{Environment, settings::ConfigRepository},
};
use jiff::Timestamp;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio_util::task::TaskTracker;

/// Lost races in a row after which a push is given up. A branch that moves ten times while one pass
/// needs a second is left to the next pass.
pub(crate) const PUSH_ATTEMPTS: u32 = 10;

/// Makes a draft on a head; none if the head is not the one that was planned for.
pub(crate) type MakeDraft = Box<
    dyn FnOnce(&Mirror, ObjectId, &git::CommitMeta<'_>) -> Result<Option<CommitDraft>, GitError>
        + Send,
>;

/// Outcome of a push.
pub(crate) enum PublishOutcome {
    Done(ObjectId),
    /// The commit was sent, and the answer was lost.
    Unsure(ObjectId),
    Conflict,
    Refused(git::PushRejection),
}

/// Branch that a commit is pushed to.
pub(crate) enum PushTarget {
    /// The followed branch.
    Followed,
    /// A branch of the bot's own, which must be at `old` (compare-and-swap).
    Own { name: String, old: Option<ObjectId> },
}

/// Message and author of a commit.
pub(crate) struct CommitText<'a> {
    pub(crate) message: &'a str,
    /// The author; the bot if there is none. The committer is always the bot.
    pub(crate) author: Option<&'a Person>,
    pub(crate) now: Timestamp,
}

/// Commits as the bot, and pushes.
pub(crate) struct Publisher {
    mirror: Arc<Mirror>,
    bot: (String, String),
    signer: Option<Arc<CommitSigner>>,
    /// Set from the first change to a remote until it stands in a report. A pass must not be
    /// dropped in between.
    publishing: AtomicBool,
    /// Pushes under way, which outlive a future that is dropped.
    pushes: TaskTracker,
}

impl Publisher {
    pub(crate) fn new(
        config: &ConfigRepository,
        mirror: &Arc<Mirror>,
        signer: Option<CommitSigner>,
    ) -> Self {
        Self {
            mirror: Arc::clone(mirror),
            bot: (config.author.name.clone(), config.author.email.clone()),
            signer: signer.map(Arc::new),
            publishing: AtomicBool::default(),
            pushes: TaskTracker::new(),
        }
    }

    /// The bot as an author.
    pub(crate) fn bot(&self) -> Result<Person, GitError> {
        Person::new(&self.bot.0, &self.bot.1)
    }

    /// Notes that a remote is about to be changed.
    pub(crate) fn begin(&self) {
        self.publishing.store(true, Ordering::SeqCst);
    }

    /// Notes that everything that was changed stands in a report.
    pub(crate) fn end(&self) {
        self.publishing.store(false, Ordering::SeqCst);
    }

    /// Waits until no push is under way; none may begin afterwards.
    pub(crate) async fn drain(&self) {
        self.pushes.close();
        self.pushes.wait().await;
    }

    pub(crate) fn is_publishing(&self) -> bool {
        self.publishing.load(Ordering::SeqCst)
    }

    /// Commits on the head that was fetched last, and pushes.
    ///
    /// From the draft to the answer it runs in one blocking task, which nothing interrupts.
    pub(crate) async fn push(
        &self,
        target: PushTarget,
        text: CommitText<'_>,
        make: MakeDraft,
    ) -> Result<PublishOutcome, GitError> {
        let (mirror, signer) = (Arc::clone(&self.mirror), self.signer.clone());
        let bot = self.bot()?;
        let author = text.author.cloned().unwrap_or_else(|| bot.clone());
        let (message, seconds) = (text.message.to_owned(), text.now.as_second());
        self.begin();
        let token = self.pushes.token();
        blocking(move || {
            let _token = token;
            let Some(head) = mirror.head() else {
                return Ok(PublishOutcome::Conflict);
            };
            let meta = git::CommitMeta {
                author: &author,
                committer: &bot,
                seconds,
                text: &message,
                key: signer.as_deref(),
            };
            let Some(draft) = make(&mirror, head, &meta)? else {
                return Ok(PublishOutcome::Conflict);
            };
            let pushed = match &target {
                PushTarget::Followed => mirror.push(&draft),
                PushTarget::Own { name, old } => mirror.push_branch(&draft, name, *old),
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

/// Lost races for a branch, counted.
#[derive(Default)]
pub(crate) struct PushRace {
    lost: u32,
}

impl PushRace {
    /// Forgets the races that were lost, after a push that succeeded.
    pub(crate) fn won(&mut self) {
        self.lost = 0;
    }

    /// Waits after a lost race; false if the push must be given up.
    ///
    /// The pause grows with the races and differs between processes: below 50 ms, 100 ms, …, half a
    /// second.
    pub(crate) async fn retry(&mut self) -> bool {
        if self.lost >= PUSH_ATTEMPTS {
            return false;
        }
        self.lost += 1;
        let limit = Duration::from_millis(50) * self.lost.min(10);
        tokio::time::sleep(retry::jitter(limit)).await;
        true
    }
}

/// Makes a draft that edits files; it is none if one of them has other content by then.
pub(crate) fn edit_files(files: Vec<FileChange>) -> Result<MakeDraft, GitError> {
    let edits = files
        .iter()
        .map(|file| {
            Ok(git::FileEdit {
                path: RepoPath::new(&file.path)?,
                bytes: file.after.clone(),
            })
        })
        .collect::<Result<Vec<_>, GitError>>()?;
    Ok(Box::new(move |mirror, head, meta| {
        // The head may have moved since the edits were made. Nothing is lost as long as the edited
        // files are the same.
        let revision = mirror.at(head)?;
        for file in &files {
            if revision
                .read(&file.path)?
                .is_none_or(|found| found.bytes != file.before)
            {
                return Ok(None);
            }
        }
        mirror.draft(head, &edits, meta)
    }))
}

/// Tells whether commits must wait for a window, and notes it in the row.
pub(crate) fn window_is_closed(
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

/// The failure of a change that is wanted again right after it was pushed.
///
/// Another program undoes it, and the bot must not fight with it for ever.
pub(crate) fn undone(remote: &str, commit: &CommitReport) -> FailureReport {
    let subject = commit.message.lines().next().unwrap_or_default();
    FailureReport {
        kind: ErrorKind::Conflict,
        message: format!("git remote {remote}: \"{subject}\" was pushed and is gone again"),
        hint: Some(
            "Another program or a hook rewrites these files; exclude them from one of the two."
                .to_owned(),
        ),
        repository: None,
        retry_after: None,
        forge: false,
    }
}

/// The failure of a branch that moves faster than commits can be made.
pub(crate) fn lost_race(remote: &str) -> FailureReport {
    FailureReport {
        kind: ErrorKind::Conflict,
        message: format!(
            "cannot push to git remote {remote}: the branch moved first, {PUSH_ATTEMPTS} times in a row"
        ),
        hint: Some("The next pass tries again.".to_owned()),
        repository: None,
        retry_after: None,
        forge: false,
    }
}
