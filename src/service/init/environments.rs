//! Environments, guessed from the folders of a repository.

use std::collections::{BTreeMap, BTreeSet};

/// Names of folders whose sub-folders are environments.
const PARENTS: [&str; 11] = [
    "envs",
    "env",
    "environments",
    "environment",
    "clusters",
    "overlays",
    "stages",
    "stage",
    "tenants",
    "regions",
    "deployments",
];

/// A drafted Environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnvironmentDraft {
    pub name: String,
    /// Globs of the files.
    pub paths: Vec<String>,
}

impl EnvironmentDraft {
    /// Returns true if the name means production.
    pub(super) fn is_production(&self) -> bool {
        let words: Vec<&str> = self.name.split(['-', '.']).collect();
        words
            .iter()
            .any(|word| matches!(*word, "prod" | "production" | "prd" | "live"))
    }
}

/// Returns the Environments for files with references: one for each environment folder, and one for
/// the files outside of them.
pub(super) fn find<'f>(files: impl IntoIterator<Item = &'f str>) -> Vec<EnvironmentDraft> {
    let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut others = false;
    for file in files {
        match environment(file) {
            Some((name, folder)) => {
                folders.entry(name).or_default().insert(glob(folder));
            }
            None => others = true,
        }
    }
    let mut outside = vec!["**".to_owned()];
    outside.extend(
        folders
            .values()
            .flatten()
            .map(|folder| format!("!{folder}")),
    );
    outside.push("!policies/**".to_owned());
    let mut drafts: Vec<EnvironmentDraft> = folders
        .into_iter()
        .map(|(name, folders)| EnvironmentDraft {
            name,
            paths: folders.into_iter().collect(),
        })
        .collect();
    if others || drafts.is_empty() {
        let name = if drafts.is_empty() {
            "default"
        } else {
            "shared"
        };
        let taken = drafts.iter().any(|draft| draft.name == name);
        drafts.push(EnvironmentDraft {
            name: if taken {
                "shared-files".to_owned()
            } else {
                name.to_owned()
            },
            paths: outside,
        });
    }
    drafts
}

/// Returns the environment of a file, and its folder.
fn environment(file: &str) -> Option<(String, &str)> {
    let parts: Vec<&str> = file.split('/').collect();
    // The last part is the file itself.
    let at = (0..parts.len().saturating_sub(2)).find(|&at| PARENTS.contains(&parts[at]))? + 1;
    let name: String = parts[at]
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let name = name.trim_matches('-').to_owned();
    let length = parts[..=at]
        .iter()
        .map(|part| part.len() + 1)
        .sum::<usize>()
        - 1;
    crate::core::name::is_subdomain(&name).then_some((name, &file[..length]))
}

/// Returns the glob of everything below a folder, with special characters escaped.
fn glob(folder: &str) -> String {
    let mut glob = String::new();
    for c in folder.chars() {
        if c.is_control() {
            glob.push('?');
        } else if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '!') {
            glob.push_str(&format!("[{c}]"));
        } else {
            glob.push(c);
        }
    }
    glob + "/**"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[&str]) -> Vec<(String, Vec<String>)> {
        find(files.iter().copied())
            .into_iter()
            .map(|draft| (draft.name, draft.paths))
            .collect()
    }

    fn draft(name: &str, paths: &[&str]) -> (String, Vec<String>) {
        (
            name.to_owned(),
            paths.iter().map(|path| (*path).to_owned()).collect(),
        )
    }

    #[test]
    fn environments_follow_folders() {
        assert_eq!(
            found(&["app.yaml"]),
            [draft("default", &["**", "!policies/**"])]
        );
        assert_eq!(
            found(&["envs/dev/a.yaml", "envs/dev/x/b.yaml", "envs/prod/a.yaml"]),
            [
                draft("dev", &["envs/dev/**"]),
                draft("prod", &["envs/prod/**"])
            ]
        );
        assert_eq!(
            found(&[
                "apps/a/overlays/prod/k.yaml",
                "apps/b/overlays/prod/k.yaml",
                "apps/a/base/d.yaml"
            ]),
            [
                draft(
                    "prod",
                    &["apps/a/overlays/prod/**", "apps/b/overlays/prod/**"]
                ),
                draft(
                    "shared",
                    &[
                        "**",
                        "!apps/a/overlays/prod/**",
                        "!apps/b/overlays/prod/**",
                        "!policies/**"
                    ]
                ),
            ]
        );
        // A file directly in the parent folder belongs to no environment.
        assert_eq!(
            found(&["clusters/a.yaml"]),
            [draft("default", &["**", "!policies/**"])]
        );
        assert_eq!(
            found(&["envs/D[e]v_1/a.yaml"]),
            [draft("d-e-v-1", &["envs/D[[]e[]]v_1/**"])]
        );
        assert_eq!(
            found(&["clusters/prod/envs/dev/a.yaml"]),
            [draft("prod", &["clusters/prod/**"])]
        );
    }

    #[test]
    fn production_is_recognised_by_name() {
        let is = |name: &str| {
            EnvironmentDraft {
                name: name.to_owned(),
                paths: vec![],
            }
            .is_production()
        };
        assert!(is("prod") && is("eu-production") && is("live") && !is("products") && !is("dev"));
    }
}
