//! The filters of a policy: which tags take part, and the text of a tag that is compared.

use super::Refusal;
use crate::spec::{ImagePolicy, TagFilter};
use std::borrow::Cow;

/// Returns the text of a tag that is compared, or why the tag takes no part.
pub(super) fn compared_text<'a>(
    policy: &ImagePolicy,
    tag: &'a str,
) -> Result<Cow<'a, str>, Refusal> {
    if policy.ignore.iter().any(|ignored| ignored.as_str() == tag) {
        return Err(Refusal::Ignored);
    }
    filtered(&policy.filter, tag)
}

/// Returns the text of a value in a file that is compared, if it has one.
///
/// Without `extract` the tag itself is compared, so even a tag that the filter refuses has a
/// position.
pub(super) fn present_text<'a>(
    filter: &TagFilter,
    value: &'a str,
) -> Result<Cow<'a, str>, Refusal> {
    match &filter.extract {
        None => Ok(Cow::Borrowed(value)),
        Some(_) => filtered(filter, value),
    }
}

fn filtered<'a>(filter: &TagFilter, tag: &'a str) -> Result<Cow<'a, str>, Refusal> {
    if let Some(excluded) = filter.exclude.iter().find(|exclude| exclude.is_match(tag)) {
        return Err(Refusal::Excluded {
            pattern: excluded.as_str().to_owned(),
        });
    }
    let Some(pattern) = &filter.pattern else {
        return Ok(Cow::Borrowed(tag));
    };
    if !filter.may_match(tag) || !pattern.is_match(tag) {
        return Err(Refusal::Unmatched {
            pattern: pattern.as_str().to_owned(),
        });
    }
    match &filter.extract {
        None => Ok(Cow::Borrowed(tag)),
        Some(extract) => {
            let mut text = String::new();
            if let Some(groups) = pattern.captures(tag) {
                groups.expand(extract, &mut text);
            }
            Ok(Cow::Owned(text))
        }
    }
}
