//! Discovery: the kinds a cluster serves, and their URLs.
//!
//! One response for all groups if the server supports it (aggregated discovery, Kubernetes 1.27 and
//! later), else one per group. A group whose API service is down is reported, keeps its previous
//! content, and affects no other group.

use crate::objects::object::{Gvk, ObjectKey};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The subresource of the status.
const STATUS: &str = "status";

/// A kind that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    pub gvk: Gvk,
    /// The word in addresses and roles, as "deployments".
    pub plural: String,
    pub namespaced: bool,
    /// Supported verbs, such as "list".
    pub verbs: BTreeSet<String>,
    /// True if the status is a subresource, so that a controller is expected to write it.
    pub has_status: bool,
}

impl Resource {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.contains(verb)
    }

    /// Returns the name as in RBAC rules: "deployments.apps".
    pub fn dotted(&self) -> String {
        if self.gvk.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.gvk.group)
        }
    }

    /// The key of an object of this kind.
    pub fn key(&self, namespace: Option<&str>, name: &str) -> ObjectKey {
        let namespace = namespace.filter(|_| self.namespaced).map(str::to_owned);
        ObjectKey::new(
            self.gvk.group.as_str(),
            self.gvk.kind.as_str(),
            namespace,
            name,
        )
    }
}

/// The kinds that a cluster serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    known: HashMap<Gvk, Resource>,
    /// The version of a kind that the server prefers.
    preferred: HashMap<(String, String), String>,
    unavailable: BTreeSet<String>,
}

impl Resources {
    /// The kind in exactly this version.
    pub fn find(&self, gvk: &Gvk) -> Option<&Resource> {
        self.known.get(gvk)
    }

    /// The kind in the version the server prefers.
    pub fn preferred(&self, group: &str, kind: &str) -> Option<&Resource> {
        let version = self.preferred.get(&(group.to_owned(), kind.to_owned()))?;
        self.known.get(&Gvk {
            group: group.to_owned(),
            version: version.clone(),
            kind: kind.to_owned(),
        })
    }

    /// Returns all of them, unordered.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.known.values()
    }

    /// The groups with version whose own server does not answer, as "metrics.k8s.io/v1beta1".
    pub fn unavailable(&self) -> impl Iterator<Item = &str> {
        self.unavailable.iter().map(String::as_str)
    }

    /// Returns whether the API service of this kind's group is down.
    pub fn is_unavailable(&self, gvk: &Gvk) -> bool {
        self.unavailable.contains(&gvk.api_version())
    }

    /// Keeps the previous content of groups that are down.
    pub(crate) fn keep_from(&mut self, before: &Resources) {
        for resource in before.iter() {
            if self.is_unavailable(&resource.gvk) {
                self.add(resource.clone());
            }
        }
    }

    /// Versions are added in the server's order of preference.
    fn add(&mut self, resource: Resource) {
        let (group, kind) = (resource.gvk.group.clone(), resource.gvk.kind.clone());
        self.preferred
            .entry((group, kind))
            .or_insert_with(|| resource.gvk.version.clone());
        self.known.entry(resource.gvk.clone()).or_insert(resource);
    }

    /// Reads an answer of aggregated discovery.
    pub(crate) fn add_aggregated(&mut self, list: &AggregatedDiscovery) {
        for group in &list.items {
            for version in &group.versions {
                let api_version = if group.metadata.name.is_empty() {
                    version.version.clone()
                } else {
                    format!("{}/{}", group.metadata.name, version.version)
                };
                if version.freshness == "Stale" {
                    self.unavailable.insert(api_version);
                }
                for resource in &version.resources {
                    let kind = resource
                        .response_kind
                        .as_ref()
                        .map(|kind| kind.kind.as_str())
                        .unwrap_or_default();
                    if resource.resource.is_empty() || kind.is_empty() {
                        continue;
                    }
                    self.add(Resource {
                        gvk: Gvk {
                            group: group.metadata.name.clone(),
                            version: version.version.clone(),
                            kind: kind.to_owned(),
                        },
                        plural: resource.resource.clone(),
                        namespaced: resource.scope == "Namespaced",
                        verbs: resource.verbs.iter().cloned().collect(),
                        has_status: resource
                            .subresources
                            .iter()
                            .any(|part| part.subresource == STATUS),
                    });
                }
            }
        }
    }

    /// Reads the list of one group and version (`APIResourceList`); `api_version` as "apps/v1".
    pub(crate) fn add_list(&mut self, api_version: &str, list: &ResourceList) {
        for resource in list
            .resources
            .iter()
            .filter(|resource| !resource.name.contains('/') && !resource.kind.is_empty())
        {
            self.add(Resource {
                gvk: Gvk::new(api_version, &resource.kind),
                plural: resource.name.clone(),
                namespaced: resource.namespaced,
                verbs: resource.verbs.iter().cloned().collect(),
                has_status: list
                    .resources
                    .iter()
                    .any(|part| part.name.strip_suffix("/status") == Some(&resource.name)),
            });
        }
    }

    /// Notes that a group and version does not answer.
    pub(crate) fn add_unavailable(&mut self, api_version: String) {
        self.unavailable.insert(api_version);
    }
}

