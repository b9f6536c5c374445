//! References to declarations, as users write them: `application/dev/podinfo`.

use super::CommandError;
use crate::{
    core::{
        name::{Name, NameError, is_subdomain},
        text::without_controls,
    },
    spec::{self, Declarations, SourcePlace},
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

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
}
