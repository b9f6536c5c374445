//! Policy rules, guessed from the tags in the files.

use crate::core::version::Version;
use regex::Regex;
use std::{collections::BTreeSet, sync::LazyLock};

/// The rule of a policy, as fields of its `spec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PolicyRule {
    /// Pattern and extract of `filterTags`.
    pub filter: Option<(String, Option<String>)>,
    /// The one entry of `policy`, in flow style.
    pub policy: String,
    /// The tag that the rule was guessed from.
    pub from: String,
    /// The effect of the rule, for the comment above the draft.
    pub effect: String,
}

/// Words that mark a pre-release; any other word after a version names a variant of the image.
const PRE_RELEASES: [&str; 11] = [
    "alpha", "beta", "rc", "pre", "preview", "dev", "snapshot", "next", "canary", "nightly", "m",
];

static PARTIAL: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^v?([0-9]+)\.([0-9]+)(-[A-Za-z][A-Za-z0-9_.-]*)?$"));
static NUMBERED: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^((?:[A-Za-z][A-Za-z0-9]*[-_.])+)?([0-9]+)$"));
static COMMIT: LazyLock<Regex> = LazyLock::new(|| regex(r"^((?:[a-z]+-)?)([0-9a-f]{7,40})$"));
static DATE: LazyLock<Regex> = LazyLock::new(|| regex(r"(?:19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}"));
static DIGITS: LazyLock<Regex> = LazyLock::new(|| regex("[0-9]+"));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant that a test compiles")
}

/// Guesses the rule. Among tags of several forms, the form with the clearest order wins.
pub(super) fn guess(tags: &BTreeSet<String>) -> Option<PolicyRule> {
    let versions = tags
        .iter()
        .filter_map(|tag| Some((tag, Version::of_tag(tag).ok()?)));
    if let Some((tag, version)) = versions.max_by(|(_, left), (_, right)| left.precedence(right)) {
        return Some(semver(tag, &version));
    }
    let first = |read: fn(&str) -> Option<PolicyRule>| tags.iter().rev().find_map(|tag| read(tag));
    [partial, built, dated, numbered, commit, moving]
        .into_iter()
        .find_map(first)
}

/// `1.2.3`, `v1.2.3`, `1.2.3-rc.1`, `1.2.3-alpine3.20`.
fn semver(tag: &str, version: &Version<'_>) -> PolicyRule {
    let word: String = version
        .pre
        .chars()
        .take_while(char::is_ascii_alphabetic)
        .collect();
    let pre_release = !version.pre.is_empty()
        && (word.is_empty() || PRE_RELEASES.contains(&word.to_ascii_lowercase().as_str()));
    let variant = if pre_release { "" } else { version.pre };
    let (range, next) = range(version.numbers, if pre_release { version.pre } else { "" });
    let filter = (!variant.is_empty()).then(|| {
        let suffix = any_number(variant);
        (
            format!(r"^v?(?P<version>[0-9]+\.[0-9]+\.[0-9]+)-{suffix}$"),
            Some("$version".to_owned()),
        )
    });
    let effect = match (pre_release, variant.is_empty()) {
        (true, _) => format!("selects releases and pre-releases below {next}"),
        (false, true) => format!("selects releases below {next}"),
        (false, false) => format!("selects releases of this variant below {next}"),
    };
    PolicyRule {
        filter,
        policy: format!("semver: {{range: '{range}'}}"),
        from: tag.to_owned(),
        effect,
    }
}

/// `1.2`, `1.2-alpine`: two numbers; the extract adds a third one for the comparison.
fn partial(tag: &str) -> Option<PolicyRule> {
    let found = PARTIAL.captures(tag)?;
    let number = |group: usize| found.get(group)?.as_str().parse::<u64>().ok();
    let (range, next) = range([number(1)?, number(2)?, 0], "");
    let suffix = found
        .get(3)
        .map_or(String::new(), |suffix| any_number(suffix.as_str()));
    let filter = Some((
        format!(r"^v?(?P<version>[0-9]+\.[0-9]+){suffix}$"),
        Some("${version}.0".to_owned()),
    ));
    let effect = format!("selects tags of two numbers below {next}");
    Some(PolicyRule {
        filter,
        policy: format!("semver: {{range: '{range}'}}"),
        from: tag.to_owned(),
        effect,
    })
}

