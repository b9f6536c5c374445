//! `tagboat suspend` and `tagboat resume`: one commit that sets `suspend` in a declaration.

use super::{
    BranchCommand, CommandCommit, CommandError, CommandPlan, DeclarationKind, DeclarationRef,
    push_command, subject,
};
use crate::{
    images::rewrite,
    io::git::{GitError, Mirror, ObjectId},
    review::FileChange,
    spec::{self, Declarations, FluxImageRepository, SourcePlace},
    update::{
        RepoFollower, RepoSnapshot,
        commit::{Publisher, edit_files},
    },
};
use jiff::Timestamp;

/// Outcome of `suspend` and `resume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuspendOutcome {
    /// Place of the declaration.
    pub place: SourcePlace,
    /// The commit; none if the declaration had that value already.
    pub commit: Option<String>,
    /// Why it is still suspended, if something else suspends it.
    pub note: Option<String>,
}

/// Sets or removes `suspend` in a declaration by one commit that changes nothing else.
///
/// # Errors
/// [`CommandError`]; then nothing was changed.
pub(crate) async fn suspend(
    repo: &RepoFollower,
    publisher: &Publisher,
    declaration: &DeclarationRef,
    suspend: bool,
    commit: &CommandCommit,
    now: Timestamp,
) -> Result<SuspendOutcome, CommandError> {
    let command = SuspendCommand {
        repo,
        declaration,
        suspend,
    };
    let (outcome, commit) = push_command(repo, publisher, commit, now, command).await?;
    Ok(SuspendOutcome {
        commit: commit.map(|commit| commit.to_string()),
        ..outcome
    })
}

struct SuspendCommand<'a> {
    repo: &'a RepoFollower,
    declaration: &'a DeclarationRef,
    suspend: bool,
}

impl BranchCommand for SuspendCommand<'_> {
    type Outcome = SuspendOutcome;

    async fn plan(
        &mut self,
        snapshot: RepoSnapshot,
    ) -> Result<CommandPlan<SuspendOutcome>, CommandError> {
        let Some(sources) = self.repo.declaring_files(snapshot.commit).await else {
            return Ok(CommandPlan::Stale);
        };
        let (declaration, suspend) = (self.declaration.clone(), self.suspend);
        self.repo
            .read(move |mirror| {
                let edit = SuspendEdit {
                    mirror,
                    snapshot: &snapshot,
                    sources: &sources,
                    declaration: &declaration,
                    suspend,
                };
                edit.plan()
            })
            .await
    }
}

/// The edit of one declaration, planned on a snapshot. Everything here blocks.
struct SuspendEdit<'a> {
    mirror: &'a Mirror,
    snapshot: &'a RepoSnapshot,
    /// The files that declare something.
    sources: &'a [(String, ObjectId)],
    declaration: &'a DeclarationRef,
    suspend: bool,
}

