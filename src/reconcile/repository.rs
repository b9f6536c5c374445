//! A config repository, as the records in clusters know it.
//!
//! A name alone is not enough: it is the last word of an address where none is written, and two
//! repositories that are called "fleet" must not take each other's Applications for their own, of
//! which one would then delete the other's.

use crate::{objects::plan::Inventory, spec::settings::ConfigRepository};
use std::fmt;

/// A config repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryId {
    /// The name in texts, one a process.
    pub name: String,
    /// Where it lies: host and path. No user, password or scheme.
    pub address: String,
    /// Which part of it is read: the branch, and the folder of declarations.
    pub part: String,
}

impl From<&ConfigRepository> for RepositoryId {
    fn from(config: &ConfigRepository) -> Self {
        let folder = config.policies.iter().map(|folder| format!(":{folder}"));
        let part = std::iter::once(config.branch.clone())
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
    /// Whether what `recorded` names may be taken over by an Application that this one declares
    /// under the same name: another branch or folder of one repository is a move, another
    /// repository is somebody else.
    pub(super) fn may_take_over(&self, recorded: &Self) -> bool {
        let fits = |ours: &str, recorded: &str| recorded.is_empty() || ours == recorded;
        fits(&self.name, &recorded.name) && fits(&self.address, &recorded.address)
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

/// Host and path of an address, the same whichever way leads there.
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
    fn one_repository_has_one_address_whichever_way_leads_there() {
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
