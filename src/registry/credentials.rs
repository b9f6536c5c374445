//! Credentials at the moment they are needed: read from where they lie, kept for a while, read
//! again when refused.

use super::{
    Problem,
    config::{Credentials, Timing},
    docker::{self, Found},
};
use crate::{
    http::{SecretSource, lock},
    image::Repository,
    secret::Secret,
};
use std::{collections::HashMap, path::Path, sync::Mutex, time::Instant};

/// How the absence of credentials is named in messages.
pub(super) const NOBODY: &str = "no credentials";

/// Who we are to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    Anonymous,
    Basic {
        username: String,
        password: Secret,
    },
    /// A token for the `Authorization` header.
    Bearer(Secret),
    /// A refresh token for the token service (docker's `identitytoken`).
    Refresh(Secret),
}

/// An identity and where it came from, the latter for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) identity: Identity,
    pub(super) origin: String,
}

/// The credentials of one prefix.
#[derive(Debug)]
pub(super) struct Keyring {
    credentials: Credentials,
    timing: Timing,
    /// What was read, by the name under which the source knows it; a fleet needs few names, not one
    /// a repository.
    kept: Mutex<HashMap<String, (Instant, Resolved)>>,
    /// One helper at a time: the second caller finds the first one's answer.
    turn: tokio::sync::Mutex<()>,
}

/// More names than that are forgotten at once; names are hosts, or keys of a docker config.
const NAMES: usize = 1024;

impl Keyring {
    pub(super) fn new(credentials: Credentials, timing: Timing) -> Self {
        Self {
            credentials,
            timing,
            kept: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Whether there may be anything to sign in with.
    pub(super) fn is_anonymous(&self) -> bool {
        matches!(self.credentials, Credentials::Anonymous)
    }

    /// The credentials for `repository`, kept ones if they are young enough.
    pub(super) async fn resolve(&self, repository: &Repository) -> Result<Resolved, Problem> {
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
    pub(super) async fn changed(
        &self,
        repository: &Repository,
        used: &Resolved,
    ) -> Result<bool, Problem> {
        if matches!(
            self.credentials,
            Credentials::Anonymous | Credentials::Bearer(SecretSource::Value(_))
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
    async fn name(&self, repository: &Repository) -> Result<(String, Option<Found>), Problem> {
        let Credentials::DockerConfig { path } = &self.credentials else {
            return Ok((repository.registry().to_owned(), None));
        };
        let origin = || format!("docker config {}", path.display());
        let text = read(path, origin).await?;
        let found =
            docker::find(text.expose(), repository).map_err(|why| Problem::Credentials {
                origin: origin(),
                why,
            })?;
        Ok(match found {
            Some(Found::Inline { key, identity }) => (
                format!("auths {key}"),
                Some(Found::Inline { key, identity }),
            ),
            Some(Found::Helper { key, helper }) => (
                format!("{helper} {key}"),
                Some(Found::Helper { key, helper }),
            ),
            None => (String::new(), None),
        })
    }

    async fn read(
        &self,
        repository: &Repository,
        found: Option<Found>,
    ) -> Result<Resolved, Problem> {
        Ok(match &self.credentials {
            Credentials::Anonymous => Resolved {
                identity: Identity::Anonymous,
                origin: NOBODY.to_owned(),
            },
            Credentials::Basic { username, password } => {
                let (password, place) = secret(password).await?;
                Resolved {
                    identity: Identity::Basic {
                        username: username.clone(),
                        password,
                    },
                    origin: format!("user {username:?}{place}"),
                }
            }
            Credentials::Bearer(token) => {
                let (token, place) = secret(token).await?;
                Resolved {
                    identity: Identity::Bearer(token),
                    origin: format!("the configured token{place}"),
                }
            }
            Credentials::Helper { program } => {
                let server = docker::server(repository);
                let identity = docker::ask_helper(program, &server, self.timing.helper).await?;
                Resolved {
                    identity,
                    origin: format!("credential helper {program}"),
                }
            }
            Credentials::DockerConfig { path } => match found {
                None => Resolved {
                    identity: Identity::Anonymous,
                    origin: NOBODY.to_owned(),
                },
                Some(Found::Inline { key, identity }) => Resolved {
                    identity,
                    origin: format!("docker config {} (auths {key:?})", path.display()),
                },
                Some(Found::Helper { key, helper }) => {
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

/// The secret, and where it lies for people.
async fn secret(source: &SecretSource) -> Result<(Secret, String), Problem> {
    let text = source
        .text()
        .await
        .map_err(|(origin, why)| Problem::Credentials { origin, why })?;
    let place = match source {
        SecretSource::Value(_) => String::new(),
        SecretSource::File(path) => format!(" (file {})", path.display()),
    };
    Ok((text, place))
}

async fn read(path: &Path, origin: impl Fn() -> String) -> Result<Secret, Problem> {
    tokio::fs::read_to_string(path)
        .await
        .map(Secret::new)
        .map_err(|error| Problem::Credentials {
            origin: origin(),
            why: error.to_string(),
        })
}
