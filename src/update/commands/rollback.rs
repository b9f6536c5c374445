//! `tagboat rollback`: one commit that restores the folder of an Application as it was at an
//! earlier commit.
//!
//! The folder is restored by its tree id, so that every byte, mode and link is the same. Only
//! declarations below it stay: a rollback changes what is deployed, not what people have decided
//! about deploying. The commit has no trailer of the bot, so the versions that it lowers are held
//! like those of a revert.

mod outcome;

pub use outcome::{FileChangeKind, HeldVersion, RestoredFile, RevertedCommit, RollbackOutcome};

use super::{
    BranchCommand, CommandCommit, CommandError, CommandPlan, DeclarationKind, DeclarationRef,
    push_command, subject,
};
use crate::update::{ImageUpdater, RepoFollower, RepoSnapshot, commit::MakeDraft};
use crate::{
    core::{name::Name, text::short_id},
    images::policy::MoveOrigin,
    io::{
        git::{
            ChangedPath, EntryKind, GitError, HistoryCommit, Mirror, ObjectId, Revision,
            TreeRestore,
        },
        render,
    },
    spec::{self, Application},
};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// Commits searched for the last change.
const MOST_COMMITS: usize = 10_000;

/// Undone commits that a message names.
const MOST_NAMED: usize = 20;

/// A rollback planned on one head.
struct RollbackPlan {
    head: ObjectId,
    target: ObjectId,
    /// The Application's folder at the head.
    present: Option<ObjectId>,
    restores: Vec<TreeRestore>,
    outcome: RollbackOutcome,
    message: String,
}

/// Restores the folder of an Application as it was at `to`, a commit in the history of the branch;
/// by default as it was before the last commit that changed the folder.
///
/// Declarations below the folder stay as they are.
///
/// # Errors
/// [`CommandError`]; then nothing was changed.
pub(crate) async fn roll_back(
    updater: &ImageUpdater,
    name: &Name,
    to: Option<ObjectId>,
    commit: &CommandCommit,
    now: Timestamp,
) -> Result<RollbackOutcome, CommandError> {
    let command = RollbackCommand {
        repo: &updater.repo,
        name,
        to,
        first_seen: None,
    };
    let (mut outcome, commit) =
        push_command(&updater.repo, &updater.publisher, commit, now, command).await?;
    if let Some(commit) = commit {
        outcome.commit = Some(commit.to_string());
        match held_by(updater, &commit.to_string(), now).await {
            Ok(held) => outcome.held = held,
            Err(error) => outcome.warnings.push(format!(
                "cannot read the new holds: {error}; `tagboat holds` lists them"
            )),
        }
    }
    Ok(outcome)
}

struct RollbackCommand<'a> {
    repo: &'a RepoFollower,
    name: &'a Name,
    to: Option<ObjectId>,
    /// The folder as the first plan saw it.
    first_seen: Option<Option<ObjectId>>,
}

impl BranchCommand for RollbackCommand<'_> {
    type Outcome = RollbackOutcome;

    async fn plan(
        &mut self,
        snapshot: RepoSnapshot,
    ) -> Result<CommandPlan<RollbackOutcome>, CommandError> {
        let Some(application) = snapshot.declared.applications.get(self.name).cloned() else {
            let application = DeclarationRef {
                kind: DeclarationKind::Application,
                name: self.name.to_string(),
            };
            return Err(application.unknown(&snapshot.declared));
        };
        let RollbackPlan {
            head,
            target,
            present,
            restores,
            outcome,
            message,
        } = plan_rollback(self.repo, &snapshot, application, self.to).await?;
        if outcome.files.is_empty() {
            return Ok(CommandPlan::Done(outcome));
        }
        // The user decided on the folder as it was first: a later change of it must not be undone
        // unseen.
        if self.first_seen.is_some_and(|seen| seen != present) {
            return Err(CommandError::Changed {
                path: shown(&outcome.path),
            });
        }
        (self.first_seen, self.to) = (Some(present), Some(target));
        let make: MakeDraft = Box::new(move |mirror, current, meta| {
            if current == head {
                mirror.graft(head, &restores, meta)
            } else {
                Ok(None)
            }
        });
        Ok(CommandPlan::Push {
            message,
            make,
            outcome,
        })
    }
}

