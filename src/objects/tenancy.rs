//! Tenancy: what a config repository may deploy. Pure, and asked by every command alike.
//!
//! ```text
//! rights (tagboat.yaml) ─▶ unit ─▶ objects ─▶ plan
//!                           │         └─ refused alone, with file, line and reason
//!                           └─ refused as a whole
//! ```
//!
//! The same rights count for a removal: a record names objects, it grants nothing.

use super::object::ObjectKey;
use crate::{
    core::name::Name,
    spec::{
        Application,
        rights::{KindPattern, NamePattern, RepositoryRights, Tenant, account_name},
    },
};

/// Patterns that a message names.
const NAMED_PATTERNS: usize = 5;

/// Returns why an Application is refused as a whole.
pub fn unit_refusal(application: &Application) -> Option<String> {
    let (rights, cluster) = (&*application.rights, &application.cluster);
    if let Some(why) = rights.cluster_refusal(cluster) {
        return Some(why.to_owned());
    }
    let tenant = rights.tenant.as_ref()?;
    if application.exceeds_units {
        return Some(format!(
            "its repository declares more than {0} Applications (tenant.limits.units); only the first {0} by name are deployed",
            tenant.limits.units
        ));
    }
    let at = |namespace: &str| namespace_refusal(rights, cluster, namespace);
    if let Some(why) = at(application.name.namespace()) {
        return Some(format!("metadata.namespace: {why}"));
    }
    if let Some(why) = application.target_namespace.as_deref().and_then(at) {
        return Some(format!("targetNamespace: {why}"));
    }
    account(application.service_account.as_deref()).err()
}

/// Returns why a repository may not apply or delete an object.
///
/// A kind whose scope is unknown counts as cluster-scoped where its object has no namespace.
pub fn object_refusal(rights: &RepositoryRights, cluster: &str, key: &ObjectKey) -> Option<String> {
    let tenant = rights.tenant.as_ref()?;
    let kind = || match key.group.as_str() {
        "" => key.kind.clone(),
        group => format!("{group}/{}", key.kind),
    };
    let matches = |patterns: &[KindPattern]| {
        let mut patterns = patterns.iter();
        patterns.any(|pattern| pattern.matches(&key.group, &key.kind))
    };
    if matches(&tenant.deny) {
        return Some(format!(
            "the tenant may not deploy {} (tenant.deny)",
            kind()
        ));
    }
    if let Some(namespace) = &key.namespace {
        return namespace_refusal(rights, cluster, namespace);
    }
    if !matches(&tenant.cluster_scoped) {
        return Some(format!(
            "the tenant may not deploy {}, which belongs to no namespace (tenant.clusterScoped)",
            kind()
        ));
    }
    let is_namespace = key.group.is_empty() && key.kind == "Namespace";
    is_namespace
        .then(|| namespace_refusal(rights, cluster, &key.name))
        .flatten()
}

/// Returns why a repository may not deploy into a namespace.
pub fn namespace_refusal(
    rights: &RepositoryRights,
    cluster: &str,
    namespace: &str,
) -> Option<String> {
    let tenant = rights.tenant.as_ref()?;
    if rights.own_namespace(cluster) == Some(namespace) {
        return Some(format!("namespace {namespace} belongs to tagboat"));
    }
    let mut patterns = tenant.namespaces.iter();
    (!patterns.any(|pattern| pattern.matches(namespace))).then(|| {
        format!(
            "the tenant may not deploy into namespace {namespace}, only into {} (tenant.namespaces)",
            names(&tenant.namespaces)
        )
    })
}

/// Returns why a missing namespace is not created for a tenant.
pub fn creation_refusal(rights: &RepositoryRights, namespace: &str) -> Option<String> {
    let tenant = rights.tenant.as_ref()?;
    (!tenant.create_namespaces).then(|| {
        format!("namespace {namespace} does not exist, and the tenant may not create it (tenant.createNamespaces)")
    })
}

/// Returns why a tenant may not declare so many objects on one cluster, `others` of which belong to
/// other Applications of its repository.
pub fn objects_refusal(rights: &RepositoryRights, objects: usize, others: usize) -> Option<String> {
    let most = rights.limits()?.objects;
    let beside = match others {
        0 => String::new(),
        others => format!(", beside {others} of other Applications of its repository"),
    };
    (objects.saturating_add(others) > most).then(|| {
        format!("it renders {objects} objects{beside}: more than {most} (tenant.limits.objects)")
    })
}

/// Returns why a file of so many bytes is not read.
pub fn file_refusal(limit: u64, bytes: usize) -> Option<String> {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    (bytes > limit)
        .then(|| format!("the file has {bytes} bytes: more than {limit} (tenant.limits.fileSize)"))
}

