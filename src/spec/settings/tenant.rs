//! Tenants of `tagboat.yaml`, and the rights of every repository on every cluster.

use super::{ClusterSettings, ConfigRepository};
use crate::spec::{
    document::SpecReader,
    rights::{
        ClusterTerms, KindPattern, NamePattern, RepositoryRights, Tenant, TenantLimits,
        account_name,
    },
    tenant_raw::{RawLimits, RawTenant},
};
use std::{collections::BTreeMap, sync::Arc};

/// Checks a tenant.
pub(super) fn tenant(at: &mut SpecReader<'_>, pointer: &str, raw: RawTenant) -> Option<Tenant> {
    let RawTenant {
        clusters,
        namespaces,
        service_account_name,
        cluster_scoped,
        deny,
        create_namespaces,
        honor_live_annotations,
        limits,
    } = raw;
    if let Some(account) = &service_account_name {
        let pointer = format!("{pointer}/serviceAccountName");
        at.check(&pointer, account_name(account));
    }
    let clusters = all(
        at,
        &format!("{pointer}/clusters"),
        &clusters,
        NamePattern::parse,
    );
    let namespaces = all(
        at,
        &format!("{pointer}/namespaces"),
        &namespaces,
        NamePattern::parse,
    );
    let cluster_scoped = all(
        at,
        &format!("{pointer}/clusterScoped"),
        &cluster_scoped,
        KindPattern::parse,
    );
    let deny = all(at, &format!("{pointer}/deny"), &deny, KindPattern::parse);
    let limits = checked_limits(at, &format!("{pointer}/limits"), limits.unwrap_or_default());
    Some(Tenant {
        clusters: clusters?,
        namespaces: namespaces?,
        service_account: service_account_name,
        cluster_scoped: cluster_scoped?,
        deny: deny?,
        create_namespaces,
        honor_live_annotations: honor_live_annotations.unwrap_or(true),
        limits: limits?,
    })
}

fn all<T>(
    at: &mut SpecReader<'_>,
    pointer: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<Vec<T>> {
    let parsed: Vec<Option<T>> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| at.check(&format!("{pointer}/{index}"), parse(text)))
        .collect();
    parsed.into_iter().collect()
}

fn checked_limits(at: &mut SpecReader<'_>, pointer: &str, raw: RawLimits) -> Option<TenantLimits> {
    let usual = TenantLimits::default();
    let count = |raw: Option<u32>, usual| raw.map_or(usual, |count| count as usize);
    let file_size = match raw.file_size {
        None => Some(usual.file_size),
        Some(text) => at.check(&format!("{pointer}/fileSize"), bytes(&text)),
    };
    Some(TenantLimits {
        units: count(raw.units, usual.units),
        objects: count(raw.objects, usual.objects),
        files: count(raw.files, usual.files),
        file_size: file_size?,
    })
}

/// Parses a number of bytes: "512Ki", "5Mi", "1Gi" or digits alone.
fn bytes(text: &str) -> Result<u64, String> {
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30)];
    let unit = units.iter().find(|(unit, _)| text.ends_with(unit));
    let (digits, shift) = match unit {
        Some((unit, shift)) => (text.strip_suffix(unit).unwrap_or(text), *shift),
        None => (text, 0),
    };
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    number
        .filter(|_| is_plain)
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| format!("{text:?} is no size: write \"512Ki\" or \"5Mi\""))
}

/// Gives every repository its rights on every cluster.
pub(super) fn grant(
    at: &mut SpecReader<'_>,
    repositories: &mut [ConfigRepository],
    clusters: &[ClusterSettings],
) {
    let is_only = repositories.len() == 1;
    for (index, repository) in repositories.iter_mut().enumerate() {
        let tenant = repository.rights.tenant.clone();
        if let Some(tenant) = &tenant {
            check_own_namespaces(at, index, tenant, clusters);
        }
        let terms = clusters.iter().enumerate().map(|(place, cluster)| {
            let closed = closed(&repository.name, tenant.as_ref(), cluster, is_only);
            let is_listed = cluster.repositories.contains(&repository.name);
            if closed.is_some() && tenant.is_some() && is_listed {
                at.error(
                    &format!("/clusters/{place}/repositories"),
                    format!(
                        "repository {} is a tenant: write the cluster into its tenant.clusters",
                        repository.name
                    ),
                );
            }
            let terms = ClusterTerms {
                closed,
                own_namespace: cluster.namespace.clone(),
                honor_live_annotations: cluster.honor_live_annotations,
            };
            (cluster.name.clone(), terms)
        });
        let clusters: BTreeMap<String, ClusterTerms> = terms.collect();
        repository.rights = Arc::new(RepositoryRights {
            repository: repository.name.clone(),
            clusters,
            tenant,
        });
    }
    for (place, cluster) in clusters.iter().enumerate() {
        // Settings of before there were tenants named no repository, and meant all of them.
        let mut rights = repositories.iter().map(|repository| &repository.rights);
        if repositories.len() > 1
            && rights.all(|rights| rights.cluster_refusal(&cluster.name).is_some())
        {
            at.warn(
                &format!("/clusters/{place}"),
                "no repository may deploy to it: of several, name those that may in repositories, or make them tenants",
            );
        }
    }
}

/// Returns why a repository may not use a cluster at all.
fn closed(
    repository: &str,
    tenant: Option<&Tenant>,
    cluster: &ClusterSettings,
    is_only: bool,
) -> Option<String> {
    let name = &cluster.name;
    let refused = format!("repository {repository} may not deploy to cluster {name}");
    let is_listed = cluster
        .repositories
        .iter()
        .any(|listed| listed == repository);
    match tenant {
        Some(tenant) => {
            let is_named = tenant.clusters.iter().any(|pattern| pattern.matches(name));
            (!is_named).then(|| format!("{refused}: its tenant.clusters do not name it"))
        }
        None if is_listed => None,
        None if !cluster.repositories.is_empty() => Some(refused),
        None => (!is_only).then(|| {
            format!(
                "{refused}: of several repositories, clusters[].repositories must name it, or it must be a tenant"
            )
        }),
    }
}

/// Refuses a tenant that names tagboat's own namespace on one of its clusters.
fn check_own_namespaces(
    at: &mut SpecReader<'_>,
    index: usize,
    tenant: &Tenant,
    clusters: &[ClusterSettings],
) {
    for (place, pattern) in tenant.namespaces.iter().enumerate() {
        let text = pattern.to_string();
        let is_own = |cluster: &&ClusterSettings| {
            cluster.namespace == text
                && tenant.clusters.iter().any(|one| one.matches(&cluster.name))
        };
        if let Some(cluster) = clusters.iter().find(is_own) {
            at.error(
                &format!("/repositories/{index}/tenant/namespaces/{place}"),
                format!(
                    "namespace {text} of cluster {} belongs to tagboat (clusters[].namespace)",
                    cluster.name
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_of_bytes_table() {
        for (text, expected) in [
            ("5Mi", Some(5 << 20)),
            ("512Ki", Some(512 << 10)),
            ("1Gi", Some(1 << 30)),
            ("100", Some(100)),
            ("0", None),
            ("", None),
            ("Mi", None),
            ("+5Mi", None),
            ("5MiMi", None),
            ("5M", None),
            ("99999999999999999999", None),
            ("99999999999Gi", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
    }
}
