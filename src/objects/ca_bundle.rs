//! Certificates that others inject into webhooks, APIServices and CRDs.

use super::object::Gvk;

/// Groups whose objects get their `caBundle` injected.
const GROUPS: [&str; 3] = [
    "admissionregistration.k8s.io",
    "apiregistration.k8s.io",
    "apiextensions.k8s.io",
];

/// Returns whether a path is that of an injected certificate.
pub(crate) fn is_injected(gvk: &Gvk, path: &str) -> bool {
    GROUPS.contains(&gvk.group.as_str()) && path.ends_with("/caBundle")
}
