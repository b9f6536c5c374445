//! `tagboat rollback`: the folder of an Application becomes what it was at an earlier commit, by a
//! commit of its own.
//!
//! The folder is put back whole, by its id, so that every byte, mode and link is the same. Only
//! declarations below it stay as they are: what is deployed goes back, not what people have decided
//! about deploying. The commit has no trailer of the bot, so what it lowers is held by the rule for
//! reverts.

use super::{ATTEMPTS, CommandError, DeclarationKind, DeclarationRef, subject};
use crate::update::{
    ImageUpdater, PassReport, RepoSnapshot, blocking, commit::PublishOutcome, jitter,
};
use crate::{
    core::name::Name,
    images::lint,
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
use serde::Serialize;
use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

/// The most commits looked at. Beyond, nobody means "the last change".
const MOST_COMMITS: usize = 10_000;

/// The most undone commits that a message names.
const MOST_NAMED: usize = 20;

/// What became of a rollback, or what it comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackOutcome {
    /// The Application.
    pub application: Name,
    /// Its folder; the root is the empty path.
    pub path: String,
    /// The commit; none: the folder is as it was then already.
    pub commit: Option<String>,
    /// The head of the branch before.
    pub from: String,
    /// The revision whose state is back.
    pub to: String,
    /// The files that changed.
    pub files: Vec<RestoredFile>,
    /// Files of declarations that differ and stay as they are.
    pub kept: Vec<String>,
    /// The commits that are undone, newest first.
    pub undone: Vec<UndoneMove>,
    /// What else the Application reads that is not as it was then: folders and files outside of its
    /// own, which stay.
    pub outside: Vec<String>,
    /// The versions that went down and are held from now on.
    pub held: Vec<HeldVersion>,
    /// Whether the Application rests, so that nothing is applied.
    pub suspended: bool,
    /// What could not be found out.
    pub warnings: Vec<String>,
}

/// A file that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredFile {
    /// The path from the root of the repository.
    pub path: String,
    /// How.
    pub way: FileChangeKind,
}

/// How a file changed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum FileChangeKind {
    /// It has its old content or mode.
    Restored,
    /// It is there again.
    Added,
    /// It is gone again.
    Deleted,
}

/// A commit that is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UndoneMove {
    /// Its id.
    pub commit: String,
    /// Its subject.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
}

/// A version that is held from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldVersion {
    /// The Environment.
    pub environment: String,
    /// The policy.
    pub policy: Name,
    /// The version that went.
    pub version: String,
    /// The version that came back.
    pub instead: String,
}

/// A rollback worked out on one head.
struct RollbackPlan {
    head: ObjectId,
    target: ObjectId,
    /// What lies at the Application's folder at the head.
    present: Option<ObjectId>,
    grafts: Vec<TreeRestore>,
    outcome: RollbackOutcome,
    message: String,
}

impl ImageUpdater {
    /// The commit of the branch whose id is `text`, or begins with it. Asks the remote first.
    ///
    /// # Errors
    /// [`GitError::Revision`] where it is none; or if the remote cannot be asked.
    pub async fn revision(&self, text: &str) -> Result<ObjectId, GitError> {
        let head = self.look(&mut PassReport::default()).await?.commit;
        let (mirror, text) = (Arc::clone(&self.mirror), text.to_owned());
        blocking(move || mirror.revision(head, &text)).await
    }

    /// Restores the folder of an Application to what it was at `to`, a commit of the branch's
    /// history; without one to the state before the last commit that changed the folder. Files of
    /// declarations below it stay as they are.
    ///
    /// # Errors
    /// [`CommandError`]; then nothing was changed.
    pub async fn roll_back(
        &self,
        application: &Name,
        to: Option<ObjectId>,
        now: Timestamp,
    ) -> Result<RollbackOutcome, CommandError> {
        let done = self.roll_back_in_turn(application, to, now).await;
        self.publishing.store(false, Ordering::SeqCst);
        done
    }

