//! Registry facts: tags, digests, dates, platforms.
//!
//! [`Registries`] is the one client for all registries. It answers completely or not at all: a
//! truncated list, a throttled HEAD or content with another digest is an error, never a smaller
//! fact.
//!
//! | file | subject |
//! |---|---|
//! | `config` | settings of registries |
//! | `list`, `tag_json` | tag lists: pages, parsing, order |
//! | `facts`, `manifest`, `artifact` | digests of tags; dates and platforms of digests; what is no image |
//! | `session` | sign-in and redirects of one request |
//! | `auth`, `challenge`, `credentials`, `identity`, `docker` | tokens, challenges, credentials, docker configs and helpers |
//! | `http`, `hosts` | one request; rate limits by host |
//!
//! Not here: pushing and mirrors. The `store` caches facts; this module only tokens and rate
//! limits.

mod artifact;
mod auth;
mod challenge;
mod config;
mod credentials;
mod docker;
mod error;
mod facts;
mod hosts;
mod http;
mod identity;
mod list;
mod manifest;
mod session;
mod tag_json;

pub use crate::io::http::{HttpTimeouts, Proxy, SecretLocation};
pub use config::{RegistryConfig, RegistryLogin, RegistryTimeouts};
pub use error::{RegistryError, RegistryProblem};
pub use facts::{ImageDescription, ManifestHead};
pub use hosts::RegistryStats;
pub use http::RequestKind;
pub use list::{Listing, Tags, Validator};
pub use tag_json::{InvalidNames, TagPage, read_page};

use crate::{
    core::image::{Digest, ImageRepository, Tag},
    io::http::{HostRoute, is_loopback},
};
use auth::SignIn;
use hosts::Hosts;
use http::RequestSender;
use reqwest::{Client, Url};
use session::Session;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The API host of Docker Hub; `docker.io` itself is a web site.
const HUB_API: &str = "registry-1.docker.io";

/// All registries. One value serves the whole process, so that budgets and tokens are shared.
#[derive(Clone)]
pub struct Registries {
    shared: Arc<SharedRegistries>,
    /// The config repository that asks, where several share the hosts.
    owner: Option<Arc<str>>,
    /// The lane of its requests without a credential. Registries count these by address; but what
    /// one config repository provokes must not park the others.
    anonymous_lane: Arc<str>,
}

struct SharedRegistries {
    /// The longest prefix first; last the one with an empty prefix, for hosts without settings.
    entries: Vec<PrefixEntry>,
    hosts: Hosts,
    timing: RegistryTimeouts,
}

/// The client and settings of one prefix.
struct PrefixEntry {
    config: RegistryConfig,
    client: Client,
    sign_in: SignIn,
}

