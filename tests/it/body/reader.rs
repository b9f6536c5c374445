//! Parses a body as a forge does, and asserts that it contains nothing harmful.

use super::MARKER;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use regex::Regex;
use std::sync::LazyLock;

/// References that forges recognise in text: mentions, issues, requests, labels, commits, URLs.
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x) @[\w-] | \#\w | (^|[^\w])!\d | \$\d | ~\w | %\d | &\d | \^\w+\# | (?i:gh-\d) | \b[A-Z][A-Z0-9_]*-\d | \b[0-9a-f]{7,64}\b
        | :// | (?i:www\.) | (?i:mailto:|xmpp:)",
    )
    .unwrap()
});

/// Links to issues and requests, which notify the other side.
static TOLD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)/(issues|pull|pulls|merge_requests|discussions|commits?|work_items)(/|$)")
        .unwrap()
});

/// Keywords that close issues, in raw text.
static CLOSES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(clos(e[sd]?|ing)|fix(e[sd]|ing)?|resolv(e[sd]?|ing)|implement(s|ed|ing)?):?\ +(issues?\ +)?(\#\d|[\w./-]+\#\d|https?://|[A-Z]+-\d)").unwrap()
});

/// The elements of a text, counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Elements {
    /// The rows of each table, including its header.
    pub tables: Vec<usize>,
    pub cells: usize,
    /// Collapsed sections.
    pub details: usize,
    pub headings: usize,
    pub links: usize,
    pub blocks: usize,
}

/// Checks everything that must hold for any text; returns its elements.
pub(super) fn check(text: &str) -> Elements {
    let body = text
        .strip_prefix(MARKER)
        .unwrap_or_else(|| panic!("the marker is not first: {text}"));
    assert!(
        !body.contains("<!--") && !body.contains("-->"),
        "a comment: {text}"
    );
    assert!(
        !body.lines().any(|line| line.starts_with('/')),
        "a quick action: {text}"
    );
    assert!(
        !body
            .chars()
            .any(|c| c.is_control() && c != '\n' && c != '\t'),
        "a control character: {text:?}"
    );
    assert!(
        !body.contains(['\u{202e}', '\u{200b}', '\u{2066}', '\u{feff}', '\u{e0041}']),
        "an invisible character: {text:?}"
    );
    if let Some(found) = CLOSES.find(body) {
        panic!("{:?} closes an issue: {text}", found.as_str());
    }
    let mut seen = Elements::default();
    let (mut prose, mut code, mut open) = (String::new(), false, 0);
    let inline_code = Regex::new("<code>[^<]*</code>").unwrap();
    for event in Parser::new_ext(
        text,
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_FOOTNOTES,
    ) {
        match event {
            Event::Text(text) if !code => prose.push_str(&text),
            Event::Code(_) => prose.push('\u{fffc}'),
            Event::Html(html) | Event::InlineHtml(html) => {
                let html = html.trim_end();
                if html == MARKER {
                    continue;
                }
                open += html.matches("<details>").count();
                seen.details += html.matches("<details>").count();
                assert!(
                    open >= html.matches("</details>").count(),
                    "a collapsed section ends that did not begin: {text}"
                );
                open -= html.matches("</details>").count();
                let rest = ["details", "summary", "code", "b"].iter().fold(
                    html.to_owned(),
                    |html, tag| {
                        html.replace(&format!("<{tag}>"), "")
                            .replace(&format!("</{tag}>"), "")
                    },
                );
                assert!(
                    !rest.contains(['<', '>']),
                    "foreign HTML: {html:?} in {text}"
                );
                let outside_code = inline_code.replace_all(html, "");
                assert!(
                    !outside_code.contains('@') && !outside_code.contains('#'),
                    "a mention in a summary: {html:?}"
                );
                assert_eq!(
                    html.matches("<summary>").count(),
                    html.matches("</summary>").count(),
                    "{html:?}"
                );
            }
            Event::Start(Tag::Link { dest_url, .. }) => {
                seen.links += 1;
                let safe = dest_url.starts_with("https://") || dest_url.starts_with("http://");
                assert!(
                    safe && !TOLD.is_match(&dest_url) && !dest_url.contains('@'),
                    "the link {dest_url} in {text}"
                );
            }
            Event::Start(Tag::Image { dest_url, .. }) => panic!("a picture {dest_url} in {text}"),
            Event::Start(Tag::CodeBlock(_)) => (code, seen.blocks) = (true, seen.blocks + 1),
            Event::End(TagEnd::CodeBlock) => code = false,
            Event::Start(Tag::Heading { .. }) => seen.headings += 1,
            Event::Start(Tag::Table(_)) => seen.tables.push(0),
            Event::Start(Tag::TableRow | Tag::TableHead) => *seen.tables.last_mut().unwrap() += 1,
            Event::Start(Tag::TableCell) => seen.cells += 1,
            Event::End(
                TagEnd::Paragraph | TagEnd::Heading(_) | TagEnd::Item | TagEnd::TableCell,
            ) => look(&mut prose, text),
            Event::FootnoteReference(_) | Event::Start(Tag::FootnoteDefinition(_)) => {
                panic!("a footnote in {text}")
            }
            Event::SoftBreak | Event::HardBreak => prose.push('\n'),
            _ => {}
        }
    }
    look(&mut prose, text);
    assert_eq!(open, 0, "a collapsed section does not end: {text}");
    assert!(!code, "a block of code does not end: {text}");
    seen
}

fn look(prose: &mut String, text: &str) {
    if let Some(found) = REFERENCE.find(prose) {
        panic!("{:?} can be found in {prose:?} of {text}", found.as_str());
    }
    prose.clear();
}