/// Returns the account under which the objects of a removed Application are deleted.
///
/// # Errors
/// Why nothing is deleted on behalf of the Application.
pub fn removal_account(
    rights: &RepositoryRights,
    cluster: &str,
    application: &Name,
    recorded: Option<&str>,
) -> Result<Option<String>, String> {
    if let Some(recorded) = recorded {
        account_name(recorded)?;
    }
    let Some(tenant) = &rights.tenant else {
        return Ok(recorded.map(str::to_owned));
    };
    if let Some(why) = namespace_refusal(rights, cluster, application.namespace()) {
        return Err(format!("metadata.namespace: {why}"));
    }
    let Tenant {
        service_account, ..
    } = tenant;
    account(recorded.or(service_account.as_deref())).map(|account| Some(account.to_owned()))
}

/// Returns the account of a tenant's Application: nothing is sent with tagboat's own rights.
fn account(account: Option<&str>) -> Result<&str, String> {
    account.ok_or_else(|| {
        "neither it nor its tenant names a serviceAccountName, and nothing of a tenant is applied with tagboat's own rights".to_owned()
    })
}

/// Names the first patterns, and counts the others.
fn names(patterns: &[NamePattern]) -> String {
    let named = patterns.iter().take(NAMED_PATTERNS);
    let named = named
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    match patterns.len().saturating_sub(NAMED_PATTERNS) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, settings};
    use std::sync::Arc;

    const SETTINGS: &str = "\
repositories:
- {name: platform, url: 'https://git.example.org/platform'}
- {name: stray, url: 'https://git.example.org/stray'}
- name: team
  url: https://git.example.org/team
  tenant:
    clusters: ['prod-*']
    namespaces: [team-a, 'team-a-*', 'tag*']
    clusterScoped: [Namespace, 'example.org/Boat']
    deny: ['rbac.authorization.k8s.io/*', ResourceQuota]
    limits: {units: 2, objects: 10}