/// `main-1a2b3c4-1700000000`, `20241101-1a2b3c4`: a word of eight or more digits is a time.
fn built(tag: &str) -> Option<PolicyRule> {
    let words: Vec<&str> = tag.split_inclusive(['-', '_', '.']).collect();
    let bare = |word: &str| word.trim_end_matches(['-', '_', '.']).len();
    let is_time =
        |word: &&str| bare(word) >= 8 && word[..bare(word)].bytes().all(|b| b.is_ascii_digit());
    let time = words.iter().rposition(is_time)?;
    let mut pattern = String::from("^");
    for (index, word) in words.iter().enumerate() {
        let (text, separator) = word.split_at(bare(word));
        let hex = text.len() >= 7
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        match () {
            () if index == time => pattern.push_str("(?P<time>[0-9]+)"),
            () if hex => pattern.push_str("[0-9a-f]+"),
            () => pattern.push_str(&any_number(text)),
        }
        pattern.push_str(&escaped(separator));
    }
    pattern.push('$');
    Some(PolicyRule {
        filter: Some((pattern, Some("$time".to_owned()))),
        policy: "numerical: {order: asc}".to_owned(),
        from: tag.to_owned(),
        effect: "selects the latest build of this form, by the time in its tag".to_owned(),
    })
}

/// `RELEASE.2024-11-01T10-20-30Z`: dates that sort by their bytes.
fn dated(tag: &str) -> Option<PolicyRule> {
    DATE.find(tag)?;
    let pattern = DIGITS
        .replace_all(&escaped(tag), |digits: &regex::Captures<'_>| {
            format!("[0-9]{{{}}}", digits[0].len())
        })
        .into_owned();
    Some(PolicyRule {
        filter: Some((format!("^{pattern}$"), None)),
        policy: "alphabetical: {order: asc}".to_owned(),
        from: tag.to_owned(),
        effect: "selects the latest of this form, by the date in its tag".to_owned(),
    })
}

/// `build-42`, `1234`: a number that counts up. One or two digits alone are a moving tag
/// (`postgres:16`).
fn numbered(tag: &str) -> Option<PolicyRule> {
    let found = NUMBERED.captures(tag)?;
    let prefix = found.get(1).map_or("", |prefix| prefix.as_str());
    if prefix.is_empty() && found[2].len() < 3 {
        return None;
    }
    Some(PolicyRule {
        filter: Some((
            format!("^{}(?P<number>[0-9]+)$", escaped(prefix)),
            Some("$number".to_owned()),
        )),
        policy: "numerical: {order: asc}".to_owned(),
        from: tag.to_owned(),
        effect: "selects the highest number".to_owned(),
    })
}

/// `1a2b3c4`, `sha-1a2b3c4`: commits have no order, so that the date of the image decides.
fn commit(tag: &str) -> Option<PolicyRule> {
    let found = COMMIT
        .captures(tag)
        .filter(|found| found[2].bytes().any(|b| b.is_ascii_digit()))?;
    Some(PolicyRule {
        filter: Some((format!("^{}[0-9a-f]{{7,40}}$", escaped(&found[1])), None)),
        policy: "newest: {}".to_owned(),
        from: tag.to_owned(),
        effect: "selects the image created last, among tags that name a commit".to_owned(),
    })
}

/// `latest`, `stable`, `16`: the tag stays and its digest moves.
fn moving(tag: &str) -> Option<PolicyRule> {
    Some(PolicyRule {
        filter: None,
        policy: format!("digest: {{tag: '{tag}'}}"),
        from: tag.to_owned(),
        effect: "follows the tag and writes its digest beside it".to_owned(),
    })
}

/// Returns the range from a version to the next major one, and that next version.
fn range([major, minor, patch]: [u64; 3], pre: &str) -> (String, String) {
    let next = format!("{}.0.0", major.saturating_add(1));
    // A range with a pre-release matches pre-releases; `-0` excludes those of the next major.
    match pre {
        "" => (format!(">={major}.{minor}.{patch} <{next}"), next),
        pre => (format!(">={major}.{minor}.{patch}-{pre} <{next}-0"), next),
    }
}

/// Returns a pattern for a text. A hyphen stays, since it is special only in a character class.
fn escaped(text: &str) -> String {
    regex::escape(text).replace("\\-", "-")
}

