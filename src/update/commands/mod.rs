//! Commands that change Git: which declaration they name, how they retry, and why they fail.

pub(crate) mod release;
pub(crate) mod rollback;
pub(crate) mod suspend;

use super::{
    RepoFollower, RepoSnapshot,
    commit::{
        CommitText, MakeDraft, PUSH_ATTEMPTS, PublishOutcome, Publisher, PushRace, PushTarget,
    },
};
use crate::{
    core::{
        error::{Classify, ErrorKind},
        name::{Name, NameError, is_subdomain},
        text::{without_controls, without_controls_but_lines},
    },
    images::rewrite::SuspendError,
    io::git::{GitError, ObjectId, Person, PushRejection},
    spec::{self, Declarations, SourcePlace},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The part of a command's commit that comes from the person who runs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandCommit {
    /// The author; the bot if there is none.
    pub author: Option<CommandAuthor>,
    /// Text for the message.
    pub message: Option<String>,
}

/// Name and address of a person, as Git has them configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandAuthor {
    pub name: String,
    pub email: String,
}

impl CommandCommit {
    /// Bytes of the person's text: more is cut.
    const MOST_BYTES: usize = 16 << 10;

    /// Returns the author; none if Git could not write the name.
    pub(crate) fn person(&self) -> Option<Person> {
        let author = self.author.as_ref()?;
        Person::new(&author.name, &author.email).ok()
    }

    /// Puts the person's text below the subject of a message.
    pub(crate) fn describe(&self, message: &str) -> String {
        let Some(text) = &self.message else {
            return message.to_owned();
        };
        let text = text.get(..text.floor_char_boundary(Self::MOST_BYTES));
        let text = without_controls_but_lines(text.unwrap_or_default());
        match text.trim() {
            "" => message.to_owned(),
            text => below_subject(message, text),
        }
    }
}

/// Puts a paragraph between the subject and the rest of a message.
pub(crate) fn below_subject(message: &str, paragraph: &str) -> String {
    match message.split_once('\n') {
        Some((subject, rest)) => format!(
            "{subject}\n\n{paragraph}\n\n{}",
            rest.trim_start_matches('\n')
        ),
        None => format!("{message}\n\n{paragraph}\n"),
    }
}

/// A declaration, by kind and name: `application/dev/podinfo`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DeclarationRef {
    pub kind: DeclarationKind,
    /// The name with its namespace; an Environment has none.
    pub name: String,
}

/// Kinds that can be suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum DeclarationKind {
    /// An ImagePolicy, of tagboat or Flux.
    ImagePolicy,
    /// An Environment, or an ImageUpdateAutomation of Flux.
    Environment,
    /// An Application.
    Application,
    /// An ImageRepository of Flux.
    ImageRepository,
}

/// An error in a reference to a declaration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeclarationRefError {
    #[error("write KIND/NAME, as application/dev/podinfo")]
    Form,
    #[error(
        "{kind:?} is no kind: write imagepolicy, environment, application or imagerepository{}",
        perhaps(kind, name)
    )]
    Kind { kind: String, name: String },
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Suggests an Application, if its name was written without the kind.
fn perhaps(kind: &str, name: &str) -> String {
    match Name::new(kind, name) {
        Ok(name) => format!(" (did you mean application/{name}?)"),
        Err(_) => String::new(),
    }
}

/// An error of a command that changes Git.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    #[error("there is no {what}{}", suggestion(near))]
    Unknown {
        what: String,
        /// Similar names that are declared.
        near: Vec<String>,
        /// True if some declarations have errors; it may be one of them.
        mistakes: bool,
    },
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Refused(#[from] PushRejection),
    #[error(
        "cannot push to git remote {remote}: the branch moved first, {PUSH_ATTEMPTS} times in a row"
    )]
    PushedFirst {
        /// URL without credentials.
        remote: String,
    },
    /// The declaration is written in a form that cannot be edited.
    #[error("{file}: {error}")]
    Suspend {
        file: String,
        #[source]
        error: SuspendError,
    },
    /// The edited file does not declare the intended state.
    #[error("{place}: the edit would not have changed {what} as intended")]
    NotProved { place: SourcePlace, what: String },
    /// A policy of Flux is suspended through its ImageRepository.
    #[error("{place}: {what} is not suspended itself, but its ImageRepository {repository} is")]
    RepositorySuspended {
        /// Place of the ImageRepository.
        place: SourcePlace,
        what: String,
        repository: Name,
    },
    #[error(
        "cannot roll back {application} to {revision}: it has no folder {path} there, so that everything would be deleted"
    )]
    NoFolder {
        application: Name,
        revision: String,
        path: String,
    },
    #[error(
        "cannot roll back {application}: no commit of the branch has changed {path} since it exists (commits read: {read})"
    )]
    NothingBefore {
        application: Name,
        path: String,
        read: usize,
    },
    #[error("cannot roll back {path}: another commit has just changed it")]
    Changed { path: String },
}

