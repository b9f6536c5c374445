//! How a pull request is merged, in one sentence.

use crate::{
    core::schedule::{self, Window},
    review::{ImageMove, merging::list},
    spec::{AutoMerge, RequireChecks, RequiredCheck},
};

/// Describes how a pull request is merged: by a person, or automatically and when.
pub fn merging_words(
    auto_merge: Option<&AutoMerge>,
    windows: &[Window],
    moves: &[ImageMove],
) -> String {
    let Some(AutoMerge {
        bump,
        minimum_age,
        require_checks,
    }) = auto_merge
    else {
        return "It waits for a person to merge it.".to_owned();
    };
    if let Some(other) = moves.iter().find(|row| !bump.contains(&row.bump)) {
        let allowed: Vec<String> = bump.iter().map(ToString::to_string).collect();
        return format!(
            "It waits for a person: a {} step is not merged automatically here ({} is).",
            other.bump,
            if allowed.is_empty() {
                "none".to_owned()
            } else {
                allowed.join(", ")
            }
        );
    }
    let mut conditions = vec![match require_checks {
        RequireChecks::No => "no check fails or is pending".to_owned(),
        RequireChecks::Any => "its checks have passed".to_owned(),
        RequireChecks::Named(names) if names.len() == 1 => {
            format!("its check {} has passed", list(&words(names)))
        }
        RequireChecks::Named(names) => {
            format!("its checks {} have passed", list(&words(names)))
        }
    }];
    if let Some(age) = minimum_age {
        conditions.push(format!("every tag was seen for {}", schedule::show(*age)));
    }
    if !windows.is_empty() {
        conditions.push("a window of the Environment is open".to_owned());
    }
    let last = conditions.pop().unwrap_or_default();
    let all = if conditions.is_empty() {
        last
    } else {
        format!("{} and {last}", conditions.join(", "))
    };
    format!(
        "It is merged automatically when {all}. A refused dry run, a failed preview or a foreign commit stops that."
    )
}

fn words(checks: &[RequiredCheck]) -> Vec<String> {
    checks.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::version::Bump;
    use std::time::Duration;

    #[test]
    fn body_merging_sentence_names_actor_and_time() {
        let row = |bump| ImageMove {
            policy: "apps/web".parse().unwrap(),
            repository: crate::core::image::ImageRepository::new("ghcr.io/acme/web").unwrap(),
            old: Some("1.0.0".to_owned()),
            new: crate::core::image::Tag::new("1.0.1").unwrap(),
            digest: None,
            bump,
            places: Vec::new(),
        };
        let rules = |bump: &[Bump]| AutoMerge {
            bump: bump.to_vec(),
            minimum_age: Some(Duration::from_secs(86_400)),
            require_checks: RequireChecks::Any,
        };
        let words = |auto: Option<&AutoMerge>, bump| merging_words(auto, &[], &[row(bump)]);
        assert_eq!(
            words(None, Bump::Patch),
            "It waits for a person to merge it."
        );
        assert_eq!(
            words(Some(&rules(&[Bump::Patch, Bump::Digest])), Bump::Patch),
            "It is merged automatically when its checks have passed and every tag was seen for 24h. A refused dry run, a \
             failed preview or a foreign commit stops that."
        );
        let required = |text: &str| {
            let (name, app) = text.split_once('@').unwrap_or((text, ""));
            RequiredCheck {
                name: name.to_owned(),
                app: Some(app.to_owned()).filter(|app| !app.is_empty()),
            }
        };
        let named = |names: &[&str]| AutoMerge {
            minimum_age: None,
            require_checks: RequireChecks::Named(names.iter().map(|name| required(name)).collect()),
            ..rules(&[Bump::Patch])
        };
        let end = "A refused dry run, a failed preview or a foreign commit stops that.";
        for (names, expected) in [
            (&["build"][..], "its check build has passed"),
            (&["ci@robot"], "its check ci (by robot) has passed"),
            (&["a", "b", "c"], "its checks a, b and c have passed"),
        ] {
            assert_eq!(
                words(Some(&named(names)), Bump::Patch),
                format!("It is merged automatically when {expected}. {end}")
            );
        }
        assert_eq!(
            words(Some(&rules(&[Bump::Patch])), Bump::Major),
            "It waits for a person: a major step is not merged automatically here (patch is)."
        );
    }
}
