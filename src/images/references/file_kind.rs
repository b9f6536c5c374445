//! File kinds, judged by path.

/// The kind of a file, as far as its path tells. Part of the cache key of [`super::find`]'s result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FileKind {
    /// Any other YAML; the content tells manifests from Helm values.
    Yaml,
    /// `kustomization.yaml`, or one of the other names that kustomize knows.
    Kustomization,
    /// A file under `templates/` of a Helm chart: never edited.
    ChartTemplate,
    /// JSON, which is YAML: manifests, values. A file that is neither is no mistake.
    Json,
    /// Not read at all.
    NotYaml,
}

impl FileKind {
    /// Returns the kind of the file at `path` (with `/`, from the root of the repository).
    ///
    /// `has_chart` reports whether a directory (without a trailing slash; empty for the root) has a
    /// `Chart.yaml`. It is called only for directories that contain a `templates` directory on the
    /// way to the file.
    pub fn of(path: &str, has_chart: impl Fn(&str) -> bool) -> Self {
        let file = path.rsplit('/').next().unwrap_or(path);
        let extension = file.rsplit_once('.').map(|(_, extension)| extension);
        let kustomization = matches!(
            file,
            "kustomization.yaml" | "kustomization.yml" | "Kustomization"
        );
        let plain = match extension {
            Some("yaml" | "yml" | "YAML" | "YML") => FileKind::Yaml,
            Some("json") => FileKind::Json,
            _ if kustomization => FileKind::Kustomization,
            _ => return FileKind::NotYaml,
        };
        let under_templates =
            path.match_indices("templates/")
                .any(|(at, _)| match path[..at].strip_suffix('/') {
                    Some(parent) => has_chart(parent),
                    None => at == 0 && has_chart(""),
                });
        match (under_templates, kustomization) {
            (true, _) => FileKind::ChartTemplate,
            (false, true) => FileKind::Kustomization,
            (false, false) => plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_kind_follows_name_and_folder() {
        let chart = |directory: &str| ["charts/app", ""].contains(&directory);
        for (path, kind) in [
            ("a/deployment.yaml", FileKind::Yaml),
            ("a/b.yml", FileKind::Yaml),
            ("a/kustomization.yaml", FileKind::Kustomization),
            ("Kustomization", FileKind::Kustomization),
            ("charts/app/templates/x.yaml", FileKind::ChartTemplate),
            (
                "charts/app/templates/deep/er/x.yaml",
                FileKind::ChartTemplate,
            ),
            ("templates/x.yaml", FileKind::ChartTemplate),
            ("charts/other/templates/x.yaml", FileKind::Yaml),
            ("charts/app/my-templates/x.yaml", FileKind::Yaml),
            ("charts/app/values.yaml", FileKind::Yaml),
            ("charts/app/templates/_helpers.tpl", FileKind::NotYaml),
            ("apps/pod.json", FileKind::Json),
            ("charts/app/templates/pod.json", FileKind::ChartTemplate),
            ("README.md", FileKind::NotYaml),
            ("yaml", FileKind::NotYaml),
        ] {
            assert_eq!(FileKind::of(path, chart), kind, "{path}");
        }
    }
}
