//! The environments that a repository's folders stand for.

use std::collections::{BTreeMap, BTreeSet};

/// Folders whose sub-folders are environments each.
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

/// An Environment to draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnvironmentDraft {
    /// Its name.
    pub name: String,
    /// Its globs.
    pub paths: Vec<String>,
}

impl EnvironmentDraft {
    /// Whether one would not commit there at any hour.
    pub fn is_production(&self) -> bool {
        let words: Vec<&str> = self.name.split(['-', '.']).collect();
        words
            .iter()
            .any(|word| matches!(*word, "prod" | "production" | "prd" | "live"))
    }
}

/// The Environments for files with references: one for each folder of environments, and one for
/// what lies beside them.
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
    let mut rest = vec!["**".to_owned()];
    rest.extend(
        folders
            .values()
            .flatten()
            .map(|folder| format!("!{folder}")),
    );
    rest.push("!policies/**".to_owned());
    let mut places: Vec<EnvironmentDraft> = folders
        .into_iter()
        .map(|(name, folders)| EnvironmentDraft {
            name,
            paths: folders.into_iter().collect(),
        })
        .collect();
    if others || places.is_empty() {
        let name = if places.is_empty() {
            "default"
        } else {
            "shared"
        };
        let taken = places.iter().any(|place| place.name == name);
        places.push(EnvironmentDraft {
            name: if taken {
                "shared-files".to_owned()
            } else {
                name.to_owned()
            },
            paths: rest,
        });
    }
    places
}

/// The environment that a file belongs to, and its folder.
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

/// The glob of everything below a folder, whatever characters its name has.
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
            .map(|place| (place.name, place.paths))
            .collect()
    }

    fn place(name: &str, paths: &[&str]) -> (String, Vec<String>) {
        (
            name.to_owned(),
            paths.iter().map(|path| (*path).to_owned()).collect(),
        )
    }

    #[test]
    fn folders_of_environments_become_environments() {
        assert_eq!(
            found(&["app.yaml"]),
            [place("default", &["**", "!policies/**"])]
        );
        assert_eq!(
            found(&["envs/dev/a.yaml", "envs/dev/x/b.yaml", "envs/prod/a.yaml"]),
            [
                place("dev", &["envs/dev/**"]),
                place("prod", &["envs/prod/**"])
            ]
        );
        assert_eq!(
            found(&[
                "apps/a/overlays/prod/k.yaml",
                "apps/b/overlays/prod/k.yaml",
                "apps/a/base/d.yaml"
            ]),
            [
                place(
                    "prod",
                    &["apps/a/overlays/prod/**", "apps/b/overlays/prod/**"]
                ),
                place(
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
        // A file directly in such a folder belongs to none of its sub-folders.
        assert_eq!(
            found(&["clusters/a.yaml"]),
            [place("default", &["**", "!policies/**"])]
        );
        assert_eq!(
            found(&["envs/D[e]v_1/a.yaml"]),
            [place("d-e-v-1", &["envs/D[[]e[]]v_1/**"])]
        );
        assert_eq!(
            found(&["clusters/prod/envs/dev/a.yaml"]),
            [place("prod", &["clusters/prod/**"])]
        );
    }

    #[test]
    fn production_is_known_by_its_name() {
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
