//! Version ranges in the language of [Masterminds/semver](https://github.com/Masterminds/semver)
//! v3, which existing Flux and Helm files are written in.
//!
//! AND by space or comma, OR by `||`, hyphen ranges, `x X *`, `~ ~> ^ = != > < >= <= => =<`,
//! partial versions. The meaning of a partial version depends on its operator: `1.2` is `~1.2`,
//! `>1.2` is `>=1.3`, `<=1.2` is `<1.3`. A pre-release matches only if a comparator of the same OR
//! group carries one.

use super::{Version, check_pre, compare_pre};
use regex::Regex;
use std::{cmp::Ordering, fmt, str::FromStr, sync::LazyLock};

/// A checked range that at least one version satisfies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    text: String,
    groups: Vec<ComparatorGroup>,
    pre: bool,
}

/// Text that is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Nothing is written.
    #[error(
        "the range is empty; write \"*\" for every release or \">=0.0.0-0\" for pre-releases, too"
    )]
    Empty,
    /// A part between commas, spaces or `||` is no comparator.
    #[error("{0:?} is no comparator of a version range (such as \">=1.2.0\", \"~1.2\", \"1.x\")")]
    Comparator(String),
    /// The comparators contradict each other.
    #[error("no version can satisfy {0:?}")]
    Unsatisfiable(String),
}

/// Comparators that must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ComparatorGroup {
    comparators: Vec<Comparator>,
    pre: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Comparator {
    operator: ComparisonOperator,
    numbers: [u64; 3],
    pre: String,
    /// The first part that is missing or a wildcard: 0 for `*`, 1 for `1`, 2 for `1.2`, 3 for a
    /// full version.
    given: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ComparisonOperator {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    Tilde,
    Caret,
}

const NUMBER: &str = r"v?([0-9]+|[xX*])(\.(?:[0-9]+|[xX*]))?(\.(?:[0-9]+|[xX*]))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?";

static COMPARATOR: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(
        r"^\s*(=|!=|>=|=>|<=|=<|>|<|~>|~|\^)?\s*{NUMBER}(?:\s*,\s*|\s+|$)"
    ))
    .expect("the pattern is constant")
});

static HYPHEN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(
        r"(?:^|[\s,])({NUMBER})\s+-\s+({NUMBER})(?:$|[\s,])"
    ))
    .expect("the pattern is constant")
});

impl Range {
    /// Reads and checks a range.
    pub fn new(text: &str) -> Result<Self, RangeError> {
        if text.trim().is_empty() {
            return Err(RangeError::Empty);
        }
        let groups = text
            .split("||")
            .map(ComparatorGroup::new)
            .collect::<Result<Vec<_>, _>>()?;
        if !groups.iter().any(ComparatorGroup::satisfiable) {
            return Err(RangeError::Unsatisfiable(text.to_owned()));
        }
        Ok(Self {
            text: text.to_owned(),
            pre: groups.iter().any(|group| group.pre),
            groups,
        })
    }

    pub fn contains(&self, version: &Version<'_>) -> bool {
        self.groups.iter().any(|group| group.contains(version))
    }

    /// Returns whether a pre-release can match at all.
    pub fn takes_pre_releases(&self) -> bool {
        self.pre
    }
}

impl ComparatorGroup {
    fn new(text: &str) -> Result<Self, RangeError> {
        let bad = |text: &str| RangeError::Comparator(text.trim().chars().take(100).collect());
        let hyphens = HYPHEN.replace_all(text, |found: &regex::Captures<'_>| {
            format!(" >={}, <={} ", &found[1], &found[6])
        });
        let mut rest: &str = hyphens.trim();
        if rest.is_empty() || rest.ends_with(',') {
            return Err(bad(text));
        }
        let mut comparators = Vec::new();
        while !rest.is_empty() {
            let found = COMPARATOR.captures(rest).ok_or_else(|| bad(rest))?;
            comparators.push(Comparator::new(&found).ok_or_else(|| bad(rest))?);
            rest = &rest[found[0].len()..];
        }
        Ok(Self {
            pre: comparators
                .iter()
                .any(|comparator| !comparator.pre.is_empty()),
            comparators,
        })
    }

    fn contains(&self, version: &Version<'_>) -> bool {
        (self.pre || version.pre.is_empty())
            && self
                .comparators
                .iter()
                .all(|comparator| comparator.holds(version))
    }

    /// The least version of an intersection of bounds is a bound or the next one after it, so
    /// trying those decides.
    fn satisfiable(&self) -> bool {
        self.comparators
            .iter()
            .flat_map(Comparator::neighbours)
            .chain([([0; 3], String::new())])
            .any(|(numbers, pre)| self.contains(&Version { numbers, pre: &pre }))
    }
}

