//! Health rules: conditions in CEL that decide the health of a kind.

use super::{document::SpecReader, raw::RawHealthRule};
use crate::core::cel::Expression;
use std::{collections::BTreeSet, sync::Arc};

/// The conditions that decide the health of the objects of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthRule {
    /// The API group, empty for the core group.
    pub group: String,
    pub kind: String,
    /// The object is as its spec demands.
    pub current: Expression,
    /// The object is on its way there.
    pub in_progress: Option<Expression>,
    /// The object does not get there by itself.
    pub failed: Option<Expression>,
}

/// The most patterns of `matches` in the rules of a declaration.
const MAX_PATTERNS: usize = 64;

/// Checks a list of rules at a pointer; the list is complete if no mistake was found.
pub(super) fn rules(
    at: &mut SpecReader<'_>,
    pointer: &str,
    raw: Vec<RawHealthRule>,
) -> Vec<Arc<HealthRule>> {
    let mut seen = BTreeSet::new();
    let mut rules = Vec::new();
    let mut patterns = 0;
    for (index, raw) in raw.into_iter().enumerate() {
        let here = format!("{pointer}/{index}");
        let Some(group) = group(&raw.api_version) else {
            at.error(
                &format!("{here}/apiVersion"),
                format!(
                    "{:?} is no group and version: write \"cert-manager.io/v1\", or \"v1\" for the core group",
                    raw.api_version
                ),
            );
            continue;
        };
        if !seen.insert((group.clone(), raw.kind.clone())) {
            at.error(
                &here,
                format!("{} of group {group:?} has two rules: write one", raw.kind),
            );
        }
        let mut read = |name: &str, text: &str| {
            let expression = expression(at, &here, name, text)?;
            patterns += usize::from(expression.patterns());
            Some(expression)
        };
        let current = read("current", &raw.current);
        let mut optional = |name: &str, text: Option<String>| match text {
            Some(text) => read(name, &text).map(Some),
            None => Some(None),
        };
        let in_progress = optional("inProgress", raw.in_progress);
        let failed = optional("failed", raw.failed);
        if patterns > MAX_PATTERNS {
            let message = format!(
                "the rules up to this one have {patterns} patterns; at most {MAX_PATTERNS} are allowed"
            );
            at.error(&here, message);
            break;
        }
        if let (Some(current), Some(in_progress), Some(failed)) = (current, in_progress, failed) {
            rules.push(Arc::new(HealthRule {
                group,
                kind: raw.kind,
                current,
                in_progress,
                failed,
            }));
        }
    }
    rules
}

fn expression(at: &mut SpecReader<'_>, rule: &str, name: &str, text: &str) -> Option<Expression> {
    let result = Expression::parse(text)
        .map_err(|error| format!("cannot read the expression of `{name}`: {error}"));
    at.check(&format!("{rule}/{name}"), result)
}

/// Returns the group of an API version; the version does not matter.
fn group(api_version: &str) -> Option<String> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let is_version = version.strip_prefix('v').is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit())
            && rest.chars().all(|c| c.is_ascii_alphanumeric())
    });
    let is_group = !api_version.contains('/') || !group.is_empty();
    (is_version && is_group).then(|| group.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn health_rules_share_a_bound_of_patterns() {
        let mistakes = |count: usize| {
            let rules: Vec<String> = (0..count)
                .map(|rule| {
                    format!("{{apiVersion: a.io/v1, kind: K{rule}, current: \"kind.matches('a') || kind.matches('b')\"}}")
                })
                .collect();
            let text = format!(
                "apiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: a}}\nspec:\n  environment: e\n  path: a\n  cluster: c\n  health: [{}]\n",
                rules.join(", ")
            );
            let declared = crate::spec::read([("a.yaml", text.as_bytes())], None);
            let messages = declared.mistakes.iter();
            messages
                .map(|mistake| mistake.message.clone())
                .filter(|message| message.contains("pattern"))
                .collect::<Vec<_>>()
        };
        assert_eq!(mistakes(32), [""; 0]);
        assert_eq!(
            mistakes(40),
            ["the rules up to this one have 66 patterns; at most 64 are allowed"]
        );
    }
}
