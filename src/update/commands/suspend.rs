//! `tagboat suspend` and `tagboat resume`: a declaration rests, or works again, by a commit.

use super::{ATTEMPTS, CommandError, DeclarationKind, DeclarationRef, subject};
use crate::update::{ImageUpdater, PassReport, RepoSnapshot, commit::PublishOutcome, jitter};
use crate::{
    images::rewrite,
    io::git::GitError,
    review::FileChange,
    spec::{self, Declarations, FluxImageRepository, SourcePlace},
};
use jiff::Timestamp;
use std::sync::{PoisonError, atomic::Ordering};

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuspendOutcome {
    /// Where it is declared.
    pub place: SourcePlace,
    /// The commit; none: the declaration said so already.
    pub commit: Option<String>,
    /// What is worth saying beside it.
    pub note: Option<String>,
}

impl ImageUpdater {
    /// Writes that a declaration rests, or that it works again, as one commit that changes nothing
    /// else.
    ///
    /// # Errors
    /// [`CommandError`]; then nothing was changed.
    pub async fn suspend(
        &self,
        named: &DeclarationRef,
        rest: bool,
        now: Timestamp,
    ) -> Result<SuspendOutcome, CommandError> {
        let done = self.suspend_in_turn(named, rest, now).await;
        self.publishing.store(false, Ordering::SeqCst);
        done
    }

    async fn suspend_in_turn(
        &self,
        named: &DeclarationRef,
        rest: bool,
        now: Timestamp,
    ) -> Result<SuspendOutcome, CommandError> {
        let mut unsure = None;
        for attempt in 1..=ATTEMPTS {
            let world = self.look(&mut PassReport::default()).await?;
            if let Some((commit, done)) = unsure.take()
                && self.arrived(world.commit, commit).await?
            {
                return Ok(done);
            }
            let Some((place, rests)) = named.find(&world.declared) else {
                return Err(named.unknown(&world.declared));
            };
            let repository = resting_repository(named, &world.declared);
            let Some(file) = self.mirror.at(world.commit)?.read(&place.file)? else {
                continue;
            };
            let source = String::from_utf8_lossy(&file.bytes);
            let (line, column) = (
                u32::try_from(place.line).unwrap_or(0),
                u32::try_from(place.column).unwrap_or(0),
            );
            let failed = |error| CommandError::Suspend {
                file: place.file.clone(),
                error,
            };
            let Some(edit) = rewrite::suspend(&source, (line, column), rest).map_err(failed)?
            else {
                return match repository.filter(|_| rests && !rest) {
                    Some(FluxImageRepository { place, name, .. }) => {
                        Err(CommandError::RepositoryRests {
                            place: place.clone(),
                            what: named.to_string(),
                            repository: name.clone(),
                        })
                    }
                    None => Ok(SuspendOutcome {
                        place,
                        commit: None,
                        note: None,
                    }),
                };
            };
            let after = rewrite::apply(&file.bytes, &[edit]);
            let Some(proved) =
                self.is_proved(&world, named, &place, &after, rest || repository.is_some())?
            else {
                continue;
            };
            if !proved {
                return Err(CommandError::NotProved {
                    place,
                    what: named.to_string(),
                });
            }
            let note = repository.filter(|_| !rest).map(|repository| {
                format!(
                    "{named} still rests: its ImageRepository {} is suspended ({})",
                    repository.name, repository.place
                )
            });
            let done = SuspendOutcome {
                place: place.clone(),
                commit: None,
                note,
            };
            let change = FileChange {
                path: place.file,
                before: file.bytes,
                after,
            };
            match self
                .publish_files(vec![change], &message(named, rest), None, now)
                .await?
            {
                PublishOutcome::Done(commit) => {
                    return Ok(SuspendOutcome {
                        commit: Some(commit.to_string()),
                        ..done
                    });
                }
                PublishOutcome::Unsure(commit) => {
                    unsure = Some((
                        commit,
                        SuspendOutcome {
                            commit: Some(commit.to_string()),
                            ..done
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

    /// Reads every declaration again, with the edited file in its place: whether the same things
    /// are declared as before, and this one says what was meant. Nothing where another revision has
    /// been read meanwhile.
    fn is_proved(
        &self,
        world: &RepoSnapshot,
        named: &DeclarationRef,
        place: &SourcePlace,
        after: &[u8],
        rests: bool,
    ) -> Result<Option<bool>, GitError> {
        let sources = {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            match memory.0.sources(world.commit) {
                Some(sources) => sources.to_vec(),
                None => return Ok(None),
            }
        };
        let revision = self.mirror.at(world.commit)?;
        let mut files = Vec::with_capacity(sources.len());
        for (path, blob) in &sources {
            files.push((
                path.as_str(),
                if *path == place.file {
                    after.to_vec()
                } else {
                    revision.blob(*blob)?
                },
            ));
        }
        let branch = self.mirror.remote().branch();
        let again = spec::read(
            files.iter().map(|(path, bytes)| (*path, bytes.as_slice())),
            Some(branch),
        );
        let same = names(&again) == names(&world.declared)
            && again.mistakes.len() == world.declared.mistakes.len();
        Ok(Some(
            same && named.find(&again).is_some_and(|(_, now)| now == rests),
        ))
    }
}

/// Everything that is declared, by name.
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

/// The ImageRepository that makes a policy of Flux rest, whatever the policy says.
fn resting_repository<'d>(
    named: &DeclarationRef,
    declared: &'d Declarations,
) -> Option<&'d FluxImageRepository> {
    let policy = declared
        .policies
        .get(&named.name.parse().ok()?)
        .filter(|_| named.kind == DeclarationKind::ImagePolicy)?;
    let repository = declared.repositories.get(policy.repository.as_ref()?)?;
    Some(repository).filter(|repository| repository.suspend)
}

fn message(named: &DeclarationRef, rest: bool) -> String {
    let (verb, command) = if rest {
        ("Suspend", "suspend")
    } else {
        ("Resume", "resume")
    };
    let kind = named.kind.to_string();
    let first = subject(&format!("{verb} {kind} "), &named.name, "");
    format!(
        "{first}\n\nBy `tagboat {command} {}/{}`.\n",
        kind.to_lowercase(),
        named.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{io::git::has_trailer, review::TRAILER};

    #[test]
    fn the_message_says_what_and_by_which_command() {
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
