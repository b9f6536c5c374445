//! Policy rules, guessed from the tags in the files.
//!
//! A rule is drafted only if the order of the tags is sure: every number that grows is compared by
//! its value, and every other word stays, so that no variant of the image is left. A tag whose
//! order is not sure gets a reason instead.

mod form;
#[cfg(test)]
mod tests;
mod versioned;

use crate::core::version::Version;
use form::{Pattern, Piece, Role, Scope, escaped, pieces};
use regex::Regex;
use std::{collections::BTreeSet, sync::LazyLock};
use versioned::VersionTag;

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

/// A guessed rule, with notes for the reader of the draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GuessedRule {
    pub rule: PolicyRule,
    pub notes: Vec<String>,
}

/// The rule for one tag, and its rank among the rules for other tags.
struct Candidate {
    rule: PolicyRule,
    order: Order,
    /// The numbers of the tag, for the choice among tags of one order.
    numbers: Vec<u64>,
    note: Option<&'static str>,
}

/// The facts that order the tags of a rule, the clearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Version,
    PreRelease,
    Counter,
    Date,
    Created,
    Digest,
}

static DATED: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^[^0-9]*(?:19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}(?:[T_-][0-9]{2}[-_.][0-9]{2}[-_.][0-9]{2}Z?)?[^0-9]*$",
    )
});
static MAJOR: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^v?[0-9]{1,2}(?:[-_][A-Za-z][A-Za-z0-9.]*)*$"));
static DIGITS: LazyLock<Regex> = LazyLock::new(|| regex("[0-9]+"));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant that a test compiles")
}

/// Guesses the rule for some tags: that of the tag with the clearest order, among those of one
/// order the highest. Tags of another kind are left alone by it.
///
/// # Errors
/// The reason why no rule is sure; empty if there are no tags.
pub(super) fn guess(tags: &BTreeSet<String>) -> Result<GuessedRule, String> {
    let mut refused = String::new();
    let mut candidates = Vec::new();
    for tag in tags {
        match of_tag(tag) {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => refused = format!("the order of {tag} is not sure: {why}"),
        }
    }
    candidates.sort_by(|left, right| {
        let order = left.order.cmp(&right.order);
        order.then_with(|| right.numbers.cmp(&left.numbers))
    });
    let mut candidates = candidates.into_iter();
    let Some(first) = candidates.next() else {
        return Err(refused);
    };
    let rest: Vec<Candidate> = candidates.collect();
    let is_mixed = !refused.is_empty() || rest.iter().any(|one| !is_same_kind(one, &first));
    if is_mixed && first.order == Order::Created {
        return Err(format!(
            "it also has tags of other kinds than {}, which a policy by date would replace",
            first.rule.from
        ));
    }
    let notes = notes(&first, &rest, tags, is_mixed);
    let mut rule = first.rule;
    if is_mixed {
        rule.filter = strict(rule.filter, first.order);
    }
    Ok(GuessedRule { rule, notes })
}

/// Returns whether two tags are of one form.
fn is_same_kind(left: &Candidate, right: &Candidate) -> bool {
    let is_digest = left.order == Order::Digest;
    left.order == right.order
        && left.rule.filter == right.rule.filter
        && (!is_digest || left.rule.from == right.rule.from)
}

/// Makes a filter refuse present tags of other kinds, too: without an extract, `1.2.3-alpine` would
/// count as older than 1.3.0 and be replaced by it.
fn strict(
    filter: Option<(String, Option<String>)>,
    order: Order,
) -> Option<(String, Option<String>)> {
    match (filter, order) {
        (None, Order::Version) => Some((RELEASE.to_owned(), Some("${version}".to_owned()))),
        (Some((pattern, None)), Order::Date) => {
            let inner = pattern.trim_start_matches('^').trim_end_matches('$');
            Some((format!("^(?P<date>{inner})$"), Some("${date}".to_owned())))
        }
        (filter, _) => filter,
    }
}

