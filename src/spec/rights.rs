//! The rights of a config repository on the clusters of `tagboat.yaml`.
//!
//! The settings decide them once. Every Application carries those of its repository, so that no
//! command can forget them; `objects::tenancy` judges by them.

use crate::core::name::is_subdomain;
use globset::{Glob, GlobBuilder, GlobMatcher};
use std::{collections::BTreeMap, fmt};

/// The rights of a config repository. The default restricts nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepositoryRights {
    /// The name of the repository.
    pub repository: String,
    /// The terms of each cluster, by its name.
    pub clusters: BTreeMap<String, ClusterTerms>,
    /// The bounds of a tenant; none for a repository of the platform.
    pub tenant: Option<Tenant>,
}

/// The terms on which a repository may use a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTerms {
    /// Why the repository may not use the cluster at all.
    pub closed: Option<String>,
    /// The namespace of tagboat's records.
    pub own_namespace: String,
    /// Whether instructions count that others annotate live objects with.
    pub honor_live_annotations: bool,
}

/// The bounds of a repository whose authors are not trusted with whole clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// The clusters that it may deploy to.
    pub clusters: Vec<NamePattern>,
    /// The namespaces of its Applications and their objects.
    pub namespaces: Vec<NamePattern>,
    /// The account of Applications that name none.
    pub service_account: Option<String>,
    /// Cluster-scoped kinds that it may apply.
    pub cluster_scoped: Vec<KindPattern>,
    /// Kinds that it may not apply.
    pub deny: Vec<KindPattern>,
    /// Whether missing namespaces may be created.
    pub create_namespaces: bool,
    /// Whether instructions count that others annotate live objects with.
    pub honor_live_annotations: bool,
    pub limits: TenantLimits,
}

/// The most that a tenant may declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantLimits {
    /// Applications of the repository.
    pub units: usize,
    /// Objects of all of them on one cluster.
    pub objects: usize,
    /// Files and folders of a commit.
    pub files: usize,
    /// Bytes of a file that is read.
    pub file_size: u64,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self {
            units: 200,
            objects: 5000,
            files: 100_000,
            file_size: 5 << 20,
        }
    }
}

impl RepositoryRights {
    /// Returns why the repository may not use a cluster at all.
    pub fn cluster_refusal(&self, cluster: &str) -> Option<&str> {
        self.clusters.get(cluster)?.closed.as_deref()
    }

    /// Returns the namespace of tagboat's records on a cluster.
    pub fn own_namespace(&self, cluster: &str) -> Option<&str> {
        let terms = self.clusters.get(cluster)?;
        Some(&terms.own_namespace)
    }

    /// Returns whether instructions count that others annotate live objects with.
    pub fn honors_live_annotations(&self, cluster: &str) -> bool {
        let terms = self.clusters.get(cluster);
        terms.is_none_or(|terms| terms.honor_live_annotations)
            && self
                .tenant
                .as_ref()
                .is_none_or(|tenant| tenant.honor_live_annotations)
    }

    /// Returns the limits of a tenant.
    pub fn limits(&self) -> Option<&TenantLimits> {
        self.tenant.as_ref().map(|tenant| &tenant.limits)
    }
}

/// Checks the name of a service account.
///
/// # Errors
/// A sentence if no account can have it, as `ns/name` and `a:system:masters`.
pub fn account_name(text: &str) -> Result<(), String> {
    if is_subdomain(text) {
        return Ok(());
    }
    let shown: String = text.chars().take(80).collect();
    Err(format!(
        "{shown:?} is no name of a service account: write its name alone, of lower-case letters, digits, '-' and '.'"
    ))
}

/// A name, or a glob with `*` and `?`.
#[derive(Debug, Clone)]
pub struct NamePattern(GlobMatcher);