impl Comparator {
    fn new(found: &regex::Captures<'_>) -> Option<Self> {
        let operator = match found.get(1).map_or("", |operator| operator.as_str()) {
            "" | "=" => ComparisonOperator::Equal,
            "!=" => ComparisonOperator::NotEqual,
            ">" => ComparisonOperator::Greater,
            "<" => ComparisonOperator::Less,
            ">=" | "=>" => ComparisonOperator::GreaterEqual,
            "<=" | "=<" => ComparisonOperator::LessEqual,
            "~" | "~>" => ComparisonOperator::Tilde,
            _ => ComparisonOperator::Caret,
        };
        let mut numbers = [0; 3];
        let mut given = 0;
        for (part, number) in numbers.iter_mut().enumerate() {
            let Some(text) = found
                .get(part + 2)
                .map(|text| text.as_str().trim_start_matches('.'))
            else {
                break;
            };
            if matches!(text, "x" | "X" | "*") {
                break;
            }
            *number = text.parse().ok()?;
            given = part + 1;
        }
        let pre = found.get(5).map_or("", |pre| pre.as_str()).to_owned();
        check_pre(&pre).ok()?;
        Some(Self {
            operator,
            numbers,
            pre,
            given,
        })
    }

    fn neighbours(&self) -> Vec<([u64; 3], String)> {
        let [major, minor, patch] = self.numbers;
        let after_pre = if self.pre.is_empty() {
            "0".to_owned()
        } else {
            format!("{}.0", self.pre)
        };
        vec![
            (self.numbers, self.pre.clone()),
            (self.numbers, after_pre),
            (self.numbers, String::new()),
            ([major, minor, patch.saturating_add(1)], String::new()),
            ([major, minor.saturating_add(1), 0], String::new()),
            ([major.saturating_add(1), 0, 0], String::new()),
            ([major.saturating_add(1), 0, 0], "0".to_owned()),
            ([0; 3], "0".to_owned()),
        ]
    }

