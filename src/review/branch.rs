//! Branch names of pull requests: a function of Environment and group, so that a retry finds its
//! own work.

use crate::core::text::hex;
use sha2::{Digest as _, Sha256};

/// Prefix of all the bot's branches.
pub const PREFIX: &str = "tagboat/";

/// Characters of a group in its branch's name. The hash behind them tells groups apart.
const SLUG: usize = 40;

/// Returns the branch of a change set: `tagboat/prod/all`, or `tagboat/prod/default-web-1a2b3c4d`.
///
/// It is never `tagboat/prod` itself: a branch could not become a folder of branches when the
/// grouping changes.
pub fn branch(environment: &str, group: Option<&str>) -> String {
    let folder = folder(environment);
    let Some(group) = group else {
        return format!("{folder}all");
    };
    let mut slug = String::new();
    for c in group.chars().take(4 * SLUG).map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    slug.truncate(SLUG);
    let slug = Some(slug.trim_end_matches('-'))
        .filter(|slug| !slug.is_empty())
        .unwrap_or("group");
    let hash = hex(&Sha256::digest(group)[..4]);
    format!("{folder}{slug}-{hash}")
}

/// Returns the folder of an Environment's branches: `tagboat/prod/`. No two Environments share one.
pub fn folder(environment: &str) -> String {
    // An imported Environment has a slash in its name, and Git rejects a segment that ends in
    // `.lock`. No name has a '_'.
    let mut part = environment.replace('/', "_");
    if part.ends_with(".lock") {
        part.push('_');
    }
    format!("{PREFIX}{part}/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn branch_name_has_environment_and_group() {
        for (environment, group, expected) in [
            ("prod", None, "tagboat/prod/all"),
            ("prod", Some("default/web"), "tagboat/prod/default-web-"),
            (
                "prod",
                Some("envs/prod/Web UI"),
                "tagboat/prod/envs-prod-web-ui-",
            ),
            ("prod", Some("."), "tagboat/prod/group-"),
            ("flux-system/fleet", None, "tagboat/flux-system_fleet/all"),
            ("a.lock", None, "tagboat/a.lock_/all"),
        ] {
            let name = branch(environment, group);
            let hash = name
                .strip_prefix(expected)
                .unwrap_or_else(|| panic!("{name} does not begin with {expected}"));
            assert_eq!(hash.len(), if group.is_some() { 8 } else { 0 }, "{name}");
            assert!(name.starts_with(&folder(environment)));
        }
        let names: BTreeSet<String> = [
            "a b",
            "a-b",
            "a/b",
            "A/B",
            "a//b",
            "all",
            "",
            &"x".repeat(300),
            &"x".repeat(301),
        ]
        .map(|group| branch("dev", Some(group)))
        .into();
        assert_eq!(names.len(), 9, "{names:?}");
    }

    proptest! {
        #[test]
        fn branch_name_of_any_group_is_valid_in_git(environment in "[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", group in any::<String>()) {
            prop_assume!(!environment.contains(".."));
            let name = format!("refs/heads/{}", branch(&environment, Some(&group)));
            prop_assert!(gix::validate::reference::name(name.as_str().into()).is_ok(), "{}", name);
            prop_assert!(name.len() < 120);
        }
    }
}
