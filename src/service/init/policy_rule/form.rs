//! The form of a tag: texts that stay, numbers that grow from build to build, and commits.

use regex::Regex;
use std::sync::LazyLock;

/// A piece of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'t> {
    pub text: &'t str,
    pub role: Role,
}

/// The role of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Kept as written: a word, a separator, or a number that belongs to a name.
    Fixed,
    /// A number that grows.
    Counter,
    /// A date or time, which grows and keeps its width.
    Time,
    /// A commit in hexadecimal digits, which has no order.
    Commit,
}

/// The part of a tag that is cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Whole,
    /// The part after a version.
    Suffix,
}

/// Words before a number that names something: a pull request, or an issue.
const NAMED: &[&str] = &[
    "pr", "mr", "pull", "merge", "issue", "ticket", "bug", "feat", "feature", "fix", "bugfix",
    "hotfix", "task", "story",
];

/// Words before the number of a distribution, which grows beside the version of the image.
const DISTRIBUTIONS: &[&str] = &["alpine", "debian", "ubuntu", "photon"];

/// Words before a number that belongs to the name of a variant: another number is another runtime,
/// database, platform or CUDA version.
const VARIANTS: &[&str] = &[
    "jdk",
    "jre",
    "java",
    "openjdk",
    "temurin",
    "corretto",
    "graalvm",
    "python",
    "py",
    "cp",
    "php",
    "node",
    "nodejs",
    "ruby",
    "go",
    "golang",
    "rust",
    "perl",
    "erlang",
    "otp",
    "scala",
    "dotnet",
    "gcc",
    "llvm",
    "cuda",
    "cudnn",
    "rocm",
    "torch",
    "spark",
    "hadoop",
    "pg",
    "postgres",
    "postgresql",
    "mysql",
    "mariadb",
    "windowsservercore",
    "nanoserver",
    "windows",
    "ltsc",
    "tomcat",
    "apache",
];

/// Words that are written directly before a number that grows.
const COUNTING: &[&str] = &[
    "r", "rev", "revision", "p", "patch", "b", "build", "ls", "u", "update", "run", "ce", "k3s",
    "rke2r",
];

/// Words before a commit, which may then be of decimal digits only.
const COMMITS: &[&str] = &["sha", "commit", "git", "rev"];

static DATE_DIGITS: LazyLock<Regex> = LazyLock::new(|| {
    super::regex(
        r"^(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?:[0-9]{4}|[0-9]{6})?$",
    )
});

/// The piece before a number.
#[derive(Debug, Clone, Copy)]
enum Before<'t> {
    Start,
    Word(&'t str),
    /// Letters and digits in one word.
    Mixed(&'t str),
    Number(Role),
    Commit,
}

/// Cuts a text into pieces.
pub(super) fn pieces(text: &str, scope: Scope) -> Vec<Piece<'_>> {
    let chunks: Vec<(&str, &str)> = text
        .split_inclusive(SEPARATORS)
        .map(|chunk| chunk.split_at(chunk.trim_end_matches(SEPARATORS).len()))
        .collect();
    let mut pieces = Vec::new();
    let mut before = Before::Start;
    let mut separator = "";
    for (index, &(word, next)) in chunks.iter().enumerate() {
        let rest = &chunks[index + 1..];
        before = match () {
            () if word.is_empty() => before,
            () if is_commit(word, before) => {
                push(&mut pieces, word, Role::Commit);
                Before::Commit
            }
            () if word.starts_with('g') && is_commit(&word[1..], before) => {
                push(&mut pieces, &word[..1], Role::Fixed);
                push(&mut pieces, &word[1..], Role::Commit);
                Before::Commit
            }
            () if is_number(word) => {
                let leads = matches!(before, Before::Start) && scope == Scope::Suffix;
                let role = match number_role(word, before, separator, scope) {
                    // In `3.1.0-18-minimal` the number belongs to the variant; in `3.1.0-18` and
                    // `3.1.0-18-g1a2b3c4` it counts.
                    // `17.0.9_9-jdk` has the build of a Java runtime after an underscore.
                    Role::Counter if leads && separator != "_" && !ends_or_commit(rest) => {
                        Role::Fixed
                    }
                    role => role,
                };
                push(&mut pieces, word, role);
                Before::Number(role)
            }
            () => mixed(word, scope, &mut pieces),
        };
        push(&mut pieces, next, Role::Fixed);
        separator = next;
    }
    mark_decimal_commits(&mut pieces);
    pieces
}

const SEPARATORS: [char; 3] = ['-', '_', '.'];

fn push<'t>(pieces: &mut Vec<Piece<'t>>, text: &'t str, role: Role) {
    if !text.is_empty() {
        pieces.push(Piece { text, role });
    }
}