const RELEASE: &str = r"^v?(?P<version>[0-9]+\.[0-9]+\.[0-9]+)$";

/// Returns notes about the tags beside the first one.
fn notes(
    first: &Candidate,
    rest: &[Candidate],
    tags: &BTreeSet<String>,
    is_mixed: bool,
) -> Vec<String> {
    let pattern = match &first.rule.filter {
        Some((pattern, _)) => Some(pattern.as_str()),
        None => (is_mixed && first.order == Order::Version).then_some(RELEASE),
    };
    let pattern = pattern.and_then(|pattern| Regex::new(pattern).ok());
    let is_capped = first.rule.policy.contains(" <");
    let (mut lower, mut majors, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for tag in tags.iter().filter(|tag| **tag != first.rule.from) {
        let candidate = rest.iter().find(|one| one.rule.from == *tag);
        let is_moved = match &pattern {
            Some(pattern) => pattern.is_match(tag),
            None => candidate.is_some_and(|one| is_same_kind(one, first)),
        };
        let major = candidate.and_then(|one| one.numbers.first());
        match is_moved {
            false => others.push(tag.as_str()),
            true if is_capped && major != first.numbers.first() => majors.push(tag.as_str()),
            true => lower.push(tag.as_str()),
        }
    }
    let mut notes: Vec<String> = first.note.map(str::to_owned).into_iter().collect();
    let mut add = |tags: &[&str], text: &str| {
        if !tags.is_empty() {
            notes.push(format!(
                "The files also have {}{text}",
                super::abbreviated(tags)
            ));
        }
    };
    add(&lower, ": this policy moves all of them to one tag.");
    add(
        &majors,
        ", of another major version: this policy moves all of them to one tag.",
    );
    add(
        &others,
        ", of another kind, which this policy leaves alone: mark both kinds, and write a policy for each.",
    );
    notes
}

fn of_tag(tag: &str) -> Result<Candidate, &'static str> {
    if let Some(version) = VersionTag::read(tag) {
        return version.candidate();
    }
    if DATED.is_match(tag) {
        return Ok(dated(tag));
    }
    let parts = pieces(tag, Scope::Whole);
    let has_commit = parts.iter().any(|piece| piece.role == Role::Commit);
    if MAJOR.is_match(tag) && !has_commit {
        return Ok(moving(tag));
    }
    unversioned(tag, &parts)
}

fn is_year(number: u64) -> bool {
    (1990..=2100).contains(&number)
}

/// `RELEASE.2024-11-01T10-20-30Z`: dates that sort by their bytes.
fn dated(tag: &str) -> Candidate {
    let pattern = DIGITS
        .replace_all(&escaped(tag), |digits: &regex::Captures<'_>| {
            format!("[0-9]{{{}}}", digits[0].len())
        })
        .into_owned();
    let numbers = DIGITS
        .find_iter(tag)
        .filter_map(|digits| digits.as_str().parse().ok());
    Candidate {
        numbers: numbers.collect(),
        rule: PolicyRule {
            filter: Some((format!("^{pattern}$"), None)),
            policy: "alphabetical: {order: asc}".to_owned(),
            from: tag.to_owned(),
            effect: "selects the latest of this form, by the date in its tag".to_owned(),
        },
        order: Order::Date,
        note: None,
    }
}