    async fn roll_back_in_turn(
        &self,
        name: &Name,
        mut to: Option<ObjectId>,
        now: Timestamp,
    ) -> Result<RollbackOutcome, CommandError> {
        let mut unsure: Option<(ObjectId, RollbackOutcome)> = None;
        let mut seen: Option<Option<ObjectId>> = None;
        for attempt in 1..=ATTEMPTS {
            let world = self.look(&mut PassReport::default()).await?;
            if let Some((commit, done)) = unsure.take()
                && self.arrived(world.commit, commit).await?
            {
                return Ok(self.with_holds(done, commit, now).await);
            }
            let Some(application) = world.declared.applications.get(name).cloned() else {
                return Err(DeclarationRef {
                    kind: DeclarationKind::Application,
                    name: name.to_string(),
                }
                .unknown(&world.declared));
            };
            let RollbackPlan {
                head,
                target,
                present,
                grafts,
                outcome,
                message,
            } = self.plan_rollback(&world, application, to).await?;
            if outcome.files.is_empty() {
                return Ok(outcome);
            }
            // What was asked for is what was seen first: another's later change of the same folder
            // is not undone unseen.
            if seen.is_some_and(|seen| seen != present) {
                return Err(CommandError::Changed {
                    path: shown(&outcome.path),
                });
            }
            (seen, to) = (Some(present), Some(target));
            let make = move |mirror: &Mirror, now_head, text: &crate::io::git::CommitMeta<'_>| {
                match now_head == head {
                    true => mirror.graft(head, &grafts, text),
                    false => Ok(None),
                }
            };
            match self.push(&message, None, now, make).await? {
                PublishOutcome::Done(commit) => {
                    let done = RollbackOutcome {
                        commit: Some(commit.to_string()),
                        ..outcome
                    };
                    return Ok(self.with_holds(done, commit, now).await);
                }
                PublishOutcome::Unsure(commit) => {
                    unsure = Some((
                        commit,
                        RollbackOutcome {
                            commit: Some(commit.to_string()),
                            ..outcome
                        },
                    ))
                }
                PublishOutcome::Conflict => {}
                PublishOutcome::Refused(refusal) => return Err(refusal.into()),
            }
            tokio::time::sleep(jitter(attempt)).await;
        }
        Err(CommandError::PushedFirst {
            remote: self.mirror.remote().shown().to_owned(),
        })
    }

    async fn plan_rollback(
        &self,
        world: &RepoSnapshot,
        application: Application,
        to: Option<ObjectId>,
    ) -> Result<RollbackPlan, CommandError> {
        let (mirror, head, policies) = (
            Arc::clone(&self.mirror),
            world.commit,
            self.config.policies.clone(),
        );
        blocking(move || {
            RollbackSearch {
                mirror: &mirror,
                head,
                policies: policies.as_deref(),
                application: &application,
            }
            .plan(to)
        })
        .await
    }

    /// Adds what the commit holds, as the next pass will see it.
    async fn with_holds(
        &self,
        mut done: RollbackOutcome,
        commit: ObjectId,
        now: Timestamp,
    ) -> RollbackOutcome {
        match self.held_by(&commit.to_string(), now).await {
            Ok(held) => done.held = held,
            Err(error) => done.warnings.push(format!(
                "what is held from now on could not be read: {error}; `tagboat holds` lists it"
            )),
        }
        done
    }

    async fn held_by(&self, commit: &str, now: Timestamp) -> Result<Vec<HeldVersion>, GitError> {
        let world = self.look(&mut PassReport::default()).await?;
        let (locals, _) = lint::find(&world.declared, &world.files);
        let mut held = Vec::new();
        for local in &locals {
            for (policy, holds) in self.holds(&world, local, now).await? {
                held.extend(
                    holds
                        .iter()
                        .filter(|hold| hold.commit == commit)
                        .map(|hold| HeldVersion {
                            environment: local.environment.name.clone(),
                            policy: policy.clone(),
                            version: hold.value.clone(),
                            instead: hold.instead.clone(),
                        }),
                );
            }
        }
        Ok(held)
    }
}