/// The parsed part of `APIGroupDiscoveryList`; also the response of a server without it,
/// distinguished by `kind`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AggregatedDiscovery {
    pub kind: String,
    pub items: Vec<ApiGroup>,
    /// Of an `APIGroupList`.
    pub groups: Vec<LegacyGroup>,
    /// Of `APIVersions`.
    pub versions: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ApiGroup {
    metadata: GroupMeta,
    versions: Vec<GroupVersion>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GroupMeta {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GroupVersion {
    version: String,
    resources: Vec<ServedVersions>,
    freshness: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ServedVersions {
    resource: String,
    response_kind: Option<ServedKind>,
    scope: String,
    verbs: Vec<String>,
    subresources: Vec<ServedPart>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServedPart {
    subresource: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServedKind {
    kind: String,
}

/// A group of an `APIGroupList`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct LegacyGroup {
    versions: Vec<LegacyVersion>,
    preferred_version: LegacyVersion,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LegacyVersion {
    group_version: String,
}

impl LegacyGroup {
    /// Returns its versions, the preferred one first.
    pub(crate) fn versions(&self) -> Vec<String> {
        let first = self.preferred_version.group_version.clone();
        let rest = self
            .versions
            .iter()
            .map(|version| version.group_version.clone())
            .filter(|version| *version != first);
        std::iter::once(first.clone())
            .filter(|first| !first.is_empty())
            .chain(rest)
            .collect()
    }
}

/// The parsed part of `APIResourceList`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ResourceList {
    resources: Vec<DiscoveredGroup>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DiscoveredGroup {
    name: String,
    kind: String,
    namespaced: bool,
    verbs: Vec<String>,
}

/// The accepted forms of an answer: aggregated, stable or beta, else plain.
pub(crate) const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// Kinds by group, for messages and tests.
impl Resources {
    /// Returns the number of kinds in each group.
    pub fn by_group(&self) -> BTreeMap<&str, usize> {
        let mut groups = BTreeMap::new();
        for resource in self.iter() {
            *groups.entry(resource.gvk.group.as_str()).or_default() += 1;
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Resources {
        let mut resources = Resources::default();
        resources.add_aggregated(&serde_json::from_str(text).unwrap());
        resources
    }

    const BOTH: &str = r#"{"kind":"APIGroupDiscoveryList","items":[
        {"metadata":{"name":"autoscaling"},"versions":[
            {"version":"v2","freshness":"Current","resources":[{"resource":"horizontalpodautoscalers","responseKind":{"group":"autoscaling","version":"v2","kind":"HorizontalPodAutoscaler"},"scope":"Namespaced","verbs":["get","list"],"subresources":[{"subresource":"status","verbs":["get"]}]}]},
            {"version":"v1","resources":[{"resource":"horizontalpodautoscalers","responseKind":{"kind":"HorizontalPodAutoscaler"},"scope":"Namespaced","verbs":["get"]}]}]},
        {"metadata":{"name":"metrics.k8s.io"},"versions":[{"version":"v1beta1","freshness":"Current","resources":[{"resource":"nodes","responseKind":{"kind":"NodeMetrics"},"scope":"Cluster","verbs":["get"]}]}]}]}"#;

    #[test]
    fn discovery_first_version_is_preferred() {
        let resources = read(BOTH);
        assert_eq!(
            resources
                .preferred("autoscaling", "HorizontalPodAutoscaler")
                .unwrap()
                .gvk
                .version,
            "v2"
        );
        assert!(
            !resources
                .find(&Gvk::new("autoscaling/v1", "HorizontalPodAutoscaler"))
                .unwrap()
                .can("list")
        );
        assert!(
            !resources
                .find(&Gvk::new("metrics.k8s.io/v1beta1", "NodeMetrics"))
                .unwrap()
                .namespaced
        );
        assert_eq!(
            resources.find(&Gvk::new("autoscaling/v3", "HorizontalPodAutoscaler")),
            None
        );
        let has_status = |version: &str| {
            let gvk = Gvk::new(version, "HorizontalPodAutoscaler");
            resources.find(&gvk).unwrap().has_status
        };
        assert!(has_status("autoscaling/v2") && !has_status("autoscaling/v1"));
    }

    #[test]
    fn discovery_stale_group_keeps_its_kinds() {
        let before = read(BOTH);
        let mut now = read(
            r#"{"items":[{"metadata":{"name":"metrics.k8s.io"},"versions":[{"version":"v1beta1","freshness":"Stale","resources":[]}]}]}"#,
        );
        let metrics = Gvk::new("metrics.k8s.io/v1beta1", "NodeMetrics");
        assert!(now.is_unavailable(&metrics) && now.find(&metrics).is_none());
        now.keep_from(&before);
        assert!(now.find(&metrics).is_some());
        assert!(
            now.find(&Gvk::new("autoscaling/v2", "HorizontalPodAutoscaler"))
                .is_none(),
            "what is no longer served is gone"
        );
    }

    #[test]
    fn discovery_reads_unaggregated_lists() {
        let mut resources = Resources::default();
        let list = r#"{"resources":[{"name":"deployments","kind":"Deployment","namespaced":true,"verbs":["patch"]},
            {"name":"deployments/scale","kind":"Scale","namespaced":true,"verbs":["get"]},
            {"name":"deployments/status","kind":"Deployment","namespaced":true,"verbs":["get"]},
            {"name":"controllerrevisions","kind":"ControllerRevision","namespaced":true,"verbs":["get"]}]}"#;
        resources.add_list("apps/v1", &serde_json::from_str(list).unwrap());
        let mut found: Vec<(&str, bool)> = resources
            .iter()
            .map(|resource| (resource.plural.as_str(), resource.has_status))
            .collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [("controllerrevisions", false), ("deployments", true)]
        );
        let groups: AggregatedDiscovery =
            serde_json::from_str(r#"{"kind":"APIGroupList","groups":[{"versions":[{"groupVersion":"a/v1"},{"groupVersion":"a/v2"}],"preferredVersion":{"groupVersion":"a/v2"}}]}"#)
                .unwrap();
        assert_eq!(groups.groups[0].versions(), ["a/v2", "a/v1"]);
    }
}
