//! `select`: the choice of a policy among given tags, without a registry.

use super::{
    Failure, Outcome,
    types::{RefusedTag, Selected, available},
};
use crate::{
    core::{image::TagList, name::Name},
    images::policy::{self, Holds, PolicyInput, PolicyOutcome, RegistryFacts, TagFacts},
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
}

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
    /// Every refused tag.
    pub refused: Vec<RefusedTag>,
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
    let (outcome, refused) = policy::explain(&input, &facts);
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
    let refused = refused.into_iter().map(RefusedTag::new).chain(invalid);
    Ok(SelectAnswer {
        policy: policy.name,
        selected,
        reason,
        refused: refused.collect(),
        ignored,
        diagnostics,
    })
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
