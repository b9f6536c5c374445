//! Foreign text, made safe for the text of a pull request.
//!
//! The publisher of an image, a release or a chart writes into pull requests that other people
//! read. That text must not mention users, close or link issues, load pictures, hide text, run
//! GitLab's quick actions (a line that begins with `/`) or break out of its place. Forges search
//! the rendered text for references, so escaping does not stop them, and GitLab searches the raw
//! text, code included, for `closes #1` and quick actions. Hence:
//!
//! - a word in which a reference could be found (`@ann`, `#12`, `!12`, `GH-12`, `~bug`, a commit, a
//!   URL that is no link) becomes code, which no forge searches for references;
//! - URLs become links if they are `http` or `https` and name no issue, pull request or commit of a
//!   forge, because forges announce such links at their target;
//! - everything else that Markdown or HTML would read is escaped; hidden characters are dropped.

use crate::core::text::is_hidden as hidden;
use url::Url;

/// Characters of a URL that becomes a link.
const ADDRESS: usize = 1_000;
/// Characters shown of a URL.
const SHOWN: usize = 80;
/// Characters of a line in a code block.
const LINE: usize = 500;

/// Returns one line of at most `most` characters, with single spaces and nothing hidden.
pub(crate) fn line(text: &str, most: usize) -> String {
    let mut clean = String::new();
    let (mut length, mut space) = (0, false);
    for c in text.chars() {
        if c.is_whitespace() {
            space = true;
        } else if !hidden(c) {
            if space && !clean.is_empty() {
                clean.push(' ');
                length += 1;
            }
            space = false;
            if length + 1 > most {
                clean.push('…');
                break;
            }
            clean.push(c);
            length += 1;
        }
    }
    clean
}

/// Returns prose on one line, for paragraphs and list items; not for table cells.
pub(crate) fn prose(text: &str, most: usize) -> String {
    words(&line(text, most), true)
}

/// Returns prose for the inside of a link, without further links.
pub(crate) fn prose_in_link(text: &str, most: usize) -> String {
    words(&line(text, most), false)
}

fn words(line: &str, links: bool) -> String {
    let all: Vec<String> = line
        .split(' ')
        .enumerate()
        .map(|(at, word)| self::word(word, links, at == 0))
        .collect();
    all.join(" ")
}

/// A word: its punctuation, and its core.
fn word(word: &str, links: bool, first: bool) -> String {
    let inner = word.trim_start_matches(['(', '[', '{', '"', '\'', '<', '“', '‘', '«']);
    let before = &word[..word.len() - inner.len()];
    let core = inner.trim_end_matches([
        ')', ']', '}', '"', '\'', '>', '.', ',', ';', ':', '?', '!', '%', '…', '”', '’', '»',
    ]);
    let after = &inner[core.len()..];
    let core = match address(core) {
        SafeUrl::Link(url) if links => link(&code_or_plain(&short(core)), &url),
        SafeUrl::Link(_) | SafeUrl::Reference => code(&short(core), usize::MAX),
        SafeUrl::None => code_or_plain(core),
    };
    let rest = core + &escape(after);
    if first && before.is_empty() {
        at_start(&rest)
    } else {
        escape(before) + &rest
    }
}

/// Tells whether a forge could find a reference in a word, now or in its next version.
fn suspicious(word: &str) -> bool {
    let upper_reference = |part: &str| {
        let reference = |(at, _): (usize, char)| {
            let name = part[..at]
                .rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .next()
                .unwrap_or_default();
            let number = part[at + 1..].starts_with(|c: char| c.is_ascii_digit());
            let capital = name.contains(|c: char| c.is_ascii_uppercase());
            number && (capital || name.to_ascii_lowercase().ends_with("gh"))
        };
        part.char_indices()
            .filter(|(_, c)| *c == '-')
            .any(reference)
    };
    let commit = |part: &str| part.len() >= 7 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let time = |word: &str| {
        word.bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b':')
    };
    word.contains(['@', '#', '$', '~', '^', '%', '!', '`', '\\'])
        || (word.contains(':') && !time(word))
        || word.to_ascii_lowercase().contains("www.")
        || word
            .char_indices()
            .any(|(at, c)| c == '&' && word[at + 1..].starts_with(|c: char| c.is_ascii_digit()))
        || word.split(|c: char| !c.is_ascii_alphanumeric()).any(commit)
        || upper_reference(word)
}