impl Registries {
    /// Builds the clients from the settings. Requires the process-wide TLS provider; sends nothing
    /// and reads no credential.
    ///
    /// # Errors
    /// If a prefix is invalid or appears twice, or a CA file or proxy cannot be used.
    pub fn new(
        configs: Vec<RegistryConfig>,
        timing: RegistryTimeouts,
    ) -> Result<Self, RegistryError> {
        let hosts = Hosts::new(configs.iter().map(|config| {
            (
                api_host(config.prefix.split('/').next().unwrap_or_default()),
                config,
            )
        }));
        let mut entries = Vec::with_capacity(configs.len() + 1);
        for mut config in configs {
            config.prefix = prefix(&config.prefix)?;
            if entries
                .iter()
                .any(|entry: &PrefixEntry| entry.config.prefix == config.prefix)
            {
                return Err(RegistryProblem::Setup("is configured twice".to_owned())
                    .about(format!("registry {}", config.prefix)));
            }
            entries.push(PrefixEntry::new(config, timing)?);
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.config.prefix.len()));
        entries.push(PrefixEntry::new(RegistryConfig::new(""), timing)?);
        let shared = Arc::new(SharedRegistries {
            entries,
            hosts,
            timing,
        });
        Ok(Self {
            shared,
            owner: None,
            anonymous_lane: "anonymous".into(),
        })
    }

    /// Returns the same registries for one of several config repositories, which has its share of
    /// the requests to each host.
    #[must_use]
    pub fn owned_by(&self, owner: &str) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            owner: Some(owner.into()),
            anonymous_lane: format!("anonymous, of {owner}").into(),
        }
    }

    /// The configuration that holds for `repository`; its prefix is empty if none was given.
    pub fn config(&self, repository: &ImageRepository) -> &RegistryConfig {
        &self.entry(repository).config
    }

    /// Lists all tags of a repository, or reports that the list for `previous` is unchanged.
    ///
    /// # Errors
    /// If the list is incomplete or cannot be verified.
    pub async fn list_tags(
        &self,
        repository: &ImageRepository,
        previous: Option<&Validator>,
    ) -> Result<Tags, RegistryError> {
        let session = self.session(repository)?;
        list::list(&session, previous)
            .await
            .map_err(|problem| problem.about(repository.as_str()))
    }

    /// Returns the current digest of a tag: one HEAD if the registry reports it there, else one
    /// more GET.
    ///
    /// # Errors
    /// If the tag does not exist, or its digest cannot be fetched or verified.
    pub async fn digest(
        &self,
        repository: &ImageRepository,
        tag: &Tag,
    ) -> Result<Digest, RegistryError> {
        Ok(self.head(repository, tag).await?.digest)
    }

    /// Like [`Registries::digest`], with the push time if the configuration trusts the registry's.
    pub async fn head(
        &self,
        repository: &ImageRepository,
        tag: &Tag,
    ) -> Result<ManifestHead, RegistryError> {
        let session = self.session(repository)?;
        let push_time = self.config(repository).push_time;
        facts::head(&session, tag, push_time)
            .await
            .map_err(|problem| problem.about(format!("{repository}:{tag}")))
    }

    /// Date, platforms and labels of a digest, from one to three requests. They never change: cache
    /// them for ever.
    ///
    /// # Errors
    /// If the content is not that of the digest or no manifest.
    pub async fn describe(
        &self,
        repository: &ImageRepository,
        digest: &Digest,
    ) -> Result<ImageDescription, RegistryError> {
        let session = self.session(repository)?;
        facts::describe(&session, digest)
            .await
            .map_err(|problem| problem.about(format!("{repository}@{digest}")))
    }

    /// Returns the request counts by host and kind.
    pub fn stats(&self) -> RegistryStats {
        self.shared.hosts.stats()
    }

    /// Returns what is not sent for now, as host and lane, and for how long: a lane is the prefix
    /// of a credential, or all requests of a config repository without one.
    pub fn parked(&self) -> BTreeMap<(String, String), Duration> {
        self.shared.hosts.parked()
    }

    fn entry(&self, repository: &ImageRepository) -> &PrefixEntry {
        let fits = |prefix: &str| {
            let rest = repository.as_str().strip_prefix(prefix);
            prefix.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let found = self
            .shared
            .entries
            .iter()
            .find(|entry| fits(&entry.config.prefix));
        found.expect("the last entry has an empty prefix, which fits all")
    }

    fn session<'a>(
        &'a self,
        repository: &'a ImageRepository,
    ) -> Result<Session<'a>, RegistryError> {
        let entry = self.entry(repository);
        let scheme = if entry.config.insecure {
            "http"
        } else {
            "https"
        };
        let base = format!("{scheme}://{}/", api_host(repository.registry()));
        let base = Url::parse(&base).map_err(|_| {
            RegistryProblem::Setup("has a host that no URL can have".to_owned())
                .about(repository.as_str())
        })?;
        let sender = RequestSender {
            client: &entry.client,
            hosts: &self.shared.hosts,
            timing: &self.shared.timing,
            owner: self.owner.as_deref(),
            lane: match entry.config.credentials {
                RegistryLogin::Anonymous => &self.anonymous_lane,
                _ => &entry.config.prefix,
            },
        };
        Ok(Session {
            sender,
            sign_in: &entry.sign_in,
            repository,
            base,
            insecure: entry.config.insecure,
        })
    }
}