/// What a plan is made from. Everything here blocks.
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
                revision: short(target),
                path: shown(path),
            });
        };
        let (kept, files): (Vec<ChangedPath>, Vec<ChangedPath>) =
            self.split(mirror.differences(head, target, path)?, &now)?;
        let mut grafts = vec![TreeRestore {
            path: path.to_owned(),
            entry: Some((EntryKind::Tree, then.id)),
        }];
        grafts.extend(kept.iter().map(|kept| TreeRestore {
            path: kept.path.clone(),
            entry: kept.from,
        }));
        let undone = if files.is_empty() {
            Vec::new()
        } else {
            self.undone(target)?
        };
        let outcome = RollbackOutcome {
            application: application.name.clone(),
            path: path.to_owned(),
            commit: None,
            from: head.to_string(),
            to: target.to_string(),
            files: files.into_iter().map(restored).collect(),
            kept: kept.into_iter().map(|kept| kept.path).collect(),
            undone: undone
                .into_iter()
                .map(
                    |HistoryCommit {
                         id,
                         subject,
                         author,
                         ..
                     }| UndoneMove {
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
            grafts,
            outcome,
            message,
        })
    }

    /// The state before the newest commit of the branch that changed the folder.
    fn before_the_last_change(&self) -> Result<ObjectId, CommandError> {
        let path = self.application.path.as_str();
        let mut looked = 0;
        for commit in self.mirror.history(self.head, i64::MIN, MOST_COMMITS) {
            let commit = commit?;
            let Some(parent) = commit.parent else { break };
            looked += 1;
            if self.changed(&commit, parent)? {
                return Ok(parent);
            }
        }
        Err(CommandError::NothingBefore {
            application: self.application.name.clone(),
            path: shown(path),
            looked,
        })
    }

    /// The commits since `target` that changed the folder, newest first.
    fn undone(&self, target: ObjectId) -> Result<Vec<HistoryCommit>, GitError> {
        let mut undone = Vec::new();
        for commit in self.mirror.since(self.head, target, MOST_COMMITS)? {
            if let Some(parent) = commit.parent
                && self.changed(&commit, parent)?
            {
                undone.push(commit);
            }
        }
        Ok(undone)
    }

    /// Whether a commit changed the folder in more than declarations.
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

    /// Which files declare something, on either side, and which do not.
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

    /// What the Application reads outside of its folder, now or then, that is not the same.
    fn outside(&self, target: ObjectId) -> Result<Vec<String>, GitError> {
        let own = self.application.path.as_str();
        let source = render::RenderSource::from(self.application);
        // Where nothing can be rendered, nothing is known to be read.
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

/// Whether a path is a folder or lies in it.
fn is_below(path: &str, folder: &str) -> bool {
    folder.is_empty()
        || path
            .strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn restored(file: ChangedPath) -> RestoredFile {
    let way = match (file.from, file.to) {
        (None, _) => FileChangeKind::Added,
        (_, None) => FileChangeKind::Deleted,
        _ => FileChangeKind::Restored,
    };
    RestoredFile {
        path: file.path,
        way,
    }
}

fn short(commit: ObjectId) -> String {
    commit.to_hex_with_len(10).to_string()
}

/// A folder as people read it.
fn shown(path: &str) -> String {
    if path.is_empty() {
        ".".to_owned()
    } else {
        path.to_owned()
    }
}

/// The message: what goes back, from where to where, and what is undone. Its last paragraph can be
/// no trailer.
fn message(outcome: &RollbackOutcome) -> String {
    let RollbackOutcome {
        application,
        path,
        from,
        to,
        undone,
        ..
    } = outcome;
    let cut = &to[..to.len().min(10)];
    let first = subject(
        "Roll back ",
        &application.to_string(),
        &format!(" to {cut}"),
    );
    let rows: String = undone
        .iter()
        .take(MOST_NAMED)
        .map(
            |UndoneMove {
                 commit, subject, ..
             }| format!("- {} {subject}\n", &commit[..commit.len().min(10)]),
        )
        .collect();
    let more = match undone.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!("- and {more} more\n"),
    };
    let undone = if rows.is_empty() {
        String::new()
    } else {
        format!("Undone:\n{rows}{more}\n")
    };
    format!(
        "{first}\n\n{} is as it was at {to}.\nBefore this commit the branch was at {from}.\n\n{undone}By `tagboat rollback {application} --to {cut}`.\n",
        shown(path)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{io::git::has_trailer, review::TRAILER};

    fn outcome(undone: usize) -> RollbackOutcome {
        let one = |n: usize| UndoneMove {
            commit: format!("{n:040x}"),
            subject: "Tagboat-Update: dev".to_owned(),
            author: "Ann".to_owned(),
        };
        RollbackOutcome {
            application: "dev/podinfo".parse().unwrap(),
            path: "envs/dev/podinfo".to_owned(),
            commit: None,
            from: "f".repeat(40),
            to: format!("1a2b3c4d5e{}", "0".repeat(30)),
            files: Vec::new(),
            kept: Vec::new(),
            undone: (0..undone).map(one).collect(),
            outside: Vec::new(),
            held: Vec::new(),
            suspended: false,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn the_message_names_everything_and_is_no_update_of_the_bot() {
        let text = message(&outcome(2));
        assert_eq!(
            text,
            "Roll back dev/podinfo to 1a2b3c4d5e\n\n\
             envs/dev/podinfo is as it was at 1a2b3c4d5e000000000000000000000000000000.\n\
             Before this commit the branch was at ffffffffffffffffffffffffffffffffffffffff.\n\n\
             Undone:\n- 0000000000 Tagboat-Update: dev\n- 0000000000 Tagboat-Update: dev\n\n\
             By `tagboat rollback dev/podinfo --to 1a2b3c4d5e`.\n"
        );
        for count in [0, 1, 2, 50] {
            let text = message(&outcome(count));
            assert!(!has_trailer(text.as_bytes(), TRAILER), "{text}");
            assert!(text.lines().count() < 40, "{text}");
        }
    }

    #[test]
    fn folders_hold_what_is_below_them() {
        for (path, folder, below) in [
            ("a", "a", true),
            ("a/b", "a", true),
            ("ab", "a", false),
            ("", "a", false),
            ("x", "", true),
        ] {
            assert_eq!(is_below(path, folder), below, "{path} {folder}");
        }
    }
}