clusters:
- {name: prod-eu, kubeconfig: a, repositories: [platform]}
- {name: test, kubeconfig: b, repositories: [platform]}
- {name: open, kubeconfig: c}
";

    fn rights(repository: &str) -> Arc<RepositoryRights> {
        let (settings, _) = settings::read("tagboat.yaml", SETTINGS).unwrap();
        let mut all = settings.repositories.into_iter();
        all.find(|one| one.name == repository).unwrap().rights
    }

    /// Returns why each Application is refused; `None` where it is not.
    fn refusals(repository: &str, applications: &[&str]) -> Vec<Option<String>> {
        let mut text = "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n".to_owned();
        for application in applications {
            text += &format!(
                "---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\n{application}\n"
            );
        }
        let mut declared = spec::read([("a.yaml", text.as_bytes())], None);
        assert!(!declared.has_errors(), "{:?}", declared.mistakes);
        declared.restrict(&rights(repository));
        declared.applications.values().map(unit_refusal).collect()
    }

    #[test]
    fn tenant_unit_table() {
        let one = |metadata: &str, spec: &str| {
            let text =
                format!("metadata: {{{metadata}}}\nspec: {{environment: dev, path: a, {spec}}}");
            refusals("team", &[&text]).remove(0).unwrap_or_default()
        };
        let fine = "cluster: prod-eu, serviceAccountName: deployer";
        for (metadata, spec, expected) in [
            ("name: a, namespace: team-a", fine, ""),
            ("name: a, namespace: team-a-web", fine, ""),
            (
                "name: a, namespace: team-a",
                "cluster: test, serviceAccountName: deployer",
                "repository team may not deploy to cluster test: its tenant.clusters do not name it",
            ),
            (
                "name: a, namespace: kube-system",
                fine,
                "metadata.namespace: the tenant may not deploy into namespace kube-system, only into team-a, team-a-*, tag* (tenant.namespaces)",
            ),
            // A glob that reaches tagboat's own namespace.
            (
                "name: a, namespace: tagboat-system",
                fine,
                "metadata.namespace: namespace tagboat-system belongs to tagboat",
            ),
            (
                "name: a, namespace: team-a",
                "cluster: prod-eu, serviceAccountName: deployer, targetNamespace: default",
                "targetNamespace: the tenant may not deploy into namespace default",
            ),
            (
                "name: a, namespace: team-a",
                "cluster: prod-eu",
                "neither it nor its tenant names a serviceAccountName",
            ),
        ] {
            let found = one(metadata, spec);
            assert!(
                found.starts_with(expected) && found.is_empty() == expected.is_empty(),
                "{metadata} {spec}: {found}"
            );
        }
    }

    #[test]
    fn cluster_of_several_repositories_is_named() {
        let on = |repository: &str, cluster: &str| {
            let text = format!(
                "metadata: {{name: a, namespace: team-a}}\nspec: {{environment: dev, path: a, cluster: {cluster}}}"
            );
            refusals(repository, &[&text]).remove(0)
        };
        assert_eq!(on("platform", "prod-eu"), None);
        assert_eq!(on("platform", "unknown"), None, "the reconciler says so");
        assert_eq!(
            on("stray", "prod-eu").unwrap(),
            "repository stray may not deploy to cluster prod-eu"
        );
        assert_eq!(
            on("stray", "open").unwrap(),
            "repository stray may not deploy to cluster open: of several repositories, clusters[].repositories must name it, or it must be a tenant"
        );
    }

    #[test]
    fn tenant_units_beyond_the_limit_are_refused() {
        let unit = |name: &str| {
            format!(
                "metadata: {{name: {name}, namespace: team-a}}\nspec: {{environment: dev, path: a, cluster: prod-eu, serviceAccountName: x}}"
            )
        };
        let (a, b, c) = (unit("a"), unit("b"), unit("c"));
        let found = refusals("team", &[&c, &a, &b]);
        assert_eq!((&found[0], &found[1]), (&None, &None));
        assert!(
            found[2]
                .as_ref()
                .unwrap()
                .contains("more than 2 Applications")
        );
    }

    #[test]
    fn tenant_object_table() {
        let (team, platform) = (rights("team"), rights("platform"));
        let key = |group: &str, kind: &str, namespace: Option<&str>, name: &str| {
            ObjectKey::new(group, kind, namespace.map(str::to_owned), name)
        };
        for (key, expected) in [
            (key("", "ConfigMap", Some("team-a"), "a"), None),
            (key("apps", "Deployment", Some("team-a-web"), "a"), None),
            (
                key("", "ConfigMap", Some("kube-system"), "a"),
                Some("namespace kube-system"),
            ),
            (
                key("", "ConfigMap", Some("tagboat-system"), "a"),
                Some("belongs to tagboat"),
            ),
            (
                key("", "ResourceQuota", Some("team-a"), "a"),
                Some("ResourceQuota (tenant.deny)"),
            ),
            (
                key(
                    "rbac.authorization.k8s.io",
                    "RoleBinding",
                    Some("team-a"),
                    "a",
                ),
                Some("tenant.deny"),
            ),
            (
                key("rbac.authorization.k8s.io", "ClusterRoleBinding", None, "a"),
                Some("tenant.deny"),
            ),
            (key("", "Namespace", None, "team-a-web"), None),
            (
                key("", "Namespace", None, "kube-system"),
                Some("namespace kube-system"),
            ),
            (
                key("", "Namespace", None, "tagboat-system"),
                Some("belongs to tagboat"),
            ),
            (key("example.org", "Boat", None, "a"), None),
            (
                key("storage.k8s.io", "StorageClass", None, "a"),
                Some("belongs to no namespace (tenant.clusterScoped)"),
            ),
            (
                key("", "PersistentVolume", None, "a"),
                Some("may not deploy PersistentVolume,"),
            ),
        ] {
            let found = object_refusal(&team, "prod-eu", &key);
            match expected {
                None => assert_eq!(found, None, "{key}"),
                Some(expected) => assert!(
                    found.as_ref().is_some_and(|why| why.contains(expected)),
                    "{key}: {found:?}"
                ),
            }
            assert_eq!(object_refusal(&platform, "prod-eu", &key), None);
        }
    }

    #[test]
    fn removal_account_of_a_tenant_is_never_tagboat() {
        let team = rights("team");
        let platform = rights("platform");
        let mine: Name = "team-a/web".parse().unwrap();
        let foreign: Name = "kube-system/web".parse().unwrap();
        assert_eq!(
            removal_account(&platform, "prod-eu", &foreign, None),
            Ok(None)
        );
        assert_eq!(
            removal_account(&team, "prod-eu", &mine, Some("x")),
            Ok(Some("x".to_owned()))
        );
        assert!(removal_account(&team, "prod-eu", &mine, None).is_err());
        assert!(removal_account(&team, "prod-eu", &foreign, Some("x")).is_err());
        for rights in [&team, &platform] {
            let forged = removal_account(rights, "prod-eu", &mine, Some("a:system:masters"));
            assert!(forged.is_err(), "{forged:?}");
        }
    }
}
