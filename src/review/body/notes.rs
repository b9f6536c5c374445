//! Release notes: hostile Markdown, parsed and written again in a safe subset, as a quotation.
//!
//! Kept are paragraphs, lists, quotations, code, tables (a line a row), headings (as bold lines)
//! and links. Dropped are emphasis, pictures, HTML and comments; the text between tags stays.

use super::text::{SafeUrl, address, code, fence, link, prose, prose_in_link, short};
use pulldown_cmark::{BlockQuoteKind, Event, Options, Parser, Tag, TagEnd};

/// Characters parsed of one release's notes.
const READ: usize = 16 * 1024;
const PARAGRAPH: usize = 2_000;
/// Depth of nested lists and quotations; deeper ones are shown at this depth.
const DEPTH: usize = 6;

pub(crate) struct SafeNotes {
    /// Lines that begin with `> `; may be empty.
    pub text: String,
    /// True if the end was cut.
    pub cut: bool,
}

/// Parses notes and writes about `most` characters of them, in whole pieces.
pub(crate) fn notes(markdown: &str, most: usize) -> SafeNotes {
    let source: String = markdown.chars().take(READ).collect();
    let mut cut = source.len() < markdown.len();
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_GFM;
    let mut writer = NoteWriter::default();
    for event in Parser::new_ext(&source, options) {
        writer.event(event);
    }
    writer.finish();
    let mut text = String::new();
    let mut length = 0;
    for piece in writer.pieces {
        length += piece.chars().count();
        if length > most {
            cut = true;
            break;
        }
        text.push_str(&piece);
    }
    let quoted: Vec<String> = text
        .trim_matches('\n')
        .lines()
        .map(|line| format!("> {line}").trim_end().to_owned())
        .collect();
    SafeNotes {
        text: if text.trim().is_empty() {
            String::new()
        } else {
            quoted.join("\n")
        },
        cut,
    }
}

/// A container of lines.
struct NoteContainer {
    /// Prefix of its first line: `> `, `- `, `1. `, or nothing if it is too deep.
    mark: String,
    /// Prefix of its further lines.
    rest: String,
    /// True once its first line is written.
    written: bool,
}

impl NoteContainer {
    fn quote() -> Self {
        Self {
            mark: "> ".to_owned(),
            rest: "> ".to_owned(),
            written: false,
        }
    }

    fn item(mark: String) -> Self {
        Self {
            rest: " ".repeat(mark.len()),
            mark,
            written: false,
        }
    }

    fn is_item(&self) -> bool {
        self.mark != self.rest
    }
}

#[derive(Default)]
struct NoteWriter {
    /// Written pieces; each can be the last.
    pieces: Vec<String>,
    piece: String,
    containers: Vec<NoteContainer>,
    /// Number of the next item of each list; none for bullets.
    lists: Vec<Option<u64>>,
    /// True if a list has begun and has no item yet.
    fresh: bool,
    /// The current line, which is safe already.
    line: String,
    /// Text at its end that is not safe yet: words are checked as a whole.
    pending: String,
    /// The current link: its URL, and where its words begin in the line.
    link: Option<(String, usize)>,
    /// Depth inside of pictures.
    dropped: usize,
    heading: bool,
    /// The current block of code or HTML.
    verbatim: Option<String>,
    cells: Vec<String>,
}

