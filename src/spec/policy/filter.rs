//! The filter of a policy: which tags take part, and the part of them that is compared.

use crate::spec::{document::SpecReader, raw::RawFilterTags};
use regex::Regex;

/// The tags that take part.
#[derive(Debug, Clone, Default)]
pub struct TagFilter {
    /// A tag must match this.
    pub pattern: Option<Regex>,
    /// The compared text instead of the whole tag: `$1`, `$name`, `${name}` are groups of the
    /// pattern.
    pub extract: Option<String>,
    /// A tag must match none of these.
    pub exclude: Vec<Regex>,
    /// The literal end of every tag that matches the pattern.
    suffix: Option<String>,
}

impl TagFilter {
    /// Puts a filter together; an empty `extract` is none.
    pub fn new(pattern: Option<Regex>, extract: Option<String>, exclude: Vec<Regex>) -> Self {
        let suffix = pattern
            .as_ref()
            .and_then(|pattern| literal_suffix(pattern.as_str()));
        Self {
            pattern,
            extract: extract.filter(|extract| !extract.is_empty()),
            exclude,
            suffix,
        }
    }

    /// Returns whether a tag can match the pattern, judged by its end alone. Cheap, and decides
    /// most tags of a filter for one variant of an image.
    pub fn may_match(&self, tag: &str) -> bool {
        self.suffix
            .as_ref()
            .is_none_or(|suffix| tag.ends_with(suffix.as_str()))
    }
}

impl PartialEq for TagFilter {
    /// Compares the texts of the patterns, of which all else is made.
    fn eq(&self, other: &Self) -> bool {
        let excluded = self.exclude.iter().map(Regex::as_str);
        self.pattern.as_ref().map(Regex::as_str) == other.pattern.as_ref().map(Regex::as_str)
            && self.extract == other.extract
            && excluded.eq(other.exclude.iter().map(Regex::as_str))
    }
}

impl Eq for TagFilter {}

/// The literal text before the `$` at the end of a pattern.
fn literal_suffix(pattern: &str) -> Option<String> {
    use regex_syntax::hir::{HirKind, Look};
    let parsed = regex_syntax::parse(pattern).ok()?;
    let HirKind::Concat(parts) = parsed.kind() else {
        return None;
    };
    match parts.as_slice() {
        [.., literal, end] if *end.kind() == HirKind::Look(Look::End) => match literal.kind() {
            HirKind::Literal(literal) => String::from_utf8(literal.0.to_vec()).ok(),
            _ => None,
        },
        _ => None,
    }
}

/// Patterns of `exclude`: each is tried on every tag.
const MAX_EXCLUDES: usize = 100;

/// Bytes of `extract`, and groups in it: each of them can be a whole tag, and the text is kept for
/// every tag.
const MAX_EXTRACT: usize = 128;
const MAX_GROUPS: usize = 8;

/// The longest text of a pattern, in bytes.
const MAX_PATTERN: usize = 1024;

/// The most memory a compiled pattern may take: ten times what patterns of files in use need.
const PATTERN_BYTES: usize = 1 << 20;

/// The same for each pattern of `exclude`, of which there are many.
const EXCLUDE_BYTES: usize = 128 << 10;

/// Compiles a pattern that tags must match.
pub(crate) fn pattern(text: &str) -> Result<Regex, String> {
    compiled(text, PATTERN_BYTES)
}

/// Compiles a pattern that tags must not match.
fn exclude_pattern(text: &str) -> Result<Regex, String> {
    compiled(text, EXCLUDE_BYTES)
}

fn compiled(text: &str, most: usize) -> Result<Regex, String> {
    if text.len() > MAX_PATTERN {
        return Err(format!(
            "the pattern has {} bytes; at most {MAX_PATTERN} are allowed",
            text.len()
        ));
    }
    regex::RegexBuilder::new(text)
        .size_limit(most)
        .build()
        .map_err(|error| {
            let why = error.to_string();
            let last = why
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned();
            format!("{text:?} is no regular expression: {last}")
        })
}

pub(super) fn filter(at: &mut SpecReader<'_>, raw: Option<RawFilterTags>) -> Option<TagFilter> {
    let Some(RawFilterTags {
        pattern: text,
        extract,
        exclude,
    }) = raw
    else {
        return Some(TagFilter::default());
    };
    let compiled = match text {
        None => None,
        Some(text) => Some(at.check("/spec/filterTags/pattern", pattern(&text))?),
    };
    if let Some(extract) = &extract {
        check_extract(at, extract);
        match &compiled {
            None => at.error(
                "/spec/filterTags/extract",
                "extract takes groups of a pattern; write pattern:, too",
            ),
            Some(compiled) => unknown_groups(at, compiled, extract),
        }
    }
    let exclude = exclude_patterns(at, "/spec/filterTags/exclude", &exclude)?;
    Some(TagFilter::new(compiled, extract, exclude))
}

/// Compiles a list of patterns that tags must not match.
pub(crate) fn exclude_patterns(
    at: &mut SpecReader<'_>,
    pointer: &str,
    texts: &[String],
) -> Option<Vec<Regex>> {
    if !at.is_at_most(pointer, texts.len(), MAX_EXCLUDES) {
        return None;
    }
    let texts = texts.iter().enumerate();
    texts
        .map(|(index, text)| at.check(&format!("{pointer}/{index}"), exclude_pattern(text)))
        .collect()
}