async fn plan_rollback(
    repo: &RepoFollower,
    snapshot: &RepoSnapshot,
    application: Application,
    to: Option<ObjectId>,
) -> Result<RollbackPlan, CommandError> {
    let (head, policies) = (snapshot.commit, repo.config.policies.clone());
    repo.read(move |mirror| {
        RollbackSearch {
            mirror,
            head,
            policies: policies.as_deref(),
            application: &application,
        }
        .plan(to)
    })
    .await
}

/// Returns the versions that a commit holds, as the next pass will see them.
async fn held_by(
    updater: &ImageUpdater,
    commit: &str,
    now: Timestamp,
) -> Result<Vec<HeldVersion>, GitError> {
    let snapshot = updater.repo.refresh(&mut Vec::new()).await?;
    let (scopes, _) = snapshot.lint().await;
    let mut held = Vec::new();
    for scope in &scopes {
        for (policy, holds) in updater.holds(&snapshot, scope, now).await? {
            held.extend(
                holds
                    .iter()
                    .filter(|hold| matches!(&hold.origin, MoveOrigin::Commit { id, .. } if id == commit))
                    .map(|hold| HeldVersion {
                        environment: scope.environment.name.clone(),
                        policy: policy.clone(),
                        version: hold.value.clone(),
                        instead: hold.instead.clone(),
                    }),
            );
        }
    }
    Ok(held)
}

/// Plans a rollback. Everything here blocks.
struct RollbackSearch<'l> {
    mirror: &'l Mirror,
    head: ObjectId,
    policies: Option<&'l str>,
    application: &'l Application,
}

impl RollbackSearch<'_> {
    fn plan(&self, to: Option<ObjectId>) -> Result<RollbackPlan, CommandError> {
        let Self {
            mirror,
            head,
            application,
            ..
        } = *self;
        let path = application.path.as_str();
        let target = match to {
            Some(target) if mirror.contains(head, target)? => target,
            Some(target) => {
                let why = format!(
                    "is not in the history of the branch {:?}",
                    mirror.remote().branch()
                );
                return Err(GitError::Revision {
                    revision: target.to_string(),
                    why,
                }
                .into());
            }
            None => self.before_the_last_change()?,
        };
        let now = mirror.at(head)?;
        let Some(then) = mirror
            .at(target)?
            .find(path)?
            .filter(|entry| entry.kind == EntryKind::Tree)
        else {
            return Err(CommandError::NoFolder {
                application: application.name.clone(),
                revision: short_id(&target.to_string()).to_owned(),
                path: shown(path),
            });
        };
        let (kept, files): (Vec<ChangedPath>, Vec<ChangedPath>) =
            self.split(mirror.differences(head, target, path)?, &now)?;
        let mut restores = vec![TreeRestore {
            path: path.to_owned(),
            entry: Some((EntryKind::Tree, then.id)),
        }];
        restores.extend(kept.iter().map(|kept| TreeRestore {
            path: kept.path.clone(),
            entry: kept.from,
        }));
        let reverted = if files.is_empty() {
            Vec::new()
        } else {
            self.reverted_commits(target)?
        };
        let outcome = RollbackOutcome {
            application: application.name.clone(),
            path: path.to_owned(),
            commit: None,
            from: head.to_string(),
            to: target.to_string(),
            files: files.into_iter().map(restored).collect(),
            kept: kept.into_iter().map(|kept| kept.path).collect(),
            reverted: reverted
                .into_iter()
                .map(
                    |HistoryCommit {
                         id,
                         subject,
                         author,
                         ..
                     }| RevertedCommit {
                        commit: id.to_string(),
                        subject,
                        author,
                    },
                )
                .collect(),
            outside: self.outside(target)?,
            held: Vec::new(),
            suspended: application.suspend,
            warnings: Vec::new(),
        };
        let message = message(&outcome);
        Ok(RollbackPlan {
            head,
            target,
            present: now.find(path)?.map(|entry| entry.id),
            restores,
            outcome,
            message,
        })
    }

    /// Returns the state before the last commit of the branch that changed the folder.
    fn before_the_last_change(&self) -> Result<ObjectId, CommandError> {
        let path = self.application.path.as_str();
        let mut read = 0;
        for commit in self.mirror.history(self.head, i64::MIN, MOST_COMMITS) {
            let commit = commit?;
            let Some(parent) = commit.parent else { break };
            read += 1;
            if self.changed(&commit, parent)? {
                return Ok(parent);
            }
        }
        Err(CommandError::NothingBefore {
            application: self.application.name.clone(),
            path: shown(path),
            read,
        })
    }

    /// Returns the commits since `target` that changed the folder, newest first.
    fn reverted_commits(&self, target: ObjectId) -> Result<Vec<HistoryCommit>, GitError> {
        let mut reverted = Vec::new();
        for commit in self.mirror.since(self.head, target, MOST_COMMITS)? {
            if let Some(parent) = commit.parent
                && self.changed(&commit, parent)?
            {
                reverted.push(commit);
            }
        }
        Ok(reverted)
    }

    /// Tells whether a commit changed the folder in more than declarations.
    fn changed(&self, commit: &HistoryCommit, parent: ObjectId) -> Result<bool, GitError> {
        let differences = self
            .mirror
            .differences(parent, commit.id, &self.application.path)?;
        Ok(!differences.is_empty()
            && !self
                .split(differences, &self.mirror.at(commit.id)?)?
                .1
                .is_empty())
    }

    /// Divides files into those that declare something, on either side, and the others.
    fn split(
        &self,
        all: Vec<ChangedPath>,
        revision: &Revision<'_>,
    ) -> Result<(Vec<ChangedPath>, Vec<ChangedPath>), GitError> {
        let inside = |path: &str| {
            self.policies.is_none_or(|folder| {
                path.strip_prefix(folder)
                    .is_some_and(|rest| rest.starts_with('/'))
            })
        };
        let mut split = (Vec::new(), Vec::new());
        for file in all {
            let mut declares = false;
            let may = inside(&file.path)
                && spec::ENDINGS
                    .iter()
                    .any(|ending| file.path.ends_with(ending));
            for (kind, id) in [file.from, file.to].into_iter().flatten().filter(|_| may) {
                let regular = matches!(kind, EntryKind::Blob | EntryKind::BlobExecutable);
                declares |= regular && spec::declares(&file.path, &revision.blob(id)?);
            }
            if declares {
                split.0.push(file)
            } else {
                split.1.push(file)
            }
        }
        Ok(split)
    }

    /// Returns what the Application reads outside of its folder, now or then, and has changed.
    fn outside(&self, target: ObjectId) -> Result<Vec<String>, GitError> {
        let own = self.application.path.as_str();
        let source = render::RenderSource::from(self.application);
        // If it cannot be rendered, what it reads is unknown.
        let reads = |commit| render::reads(self.mirror, commit, &source).unwrap_or_default();
        let reads: BTreeSet<String> = reads(self.head)
            .into_iter()
            .chain(reads(target))
            .filter(|path| !is_below(path, own))
            .collect();
        let mut outside = Vec::new();
        for path in reads {
            let differences = self.mirror.differences(target, self.head, &path)?;
            if differences.iter().any(|file| !is_below(&file.path, own)) {
                outside.push(path);
            }
        }
        Ok(outside)
    }
}

