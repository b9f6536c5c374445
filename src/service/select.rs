//! `select`: the choice of a policy among given tags, without a registry.

use super::{
    Failure, Outcome,
    types::{RefusedTag, Selected, available},
};
use crate::{
    core::{image::TagList, name::Name},
    images::policy::{self, Holds, PolicyInput, PolicyOutcome, Refusal, RegistryFacts, TagFacts},
    spec::{self, Diagnostic, DigestReflection, ImagePolicy, Severity},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Asks for the choice of a policy.
#[derive(Debug, Clone)]
pub struct SelectQuery {
    /// The files with the policy, each with its path.
    pub files: Vec<(String, Vec<u8>)>,
    /// The policy; needed if the files declare several.
    pub policy: Option<Name>,
    /// The tags, one a line.
    pub tags: String,
    /// True to give the reason of every refused tag.
    pub all: bool,
}

/// Refused tags that are named where not all are asked for; a shorter list is given whole.
const MOST_REFUSED: usize = 20;

/// The choice of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelectAnswer {
    /// The policy.
    pub policy: Name,
    /// The selected version.
    pub selected: Option<Selected>,
    /// The reason why nothing was selected.
    pub reason: Option<String>,
    /// Every refused tag with `--all`, or if they are few; else those above the selected one, best
    /// first, or the last of the list if nothing was selected.
    pub refused: Vec<RefusedTag>,
    /// The number of refused tags that are left out.
    pub omitted: usize,
    /// Fields of the policy that need a registry and were ignored.
    pub ignored: Vec<String>,
    /// Errors and warnings in the files.
    pub diagnostics: Vec<Diagnostic>,
}

impl SelectAnswer {
    /// Classifies the answer.
    pub fn outcome(&self) -> Outcome {
        Outcome::findings_if(self.selected.is_none())
    }
}

/// Chooses among the given tags.
///
/// # Errors
/// If the policy is missing, ambiguous, or needs facts of a registry.
pub fn select(query: &SelectQuery) -> Result<SelectAnswer, Failure> {
    let (mut policy, diagnostics) = find(query)?;
    let mut ignored = Vec::new();
    if policy.minimum_age.take().is_some() {
        ignored.push("minimumAge".to_owned());
    }
    if !std::mem::take(&mut policy.platforms).is_empty() {
        ignored.push("platforms".to_owned());
    }
    if policy.choice.is_by_date() {
        return Err(Failure::input(format!(
            "{}: a newest policy orders by creation date, which a list of tags does not have",
            policy.name
        ))
        .hint("Run `tagboat explain`, which asks the registry."));
    }
    let mut details = HashMap::new();
    if let Some(tag) = policy.choice.followed() {
        // Only the registry knows the digest; without one, the tag itself is the answer.
        policy.reflect = DigestReflection::Never;
        let facts = TagFacts {
            fresh: true,
            ..TagFacts::default()
        };
        details.insert(tag.as_str().to_owned(), facts);
    }
    let (tags, invalid) = read_tags(&query.tags);
    let input = PolicyInput {
        policy: &policy,
        present: None,
        holds: &Holds::default(),
        now: Timestamp::now(),
    };
    let facts = RegistryFacts {
        tags: &tags,
        details: &details,
    };
    let (outcome, refused) = match query.all || tags.len() <= MOST_REFUSED {
        true => policy::explain(&input, &facts),
        false => {
            let outcome = policy::choose(&input, &facts);
            let refused = some_refused(&input, &facts, &outcome);
            (outcome, refused)
        }
    };
    let (selected, reason) = match outcome {
        PolicyOutcome::Chosen(chosen) => (Some(Selected::from(&chosen)), None),
        PolicyOutcome::Nothing { reason, .. } => (None, Some(reason)),
        PolicyOutcome::Needs(needs) => {
            return Err(Failure::input(format!(
                "{}: facts of the registry are missing: {needs:?}",
                policy.name
            )));
        }
    };
    let total = tags.len() - usize::from(selected.is_some()) + invalid.len();
    let most = if query.all { usize::MAX } else { MOST_REFUSED };
    let refused = refused.into_iter().map(RefusedTag::new);
    let refused: Vec<RefusedTag> = refused.chain(invalid.into_iter().take(most)).collect();
    Ok(SelectAnswer {
        policy: policy.name,
        selected,
        reason,
        omitted: total.saturating_sub(refused.len()),
        refused,
        ignored,
        diagnostics,
    })
}