/// Returns a pattern for a text with any numbers in place of its own.
fn any_number(text: &str) -> String {
    DIGITS.replace_all(&escaped(text), "[0-9]+").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::image::{Digest, TagList},
        images::policy::{
            Holds, PolicyInput, PolicyOutcome, RegistryFacts, TagFacts, choose, orders,
        },
        service::init::PolicyDraft,
        spec::{self, ImagePolicy},
    };
    use std::collections::HashMap;

    /// A tag, its policy, the next tag that the policy selects, and a tag that it refuses.
    const ORDERED: [[&str; 4]; 11] = [
        [
            "6.1.0",
            "semver: {range: '>=6.1.0 <7.0.0'}",
            "6.2.0",
            "7.0.0",
        ],
        [
            "v0.3.1",
            "semver: {range: '>=0.3.1 <1.0.0'}",
            "v0.4.0",
            "v1.0.0",
        ],
        [
            "1.2.0-rc.1",
            "semver: {range: '>=1.2.0-rc.1 <2.0.0-0'}",
            "1.2.0",
            "2.0.0-alpha",
        ],
        [
            "1.25.3-alpine3.18",
            "semver: {range: '>=1.25.3 <2.0.0'}",
            "1.27.0-alpine3.20",
            "1.27.0",
        ],
        [
            "7.4",
            "semver: {range: '>=7.4.0 <8.0.0'}",
            "7.10",
            "7.10-alpine",
        ],
        [
            "16.2-bookworm",
            "semver: {range: '>=16.2.0 <17.0.0'}",
            "16.3-bookworm",
            "16.4",
        ],
        [
            "main-1a2b3c4-1700000000",
            "numerical: {order: asc}",
            "main-ffffff0-1700000001",
            "dev-1a2b3c4-1800000000",
        ],
        [
            "20241101-1a2b3c4",
            "numerical: {order: asc}",
            "20241102-0000000",
            "latest",
        ],
        [
            "RELEASE.2024-11-01T10-20-30Z",
            "alphabetical: {order: asc}",
            "RELEASE.2024-12-01T10-20-30Z",
            "RELEASE.x",
        ],
        ["build-42", "numerical: {order: asc}", "build-100", "x-200"],
        ["1234", "numerical: {order: asc}", "1300", "latest"],
    ];

    /// Returns the declaration of a guessed policy, as `init` writes it.
    fn declaration(tag: &str) -> String {
        super::super::draft::policy(&PolicyDraft {
            name: "apps/x".parse().unwrap(),
            image: "x.io/x".parse().unwrap(),
            rule: guess(&BTreeSet::from([tag.to_owned()])).unwrap(),
            notes: Vec::new(),
        })
    }

    fn selected(policy: &ImagePolicy, present: &str, tags: &[&str]) -> String {
        let facts = TagFacts {
            digest: Digest::new(format!("sha256:{}", "0".repeat(64))).ok(),
            fresh: true,
            ..TagFacts::default()
        };
        let input = PolicyInput {
            policy,
            present: None,
            holds: &Holds::default(),
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let facts = RegistryFacts {
            tags: &tags.iter().copied().collect::<TagList>(),
            details: &HashMap::from([(present.to_owned(), facts)]),
        };
        match choose(&input, &facts) {
            PolicyOutcome::Chosen(chosen) => chosen.tag.to_string(),
            other => panic!("{present}: {other:?}"),
        }
    }

    #[test]
    fn guess_selects_its_tag_and_the_next_one() {
        for [tag, rule, next, refused] in ORDERED {
            let guessed = guess(&BTreeSet::from([tag.to_owned()])).unwrap();
            assert_eq!(guessed.policy, rule, "{tag}");
            let text = declaration(tag);
            let declared = spec::read([("x.yaml", text.as_bytes())], None);
            let mistakes = &declared.mistakes;
            assert!(mistakes.is_empty(), "{tag}: {mistakes:?}\n{text}");
            let policy = &declared.policies[&"apps/x".parse().unwrap()];
            assert!(orders(policy, tag), "{tag}\n{text}");
            assert_eq!(selected(policy, tag, &[tag, refused]), tag, "{text}");
            assert_eq!(selected(policy, tag, &[tag, refused, next]), next, "{text}");
        }
    }

    #[test]
    fn guess_without_order_uses_date_or_digest() {
        for (tag, policy) in [
            ("1a2b3c4", "newest: {}"),
            ("sha-1a2b3c4d5e6f", "newest: {}"),
            ("latest", "digest: {tag: 'latest'}"),
            ("16", "digest: {tag: '16'}"),
            ("defaced", "digest: {tag: 'defaced'}"),
        ] {
            assert_eq!(
                guess(&BTreeSet::from([tag.to_owned()])).unwrap().policy,
                policy,
                "{tag}"
            );
        }
        let mixed = ["latest", "1.2.0", "1.10.0", "main-1a2b3c4-1700000000"].map(str::to_owned);
        assert_eq!(guess(&BTreeSet::from(mixed)).unwrap().from, "1.10.0");
        assert_eq!(guess(&BTreeSet::new()), None);
    }
}
