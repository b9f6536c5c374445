//! Annotations that keep an object from being deleted, in our words and in those of other tools.

use super::{Object, ObjectSetting};

/// The wish of an object's annotations about its deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeletionRule {
    #[default]
    Allowed,
    /// The user must confirm the deletion, because of this annotation.
    Confirmed(&'static str),
    /// The object stays, because of this annotation.
    Kept(&'static str),
}

/// The rules for the two ways in which an object may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Retention {
    /// When it vanishes from Git.
    pub prune: DeletionRule,
    /// When its Application is removed.
    pub delete: DeletionRule,
}

/// Annotations of other tools that keep an object: key, value, and the words for messages.
const KEEPING: [(&str, &str, &str); 4] = [
    (
        "helm.sh/resource-policy",
        "keep",
        "helm.sh/resource-policy: keep",
    ),
    (
        "kapp.k14s.io/delete-strategy",
        "orphan",
        "kapp.k14s.io/delete-strategy: orphan",
    ),
    (
        "cli-utils.sigs.k8s.io/on-remove",
        "keep",
        "cli-utils.sigs.k8s.io/on-remove: keep",
    ),
    (
        "client.lifecycle.config.k8s.io/deletion",
        "detach",
        "client.lifecycle.config.k8s.io/deletion: detach",
    ),
];

/// The comma-separated options of Argo CD.
const ARGO_OPTIONS: &str = "argocd.argoproj.io/sync-options";

/// Returns whether an annotation of another tool is about deletion.
pub(super) fn is_rule(annotation: &str) -> bool {
    annotation == ARGO_OPTIONS || KEEPING.iter().any(|(key, _, _)| *key == annotation)
}

impl Retention {
    /// Reads the annotations of an object.
    pub fn of(object: &Object) -> Self {
        Self::by(object, |_| true)
    }

    /// Reads the annotations whose names count.
    pub(super) fn by(object: &Object, counts: impl Fn(&str) -> bool) -> Self {
        let annotation = |name: &str| object.annotation(name).filter(|_| counts(name));
        let always = |words| Self {
            prune: DeletionRule::Kept(words),
            delete: DeletionRule::Kept(words),
        };
        let is = |text: Option<&str>, value: &str| {
            text.is_some_and(|text| text.trim().eq_ignore_ascii_case(value))
        };
        if is(ObjectSetting::Prune.among(annotation), "disabled") {
            return always("prune: disabled");
        }
        if let Some((_, _, words)) = KEEPING
            .iter()
            .find(|(key, value, _)| is(annotation(key), value))
        {
            return always(words);
        }
        let mut retention = Self::default();
        let options = annotation(ARGO_OPTIONS).unwrap_or_default();
        for option in options.split(',').map(str::trim) {
            match option {
                "Prune=false" => retention.prune = DeletionRule::Kept("sync-options: Prune=false"),
                "Prune=confirm" => {
                    retention.prune = DeletionRule::Confirmed("sync-options: Prune=confirm");
                }
                "Delete=false" => {
                    retention.delete = DeletionRule::Kept("sync-options: Delete=false");
                }
                "Delete=confirm" => {
                    retention.delete = DeletionRule::Confirmed("sync-options: Delete=confirm");
                }
                _ => {}
            }
        }
        retention
    }
}

#[cfg(test)]
mod tests {
    use super::{
        DeletionRule::{Allowed, Confirmed, Kept},
        *,
    };
    use serde_json::json;

    #[test]
    fn retention_annotations_table() {
        let rules = |annotation: &str, value: &str| {
            let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "annotations": {annotation: value}}});
            let Retention { prune, delete } = Retention::of(&Object::new(object).unwrap());
            (prune, delete)
        };
        for (annotation, value) in [
            ("tagboat.dev/prune", "disabled"),
            ("kustomize.toolkit.fluxcd.io/prune", "Disabled"),
            ("helm.sh/resource-policy", "keep"),
            // Helm trims and ignores case.
            ("helm.sh/resource-policy", " Keep "),
            ("kapp.k14s.io/delete-strategy", "orphan"),
            ("cli-utils.sigs.k8s.io/on-remove", "keep"),
            ("client.lifecycle.config.k8s.io/deletion", "detach"),
        ] {
            assert!(
                matches!(rules(annotation, value), (Kept(_), Kept(_))),
                "{annotation}: {value}"
            );
        }
        let argo = "argocd.argoproj.io/sync-options";
        for (annotation, value, expected) in [
            (
                argo,
                "Prune=false",
                (Kept("sync-options: Prune=false"), Allowed),
            ),
            (
                argo,
                "ServerSideApply=true, Delete=false",
                (Allowed, Kept("sync-options: Delete=false")),
            ),
            (
                argo,
                "Prune=confirm,Delete=confirm",
                (
                    Confirmed("sync-options: Prune=confirm"),
                    Confirmed("sync-options: Delete=confirm"),
                ),
            ),
            (argo, "Prune=true,PruneLast=true", (Allowed, Allowed)),
            ("helm.sh/resource-policy", "delete", (Allowed, Allowed)),
            ("tagboat.dev/prune", "enabled", (Allowed, Allowed)),
            ("helm.sh/hook", "keep", (Allowed, Allowed)),
        ] {
            assert_eq!(rules(annotation, value), expected, "{annotation}: {value}");
        }
    }
}
