//! Builds the clients from settings, files and the environment: registries, Git remotes, forges,
//! keys.
//!
//! The only place that resolves the secrets named by `tagboat.yaml`.

use crate::{
    core::{
        error::{Classify, ErrorKind},
        secret::Secret,
    },
    io::{
        forge::{self, Forge, ForgeError},
        git::{self, Remote},
        http::{self, Proxy},
        registry::{self, Registries, RegistryConfig, RegistryError, RegistryTimeouts},
    },
    spec::{
        ForgeCredentials, SecretSource,
        settings::{
            ConfigRepository, GitAccess, PublicText, RegistryCredentials, RegistrySettings,
            VerifyKeyKind, VerifySettings,
        },
    },
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The reason why a part of the settings cannot be used on this machine.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A variable is missing or empty.
    #[error("{what}: the environment variable {name} is {problem}")]
    Variable {
        what: String,
        name: String,
        /// "not set", "empty" or "not UTF-8".
        problem: &'static str,
    },
    /// A file cannot be read.
    #[error("{what}: {}: {source}", path.display())]
    File {
        what: String,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("{what}: {source}")]
    Forge {
        /// The repository by name.
        what: String,
        source: Box<ForgeError>,
    },
    /// A Git remote's setup, or a key.
    #[error("{what}: {source}")]
    Git {
        /// The repository by name.
        what: String,
        source: git::GitError,
    },
}

