//! The identity of a config repository, as records in clusters know it.
//!
//! A name alone is not enough. By default it is the last segment of the URL, and two repositories
//! called "fleet" must not take over each other's Applications: one would delete the other's.

use crate::{objects::plan::Inventory, spec::settings::ConfigRepository};
use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryId {
    /// The name in tagboat.yaml, unique within a process.
    pub name: String,
    /// Host and path of the URL, without user, password and scheme.
    pub address: String,
    /// The branch, and the folder of declarations.
    pub part: String,
}

impl From<&ConfigRepository> for RepositoryId {
    fn from(config: &ConfigRepository) -> Self {
        let folder = config.policies.iter().map(|folder| format!(":{folder}"));
        let part = std::iter::once(config.branch.clone().unwrap_or_else(|| "HEAD".to_owned()))
            .chain(folder)
            .collect();
        Self {
            name: config.name.clone(),
            address: address(&config.url),
            part,
        }
    }
}

impl From<&Inventory> for RepositoryId {
    fn from(inventory: &Inventory) -> Self {
        Self {
            name: inventory.repository.clone(),
            address: inventory.address.clone(),
            part: inventory.part.clone(),
        }
    }
}

impl RepositoryId {
    /// Returns whether an Application of this repository may take over a record of the same name.
    /// Another branch or folder is a move; another repository is a conflict.
    pub fn may_take_over(&self, recorded: &Self) -> bool {
        let matches = |ours: &str, recorded: &str| recorded.is_empty() || ours == recorded;
        matches(&self.name, &recorded.name) && matches(&self.address, &recorded.address)
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if self.address.is_empty() {
            Ok(())
        } else {
            write!(f, " ({} {})", self.address, self.part)
        }
    }
}

/// Normalises a URL to host and path, the same for every scheme.
fn address(url: &str) -> String {
    let (rest, host_ends) = match url.split_once("://") {
        Some((_, rest)) => (rest, '/'),
        None => (url, ':'),
    };
    let (host, path) = rest.split_once(host_ends).unwrap_or((rest, ""));
    let host = host
        .rsplit('@')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let path = path.trim_matches('/');
    format!("{host}/{}", path.strip_suffix(".git").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_every_scheme_is_the_same() {
        for (url, desired) in [
            (
                "https://git.example.org/shop/fleet.git",
                "git.example.org/shop/fleet",
            ),
            (
                "https://Git.example.org/shop/fleet/",
                "git.example.org/shop/fleet",
            ),
            (
                "ssh://git@git.example.org/shop/fleet.git",
                "git.example.org/shop/fleet",
            ),
            (
                "git@git.example.org:shop/fleet.git",
                "git.example.org/shop/fleet",
            ),
            (
                "git@git.example.org:/shop/fleet",
                "git.example.org/shop/fleet",
            ),
            (
                "ssh://git@git.example.org:2222/shop/fleet",
                "git.example.org:2222/shop/fleet",
            ),
            (
                "https://git.example.org/Shop/fleet",
                "git.example.org/Shop/fleet",
            ),
            ("http://127.0.0.1:3000/fleet.git", "127.0.0.1:3000/fleet"),
            ("file:///srv/fleet.git", "/srv/fleet"),
        ] {
            assert_eq!(address(url), desired, "{url}");
        }
    }
}
