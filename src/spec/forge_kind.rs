//! The kinds of forges.

use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt;

/// The supported forge APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForgeKind {
    /// github.com and GitHub Enterprise.
    Github,
    /// gitlab.com and self-managed GitLab.
    Gitlab,
    /// Gitea, and Forgejo with the same API.
    Gitea,
}

impl ForgeKind {
    /// Returns the value in `tagboat.yaml`.
    pub fn as_str(self) -> &'static str {
        match self {
            ForgeKind::Github => "github",
            ForgeKind::Gitlab => "gitlab",
            ForgeKind::Gitea => "gitea",
        }
    }

    /// Returns the product name.
    pub fn name(self) -> &'static str {
        match self {
            ForgeKind::Github => "GitHub",
            ForgeKind::Gitlab => "GitLab",
            ForgeKind::Gitea => "Gitea",
        }
    }

    /// Returns the path of the API below a self-hosted forge.
    pub(crate) fn api_path(self) -> &'static str {
        match self {
            ForgeKind::Github => "/api/v3",
            ForgeKind::Gitlab => "/api/v4",
            ForgeKind::Gitea => "/api/v1",
        }
    }

    /// Guesses the kind from a host's name.
    pub(crate) fn guess(host: &str) -> Option<Self> {
        let first = host.split('.').next().unwrap_or_default();
        match host {
            "github.com" => Some(ForgeKind::Github),
            "gitlab.com" => Some(ForgeKind::Gitlab),
            "gitea.com" | "codeberg.org" => Some(ForgeKind::Gitea),
            _ if host.ends_with(".ghe.com") => Some(ForgeKind::Github),
            _ => match first {
                "github" | "ghe" => Some(ForgeKind::Github),
                "gitlab" => Some(ForgeKind::Gitlab),
                "gitea" | "forgejo" => Some(ForgeKind::Gitea),
                _ => None,
            },
        }
    }
}

impl fmt::Display for ForgeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