impl Classify for ConnectError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Config
    }

    fn hint(&self) -> Option<String> {
        match self {
            ConnectError::Variable { name, .. } => Some(format!(
                "Set {name}, or name another variable or file in tagboat.yaml."
            )),
            ConnectError::Git { source, .. } => source.hint(),
            ConnectError::Forge { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// Turns what a settings file says into what the edges take. Paths in the file count from its
/// folder.
#[derive(Debug, Clone)]
pub struct Connect {
    base: PathBuf,
}

impl Connect {
    /// Resolves relative paths from the settings file `file`.
    pub fn new(file: &Path) -> Self {
        Self {
            base: file.parent().unwrap_or(Path::new("")).to_owned(),
        }
    }

    /// A path of the settings file.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// Builds the clients of all registries.
    ///
    /// # Errors
    /// If a secret is missing, or a CA file or proxy cannot be used.
    pub fn registries(
        &self,
        registries: &[RegistrySettings],
        timeouts: RegistryTimeouts,
    ) -> Result<Registries, ConnectError> {
        let mut configs = Vec::with_capacity(registries.len());
        for registry in registries {
            let what = format!("registry {}", registry.prefix);
            let mut config = RegistryConfig::new(&registry.prefix);
            config.credentials = match &registry.credentials {
                RegistryCredentials::Anonymous => registry::RegistryLogin::Anonymous,
                RegistryCredentials::Basic { username, password } => {
                    registry::RegistryLogin::Basic {
                        username: username.clone(),
                        password: self.source(&what, password)?,
                    }
                }
                RegistryCredentials::Token(token) => {
                    registry::RegistryLogin::Bearer(self.source(&what, token)?)
                }
                RegistryCredentials::DockerConfig(path) => registry::RegistryLogin::DockerConfig {
                    path: self.path(path),
                },
                RegistryCredentials::Helper(program) => registry::RegistryLogin::Helper {
                    program: program.clone(),
                },
            };
            config.insecure = registry.insecure;
            config.ca_file = registry.ca_file.as_deref().map(|path| self.path(path));
            if let Some(proxy) = &registry.proxy {
                config.proxy = Proxy::Url(Secret::new(proxy));
            }
            config.requests_per_second = registry.requests_per_second;
            config.concurrency = registry.concurrency.unwrap_or(config.concurrency);
            config.allowed_repositories = registry.repositories.clone();
            config.push_time = registry.push_time;
            if let Some(interval) = registry.minimum_interval {
                config.minimum_interval = interval;
            }
            configs.push(config);
        }
        Ok(Registries::new(configs, timeouts)?)
    }

    /// The remote of a config repository.
    ///
    /// # Errors
    /// If a secret is missing or the URL cannot be used.
    pub fn remote(&self, repository: &ConfigRepository) -> Result<Remote, ConnectError> {
        let what = format!("repository {}", repository.name);
        let mut access = git::RemoteAccess {
            ca_file: repository.ca_file.as_deref().map(|path| self.path(path)),
            proxy: repository.proxy.clone(),
            allow_redirects_to: repository.allow_redirects_to.clone(),
            ..git::RemoteAccess::default()
        };
        match &repository.access {
            GitAccess::Anonymous => {}
            GitAccess::Basic { username, password } => {
                access.credentials = git::RemoteCredentials::Basic {
                    username: username.clone(),
                    secret: self.secret(&what, password)?,
                };
            }
            GitAccess::Ssh {
                identity,
                known_hosts,
            } => {
                access.ssh.identity = identity.as_deref().map(|path| self.path(path));
                access.ssh.known_hosts = known_hosts.as_deref().map(|path| self.path(path));
            }
        }
        Remote::new(&repository.url, repository.branch.as_deref(), access)
            .map_err(|source| ConnectError::Git { what, source })
    }

    /// The forge of a config repository, if one is declared. Nothing is sent.
    ///
    /// # Errors
    /// If a variable is missing, or the CA file or proxy cannot be used.
    pub fn forge(
        &self,
        repository: &ConfigRepository,
    ) -> Result<Option<Arc<dyn Forge>>, ConnectError> {
        let Some(declared) = &repository.forge else {
            return Ok(None);
        };
        let what = format!("repository {}: forge", repository.name);
        let credentials = match &declared.credentials {
            ForgeCredentials::Anonymous => forge::ForgeLogin::Anonymous,
            ForgeCredentials::Token(token) => forge::ForgeLogin::Token(self.source(&what, token)?),
            ForgeCredentials::App {
                id,
                installation,
                private_key,
            } => forge::ForgeLogin::App {
                id: *id,
                installation: *installation,
                private_key: self.source(&what, private_key)?,
            },
        };
        let config = forge::ForgeConfig {
            forge: declared.clone(),
            credentials,
            ca_file: repository.ca_file.as_deref().map(|path| self.path(path)),
            proxy: repository
                .proxy
                .as_ref()
                .map_or(Proxy::System, |proxy| Proxy::Url(Secret::new(proxy))),
            timeouts: forge::TIMEOUTS,
        };
        forge::connect(&config)
            .map(Some)
            .map_err(|source| ConnectError::Forge {
                what,
                source: Box::new(source),
            })
    }

    /// The key that signs commits to a config repository.
    ///
    /// # Errors
    /// If it cannot be read or opened.
    pub fn signing_key(
        &self,
        repository: &ConfigRepository,
    ) -> Result<Option<git::CommitSigner>, ConnectError> {
        let Some(key) = &repository.signing_key else {
            return Ok(None);
        };
        let what = format!("repository {}: signing key", repository.name);
        let pem = self.secret(&what, &key.key)?;
        let passphrase = key
            .passphrase
            .as_ref()
            .map(|source| self.secret(&what, source))
            .transpose()?;
        git::CommitSigner::parse(&pem, passphrase.as_ref())
            .map(Some)
            .map_err(|source| ConnectError::Git { what, source })
    }

    /// The keys whose signatures make a commit of a config repository deployable. A keyring for
    /// OpenPGP is written to `folder`, or else to a temporary one.
    ///
    /// # Errors
    /// If a file cannot be read, or a key cannot be used.
    pub fn commit_keys(
        &self,
        repository: &ConfigRepository,
        verify: &VerifySettings,
        folder: Option<&Path>,
    ) -> Result<git::CommitKeys, ConnectError> {
        let mut keys = git::CommitKeys::default();
        for (index, key) in verify.keys.iter().enumerate() {
            let what = format!("repository {}: verify.keys[{index}]", repository.name);
            let text = match &key.text {
                PublicText::Inline(text) => text.clone(),
                PublicText::File(path) => {
                    let path = self.path(path);
                    read_bounded(&path).map_err(|source| ConnectError::File {
                        what: what.clone(),
                        path,
                        source,
                    })?
                }
            };
            match key.kind {
                VerifyKeyKind::Ssh => keys.add_ssh(&text),
                VerifyKeyKind::Gpg => keys.add_gpg(&text, folder),
            }
            .map_err(|source| ConnectError::Git { what, source })?;
        }
        Ok(keys.with_own(self.signing_key(repository)?.as_ref()))
    }

    /// A secret's text.
    fn secret(&self, what: &str, source: &SecretSource) -> Result<Secret, ConnectError> {
        match source {
            SecretSource::Env(name) => variable(what, name),
            SecretSource::File(path) => {
                let path = self.path(path);
                let text = fs::read_to_string(&path).map_err(|source| ConnectError::File {
                    what: what.to_owned(),
                    path,
                    source,
                })?;
                Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
            }
        }
    }

    /// Returns the location of a secret for clients that read it again, so that a rotated secret is
    /// picked up.
    fn source(
        &self,
        what: &str,
        source: &SecretSource,
    ) -> Result<http::SecretLocation, ConnectError> {
        Ok(match source {
            SecretSource::Env(name) => http::SecretLocation::Value(variable(what, name)?),
            SecretSource::File(path) => http::SecretLocation::File(self.path(path)),
        })
    }
}

/// Reads the text of a public key.
fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    const MAX_KEY: u64 = 1 << 20;
    let mut text = String::new();
    fs::File::open(path)?
        .take(MAX_KEY)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn variable(what: &str, name: &str) -> Result<Secret, ConnectError> {
    let problem = match std::env::var(name) {
        Ok(value) if !value.is_empty() => return Ok(Secret::new(value)),
        Ok(_) => "empty",
        Err(std::env::VarError::NotPresent) => "not set",
        Err(std::env::VarError::NotUnicode(_)) => "not UTF-8",
    };
    Err(ConnectError::Variable {
        what: what.to_owned(),
        name: name.to_owned(),
        problem,
    })
}