/// Tags without a version: `main-1a2b3c4-1700000000`, `build-42`, `sha-1a2b3c4`, `latest`.
fn unversioned(tag: &str, parts: &[Piece<'_>]) -> Result<Candidate, &'static str> {
    let grows = |piece: &Piece<'_>| matches!(piece.role, Role::Counter | Role::Time);
    let joined = |pair: &[Piece<'_>]| {
        let after_number = grows(&pair[0]) && pair[1].text == ".";
        after_number && pair.get(2).is_some_and(&grows)
    };
    if parts.windows(3).any(joined) || starts_as_version(tag) {
        return Err("it has numbers as a version has, but is none");
    }
    let mut pattern = Pattern::default();
    pattern.text.push('^');
    parts.iter().for_each(|piece| pattern.add(*piece));
    pattern.text.push('$');
    let has_commit = parts.iter().any(|piece| piece.role == Role::Commit);
    let has_time = parts.iter().any(|piece| piece.role == Role::Time);
    match (pattern.numbers.as_slice(), parts.len()) {
        ([], _) if has_commit => Ok(commit(tag, pattern)),
        ([], _) => Ok(moving(tag)),
        ([number], 1) if number.parse().is_ok_and(is_year) => {
            Err("it may be a year, a version or the number of a build")
        }
        ([_], _) => Ok(numbered(tag, pattern, has_time)),
        _ => counted(tag, &pattern),
    }
}

/// `1.2.3rc1`, `2024.12.0b1`.
fn starts_as_version(tag: &str) -> bool {
    static START: LazyLock<Regex> = LazyLock::new(|| regex(r"^[vV]?[0-9]+\.[0-9]"));
    START.is_match(tag)
}

/// `build-42`, `1234`, `20241101-1a2b3c4`: one number that grows.
fn numbered(tag: &str, pattern: Pattern, has_time: bool) -> Candidate {
    let effect = match has_time {
        true => "selects the latest build of this form, by the time in its tag",
        false => "selects the highest number",
    };
    let numbers = pattern
        .numbers
        .iter()
        .filter_map(|number| number.parse().ok());
    Candidate {
        numbers: numbers.collect(),
        rule: PolicyRule {
            filter: Some((pattern.text, Some("${n1}".to_owned()))),
            policy: "numerical: {order: asc}".to_owned(),
            from: tag.to_owned(),
            effect: effect.to_owned(),
        },
        order: Order::Counter,
        note: None,
    }
}

/// `2024-01-15-3`, `main-123-1700000000`: several numbers, compared from left to right.
fn counted(tag: &str, pattern: &Pattern) -> Result<Candidate, &'static str> {
    let mut written: Vec<&str> = pattern.numbers.iter().map(String::as_str).collect();
    let mut extract: Vec<String> = (1..=written.len()).map(|n| format!("${{n{n}}}")).collect();
    while written.len() < 3 {
        written.push("0");
        extract.push("0".to_owned());
    }
    let (numbers, rest) = written.split_at(3);
    let mut low = numbers.join(".");
    let mut template = extract[..3].join(".");
    if !rest.is_empty() {
        low = format!("{low}-{}", rest.join("."));
        template = format!("{template}-{}", extract[3..].join("."));
    }
    if Version::of_tag(&low).is_err() {
        return Err("it has a number beyond 64 bits");
    }
    Ok(Candidate {
        numbers: written
            .iter()
            .filter_map(|number| number.parse().ok())
            .collect(),
        rule: PolicyRule {
            filter: Some((pattern.text.clone(), Some(template))),
            policy: format!("semver: {{range: '>={low}'}}"),
            from: tag.to_owned(),
            effect: "selects the latest build of this form, by the numbers in its tag".to_owned(),
        },
        order: Order::Counter,
        note: None,
    })
}

/// `1a2b3c4`, `sha-1a2b3c4`: commits have no order, so that the date of the image decides.
fn commit(tag: &str, pattern: Pattern) -> Candidate {
    Candidate {
        numbers: Vec::new(),
        rule: PolicyRule {
            filter: Some((pattern.text, None)),
            policy: "newest: {}".to_owned(),
            from: tag.to_owned(),
            effect: "selects the image created last, among tags that name a commit".to_owned(),
        },
        order: Order::Created,
        note: None,
    }
}

/// `latest`, `16-alpine`, `pr-12`: the tag stays and its digest moves.
fn moving(tag: &str) -> Candidate {
    Candidate {
        numbers: Vec::new(),
        rule: PolicyRule {
            filter: None,
            policy: format!("digest: {{tag: '{tag}'}}"),
            from: tag.to_owned(),
            effect: "follows the tag and writes its digest beside it".to_owned(),
        },
        order: Order::Digest,
        note: None,
    }
}