impl PrefixEntry {
    fn new(config: RegistryConfig, timing: RegistryTimeouts) -> Result<Self, RegistryError> {
        let way = HostRoute {
            proxy: &config.proxy,
            ca_file: config.ca_file.as_deref(),
            plain: config.insecure,
            loopback: is_loopback(config.prefix.split('/').next().unwrap_or_default()),
            connect: timing.http.connect,
        };
        let client = way.client().map_err(|why| {
            RegistryProblem::Setup(why).about(format!("registry {}", config.prefix))
        })?;
        let sign_in = SignIn::new(config.credentials.clone(), timing);
        Ok(Self {
            config,
            client,
            sign_in,
        })
    }
}

fn api_host(host: &str) -> String {
    if host == "docker.io" {
        HUB_API.to_owned()
    } else {
        host.to_ascii_lowercase()
    }
}

/// Checks a prefix: a registry's host, or leading path segments of its repositories.
fn prefix(text: &str) -> Result<String, RegistryError> {
    let text = text.trim_end_matches('/');
    let (host, path) = text
        .split_once('/')
        .map_or((text, None), |(host, path)| (host, Some(path)));
    let host_only = ImageRepository::new(&format!("{host}/x/y"))
        .ok()
        .filter(|probe| probe.path() == "x/y");
    let canonical = host_only.as_ref().map(ImageRepository::registry);
    let valid = canonical.filter(|canonical| {
        path.is_none_or(|path| ImageRepository::new(&format!("{canonical}/{path}/x")).is_ok())
    });
    match (valid, path) {
        (Some(host), Some(path)) => Ok(format!("{host}/{path}")),
        (Some(host), None) => Ok(host.to_owned()),
        (None, _) => Err(RegistryProblem::Setup("is no host or host/path".to_owned())
            .about(format!("registry {}", crate::core::image::shown(text)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(prefixes: &[&str]) -> Result<Registries, RegistryError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Registries::new(
            prefixes
                .iter()
                .map(|prefix| RegistryConfig::new(*prefix))
                .collect(),
            RegistryTimeouts::default(),
        )
    }

    #[test]
    fn prefix_longest_at_a_slash_wins() {
        let registries = registries(&[
            "ghcr.io",
            "ghcr.io/team",
            "ghcr.io/team/app",
            "docker.io",
            "index.docker.io/library",
        ])
        .unwrap();
        for (repository, prefix) in [
            ("ghcr.io/other/app", "ghcr.io"),
            ("ghcr.io/team/web", "ghcr.io/team"),
            ("ghcr.io/teams/web", "ghcr.io"),
            ("ghcr.io/team/app", "ghcr.io/team/app"),
            ("ghcr.io/team/application", "ghcr.io/team"),
            ("nginx", "docker.io/library"),
            ("grafana/grafana", "docker.io"),
            ("quay.io/a/b", ""),
        ] {
            assert_eq!(
                registries
                    .config(&ImageRepository::new(repository).unwrap())
                    .prefix,
                prefix,
                "{repository}"
            );
        }
    }

    #[test]
    fn prefix_invalid_is_refused() {
        for bad in [
            vec![""],
            vec!["ghcr.io/Team"],
            vec!["https://ghcr.io"],
            vec!["team"],
            vec!["a b.io"],
            vec!["ghcr.io", "ghcr.io/"],
        ] {
            assert!(registries(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn docker_hub_uses_its_api_host() {
        let registries = registries(&[]).unwrap();
        let nginx = ImageRepository::new("nginx").unwrap();
        let url = registries.session(&nginx).unwrap().url("tags/list");
        assert_eq!(
            url.as_str(),
            "https://registry-1.docker.io/v2/library/nginx/tags/list"
        );
    }
}
