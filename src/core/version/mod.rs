//! Versions in tags, and the ranges that choose among them, as Masterminds/semver (and so Flux and
//! Helm) reads both.
//!
//! A tag is a version if it has three numeric parts; a leading `v` and leading zeros are allowed
//! (`2025.02.03`). Reading a tag allocates nothing, because a choice looks at every tag of a
//! repository.

mod range;

pub use range::{Range, RangeError};

use std::cmp::Ordering;

/// A version read from a tag, borrowing its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version<'a> {
    /// Major, minor and patch.
    pub numbers: [u64; 3],
    /// The pre-release without its `-`, empty if there is none.
    pub pre: &'a str,
}

/// The distance between two versions, used by `autoMerge.bump` and the texts for reviewers.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Bump {
    /// The first number differs.
    Major,
    /// The second number differs.
    Minor,
    /// The third number or the pre-release differs.
    Patch,
    /// The tag stays, its digest moves.
    Digest,
    /// At least one side is no version.
    Other,
}

impl<'a> Version<'a> {
    /// Reads a tag.
    ///
    /// # Errors
    /// The reason why the tag is no version, as a clause that completes "the tag is refused because
    /// it …".
    pub fn of_tag(tag: &'a str) -> Result<Self, &'static str> {
        let (numbers, pre) = split(tag)?;
        check_pre(pre)?;
        Ok(Self { numbers, pre })
    }

    /// The order of precedence of the semver specification; build metadata does not count.
    pub fn precedence(&self, other: &Version<'_>) -> Ordering {
        self.numbers
            .cmp(&other.numbers)
            .then_with(|| compare_pre(self.pre, other.pre))
    }
}

/// The numbers and the unchecked pre-release of a tag: the cheap half of reading, enough to skip
/// most tags.
pub(crate) fn split(tag: &str) -> Result<([u64; 3], &str), &'static str> {
    let bytes = tag.as_bytes();
    let mut at = usize::from(bytes.first() == Some(&b'v'));
    let mut numbers = [0u64; 3];
    for (part, number) in numbers.iter_mut().enumerate() {
        if part > 0 {
            if bytes.get(at) != Some(&b'.') {
                return Err("has fewer than three numeric parts, so it is no version");
            }
            at += 1;
        }
        let start = at;
        while let Some(digit) = bytes
            .get(at)
            .map(|byte| byte.wrapping_sub(b'0'))
            .filter(|digit| *digit < 10)
        {
            // Eighteen digits always fit; only longer numbers need the check.
            *number = if at - start < 18 {
                *number * 10 + u64::from(digit)
            } else {
                number
                    .checked_mul(10)
                    .and_then(|number| number.checked_add(u64::from(digit)))
                    .ok_or("has a number greater than a version can hold")?
            };
            at += 1;
        }
        if at == start {
            return Err("is no version");
        }
    }
    let rest = match memchr::memchr(b'+', &bytes[at..]) {
        Some(plus) => &tag[at..at + plus],
        None => &tag[at..],
    };
    match rest.strip_prefix('-') {
        Some("") => Err("has an empty pre-release"),
        Some(pre) => Ok((numbers, pre)),
        None if rest.is_empty() => Ok((numbers, "")),
        None => Err("is no version"),
    }
}

pub(crate) fn check_pre(pre: &str) -> Result<(), &'static str> {
    if pre.is_empty() {
        return Ok(());
    }
    semver::Prerelease::new(pre)
        .map(drop)
        .map_err(|_| "has a pre-release that semver forbids")
}

/// Compares pre-releases: none is greatest, numbers sort below words, numbers by value, words
/// bytewise, shorter first.
fn compare_pre(left: &str, right: &str) -> Ordering {
    match (left.is_empty(), right.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(l), Some(r)) => {
                let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
                match (number(l), number(r)) {
                    (true, true) => l.len().cmp(&r.len()).then_with(|| l.cmp(r)),
                    (true, false) => Ordering::Less,
                    (false, true) => Ordering::Greater,
                    (false, false) => l.cmp(r),
                }
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Returns the kind of step between two tags.
pub fn bump(old: Option<&str>, new: &str) -> Bump {
    let Some(old) = old else { return Bump::Other };
    if old == new {
        return Bump::Digest;
    }
    let (Ok(old), Ok(new)) = (Version::of_tag(old), Version::of_tag(new)) else {
        return Bump::Other;
    };
    match (0..3).find(|&part| old.numbers[part] != new.numbers[part]) {
        Some(0) => Bump::Major,
        Some(1) => Bump::Minor,
        _ => Bump::Patch,
    }
}

impl std::fmt::Display for Bump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Bump::Major => "major",
            Bump::Minor => "minor",
            Bump::Patch => "patch",
            Bump::Digest => "digest",
            Bump::Other => "other",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn version_needs_three_numeric_parts() {
        for (tag, numbers, pre) in [
            ("1.2.3", [1, 2, 3], ""),
            ("v1.2.3", [1, 2, 3], ""),
            ("2025.02.03", [2025, 2, 3], ""),
            ("1.2.3-rc.1", [1, 2, 3], "rc.1"),
            ("1.2.3-a-b", [1, 2, 3], "a-b"),
            ("1.2.3+build", [1, 2, 3], ""),
        ] {
            assert_eq!(Version::of_tag(tag), Ok(Version { numbers, pre }), "{tag}");
        }
        for tag in [
            "",
            "v",
            "1",
            "1.2",
            "latest",
            "1.2.x",
            "1.2.3.4",
            "1.2.3rc1",
            "1..3",
            "1.2.99999999999999999999",
            "1.2.3-a..b",
            "1.2.3-01",
            "1.2.3-",
            "1.2.3-+b",
            "V1.2.3",
        ] {
            assert!(Version::of_tag(tag).is_err(), "{tag}");
        }
    }

    #[test]
    fn version_step_between_tags_is_named() {
        for (old, new, step) in [
            (Some("1.2.3"), "2.0.0", Bump::Major),
            (Some("1.2.3"), "v1.3.0", Bump::Minor),
            (Some("1.2.3"), "1.2.4", Bump::Patch),
            (Some("1.2.3-rc.1"), "1.2.3", Bump::Patch),
            (Some("1.2.3"), "1.2.3", Bump::Digest),
            (Some("main-1"), "main-2", Bump::Other),
            (None, "1.2.3", Bump::Other),
        ] {
            assert_eq!(bump(old, new), step, "{old:?} {new}");
        }
    }

    proptest! {
        #[test]
        fn version_order_equals_semver_crate(
            left in "[0-3]\\.[0-3]\\.[0-3](-(rc|a|b|1|10|x-1)(\\.(1|2|11|a))?)?",
            right in "[0-3]\\.[0-3]\\.[0-3](-(rc|a|b|1|10|x-1)(\\.(1|2|11|a))?)?",
        ) {
            let ours = Version::of_tag(&left).unwrap().precedence(&Version::of_tag(&right).unwrap());
            let theirs = semver::Version::parse(&left).unwrap().cmp_precedence(&semver::Version::parse(&right).unwrap());
            prop_assert_eq!(ours, theirs);
        }
    }
}