    /// Returns whether `version` satisfies this comparator. The group decides whether pre-releases
    /// take part.
    fn holds(&self, version: &Version<'_>) -> bool {
        let [major, minor, patch] = self.numbers;
        let [v_major, v_minor, _] = version.numbers;
        let order = version.precedence(&Version {
            numbers: self.numbers,
            pre: &self.pre,
        });
        let partial = self.given < 3;
        match self.operator {
            ComparisonOperator::GreaterEqual => order != Ordering::Less,
            ComparisonOperator::Less => order == Ordering::Less,
            ComparisonOperator::Equal if !partial => order == Ordering::Equal,
            ComparisonOperator::NotEqual if !partial => order != Ordering::Equal,
            // Without a patch number the pre-release alone is compared (Masterminds v3.5).
            ComparisonOperator::NotEqual
                if self.given == 2
                    && (v_major, v_minor) == (major, minor)
                    && !(version.pre.is_empty() && self.pre.is_empty()) =>
            {
                compare_pre(version.pre, &self.pre) != Ordering::Equal
            }
            ComparisonOperator::NotEqual => {
                self.given == 0 || version.numbers[..self.given] != self.numbers[..self.given]
            }
            ComparisonOperator::Greater => match self.given {
                1 => v_major > major,
                2 => (v_major, v_minor) > (major, minor),
                _ => order == Ordering::Greater,
            },
            ComparisonOperator::LessEqual if partial => match self.given {
                1 => v_major <= major,
                2 => (v_major, v_minor) <= (major, minor),
                _ => true,
            },
            ComparisonOperator::LessEqual => order != Ordering::Greater,
            ComparisonOperator::Equal | ComparisonOperator::Tilde => {
                order != Ordering::Less
                    && match self.given {
                        0 => true,
                        3 if self.numbers == [0; 3] => true,
                        1 => v_major == major,
                        _ => (v_major, v_minor) == (major, minor),
                    }
            }
            ComparisonOperator::Caret => {
                order != Ordering::Less
                    && match (self.given, major, minor) {
                        (0, ..) => true,
                        (1, ..) => v_major == major,
                        (_, 1.., _) => v_major == major,
                        (2, 0, _) | (_, 0, 1..) => (v_major, v_minor) == (major, minor),
                        (_, 0, 0) => version.numbers == [0, 0, patch],
                    }
            }
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Range {
    type Err = RangeError;
    fn from_str(text: &str) -> Result<Self, RangeError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The behaviour of Masterminds/semver v3.4: its documentation and tests, row by row.
    #[test]
    fn range_matches_like_masterminds() {
        for (range, inside, outside) in [
            ("1.2.3", "1.2.3 v1.2.3 1.2.3+b", "1.2.4 1.2.3-a"),
            ("=1.2", "1.2.0 1.2.9", "1.3.0 1.1.9"),
            ("1.2", "1.2.0 1.2.9", "1.3.0"),
            ("1", "1.0.0 1.9.9", "2.0.0 0.9.0"),
            ("*", "0.0.0 9.9.9", "1.0.0-rc"),
            ("x", "1.0.0", "1.0.0-rc"),
            ("1.x", "1.0.0 1.9.9", "2.0.0"),
            ("1.2.X", "1.2.0 1.2.9", "1.3.0"),
            ("v1.2.*", "1.2.9", "1.3.0"),
            ("!=1.2.3", "1.2.4", "1.2.3"),
            ("!=1.2", "1.3.0", "1.2.0 1.2.9"),
            ("!=1", "2.0.0", "1.9.9"),
            (
                "!=4.1-alpha",
                "4.1.5 4.1.5-beta 4.2.0-alpha 4.0.0",
                "4.1.5-alpha 4.1.0-alpha",
            ),
            ("!=4-alpha", "5.0.0 3.0.0-alpha", "4.1.0 4.1.0-alpha"),
            (">1.2", "1.3.0 2.0.0", "1.2.0 1.2.9"),
            (">1", "2.0.0", "1.9.9"),
            (">1.2.3", "1.2.4", "1.2.3"),
            ("<1.2", "1.1.9", "1.2.0"),
            ("<=1.2", "1.2.9 1.1.0", "1.3.0"),
            ("=<1", "1.9.9", "2.0.0"),
            ("=>1.2.3", "1.2.3 2.0.0", "1.2.2"),
            ("~1.2.3", "1.2.3 1.2.9", "1.3.0 1.2.2"),
            ("~>1.2", "1.2.0 1.2.9", "1.3.0"),
            ("~1", "1.0.0 1.9.0", "2.0.0"),
            ("^1.2.3", "1.2.3 1.9.0", "2.0.0 1.2.2"),
            ("^0.2.3", "0.2.3 0.2.9", "0.3.0"),
            ("^0.0.3", "0.0.3", "0.0.4"),
            ("^0.0", "0.0.0 0.0.9", "0.1.0"),
            ("^0", "0.9.9", "1.0.0"),
            (">=6.0.0 <7.0.0", "6.0.0 6.9.9", "7.0.0 5.9.9 6.5.0-rc"),
            (">=6.0.0, <7.0.0", "6.0.0 6.9.9", "7.0.0"),
            (">= 6.0.0 , < 7.0.0", "6.9.9", "7.0.0"),
            ("1.2 - 1.4.5", "1.2.0 1.4.5", "1.4.6 1.1.9"),
            ("1.2.0 - 1.4", "1.4.9", "1.5.0"),
            ("1.0.0 - 2.0.0 || >=3", "1.5.0 3.0.0", "2.5.0"),
            ("<1.0.0 || >=2.0.0", "0.9.0 2.0.0", "1.5.0"),
            (">=1.0.0-0", "1.0.0 1.2.0-rc.1", "0.9.0"),
            (">=1.0.0-0 <2.0.0", "1.2.0-rc.1 2.0.0-rc.1", "2.0.0"),
            (
                "~1.2.3-beta.2",
                "1.2.3-beta.2 1.2.3-rc 1.2.4",
                "1.2.3-beta.1 1.3.0",
            ),
            ("^1.0.0-rc || <0.5.0", "1.0.0-rc 0.4.0", "0.4.0-rc"),
            (">=2025.01.01", "2025.02.03", "2024.12.31"),
        ] {
            let parsed = Range::new(range).unwrap_or_else(|error| panic!("{range}: {error}"));
            for (tags, expected) in [(inside, true), (outside, false)] {
                for tag in tags.split(' ') {
                    assert_eq!(
                        parsed.contains(&Version::of_tag(tag).unwrap()),
                        expected,
                        "{tag} in {range:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn range_invalid_is_refused() {
        for bad in [
            "",
            "  ",
            "a",
            ">=",
            "1.2.3.4",
            ">=1.0.0 foo",
            "||",
            "1 ||",
            ">>1",
            "1.0.0 -",
            "1,,2",
            ">=1.0.0,",
            ">=1.0.0 , ",
            ">=1.0.0, <2 ,",
            ">=1.2.3-",
            "99999999999999999999.0.0",
            ">=1.0.0-a..b",
        ] {
            assert!(
                !matches!(Range::new(bad), Ok(_) | Err(RangeError::Unsatisfiable(_))),
                "{bad:?}"
            );
        }
        for nothing in [">2.0.0 <1.0.0", "1.2.3 1.2.4", "<0.0.0", ">=1.0.0 !=1"] {
            let range = Range::new(nothing);
            if nothing == ">=1.0.0 !=1" {
                assert!(range.is_ok());
            } else {
                assert!(
                    matches!(range, Err(RangeError::Unsatisfiable(_))),
                    "{nothing:?} {range:?}"
                );
            }
        }
        for some in [
            ">1.0.0 <1.0.2 !=1.0.1-a",
            ">1.0.0-a <1.0.0",
            ">=1.0.0 !=1.0.0 <1.0.2",
            "<0.0.1",
        ] {
            assert!(Range::new(some).is_ok(), "{some:?}");
        }
    }
}