impl NoteWriter {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            _ if self.dropped > 0 => {}
            Event::Text(text) | Event::Html(text) => match &mut self.verbatim {
                Some(verbatim) => verbatim.push_str(&text),
                None => self.pending.push_str(&text),
            },
            Event::Code(text) => {
                self.settle();
                self.apart();
                self.line.push_str(&code(&text, PARAGRAPH));
            }
            Event::SoftBreak | Event::HardBreak => self.pending.push(' '),
            Event::InlineHtml(tag) if tag.to_ascii_lowercase().starts_with("<br") => {
                self.pending.push(' ')
            }
            Event::Rule => self.flush(),
            Event::InlineHtml(_)
            | Event::InlineMath(_)
            | Event::DisplayMath(_)
            | Event::FootnoteReference(_)
            | Event::TaskListMarker(_) => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Image { .. } => self.dropped += 1,
            _ if self.dropped > 0 => {}
            Tag::Link { dest_url, .. } => {
                self.settle();
                self.apart();
                self.link = Some((dest_url.to_string(), self.line.len()));
            }
            Tag::Heading { .. } => {
                self.flush();
                self.heading = true;
            }
            Tag::CodeBlock(_) | Tag::HtmlBlock => {
                self.flush();
                self.verbatim = Some(String::new());
            }
            Tag::List(first) => {
                self.flush();
                self.lists.push(*first);
                self.fresh = true;
            }
            Tag::Item => {
                let mark = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        let mark = format!("{}. ", *number % 1_000_000);
                        *number += 1;
                        mark
                    }
                    _ => "- ".to_owned(),
                };
                self.enter(NoteContainer::item(mark));
            }
            Tag::BlockQuote(kind) => {
                self.flush();
                self.enter(NoteContainer::quote());
                if let Some(kind) = kind {
                    self.block(&format!("**{}**", alert(*kind)));
                }
            }
            Tag::TableHead | Tag::TableRow => self.cells.clear(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Image => self.dropped = self.dropped.saturating_sub(1),
            _ if self.dropped > 0 => {}
            TagEnd::Link => self.end_link(),
            TagEnd::Paragraph | TagEnd::Heading(_) => self.flush(),
            TagEnd::CodeBlock => {
                let text = self.verbatim.take().unwrap_or_default();
                self.block(&fence("text", text.trim_end_matches('\n')));
            }
            TagEnd::HtmlBlock => {
                let text = self.verbatim.take().unwrap_or_default();
                self.pending = without_tags(&text);
                self.flush();
            }
            TagEnd::List(_) => {
                self.lists.pop();
            }
            TagEnd::Item | TagEnd::BlockQuote(_) => {
                self.flush();
                self.containers.pop();
            }
            TagEnd::TableCell => {
                self.settle();
                let cell = std::mem::take(&mut self.line);
                self.cells.push(cell.trim().to_owned());
            }
            TagEnd::TableHead | TagEnd::TableRow => {
                let cells: Vec<String> = self
                    .cells
                    .drain(..)
                    .filter(|cell| !cell.is_empty())
                    .collect();
                self.line = cells.join(" · ");
                self.flush();
            }
            _ => {}
        }
        if self.containers.is_empty() {
            self.end_piece();
        }
    }

    fn enter(&mut self, container: NoteContainer) {
        let deep = self.containers.len() >= DEPTH;
        let flat = || NoteContainer {
            mark: String::new(),
            rest: String::new(),
            written: true,
        };
        self.containers.push(if deep { flat() } else { container });
    }

    fn end_link(&mut self) {
        self.settle();
        let Some((target, from)) = self.link.take() else {
            return;
        };
        let words = self.line.split_off(from.min(self.line.len()));
        let words = words.trim();
        match address(&target) {
            SafeUrl::Link(url) if words.is_empty() => self
                .line
                .push_str(&link(&prose_in_link(&short(&target), PARAGRAPH), &url)),
            SafeUrl::Link(url) => self.line.push_str(&link(words, &url)),
            SafeUrl::Reference if words.is_empty() => {
                self.line.push_str(&code(&short(&target), PARAGRAPH))
            }
            SafeUrl::Reference | SafeUrl::None => self.line.push_str(words),
        }
    }

    /// Makes the text at the end of the line safe, keeping one space on each side.
    fn settle(&mut self) {
        let text = std::mem::take(&mut self.pending);
        let words = if self.link.is_some() {
            prose_in_link(&text, PARAGRAPH)
        } else {
            prose(&text, PARAGRAPH)
        };
        let space = |edge: Option<char>| edge.is_some_and(char::is_whitespace);
        if space(text.chars().next()) && !self.line.is_empty() && !self.line.ends_with(' ') {
            self.line.push(' ');
        }
        if words.starts_with('`') {
            self.apart();
        }
        self.line.push_str(&words);
        if !words.is_empty() && space(text.chars().last()) {
            self.line.push(' ');
        }
    }

    /// Keeps the backticks of two pieces of code apart.
    fn apart(&mut self) {
        if self.line.ends_with('`') {
            self.line.push(' ');
        }
    }

    /// Ends the current paragraph.
    fn flush(&mut self) {
        if self.link.is_some() {
            self.end_link();
        }
        self.settle();
        let line = std::mem::take(&mut self.line);
        let heading = std::mem::take(&mut self.heading);
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        if heading {
            self.block(&format!("**{line}**"))
        } else {
            self.block(line)
        }
    }

    /// Writes lines into the containers, after a blank line; items follow each other without one.
    fn block(&mut self, text: &str) {
        let opens = self
            .containers
            .iter()
            .any(|container| container.is_item() && !container.written);
        let within = self
            .containers
            .iter()
            .any(|container| container.is_item() && container.written);
        let begun = !(self.pieces.is_empty() && self.piece.is_empty());
        if begun && (!opens || self.fresh && !within) {
            let written = self
                .containers
                .iter()
                .take_while(|container| container.written);
            let prefix: String = written.map(|container| container.rest.as_str()).collect();
            self.piece.push_str(prefix.trim_end());
            self.piece.push('\n');
        }
        self.fresh = false;
        for line in text.lines() {
            for container in &mut self.containers {
                self.piece.push_str(if container.written {
                    &container.rest
                } else {
                    &container.mark
                });
                container.written = true;
            }
            self.piece.push_str(line);
            self.piece.push('\n');
        }
    }

    fn end_piece(&mut self) {
        if !self.piece.is_empty() {
            self.pieces.push(std::mem::take(&mut self.piece));
        }
    }

    fn finish(&mut self) {
        self.flush();
        self.end_piece();
    }
}

fn alert(kind: BlockQuoteKind) -> &'static str {
    match kind {
        BlockQuoteKind::Note => "Note",
        BlockQuoteKind::Tip => "Tip",
        BlockQuoteKind::Important => "Important",
        BlockQuoteKind::Warning => "Warning",
        BlockQuoteKind::Caution => "Caution",
    }
}

/// Returns the text of HTML: comments and tags become spaces, common entities are decoded.
fn without_tags(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        text.push_str(&rest[..at]);
        text.push(' ');
        let end = if rest[at..].starts_with("<!--") {
            "-->"
        } else {
            ">"
        };
        rest = rest[at..]
            .find(end)
            .map_or("", |found| &rest[at + found + end.len()..]);
    }
    text.push_str(rest);
    let names = [
        ("&nbsp;", " "),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ];
    names.iter().fold(text, |text, (name, character)| {
        text.replace(name, character)
    })
}
