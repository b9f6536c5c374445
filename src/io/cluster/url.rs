//! Addresses of a cluster. Names come from manifests: one that could reach another resource is
//! refused. Pure.

use super::{discovery::Resource, error::ClusterProblem};
use crate::objects::object::ObjectKey;
use std::fmt::Write;

/// Encodes one path segment. Segments that Kubernetes rejects ("", ".", "..", with "/" or "%") are
/// rejected before the request, the rest is percent-encoded.
fn segment(what: &str, text: &str) -> Result<String, ClusterProblem> {
    if matches!(text, "" | "." | "..")
        || text.len() > 253
        || text.contains(['/', '%'])
        || text.chars().any(char::is_control)
    {
        let shown = crate::core::image::shown(text);
        return Err(ClusterProblem::Address {
            why: format!("{what} {shown} is no name that a cluster takes"),
        });
    }
    Ok(encoded(text))
}

fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The path of all objects of a resource, in one namespace or in all. An error if a namespace is
/// named and the resource has none.
pub(crate) fn collection(
    resource: &Resource,
    namespace: Option<&str>,
) -> Result<String, ClusterProblem> {
    let version = segment("version", &resource.gvk.version)?;
    let plural = segment("resource", &resource.plural)?;
    let root = match resource.gvk.group.as_str() {
        "" => format!("/api/{version}"),
        group => format!("/apis/{}/{version}", segment("group", group)?),
    };
    Ok(match namespace {
        // The rights were judged by the namespace, which the server would ignore.
        Some(namespace) if !resource.namespaced => {
            let shown = crate::core::image::shown(namespace);
            return Err(ClusterProblem::Address {
                why: format!(
                    "{} belongs to no namespace, and {shown} is named",
                    resource.gvk.kind
                ),
            });
        }
        Some(namespace) => format!(
            "{root}/namespaces/{}/{plural}",
            segment("namespace", namespace)?
        ),
        None => format!("{root}/{plural}"),
    })
}

/// The path of one object.
pub(crate) fn item(resource: &Resource, key: &ObjectKey) -> Result<String, ClusterProblem> {
    if resource.namespaced && key.namespace.is_none() {
        return Err(ClusterProblem::Address {
            why: format!(
                "{} belongs into a namespace, and none is named",
                resource.gvk.kind
            ),
        });
    }
    Ok(format!(
        "{}/{}",
        collection(resource, key.namespace.as_deref())?,
        segment("name", &key.name)?
    ))
}

/// A query, as "?limit=500&labelSelector=a%3Db"; empty values are left out.
pub(crate) fn query(pairs: &[(&str, &str)]) -> String {
    let mut query = String::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(name);
        query.push('=');
        query.push_str(&encoded(value));
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::object::Gvk;

    fn resource(api_version: &str, kind: &str, plural: &str, namespaced: bool) -> Resource {
        Resource {
            gvk: Gvk::new(api_version, kind),
            plural: plural.to_owned(),
            namespaced,
            verbs: Default::default(),
            has_status: false,
        }
    }

    fn key(namespace: Option<&str>, name: &str) -> ObjectKey {
        ObjectKey::new("", "", namespace.map(str::to_owned), name)
    }

    #[test]
    fn url_paths_follow_the_api() {
        let pods = resource("v1", "Pod", "pods", true);
        let roles = resource(
            "rbac.authorization.k8s.io/v1",
            "ClusterRole",
            "clusterroles",
            false,
        );
        assert_eq!(
            item(&pods, &key(Some("shop"), "web")).unwrap(),
            "/api/v1/namespaces/shop/pods/web"
        );
        assert_eq!(collection(&pods, None).unwrap(), "/api/v1/pods");
        assert_eq!(
            item(&roles, &key(None, "system:node proxy")).unwrap(),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node%20proxy"
        );
        assert_eq!(
            query(&[("a", "x=y,z"), ("b", ""), ("c", "1")]),
            "?a=x%3Dy%2Cz&c=1"
        );
    }

    #[test]
    fn url_namespace_of_cluster_scoped_is_refused() {
        let boats = resource("example.org/v1", "Boat", "boats", false);
        let refused = item(&boats, &key(Some("shop"), "one")).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("Boat belongs to no namespace, and \"shop\" is named"),
            "{refused}"
        );
        assert!(collection(&boats, Some("shop")).is_err());
        assert_eq!(
            item(&boats, &key(None, "one")).unwrap(),
            "/apis/example.org/v1/boats/one"
        );
    }

    #[test]
    fn url_name_cannot_reach_another_resource() {
        let pods = resource("v1", "Pod", "pods", true);
        for bad in [
            "",
            ".",
            "..",
            "../secrets/a",
            "a/b",
            "a%2fb",
            "%2e%2e",
            "a\nb",
            "a\0",
        ] {
            assert!(item(&pods, &key(Some("shop"), bad)).is_err(), "{bad:?}");
            assert!(item(&pods, &key(Some(bad), "web")).is_err(), "{bad:?}");
        }
        assert!(item(&pods, &key(None, "web")).is_err());
        assert_eq!(
            item(&pods, &key(Some("shop"), "a?b#c d")).unwrap(),
            "/api/v1/namespaces/shop/pods/a%3Fb%23c%20d"
        );
    }
}