impl SuspendEdit<'_> {
    fn plan(&self) -> Result<CommandPlan<SuspendOutcome>, CommandError> {
        let Self {
            declaration,
            suspend,
            ..
        } = *self;
        let declared = &self.snapshot.declared;
        let Some((place, is_suspended)) = declaration.find(declared) else {
            return Err(declaration.unknown(declared));
        };
        let repository = suspended_repository(declaration, declared);
        let Some(file) = self.mirror.at(self.snapshot.commit)?.read(&place.file)? else {
            return Ok(CommandPlan::Stale);
        };
        let source = String::from_utf8_lossy(&file.bytes);
        let (line, column) = (
            u32::try_from(place.line).unwrap_or(0),
            u32::try_from(place.column).unwrap_or(0),
        );
        let edit = rewrite::suspend(&source, (line, column), suspend).map_err(|error| {
            CommandError::Suspend {
                file: place.file.clone(),
                error,
            }
        })?;
        let Some(edit) = edit else {
            return match repository.filter(|_| is_suspended && !suspend) {
                Some(FluxImageRepository { place, name, .. }) => {
                    Err(CommandError::RepositorySuspended {
                        place: place.clone(),
                        what: declaration.to_string(),
                        repository: name.clone(),
                    })
                }
                None => Ok(CommandPlan::Done(SuspendOutcome {
                    place,
                    commit: None,
                    note: None,
                })),
            };
        };
        let after = rewrite::apply(&file.bytes, &[edit]);
        if !self.is_proved(&place, &after, suspend || repository.is_some())? {
            return Err(CommandError::NotProved {
                place,
                what: declaration.to_string(),
            });
        }
        let note = repository.filter(|_| !suspend).map(|repository| {
            format!(
                "{declaration} is still suspended by its ImageRepository {} ({})",
                repository.name, repository.place
            )
        });
        let change = FileChange {
            path: place.file.clone(),
            before: file.bytes,
            after,
        };
        Ok(CommandPlan::Push {
            message: message(declaration, suspend),
            make: edit_files(vec![change])?,
            outcome: SuspendOutcome {
                place,
                commit: None,
                note,
            },
        })
    }

    /// Reads every declaration again with the edited file in place: the same things must be
    /// declared as before, and this one must have the intended state.
    fn is_proved(
        &self,
        place: &SourcePlace,
        after: &[u8],
        suspended: bool,
    ) -> Result<bool, GitError> {
        let revision = self.mirror.at(self.snapshot.commit)?;
        let mut files = Vec::with_capacity(self.sources.len());
        for (path, blob) in self.sources {
            let bytes = if *path == place.file {
                after.to_vec()
            } else {
                revision.blob(*blob)?
            };
            files.push((path.as_str(), bytes));
        }
        let branch = self.mirror.remote().branch();
        let again = spec::read(
            files.iter().map(|(path, bytes)| (*path, bytes.as_slice())),
            Some(branch),
        );
        let before = &self.snapshot.declared;
        let same = names(&again) == names(before) && again.mistakes.len() == before.mistakes.len();
        let found = self.declaration.find(&again);
        Ok(same && found.is_some_and(|(_, now)| now == suspended))
    }
}

/// Returns kind and name of everything that is declared.
fn names(declared: &Declarations) -> Vec<String> {
    let policies = declared
        .policies
        .keys()
        .map(|name| format!("policy {name}"));
    let environments = declared
        .environments
        .keys()
        .map(|name| format!("environment {name}"));
    let applications = declared
        .applications
        .keys()
        .map(|name| format!("application {name}"));
    let repositories = declared
        .repositories
        .keys()
        .map(|name| format!("repository {name}"));
    policies
        .chain(environments)
        .chain(applications)
        .chain(repositories)
        .collect()
}

/// Returns the ImageRepository that suspends a policy of Flux.
fn suspended_repository<'d>(
    declaration: &DeclarationRef,
    declared: &'d Declarations,
) -> Option<&'d FluxImageRepository> {
    let policy = declared
        .policies
        .get(&declaration.name.parse().ok()?)
        .filter(|_| declaration.kind == DeclarationKind::ImagePolicy)?;
    let repository = declared.repositories.get(policy.repository.as_ref()?)?;
    Some(repository).filter(|repository| repository.suspend)
}

fn message(declaration: &DeclarationRef, suspend: bool) -> String {
    let (verb, command) = if suspend {
        ("Suspend", "suspend")
    } else {
        ("Resume", "resume")
    };
    let kind = declaration.kind.to_string();
    let first = subject(&format!("{verb} {kind} "), &declaration.name, "");
    format!(
        "{first}\n\nBy `tagboat {command} {}/{}`.\n",
        kind.to_lowercase(),
        declaration.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{io::git::has_trailer, review::TRAILER};

    #[test]
    fn suspend_message_names_the_command() {
        let named = "app/dev/podinfo".parse().unwrap();
        let text = message(&named, true);
        assert_eq!(
            text,
            "Suspend Application dev/podinfo\n\nBy `tagboat suspend application/dev/podinfo`.\n"
        );
        assert!(!has_trailer(text.as_bytes(), TRAILER));
        assert!(message(&named, false).starts_with("Resume Application dev/podinfo\n"));
    }
}