fn code_or_plain(word: &str) -> String {
    if suspicious(word) {
        code(word, usize::MAX)
    } else {
        escape(word)
    }
}

/// Escapes Markdown and HTML.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '|' => safe.push_str("&#124;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '!' | '~' | '#' | '$' => safe.extend(['\\', c]),
            c => safe.push(c),
        }
    }
    safe
}

/// Escapes a first word that Markdown would read as a list, a rule or a heading, or GitLab as a
/// quick action.
fn at_start(word: &str) -> String {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_digit());
    match word.chars().next() {
        Some('-' | '+' | '=' | '/' | ':') => format!("\\{word}"),
        Some(c) if c.is_ascii_digit() && digits.starts_with(['.', ')']) => {
            format!("{}\\{digits}", &word[..word.len() - digits.len()])
        }
        _ => word.to_owned(),
    }
}

/// Returns a code span, outside of tables.
pub(crate) fn code(text: &str, most: usize) -> String {
    span(&line(text, most))
}

/// Returns a code span for a table cell, where a `|` must be escaped even in code.
pub(crate) fn cell_code(text: &str, most: usize) -> String {
    span(&line(text, most).replace("\\|", "\\ |").replace('|', "\\|"))
}

fn span(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let text = unmarked(text);
    let ticks = "`".repeat(longest_run(&text) + 1);
    // CommonMark strips a space on both sides; beside a backtick one is needed.
    let pad = if text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) {
        " "
    } else {
        ""
    };
    format!("{ticks}{pad}{text}{pad}{ticks}")
}

/// Returns the length of the longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// Breaks two things that are read even inside code: the marker of the bot's own pull requests, and
/// on GitLab the words that close issues.
fn unmarked(text: &str) -> String {
    let text = text.replace("<!--", "<! --").replace("-->", "-- >");
    let mut safe = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find([' ', ':']) {
        let (before, after) = rest.split_at(at);
        let blanks = after.strip_prefix(':').unwrap_or(after);
        let follows = blanks.trim_start_matches(' ');
        safe.push_str(before);
        let word = follows.split(' ').next().unwrap_or_default();
        let refers = suspicious(word) || word.starts_with("issue");
        if refers && closes(before) && follows.len() < blanks.len() {
            safe.push_str(&after[..after.len() - blanks.len()]);
            safe.push('\u{a0}');
            rest = follows;
        } else {
            let next = after.chars().next().map_or(0, char::len_utf8);
            safe.push_str(&after[..next]);
            rest = &after[next..];
        }
    }
    safe + rest
}

/// Tells whether a text ends with a word that closes issues.
fn closes(text: &str) -> bool {
    let word = text
        .rsplit(|c: char| !c.is_ascii_alphabetic())
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    ["clos", "fix", "resolv", "implement"].iter().any(|stem| {
        word.strip_prefix(stem)
            .is_some_and(|end| matches!(end, "" | "e" | "es" | "ed" | "ing" | "s"))
    })
}

/// Returns a code block, whose fence is longer than any in it. No line begins with `/`.
pub(crate) fn fence(language: &str, text: &str) -> String {
    let lines: Vec<String> = text.lines().map(code_line).collect();
    let text = lines.join("\n");
    let ticks = "`".repeat(longest_run(&text).max(2) + 1);
    format!("{ticks}{language}\n{text}\n{ticks}")
}

fn code_line(text: &str) -> String {
    let mut clean: String = text
        .chars()
        .filter(|c| *c == '\t' || !hidden(*c))
        .take(LINE + 1)
        .collect();
    if let Some((at, _)) = clean.char_indices().nth(LINE) {
        clean.truncate(at);
        clean.push('…');
    }
    if clean.starts_with('/') {
        clean.insert(0, ' ');
    }
    unmarked(&clean)
}