/// Cuts a word with letters: a number at its end may count.
fn mixed<'t>(word: &'t str, scope: Scope, pieces: &mut Vec<Piece<'t>>) -> Before<'t> {
    let head = word.trim_end_matches(|c: char| c.is_ascii_digit());
    if head.len() == word.len() {
        push(pieces, word, Role::Fixed);
        return Before::Word(word);
    }
    let lower = head.to_ascii_lowercase();
    let is_distribution = DISTRIBUTIONS.contains(&lower.as_str());
    let counts = COUNTING.contains(&lower.as_str()) || is_distribution && scope == Scope::Suffix;
    if counts {
        push(pieces, head, Role::Fixed);
        push(pieces, &word[head.len()..], Role::Counter);
        return Before::Number(Role::Counter);
    }
    push(pieces, word, Role::Fixed);
    let is_named = |word: &str| {
        word.bytes().all(|byte| byte.is_ascii_alphabetic())
            && (VARIANTS.contains(&word) || DISTRIBUTIONS.contains(&word))
    };
    match is_named(&lower) {
        // `php8.2`: what follows the point belongs to it.
        true => Before::Number(Role::Fixed),
        false => Before::Mixed(word),
    }
}

fn number_role(word: &str, before: Before<'_>, separator: &str, scope: Scope) -> Role {
    let followed = |role| match role {
        Role::Fixed => Role::Fixed,
        _ => Role::Counter,
    };
    match before {
        Before::Word(name) if is_name(name, scope) => Role::Fixed,
        Before::Number(role) if separator == "." => followed(role),
        // `x86_64`.
        Before::Mixed(name) if name.starts_with('x') => Role::Fixed,
        _ if is_time(word) => Role::Time,
        _ => Role::Counter,
    }
}

/// Returns whether a number after this word belongs to a name.
fn is_name(word: &str, scope: Scope) -> bool {
    let lower = word.to_ascii_lowercase();
    NAMED.contains(&lower.as_str())
        || VARIANTS.contains(&lower.as_str())
        || scope == Scope::Whole && DISTRIBUTIONS.contains(&lower.as_str())
}

fn ends_or_commit(rest: &[(&str, &str)]) -> bool {
    match rest.first() {
        None => true,
        Some((word, _)) => {
            is_commit(word, Before::Start)
                || word
                    .strip_prefix('g')
                    .is_some_and(|word| is_commit(word, Before::Start))
                || is_number(word)
        }
    }
}

/// Returns whether a word is a commit: at least seven hexadecimal digits. Letters and digits must
/// both occur, unless the word before announces a commit.
fn is_commit(word: &str, before: Before<'_>) -> bool {
    let is_announced = matches!(before, Before::Word(word)
        if COMMITS.contains(&word.to_ascii_lowercase().as_str()));
    let has = |test: fn(&u8) -> bool| word.as_bytes().iter().any(test);
    (7..=40).contains(&word.len())
        && word
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && has(u8::is_ascii_digit)
        && (is_announced || has(u8::is_ascii_lowercase))
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns whether a number is `YYYYMMDD`, also with hours and minutes, or a Unix time in seconds
/// or milliseconds.
pub(super) fn is_time(number: &str) -> bool {
    let is_unix = matches!(number.len(), 10 | 13) && number.starts_with('1');
    is_unix || DATE_DIGITS.is_match(number)
}

/// Beside a time, a number as long as a short commit is one: one short commit in 27 has no letter.
fn mark_decimal_commits(pieces: &mut [Piece<'_>]) {
    if pieces.iter().any(|piece| piece.role == Role::Time) {
        for piece in pieces.iter_mut() {
            if piece.role == Role::Counter && matches!(piece.text.len(), 7 | 8 | 40) {
                piece.role = Role::Commit;
            }
        }
    }
}

/// The pattern of some pieces, with a group for each number that grows: `n1`, `n2`, …
#[derive(Debug, Default)]
pub(super) struct Pattern {
    pub text: String,
    /// The numbers of the tag itself, without leading zeros.
    pub numbers: Vec<String>,
}

impl Pattern {
    pub(super) fn add(&mut self, piece: Piece<'_>) {
        match piece.role {
            Role::Fixed => self.text.push_str(&escaped(piece.text)),
            Role::Commit => self.text.push_str("[0-9a-f]{7,40}"),
            // A version refuses numbers with leading zeros.
            Role::Counter => self.number(piece.text, "0*", "[0-9]+"),
            Role::Time => self.number(piece.text, "", &format!("[0-9]{{{}}}", piece.text.len())),
        }
    }

    fn number(&mut self, text: &str, before: &str, digits: &str) {
        self.numbers.push(canonical(text).to_owned());
        let group = self.numbers.len();
        self.text
            .push_str(&format!("{before}(?P<n{group}>{digits})"));
    }

    /// The groups from `first` on, counted from 1, joined by points.
    pub(super) fn groups(&self, first: usize) -> String {
        let groups = (first..=self.numbers.len()).map(|group| format!("${{n{group}}}"));
        Vec::from_iter(groups).join(".")
    }
}

/// Returns a number without leading zeros.
pub(super) fn canonical(number: &str) -> &str {
    match number.trim_start_matches('0') {
        "" => "0",
        number => number,
    }
}

/// Returns a pattern for a text. A hyphen stays, since it is special only in a character class.
pub(super) fn escaped(text: &str) -> String {
    regex::escape(text).replace("\\-", "-")
}

/// Returns whether a word names a distribution.
pub(super) fn is_distribution(word: &str) -> bool {
    DISTRIBUTIONS.contains(&word.to_ascii_lowercase().as_str())
}