/// Reports a template whose text would be too long.
pub(crate) fn check_extract(at: &mut SpecReader<'_>, extract: &str) {
    let pointer = "/spec/filterTags/extract";
    if extract.len() > MAX_EXTRACT {
        at.error(
            pointer,
            format!("extract has more than {MAX_EXTRACT} bytes"),
        );
    }
    // Two dollars stand for one.
    if extract.replace("$$", "").matches('$').count() > MAX_GROUPS {
        at.error(
            pointer,
            format!("extract names more than {MAX_GROUPS} groups"),
        );
    }
}

/// Reports groups that the pattern does not have: they would expand to nothing, as in Go, which is
/// never intended.
fn unknown_groups(at: &mut SpecReader<'_>, pattern: &Regex, extract: &str) {
    let mut rest = extract;
    while let Some(dollar) = rest.find('$') {
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let name = match rest.strip_prefix('{') {
            Some(braced) => braced.split('}').next().unwrap_or_default(),
            None => {
                &rest[..rest.len()
                    - rest
                        .trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_')
                        .len()]
            }
        };
        let known = match name.parse::<usize>() {
            Ok(number) => number < pattern.captures_len(),
            Err(_) => pattern.capture_names().flatten().any(|known| known == name),
        };
        if !known && !name.is_empty() {
            at.error(
                "/spec/filterTags/extract",
                format!(
                    "the pattern has no group `{name}` (write ${{1}}x where a text follows a group)"
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_literal_suffix_is_known() {
        for (pattern, suffix) in [
            (r"^(?P<v>.+)-alpine3\.19$", Some("-alpine3.19")),
            (r"-rc$", Some("-rc")),
            (r"^v\d+$", None),
            (r"a|b$", None),
            (r"-alpine", None),
            (r"(?i)-alpine$", None),
            (r"(?m)-alpine$", None),
        ] {
            let filter = TagFilter::new(Some(Regex::new(pattern).unwrap()), None, Vec::new());
            assert_eq!(filter.suffix.as_deref(), suffix, "{pattern}");
        }
    }

    /// Classes are Unicode, and large.
    #[test]
    fn exclude_bound_keeps_patterns_in_use() {
        for text in [
            r"^sha256-.*\.sig$",
            "-rc",
            r"\d{8}",
            r"\d{14}",
            r"^\d+\.\d+\.\d+$",
            r"^v?\d+\.\d+\.\d+(-\w+)?$",
            r"^\w+-\w+$",
            r"(?i)-(alpha|beta|rc)\.?\d*$",
            r"^(main|master)-[a-f0-9]{7,40}-\d{10}$",
        ] {
            exclude_pattern(text).unwrap();
        }
        let large = r"\w{4}";
        assert!(pattern(large).is_ok());
        assert!(exclude_pattern(large).unwrap_err().contains("size limit"));
        for compile in [pattern, exclude_pattern] {
            assert!(compile(&"a".repeat(1024)).is_ok());
            assert_eq!(
                compile(&"a".repeat(1025)).unwrap_err(),
                "the pattern has 1025 bytes; at most 1024 are allowed"
            );
        }
    }

    /// Every entry is tried on every tag, and the text of `extract` is kept for each.
    #[test]
    fn policy_lists_and_extract_are_bounded() {
        let errors = |filter: &str, rest: &str| {
            let text = format!(
                "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: a}}\nspec:\n  image: ghcr.io/a/b\n  policy: {{alphabetical: {{}}}}\n  filterTags: {{{filter}}}\n{rest}"
            );
            let declared = crate::spec::read([("a.yaml", text.as_bytes())], None);
            let messages = declared.mistakes.iter();
            messages
                .map(|mistake| mistake.message.clone())
                .collect::<Vec<_>>()
        };
        let list = |count: usize| {
            let entries: Vec<String> = (0..count).map(|number| format!("v{number}")).collect();
            format!("[{}]", entries.join(", "))
        };
        for (filter, rest, expected) in [
            (format!("exclude: {}", list(100)), String::new(), None),
            (
                format!("exclude: {}", list(101)),
                String::new(),
                Some("it has 101 entries; at most 100 are allowed"),
            ),
            (
                String::new(),
                format!("  ignoreTags: {}\n", list(1_001)),
                Some("it has 1001 entries; at most 1000 are allowed"),
            ),
            (
                format!("pattern: (.*), extract: '{}'", "$1".repeat(8)),
                String::new(),
                None,
            ),
            (
                format!("pattern: (.*), extract: '{}'", "$1".repeat(9)),
                String::new(),
                Some("extract names more than 8 groups"),
            ),
            (
                format!("pattern: (.*), extract: '{}$1'", "$$".repeat(9)),
                String::new(),
                None,
            ),
            (
                format!("pattern: (.*), extract: '{}'", "a".repeat(129)),
                String::new(),
                Some("extract has more than 128 bytes"),
            ),
        ] {
            let found = errors(&filter, &rest);
            let expected: Vec<&str> = expected.into_iter().collect();
            assert_eq!(found, expected, "{filter} {rest}");
        }
    }
}