/// Returns text for HTML summaries, where Markdown is not read.
pub(crate) fn html(text: &str, most: usize) -> String {
    let escape = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
    };
    let word = |word: &str| match suspicious(word) {
        true => format!("<code>{}</code>", escape(word)),
        false => escape(word),
    };
    line(text, most)
        .split(' ')
        .map(word)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns a link; the words are safe already.
pub(crate) fn link(words: &str, url: &Url) -> String {
    let mut address = String::new();
    for c in url.as_str().chars() {
        match c {
            '&' => address.push_str("&amp;"),
            '(' | ')' | '<' | '>' | '[' | ']' | '\\' | '`' | '|' | '*' | '_' | '"' | '\'' | '!'
            | '{' | '}' | '^' | '~' | '$' | '@' => {
                address.push_str(&format!("%{:02X}", u32::from(c)));
            }
            c => address.push(c),
        }
    }
    format!("[{words}]({address})")
}

/// Use of a URL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SafeUrl {
    /// May be a link.
    Link(Url),
    /// May be shown only: a forge notifies what it names, or it is too long or has credentials.
    Reference,
    /// Not a URL.
    None,
}

/// Path segments whose links forges announce at their target: issues, pull requests, commits and
/// other discussions.
const ANNOUNCED: &[&str] = &[
    "issues",
    "pull",
    "pulls",
    "merge_requests",
    "discussions",
    "commit",
    "commits",
    "work_items",
    "epics",
    "snippets",
    "milestones",
    "milestone",
    "vulnerabilities",
    "designs",
    "incident",
    "incidents",
];

/// Classifies a URL as it stands in a text or a link.
pub(crate) fn address(text: &str) -> SafeUrl {
    let scheme = text
        .split_once("://")
        .map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("http" | "https")) {
        return SafeUrl::None;
    }
    if text.len() > ADDRESS || text.contains(|c: char| hidden(c) || c.is_whitespace()) {
        return SafeUrl::Reference;
    }
    let Ok(url) = Url::parse(text) else {
        return SafeUrl::Reference;
    };
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        return SafeUrl::Reference;
    };
    let plain = url.username().is_empty() && url.password().is_none() && !host.contains('%');
    let decoded = decoded(url.as_str()).to_ascii_lowercase();
    if plain
        && !decoded
            .split(['/', '\\', '?', '#', '&', '='])
            .any(|part| ANNOUNCED.contains(&part.trim()))
    {
        SafeUrl::Link(url)
    } else {
        SafeUrl::Reference
    }
}

/// Decodes `%69ssues` repeatedly, as other programs might.
fn decoded(address: &str) -> String {
    let mut text = address.to_owned();
    for _ in 0..3 {
        let bytes = text.as_bytes();
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            let hex = bytes
                .get(at + 1..at + 3)
                .filter(|_| bytes[at] == b'%')
                .and_then(|hex| std::str::from_utf8(hex).ok());
            match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(byte) => {
                    out.push(byte);
                    at += 3;
                }
                None => {
                    out.push(bytes[at]);
                    at += 1;
                }
            }
        }
        text = String::from_utf8_lossy(&out).into_owned();
    }
    text
}

/// Returns a URL without its scheme; for an issue or pull request only its short name.
pub(crate) fn short(text: &str) -> String {
    let bare = text
        .split_once("://")
        .map_or(text, |(_, rest)| rest)
        .trim_end_matches('/');
    let parts: Vec<&str> = bare.split('/').filter(|part| *part != "-").collect();
    if let [_, owner @ .., name, kind, number] = parts.as_slice()
        && !owner.is_empty()
        && number.len() <= 12
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        let sign = match *kind {
            "issues" | "pull" | "pulls" => '#',
            "merge_requests" => '!',
            _ => return line(bare, SHOWN),
        };
        return line(&format!("{}/{name}{sign}{number}", owner.join("/")), SHOWN);
    }
    line(bare, SHOWN)
}

/// Returns the link that a whole text is, if it may be one.
pub(crate) fn linkable(text: &str) -> Option<Url> {
    match address(text) {
        SafeUrl::Link(url) => Some(url),
        SafeUrl::Reference | SafeUrl::None => None,
    }
}
