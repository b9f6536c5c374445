//! Tags with a version, such as `controller-v1.2.3-alpine3.20`.

use super::{
    Candidate, Order, PolicyRule,
    form::{self, Pattern, Piece, Role, Scope, canonical, escaped, pieces},
    is_year, regex,
};
use regex::Regex;
use std::sync::LazyLock;

/// Pre-releases in the order of their stability; each gives way to those after it and to releases.
const STABILITIES: [&str; 3] = ["alpha", "beta", "rc"];

/// Other words that mark a pre-release, each a channel of its own.
const CHANNELS: [&str; 8] = [
    "pre", "preview", "dev", "snapshot", "next", "canary", "nightly", "m",
];

static VERSION: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^((?:(?i:pr|mr|pull|issue)[-_][0-9]+[-_.]|[A-Za-z][A-Za-z0-9]*[-_]|[A-Za-z]+\.)*)([vV]?)([0-9]+(?:\.[0-9]+){1,3})([-_].*)?$",
    )
});
static PRE_RELEASE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^-([A-Za-z]+)(?:((?:\.(?:0|[1-9][0-9]*))*)|[-_]?[0-9]+)$"));
/// A tag with a version: `controller-v1.2.3-alpine3.20`.
pub(super) struct VersionTag<'t> {
    tag: &'t str,
    prefix: &'t str,
    v: &'t str,
    core: &'t str,
    suffix: &'t str,
}

impl<'t> VersionTag<'t> {
    /// Reads a tag; none if it has no version, or only that of its base system.
    pub(super) fn read(tag: &'t str) -> Option<Self> {
        let found = VERSION.captures(tag)?;
        let part = |group| found.get(group).map_or("", |part| part.as_str());
        let version = Self {
            tag,
            prefix: part(1),
            v: part(2),
            core: part(3),
            suffix: part(4),
        };
        (!version.is_of_distribution()).then_some(version)
    }

    /// Returns whether the version is that of the base system, as in `alpine-3.20`.
    fn is_of_distribution(&self) -> bool {
        let word = self.prefix.trim_end_matches(['-', '_', '.']);
        let word = word.rsplit(['-', '_', '.']).next().unwrap_or_default();
        form::is_distribution(word)
    }