impl NamePattern {
    /// Parses a pattern of lower-case names.
    ///
    /// # Errors
    /// A sentence if it holds a character that no name has.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        Self::with(text, |byte| fits(byte) || b"-._".contains(&byte))
            .ok_or_else(|| format!("{text:?} is no name, and no pattern of a name with '*' or '?'"))
    }

    fn with(text: &str, fits: impl Fn(u8) -> bool) -> Option<Self> {
        let is_valid = text.bytes().all(|byte| fits(byte) || b"*?".contains(&byte));
        if text.len() > LONGEST || !is_valid {
            return None;
        }
        let glob = GlobBuilder::new(text).literal_separator(false).build();
        glob.ok().map(|glob| Self(glob.compile_matcher()))
    }

    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }

    fn glob(&self) -> &Glob {
        self.0.glob()
    }
}

/// The longest pattern, as the longest name of Kubernetes.
const LONGEST: usize = 253;

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        self.glob() == other.glob()
    }
}

impl Eq for NamePattern {}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.glob().glob())
    }
}

/// Kinds, as `apps/Deployment`, `rbac.authorization.k8s.io/*` or, of the core group, `Namespace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindPattern {
    group: NamePattern,
    kind: NamePattern,
}

impl KindPattern {
    /// Parses `group/Kind`.
    ///
    /// # Errors
    /// A sentence if it has another form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (group, kind) = text.split_once('/').unwrap_or(("", text));
        let wrong =
            || format!("{text:?} is no kind: write group/Kind, or Kind alone for the core group");
        // A lone `*` looks like everything and would only be the core group.
        if kind.is_empty() || text == "*" {
            return Err(format!("{}; every kind is \"*/*\"", wrong()));
        }
        let group = NamePattern::parse(group).map_err(|_| wrong())?;
        let kind = NamePattern::with(kind, |byte| byte.is_ascii_alphanumeric());
        Ok(Self {
            group,
            kind: kind.ok_or_else(wrong)?,
        })
    }

    pub fn matches(&self, group: &str, kind: &str) -> bool {
        self.group.matches(group) && self.kind.matches(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_name_table() {
        for (text, expected) in [
            ("deployer", true),
            ("team.deployer", true),
            ("", false),
            ("a:system:masters", false),
            ("system:serviceaccount:kube-system:x", false),
            ("kube-system/clusterrole-aggregation-controller", false),
            ("Deployer", false),
            ("a\r\nimpersonate-group", false),
        ] {
            assert_eq!(account_name(text).is_ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn pattern_of_kinds_table() {
        for (pattern, group, kind, expected) in [
            ("Namespace", "", "Namespace", true),
            ("Namespace", "example.org", "Namespace", false),
            ("/Namespace", "", "Namespace", true),
            ("apps/Deployment", "apps", "Deployment", true),
            ("apps/Deployment", "apps", "DeploymentX", false),
            (
                "rbac.authorization.k8s.io/*",
                "rbac.authorization.k8s.io",
                "Role",
                true,
            ),
            (
                "rbac.authorization.k8s.io/*",
                "rbacXauthorizationXk8sXio",
                "Role",
                false,
            ),
            ("*.k8s.io/*", "storage.k8s.io", "StorageClass", true),
            ("*/*", "", "Secret", true),
        ] {
            let parsed = KindPattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(group, kind), expected, "{pattern}");
        }
        for wrong in [
            "",
            "*",
            "apps/",
            "apps/v1/Deployment",
            "a b/C",
            "apps/{A,B}",
        ] {
            assert!(KindPattern::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn pattern_of_names_matches_whole_names() {
        let pattern = NamePattern::parse("team-a-*").unwrap();
        assert!(pattern.matches("team-a-web") && pattern.matches("team-a-"));
        assert!(!pattern.matches("team-a") && !pattern.matches("xteam-a-web"));
        assert!(!NamePattern::parse("team-a").unwrap().matches("team-ab"));
        for wrong in ["Team", "a/b", "[ab]", "{a,b}", "!a", "a b"] {
            assert!(NamePattern::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
