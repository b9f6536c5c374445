//! What people change in Git by a command: which declaration they mean, and what can stand against
//! it.

pub(crate) mod release;
pub(crate) mod rollback;
pub(crate) mod suspend;

use super::{ImageUpdater, blocking};
use crate::{
    core::{
        error::{Classify, ErrorKind as Blame},
        name::{Name, NameError, is_subdomain},
    },
    images::rewrite::SuspendError,
    io::git::{GitError, ObjectId, PushRejection},
    spec::{self, Declarations, SourcePlace},
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// How often a change begins again because somebody else pushed first.
pub(crate) const ATTEMPTS: u32 = 10;

/// A declaration, by kind and name: `application/dev/podinfo`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DeclarationRef {
    /// The kind.
    pub kind: DeclarationKind,
    /// The name as the declarations have it: with its namespace, but for Environments that have
    /// none.
    pub name: String,
}

/// The kinds that can rest.
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

/// Text that names no declaration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeclarationRefError {
    /// There is no slash.
    #[error("write KIND/NAME, as application/dev/podinfo")]
    Form,
    /// No such kind.
    #[error(
        "{kind:?} is no kind: write imagepolicy, environment, application or imagerepository{}",
        perhaps(kind, name)
    )]
    Kind {
        /// The text before the first slash.
        kind: String,
        /// What comes after it.
        name: String,
    },
    /// No such name.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// What somebody may have meant who wrote the name of an Application alone.
fn perhaps(kind: &str, name: &str) -> String {
    match Name::new(kind, name) {
        Ok(name) => format!(" (did you mean application/{name}?)"),
        Err(_) => String::new(),
    }
}

/// Why a change by hand was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It is not declared.
    #[error("there is no {what}{}", meant(near))]
    Unknown {
        /// Kind and name.
        what: String,
        /// Names that are declared and look like it.
        near: Vec<String>,
        /// Whether there are declarations that cannot be used; it may be one of them.
        mistakes: bool,
    },
    /// Git or its server.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The server does not take the commit.
    #[error(transparent)]
    Refused(#[from] PushRejection),
    /// The branch moves faster than commits can be made.
    #[error("git remote {remote}: somebody else pushed first, {ATTEMPTS} times in a row")]
    PushedFirst {
        /// The URL, without credentials.
        remote: String,
    },
    /// The declaration is written in a way that cannot be edited.
    #[error("{file}: {error}")]
    Suspend {
        /// The file.
        file: String,
        /// Why.
        #[source]
        error: SuspendError,
    },
    /// The edited file does not say what was meant.
    #[error("{place}: the edit does not make {what} say what was meant")]
    NotProved {
        /// Where it is declared.
        place: SourcePlace,
        /// Kind and name.
        what: String,
    },
    /// A policy of Flux rests because its ImageRepository does.
    #[error("{place}: {what} is not suspended itself, but its ImageRepository {repository} is")]
    RepositoryRests {
        /// Where the ImageRepository is declared.
        place: SourcePlace,
        /// Kind and name.
        what: String,
        /// The ImageRepository.
        repository: Name,
    },
    /// At the revision there is nothing to go back to.
    #[error(
        "at {revision} there is no folder {path}: going back to it would delete all of {application}"
    )]
    NoFolder {
        /// The Application.
        application: Name,
        /// The revision.
        revision: String,
        /// The Application's folder.
        path: String,
    },
    /// No commit has changed the folder since it is there.
    #[error(
        "no commit of the branch has changed {path} since it is there (commits looked at: {looked}): {application} has nothing to go back to"
    )]
    NothingBefore {
        /// The Application.
        application: Name,
        /// The Application's folder.
        path: String,
        /// How many commits were looked at.
        looked: usize,
    },
    /// Somebody has changed the same folder while it was being rolled back.
    #[error("{path}: somebody else has just changed it, nothing was rolled back")]
    Changed {
        /// The Application's folder.
        path: String,
    },
}

impl Classify for CommandError {
    fn kind(&self) -> Blame {
        match self {
            Self::Git(error) => error.kind(),
            Self::Refused(refusal) => refusal.kind(),
            Self::PushedFirst { .. } | Self::Changed { .. } => Blame::Conflict,
            Self::NotProved { .. } => Blame::Bug,
            Self::Unknown { .. }
            | Self::Suspend { .. }
            | Self::RepositoryRests { .. }
            | Self::NoFolder { .. }
            | Self::NothingBefore { .. } => Blame::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Git(error) => return error.hint(),
            Self::Refused(refusal) => return refusal.hint(),
            Self::Suspend { error, .. } => return error.hint(),
            Self::Unknown { mistakes: true, .. } => "Some declarations have errors and are not used; `tagboat check` names them.".into(),
            Self::Unknown { .. } => return None,
            Self::PushedFirst { .. } => "Nothing was changed; try again.".into(),
            Self::Changed { .. } => "Look at the last commits, and ask again.".into(),
            Self::NotProved { .. } => "Nothing was changed. Write `suspend` under `spec` by hand.".into(),
            Self::RepositoryRests { repository, .. } => {
                format!("`tagboat resume imagerepository/{repository}` resumes every policy that refers to it.")
            }
            Self::NoFolder { .. } => "Name a revision that has it with --to; to delete an Application, delete its declaration.".into(),
            Self::NothingBefore { .. } => "Name a revision with --to.".into(),
        })
    }
}

fn meant(near: &[String]) -> String {
    if near.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", near.join(" or "))
    }
}

impl DeclarationRef {
    /// Where it is declared, and whether it rests.
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

    /// That it is not declared here.
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

/// At most three: those of the same name elsewhere, else the one that is spelt most alike.
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
                let shown =
                    |text: &str| text.chars().filter(|c| !c.is_control()).take(60).collect();
                return Err(DeclarationRefError::Kind {
                    kind: shown(other),
                    name: shown(name),
                });
            }
        };
        // An Environment has no namespace, unless it is an automation of Flux.
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

/// The first line of a message: at most 72 characters, as Git's tools cut longer ones.
pub(crate) fn subject(before: &str, name: &str, after: &str) -> String {
    let room = 72usize.saturating_sub(before.chars().count() + after.chars().count());
    if name.chars().count() <= room {
        return format!("{before}{name}{after}");
    }
    // The end of a name tells more than its beginning.
    let skip = name.chars().count() - room.saturating_sub(1);
    format!(
        "{before}…{}{after}",
        name.chars().skip(skip).collect::<String>()
    )
}

impl ImageUpdater {
    /// Whether a commit whose push was not answered has arrived.
    pub(crate) async fn arrived(&self, head: ObjectId, commit: ObjectId) -> Result<bool, GitError> {
        let mirror = Arc::clone(&self.mirror);
        blocking(move || mirror.contains(head, commit)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_short_forms_and_names_their_namespace() {
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
    fn names_that_may_be_meant_are_few() {
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
    fn subjects_fit_whatever_the_name() {
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
