//! Sort keys of tags, and the filters before them.

use super::Refusal;
use crate::{
    core::version::{self, Version},
    spec::{ImagePolicy, PolicyKind, SortOrder, TagFilter},
};
use jiff::Timestamp;
use std::{borrow::Cow, cmp::Ordering};

/// The sort key of a candidate.
#[derive(Debug, Clone)]
pub(crate) enum OrderKey<'a> {
    /// The numbers, and the start of the pre-release in the text that was compared.
    Version {
        numbers: [u64; 3],
        pre: Cow<'a, str>,
    },
    /// Decimal digits without leading zeros: compared by length, then bytewise, so exactly.
    Number(Cow<'a, str>),
    Text(Cow<'a, str>),
    Date(Timestamp),
}

/// The position of a chosen value relative to a present one, in the policy's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// The chosen one comes later in the order.
    Newer,
    /// Equal in the policy's order, whatever the spelling.
    Equal,
    /// The chosen one comes earlier: writing it would be a downgrade.
    Lower,
    /// The policy cannot order the present value.
    Unorderable,
}

impl OrderKey<'_> {
    /// The order of two keys of one policy.
    pub fn compare(&self, other: &OrderKey<'_>) -> Ordering {
        match (self, other) {
            (
                OrderKey::Version { numbers, pre },
                OrderKey::Version {
                    numbers: other_numbers,
                    pre: other_pre,
                },
            ) => {
                let version = Version {
                    numbers: *numbers,
                    pre,
                };
                version.precedence(&Version {
                    numbers: *other_numbers,
                    pre: other_pre,
                })
            }
            (OrderKey::Number(left), OrderKey::Number(right)) => {
                left.len().cmp(&right.len()).then_with(|| left.cmp(right))
            }
            (OrderKey::Text(left), OrderKey::Text(right)) => left.cmp(right),
            (OrderKey::Date(left), OrderKey::Date(right)) => left.cmp(right),
            // One policy makes keys of one kind.
            _ => Ordering::Equal,
        }
    }
}

/// The filters and the kind of the policy: a key to order by, or why the tag takes no part.
pub(crate) fn examine<'a>(policy: &ImagePolicy, tag: &'a str) -> Result<OrderKey<'a>, Refusal> {
    if policy.ignore.iter().any(|ignored| ignored.as_str() == tag) {
        return Err(Refusal::Ignored);
    }
    let text = filtered(&policy.filter, tag)?;
    key(policy, text, true)
}

/// Returns whether numbers alone show that a tag cannot win: it is below `best`, or outside the
/// range.
///
/// This is true for most tags of a large repository and spares them the filters and the grammar of
/// pre-releases. Only for policies that compare the tag itself.
pub(crate) fn surely_lost(policy: &ImagePolicy, tag: &str, best: Option<&OrderKey<'_>>) -> bool {
    if !policy.filter.may_match(tag) {
        return true;
    }
    let PolicyKind::Semver(range) = &policy.choice else {
        return false;
    };
    if policy.filter.extract.is_some() {
        return false;
    }
    let Ok((numbers, pre)) = version::split(tag) else {
        return true;
    };
    let below = matches!(best, Some(OrderKey::Version { numbers: best, .. }) if numbers < *best);
    below
        || (!pre.is_empty() && !range.takes_pre_releases())
        || !range.contains(&Version { numbers, pre })
}

/// The text that is compared, if the tag takes part.
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

fn key<'a>(
    policy: &ImagePolicy,
    text: Cow<'a, str>,
    in_range: bool,
) -> Result<OrderKey<'a>, Refusal> {
    match &policy.choice {
        PolicyKind::Semver(range) => {
            let version = Version::of_tag(&text).map_err(|why| Refusal::NoVersion { why })?;
            if in_range && !range.contains(&version) {
                let pre_release =
                    !version.pre.is_empty() && range.contains(&Version { pre: "", ..version });
                return Err(if pre_release {
                    Refusal::PreRelease {
                        range: range.to_string(),
                    }
                } else {
                    Refusal::OutOfRange {
                        range: range.to_string(),
                    }
                });
            }
            let numbers = version.numbers;
            let pre = if version.pre.is_empty() {
                Cow::Borrowed("")
            } else {
                match &text {
                    Cow::Borrowed(text) => Cow::Borrowed(
                        Version::of_tag(text)
                            .map_err(|why| Refusal::NoVersion { why })?
                            .pre,
                    ),
                    Cow::Owned(_) => Cow::Owned(version.pre.to_owned()),
                }
            };
            Ok(OrderKey::Version { numbers, pre })
        }
        PolicyKind::Numerical(_) => {
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(Refusal::NoNumber);
            }
            Ok(OrderKey::Number(match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.trim_start_matches('0')),
                Cow::Owned(text) => Cow::Owned(text.trim_start_matches('0').to_owned()),
            }))
        }
        // Dates are put to candidates of newest once they are known.
        PolicyKind::Alphabetical(_) | PolicyKind::Newest | PolicyKind::Digest(_) => {
            Ok(OrderKey::Text(text))
        }
    }
}

/// Compares `chosen` with `present`. A present value need not be in the policy's range, but must be
/// of its kind.
pub fn standing(policy: &ImagePolicy, present: &str, chosen: &str) -> Comparison {
    if present == chosen {
        return Comparison::Equal;
    }
    let descending = match &policy.choice {
        // The chosen image was created last; single tags have no order.
        PolicyKind::Newest => return Comparison::Newer,
        PolicyKind::Digest(_) => return Comparison::Unorderable,
        PolicyKind::Numerical(order) | PolicyKind::Alphabetical(order) => {
            *order == SortOrder::Descending
        }
        PolicyKind::Semver(_) => false,
    };
    let (Ok(present), Ok(chosen)) = (place(policy, present), place(policy, chosen)) else {
        return Comparison::Unorderable;
    };
    let order = chosen.compare(&present);
    match if descending { order.reverse() } else { order } {
        Ordering::Greater => Comparison::Newer,
        Ordering::Equal => Comparison::Equal,
        Ordering::Less => Comparison::Lower,
    }
}

/// The key of a value that need not be in range.
fn place<'a>(policy: &ImagePolicy, tag: &'a str) -> Result<OrderKey<'a>, Refusal> {
    let text = match &policy.filter.extract {
        // Without extract the tag itself is compared, so a present tag that the filter would refuse
        // has a place, too.
        None => Cow::Borrowed(tag),
        Some(_) => filtered(&policy.filter, tag)?,
    };
    key(policy, text, false)
}

pub fn orders(policy: &ImagePolicy, tag: &str) -> bool {
    match policy.choice {
        PolicyKind::Newest | PolicyKind::Digest(_) => false,
        _ => place(policy, tag).is_ok(),
    }
}

/// Returns the policy's condition as a clause that completes a sentence.
pub(crate) fn wanted(policy: &ImagePolicy) -> String {
    let kind = match &policy.choice {
        PolicyKind::Semver(range) => format!("versions in {:?} are wanted", range.to_string()),
        PolicyKind::Numerical(_) => "numbers are wanted".to_owned(),
        PolicyKind::Alphabetical(_) => "the tags are compared bytewise".to_owned(),
        PolicyKind::Newest => "images with a creation date are wanted".to_owned(),
        PolicyKind::Digest(tag) => format!("the tag {tag} is followed"),
    };
    match &policy.filter.pattern {
        Some(pattern) => format!("{kind}, of tags that match {:?}", pattern.as_str()),
        None => kind,
    }
}