/// Tells whether a path is a folder or lies in it.
fn is_below(path: &str, folder: &str) -> bool {
    folder.is_empty()
        || path
            .strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn restored(file: ChangedPath) -> RestoredFile {
    let change = match (file.from, file.to) {
        (None, _) => FileChangeKind::Added,
        (_, None) => FileChangeKind::Deleted,
        _ => FileChangeKind::Restored,
    };
    RestoredFile {
        path: file.path,
        change,
    }
}

/// Returns a folder for display.
fn shown(path: &str) -> String {
    if path.is_empty() {
        ".".to_owned()
    } else {
        path.to_owned()
    }
}

/// Returns the message: what is restored, from where to where, and which commits are reverted.
///
/// Its last paragraph is no trailer, whatever the reverted subjects are.
fn message(outcome: &RollbackOutcome) -> String {
    let RollbackOutcome {
        application,
        path,
        from,
        to,
        reverted,
        ..
    } = outcome;
    let short = short_id(to);
    let first = subject(
        "Roll back ",
        &application.to_string(),
        &format!(" to {short}"),
    );
    let rows: String = reverted
        .iter()
        .take(MOST_NAMED)
        .map(
            |RevertedCommit {
                 commit, subject, ..
             }| format!("- {} {subject}\n", short_id(commit)),
        )
        .collect();
    let more = match reverted.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!("- and {more} more\n"),
    };
    let reverted = if rows.is_empty() {
        String::new()
    } else {
        format!("Undone:\n{rows}{more}\n")
    };
    format!(
        "{first}\n\n{} is as it was at {to}.\nBefore this commit the branch was at {from}.\n\n{reverted}By `tagboat rollback {application} --to {short}`.\n",
        shown(path)
    )
}

#[cfg(test)]
mod tests;