impl Classify for CommandError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Git(error) => error.kind(),
            Self::Refused(refusal) => refusal.kind(),
            Self::PushedFirst { .. } | Self::Changed { .. } => ErrorKind::Conflict,
            Self::NotProved { .. } => ErrorKind::Bug,
            Self::Unknown { .. }
            | Self::Suspend { .. }
            | Self::RepositorySuspended { .. }
            | Self::NoFolder { .. }
            | Self::NothingBefore { .. } => ErrorKind::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Git(error) => return error.hint(),
            Self::Refused(refusal) => return refusal.hint(),
            Self::Suspend { error, .. } => return error.hint(),
            Self::Unknown { mistakes: true, .. } => "Some declarations have errors and are not used; `tagboat check` names them.".into(),
            Self::Unknown { .. } => return None,
            Self::PushedFirst { .. } => "Nothing was changed. Repeat the command.".into(),
            Self::Changed { .. } => "Nothing was changed. Review the last commits and repeat the command.".into(),
            Self::NotProved { .. } => "Nothing was changed. Write `suspend` under `spec` by hand.".into(),
            Self::RepositorySuspended { repository, .. } => {
                format!("`tagboat resume imagerepository/{repository}` resumes every policy that refers to it.")
            }
            Self::NoFolder { .. } => "Name a revision that has it with --to; to delete an Application, delete its declaration.".into(),
            Self::NothingBefore { .. } => "Name a revision with --to.".into(),
        })
    }
}

fn suggestion(near: &[String]) -> String {
    if near.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", near.join(" or "))
    }
}

impl DeclarationRef {
    /// Returns where it is declared, and whether it is suspended.
    pub fn find(&self, declared: &Declarations) -> Option<(SourcePlace, bool)> {
        let name = || self.name.parse::<Name>().ok();
        match self.kind {
            DeclarationKind::ImagePolicy => declared
                .policies
                .get(&name()?)
                .map(|it| (it.place.clone(), it.suspend)),
            DeclarationKind::Application => declared
                .applications
                .get(&name()?)
                .map(|it| (it.place.clone(), it.suspend)),
            DeclarationKind::ImageRepository => declared
                .repositories
                .get(&name()?)
                .map(|it| (it.place.clone(), it.suspend)),
            DeclarationKind::Environment => declared
                .environments
                .get(&self.name)
                .map(|it| (it.place.clone(), it.suspend)),
        }
    }

    /// The error that it is not declared, with similar names.
    pub fn unknown(&self, declared: &Declarations) -> CommandError {
        let known: Vec<String> = match self.kind {
            DeclarationKind::ImagePolicy => declared.policies.keys().map(Name::to_string).collect(),
            DeclarationKind::Application => {
                declared.applications.keys().map(Name::to_string).collect()
            }
            DeclarationKind::ImageRepository => {
                declared.repositories.keys().map(Name::to_string).collect()
            }
            DeclarationKind::Environment => declared.environments.keys().cloned().collect(),
        };
        CommandError::Unknown {
            what: self.to_string(),
            near: near(&self.name, &known),
            mistakes: declared.has_errors(),
        }
    }
}

/// Returns at most three similar names: those in other namespaces, else the nearest spelling.
fn near(name: &str, known: &[String]) -> Vec<String> {
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let same: Vec<String> = known
        .iter()
        .filter(|known| last(known) == last(name))
        .take(3)
        .cloned()
        .collect();
    if !same.is_empty() {
        return same;
    }
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    spec::nearest(name, &known)
        .map(str::to_owned)
        .into_iter()
        .collect()
}