/// Returns the reasons that most users look for: of what is above the selected tag, or of the last
/// tags if nothing was selected.
fn some_refused(
    input: &PolicyInput<'_>,
    facts: &RegistryFacts<'_>,
    outcome: &PolicyOutcome,
) -> Vec<(String, Refusal)> {
    if let PolicyOutcome::Chosen(chosen) = outcome {
        return policy::refused_above(input, facts, chosen.tag.as_str(), MOST_REFUSED);
    }
    let skipped = facts.tags.len().saturating_sub(MOST_REFUSED);
    let last: TagList = facts.tags.iter().skip(skipped).collect();
    let facts = RegistryFacts {
        tags: &last,
        details: facts.details,
    };
    policy::explain(input, &facts).1
}

fn find(query: &SelectQuery) -> Result<(ImagePolicy, Vec<Diagnostic>), Failure> {
    // The reader goes by endings, and a file named by the user may have any.
    let with_ending = |path: &String| match path.ends_with(".yaml") || path.ends_with(".yml") {
        true => path.clone(),
        false => format!("{path}.yaml"),
    };
    let files: Vec<(String, &[u8])> = query
        .files
        .iter()
        .map(|(path, bytes)| (with_ending(path), bytes.as_slice()))
        .collect();
    let declared = spec::read_policies(files.iter().map(|(path, bytes)| (path.as_str(), *bytes)));
    let diagnostics = declared.mistakes;
    let is_valid = diagnostics
        .iter()
        .all(|diagnostic| diagnostic.severity != Severity::Error);
    let policy = match &query.policy {
        Some(name) => declared.policies.get(name),
        None if declared.policies.len() == 1 && is_valid => declared.policies.values().next(),
        None => None,
    };
    if let Some(policy) = policy {
        return Ok((policy.clone(), diagnostics));
    }
    let paths: Vec<&str> = query.files.iter().map(|(path, _)| path.as_str()).collect();
    let paths = paths.join(", ");
    let names: Vec<String> = declared.policies.keys().map(Name::to_string).collect();
    let mut message = match (&query.policy, names.len()) {
        (Some(name), 0) => format!("{paths}: no valid ImagePolicy {name}"),
        (Some(name), _) => format!("{paths}: no ImagePolicy {name}; {}", available(names)),
        (None, 0) => format!("{paths}: no valid ImagePolicy"),
        (None, 1) => format!("{paths}: correct the mistakes, or name the policy with --policy"),
        (None, _) => format!(
            "{paths}: several policies; name one with --policy; {}",
            available(names)
        ),
    };
    for diagnostic in &diagnostics {
        message.push_str(&format!("\n{diagnostic}"));
    }
    Err(Failure::input(message))
}

/// Reads tags, one a line; lines that are no tags are refused.
fn read_tags(text: &str) -> (TagList, Vec<RefusedTag>) {
    let mut tags = TagList::new();
    let mut invalid = Vec::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let tag = line.trim();
        if tag.is_empty() {
            continue;
        }
        if let Err(error) = tags.push(tag) {
            invalid.push(RefusedTag {
                tag: tag.to_owned(),
                reason: format!("is no valid tag: it {}", error.why),
            });
        }
    }
    (tags, invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(range: &str, all: bool) -> SelectAnswer {
        let policy = format!(
            "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: p}}\nspec: {{image: example.com/app, policy: {{semver: {{range: '{range}'}}}}}}\n"
        );
        let tags: Vec<String> = (0..100).map(|minor| format!("1.{minor}.0")).collect();
        let query = SelectQuery {
            files: vec![("p.yaml".to_owned(), policy.into_bytes())],
            policy: None,
            tags: format!("{}\nno tag\n", tags.join("\n")),
            all,
        };
        select(&query).unwrap()
    }

    #[test]
    fn select_names_a_bounded_number_of_refused_tags() {
        let some = answer("<1.50.0", false);
        let names: Vec<&str> = some.refused.iter().map(|row| row.tag.as_str()).collect();
        assert_eq!(some.selected.unwrap().tag.as_str(), "1.49.0");
        assert_eq!(names[..2], ["1.99.0", "1.98.0"]);
        assert_eq!((names[20], names.len(), some.omitted), ("no tag", 21, 79));
        let none = answer("<1.0.0", false);
        let names: Vec<&str> = none.refused.iter().map(|row| row.tag.as_str()).collect();
        assert_eq!((names[19], names.len(), none.omitted), ("1.99.0", 21, 80));
    }

    #[test]
    fn select_all_gives_every_reason() {
        for (range, refused) in [("<1.50.0", 100), ("<1.0.0", 101)] {
            let all = answer(range, true);
            assert_eq!((all.refused.len(), all.omitted), (refused, 0));
        }
    }
}
