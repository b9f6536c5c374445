//! Credentials, read when they are needed, cached for a while, read again when refused.

use super::{
    RegistryProblem,
    config::{RegistryLogin, RegistryTimeouts},
    docker::{self, DockerLogin},
    identity::RegistryIdentity,
};
use crate::{
    core::{image::ImageRepository, secret::Secret},
    io::http::{SecretLocation, lock},
};
use std::{collections::HashMap, path::Path, sync::Mutex, time::Instant};

/// The text for missing credentials in messages.
pub(crate) const NOBODY: &str = "no credentials";

/// An identity and where it came from, the latter for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) identity: RegistryIdentity,
    pub(crate) origin: String,
}

/// The credentials of one prefix.
#[derive(Debug)]
pub(crate) struct Keyring {
    credentials: RegistryLogin,
    timing: RegistryTimeouts,
    /// Resolved credentials by the name that the source uses; a fleet needs few names, not one per
    /// repository.
    kept: Mutex<HashMap<String, (Instant, Resolved)>>,
    /// Runs one helper at a time: the second caller finds the cached result of the first.
    turn: tokio::sync::Mutex<()>,
}

/// More names than that are forgotten at once; names are hosts, or keys of a docker config.
const NAMES: usize = 1024;

impl Keyring {
    pub(crate) fn new(credentials: RegistryLogin, timing: RegistryTimeouts) -> Self {
        Self {
            credentials,
            timing,
            kept: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Returns whether there is nothing to sign in with.
    pub(crate) fn is_anonymous(&self) -> bool {
        matches!(self.credentials, RegistryLogin::Anonymous)
    }

    /// The credentials for `repository`, kept ones if they are young enough.
    pub(crate) async fn resolve(
        &self,
        repository: &ImageRepository,
    ) -> Result<Resolved, RegistryProblem> {
        let name = self.name(repository).await?;
        let _turn = self.turn.lock().await;
        if let Some(resolved) = self.kept(&name.0) {
            return Ok(resolved);
        }
        let resolved = self.read(repository, name.1).await?;
        let mut kept = lock(&self.kept);
        if kept.len() >= NAMES {
            kept.clear();
        }
        kept.insert(name.0, (Instant::now(), resolved.clone()));
        Ok(resolved)
    }

    /// Reads the credentials again; whether they are others than `used`.
    pub(crate) async fn changed(
        &self,
        repository: &ImageRepository,
        used: &Resolved,
    ) -> Result<bool, RegistryProblem> {
        if matches!(
            self.credentials,
            RegistryLogin::Anonymous | RegistryLogin::Bearer(SecretLocation::Value(_))
        ) {
            return Ok(false);
        }
        lock(&self.kept).retain(|_, (_, resolved)| resolved != used);
        Ok(self.resolve(repository).await? != *used)
    }

    fn kept(&self, name: &str) -> Option<Resolved> {
        let kept = lock(&self.kept);
        let (since, resolved) = kept.get(name)?;
        (since.elapsed() < self.timing.credentials).then(|| resolved.clone())
    }

    /// The name under which the source knows the repository, and what a docker config says about
    /// it.
    async fn name(
        &self,
        repository: &ImageRepository,
    ) -> Result<(String, Option<DockerLogin>), RegistryProblem> {
        let RegistryLogin::DockerConfig { path } = &self.credentials else {
            return Ok((repository.registry().to_owned(), None));
        };
        let origin = || format!("docker config {}", path.display());
        let text = read(path, origin).await?;
        let found = docker::find(text.expose(), repository).map_err(|why| {
            RegistryProblem::Credentials {
                origin: origin(),
                why,
            }
        })?;
        Ok(match found {
            Some(DockerLogin::Inline { key, identity }) => (
                format!("auths {key}"),
                Some(DockerLogin::Inline { key, identity }),
            ),
            Some(DockerLogin::Helper { key, helper }) => (
                format!("{helper} {key}"),
                Some(DockerLogin::Helper { key, helper }),
            ),
            None => (String::new(), None),
        })
    }

    async fn read(
        &self,
        repository: &ImageRepository,
        found: Option<DockerLogin>,
    ) -> Result<Resolved, RegistryProblem> {
        Ok(match &self.credentials {
            RegistryLogin::Anonymous => Resolved {
                identity: RegistryIdentity::Anonymous,
                origin: NOBODY.to_owned(),
            },
            RegistryLogin::Basic { username, password } => {
                let (password, place) = secret(password).await?;
                Resolved {
                    identity: RegistryIdentity::Basic {
                        username: username.clone(),
                        password,
                    },
                    origin: format!("user {username:?}{place}"),
                }
            }
            RegistryLogin::Bearer(token) => {
                let (token, place) = secret(token).await?;
                Resolved {
                    identity: RegistryIdentity::Bearer(token),
                    origin: format!("the configured token{place}"),
                }
            }
            RegistryLogin::Helper { program } => {
                let server = docker::server(repository);
                let identity = docker::ask_helper(program, &server, self.timing.helper).await?;
                Resolved {
                    identity,
                    origin: format!("credential helper {program}"),
                }
            }
            RegistryLogin::DockerConfig { path } => match found {
                None => Resolved {
                    identity: RegistryIdentity::Anonymous,
                    origin: NOBODY.to_owned(),
                },
                Some(DockerLogin::Inline { key, identity }) => Resolved {
                    identity,
                    origin: format!("docker config {} (auths {key:?})", path.display()),
                },
                Some(DockerLogin::Helper { key, helper }) => {
                    let identity = docker::ask_helper(&helper, &key, self.timing.helper).await?;
                    Resolved {
                        identity,
                        origin: format!("docker config {} (helper {helper})", path.display()),
                    }
                }
            },
        })
    }
}

/// Reads the secret and names its location for messages.
async fn secret(source: &SecretLocation) -> Result<(Secret, String), RegistryProblem> {
    let text = source
        .text()
        .await
        .map_err(|(origin, why)| RegistryProblem::Credentials { origin, why })?;
    let place = match source {
        SecretLocation::Value(_) => String::new(),
        SecretLocation::File(path) => format!(" (file {})", path.display()),
    };
    Ok((text, place))
}

async fn read(path: &Path, origin: impl Fn() -> String) -> Result<Secret, RegistryProblem> {
    tokio::fs::read_to_string(path)
        .await
        .map(Secret::new)
        .map_err(|error| RegistryProblem::Credentials {
            origin: origin(),
            why: error.to_string(),
        })
}