impl FromStr for DeclarationRef {
    type Err = DeclarationRefError;

    fn from_str(text: &str) -> Result<Self, DeclarationRefError> {
        let (kind, name) = text.split_once('/').ok_or(DeclarationRefError::Form)?;
        let kind = match kind.to_lowercase().as_str() {
            "imagepolicy" | "imagepolicies" | "policy" | "policies" => DeclarationKind::ImagePolicy,
            "environment"
            | "environments"
            | "env"
            | "imageupdateautomation"
            | "imageupdateautomations" => DeclarationKind::Environment,
            "application" | "applications" | "app" | "apps" => DeclarationKind::Application,
            "imagerepository" | "imagerepositories" => DeclarationKind::ImageRepository,
            other => {
                let shown = |text: &str| without_controls(text, 60);
                return Err(DeclarationRefError::Kind {
                    kind: shown(other),
                    name: shown(name),
                });
            }
        };
        // Only an Environment imported from a Flux automation has a namespace.
        let name = match kind {
            DeclarationKind::Environment if is_subdomain(name) => name.to_owned(),
            _ => name.parse::<Name>()?.to_string(),
        };
        Ok(Self { kind, name })
    }
}

impl fmt::Display for DeclarationRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl fmt::Display for DeclarationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ImagePolicy => "ImagePolicy",
            Self::Environment => "Environment",
            Self::Application => "Application",
            Self::ImageRepository => "ImageRepository",
        })
    }
}

/// Returns a subject of at most 72 characters, because Git's tools cut longer ones.
pub(crate) fn subject(before: &str, name: &str, after: &str) -> String {
    let room = 72usize.saturating_sub(before.chars().count() + after.chars().count());
    if name.chars().count() <= room {
        return format!("{before}{name}{after}");
    }
    // The end of a name is more specific than its beginning.
    let skip = name.chars().count() - room.saturating_sub(1);
    format!(
        "{before}…{}{after}",
        name.chars().skip(skip).collect::<String>()
    )
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declaration_ref_parses_short_kinds() {
        for (text, shown) in [
            ("application/dev/podinfo", "Application dev/podinfo"),
            ("App/podinfo", "Application default/podinfo"),
            ("APPLICATIONS/dev:podinfo", "Application dev/podinfo"),
            ("imagePolicy/apps/web", "ImagePolicy apps/web"),
            ("policy/web", "ImagePolicy default/web"),
            ("env/dev", "Environment dev"),
            ("environment/flux-system/all", "Environment flux-system/all"),
            (
                "ImageUpdateAutomation/flux-system:all",
                "Environment flux-system/all",
            ),
            ("imagerepository/a/b", "ImageRepository a/b"),
        ] {
            assert_eq!(text.parse::<DeclarationRef>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "app",
            "app/",
            "deployment/a",
            "app/a/b/c",
            "app/A",
            "env/a b",
            "/a",
        ] {
            assert!(bad.parse::<DeclarationRef>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn near_suggests_three_names_at_most() {
        let known: Vec<String> = [
            "dev/podinfo",
            "prod/podinfo",
            "dev/web",
            "x/podinfo",
            "y/podinfo",
        ]
        .map(str::to_owned)
        .to_vec();
        assert_eq!(
            near("default/podinfo", &known),
            ["dev/podinfo", "prod/podinfo", "x/podinfo"]
        );
        assert_eq!(near("dev/wep", &known), ["dev/web"]);
        assert_eq!(near("a/zzzzzz", &known), Vec::<String>::new());
    }

    #[test]
    fn subject_fits_for_long_names() {
        assert_eq!(
            subject("Roll back ", "dev/podinfo", " to 1a2b3c4d5e"),
            "Roll back dev/podinfo to 1a2b3c4d5e"
        );
        let long = subject(
            "Roll back ",
            &format!("{}/{}", "n".repeat(63), "m".repeat(63)),
            " to 1a2b3c4d5e",
        );
        assert!(
            long.chars().count() == 72 && long.ends_with("m to 1a2b3c4d5e"),
            "{long}"
        );
    }
}