    pub(super) fn candidate(&self) -> Result<Candidate, &'static str> {
        let written: Vec<&str> = self.core.split('.').collect();
        let number = |text: &&str| text.parse().map_err(|_| "it has a number beyond 64 bits");
        let numbers: Vec<u64> = written.iter().map(number).collect::<Result<_, _>>()?;
        let is_bare = self.prefix.is_empty() && self.v != "V";
        let bounds = Bounds::of(&written, &numbers);
        if let Some(found) = PRE_RELEASE.captures(self.suffix)
            && is_bare
            && written.len() == 3
            && stability(&found[1]).is_some()
        {
            return Ok(self.pre_release(&bounds, &found[1], found.get(2).is_some()));
        }
        if pieces(self.prefix, Scope::Whole)
            .iter()
            .any(|piece| piece.role != Role::Fixed)
        {
            return Err("what stands before the version changes from build to build");
        }
        let parts = pieces(self.suffix, Scope::Suffix);
        if parts.iter().any(|piece| is_unstable(piece.text)) {
            return Err("it is a pre-release of a variant, and no rule leads from it to releases");
        }
        if is_bare && written.len() == 3 && self.suffix.is_empty() {
            let effect = format!("selects releases {}", bounds.text);
            return Ok(self.version_rule(None, &bounds, "", effect));
        }
        let mut pattern = Pattern {
            text: self.start(),
            ..Pattern::default()
        };
        let shown = written.len().min(3);
        let digits = vec!["[0-9]+"; shown].join(r"\.");
        pattern.text.push_str(&format!("(?P<version>{digits})"));
        if let Some(fourth) = written.get(3) {
            pattern.text.push_str(r"\.");
            let role = Role::Counter;
            pattern.add(Piece { text: fourth, role });
        }
        parts.iter().for_each(|piece| pattern.add(*piece));
        pattern.text.push('$');
        let has_commit = parts.iter().any(|piece| piece.role == Role::Commit);
        if has_commit && pattern.numbers.is_empty() {
            return Ok(self.created(&parts, &bounds, numbers));
        }
        let version = match shown {
            2 => "${version}.0",
            _ => "${version}",
        };
        let extract = match pattern.numbers.as_slice() {
            [] => version.to_owned(),
            _ => format!("{version}-{}", pattern.groups(1)),
        };
        let form = match (written.len(), self.suffix.is_empty()) {
            (2, true) => "tags of two numbers",
            (4, true) => "tags of four numbers",
            _ => "releases of this variant",
        };
        let effect = format!("selects {form} {}", bounds.text);
        let pre = pattern.numbers.join(".");
        let filter = Some((pattern.text, Some(extract)));
        Ok(self.version_rule(filter, &bounds, &pre, effect))
    }

    /// The start of the pattern. A prefix stays with the `v` after it; without one, a `v` is as
    /// good as none.
    fn start(&self) -> String {
        match (self.prefix, self.v) {
            ("", "" | "v") => "^v?".to_owned(),
            (prefix, v) => format!("^{}{v}", escaped(prefix)),
        }
    }

    fn version_rule(
        &self,
        filter: Option<(String, Option<String>)>,
        bounds: &Bounds,
        pre: &str,
        effect: String,
    ) -> Candidate {
        let rule = PolicyRule {
            filter,
            policy: format!("semver: {{range: '{}'}}", bounds.range(pre)),
            from: self.tag.to_owned(),
            effect,
        };
        let mut numbers = bounds.low.to_vec();
        numbers.extend(
            pre.split('.')
                .filter_map(|number| number.parse::<u64>().ok()),
        );
        Candidate {
            rule,
            order: Order::Version,
            numbers,
            note: None,
        }
    }

    /// `1.2.0-rc.1`: pre-releases give way to releases. Words with a number in them are ordered as
    /// text, in which `rc10` comes before `rc9`, so that only releases are sure.
    fn pre_release(&self, bounds: &Bounds, word: &str, is_ordered: bool) -> Candidate {
        if !is_ordered {
            let effect = format!("selects releases {}", bounds.text);
            let mut candidate = self.version_rule(None, bounds, "", effect);
            candidate.note = Some(
                "Pre-releases numbered without a point have no sure order, so that none is selected.",
            );
            return candidate;
        }
        let words = match stability(word) {
            Some(Some(rank)) => STABILITIES[rank..].join("|"),
            _ => word.to_owned(),
        };
        let pattern =
            format!(r"^v?(?P<version>[0-9]+\.[0-9]+\.[0-9]+(?:-(?i:{words})(?:\.[0-9]+)*)?)$");
        let filter = Some((pattern, Some("${version}".to_owned())));
        let effect = format!("selects releases and pre-releases {}", bounds.text);
        let mut candidate = self.version_rule(filter, bounds, &self.suffix[1..], effect);
        candidate.numbers.truncate(3);
        candidate.order = Order::PreRelease;
        candidate
    }

    /// `1.2.3-1a2b3c4`: builds of one version have no order but the date of the image.
    fn created(&self, parts: &[Piece<'_>], bounds: &Bounds, numbers: Vec<u64>) -> Candidate {
        let mut pattern = Pattern {
            text: self.start(),
            ..Pattern::default()
        };
        let major = match bounds.next {
            Some(_) => canonical(self.core.split('.').next().unwrap_or_default()),
            None => "[0-9]+",
        };
        pattern.text.push_str(major);
        let minors = self.core.matches('.').count();
        pattern.text.push_str(&r"\.[0-9]+".repeat(minors));
        parts.iter().for_each(|piece| pattern.add(*piece));
        let rule = PolicyRule {
            filter: Some((pattern.text + "$", None)),
            policy: "newest: {}".to_owned(),
            from: self.tag.to_owned(),
            effect: format!(
                "selects the image created last, among builds {}",
                bounds.text
            ),
        };
        Candidate {
            rule,
            order: Order::Created,
            numbers,
            note: None,
        }
    }
}

/// The versions that a drafted range takes.
struct Bounds {
    low: [u64; 3],
    /// The next major version, which is excluded; none after a year or a date.
    next: Option<u64>,
    text: String,
}

impl Bounds {
    fn of(written: &[&str], numbers: &[u64]) -> Self {
        let at = |index: usize| numbers.get(index).copied().unwrap_or_default();
        let low = [at(0), at(1), at(2)];
        // `2024.1.3`, `20240115.3`, `24.04`.
        let is_short_year = (10..=40).contains(&low[0])
            && written[0].len() == 2
            && written[1].len() == 2
            && written[1].starts_with('0');
        let is_date = is_year(low[0]) || form::is_time(written[0]) || is_short_year;
        let next = (!is_date).then(|| low[0].saturating_add(1));
        let text = match next {
            Some(next) => format!("below {next}.0.0"),
            None => format!("from {} on", written.join(".")),
        };
        Self { low, next, text }
    }

    fn range(&self, pre: &str) -> String {
        let [major, minor, patch] = self.low;
        let (dash, floor) = match pre {
            "" => ("", ""),
            // A range with a pre-release matches pre-releases; `-0` excludes those of the next
            // major version.
            _ => ("-", "-0"),
        };
        let low = format!(">={major}.{minor}.{patch}{dash}{pre}");
        match self.next {
            Some(next) => format!("{low} <{next}.0.0{floor}"),
            None => low,
        }
    }
}

/// Returns the stability of a pre-release's word; `Some(None)` for a channel.
fn stability(word: &str) -> Option<Option<usize>> {
    let lower = word.to_ascii_lowercase();
    let rank = STABILITIES.iter().position(|known| *known == lower);
    match rank {
        Some(rank) => Some(Some(rank)),
        None => CHANNELS.contains(&lower.as_str()).then_some(None),
    }
}

/// Returns whether a piece of a suffix is a word such as `rc` or `beta2`.
fn is_unstable(piece: &str) -> bool {
    let word = piece.trim_end_matches(|c: char| c.is_ascii_digit());
    matches!(stability(word), Some(Some(_)))
}
