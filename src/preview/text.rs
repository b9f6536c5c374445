//! Sanitises and cuts foreign text: names, server messages, diffs.

use crate::core::text::{escape_lines, one_line};

/// Characters of a sentence that are kept: a schema error of a CRD can be very long.
const LINE: usize = 2000;

/// Bytes of the diff of one object that are shown.
const DIFF: usize = 64 << 10;

/// Bytes of all diffs of a preview.
const ALL: usize = 1 << 20;

/// The number of objects shown of one Application; refused ones are shown beyond it.
pub(super) const OBJECTS: usize = 200;

/// Returns foreign text as one line.
pub(super) fn line(text: &str) -> String {
    one_line(text, LINE)
}

/// A diff whose lines hold nothing hidden, cut by whole lines.
pub(super) fn diff(text: &str) -> String {
    let safe = escape_lines(text);
    cut(&safe, DIFF)
}

/// Keeps as many whole lines as fit, with a remark on the rest that diff readers ignore.
fn cut(text: &str, room: usize) -> String {
    if text.len() <= room {
        return text.to_owned();
    }
    let end = text.as_bytes()[..room]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let left = text[end..].lines().count();
    format!(
        "{}\\ {left} more line{} not shown\n",
        &text[..end],
        if left == 1 { " is" } else { "s are" }
    )
}

/// The remaining amount of text that may be shown.
pub(super) struct TextBudget(usize);

impl Default for TextBudget {
    fn default() -> Self {
        Self(ALL)
    }
}

impl TextBudget {
    /// Cuts a diff to the remaining budget.
    pub(super) fn cut(&mut self, diff: &str) -> String {
        let diff = cut(diff, self.0);
        self.0 = self.0.saturating_sub(diff.len());
        diff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preview_sentence_is_one_harmless_line() {
        assert_eq!(
            line(" a\n\u{1b}[31mb\u{202e}c\r\n"),
            "a \\u{1b}[31mb\\u{202e}c"
        );
        assert_eq!(line(&"é".repeat(5000)).chars().count(), LINE + 1);
    }

    #[test]
    fn preview_diff_is_cut_at_a_line_with_note() {
        assert_eq!(cut("+a\n+b\n", 6), "+a\n+b\n");
        assert_eq!(
            cut("+a\n+é\n+c\n", 5),
            "+a\n\\ 2 more lines are not shown\n"
        );
        assert_eq!(cut("+abc", 2), "\\ 1 more line is not shown\n");
        assert_eq!(diff("+a\u{7}\n"), "+a\\u{7}\n");
        let long = "+0123456789\n".repeat(1 << 18);
        let short = diff(&long);
        assert!(
            short.len() <= DIFF + 100 && short.ends_with(" more lines are not shown\n"),
            "{}",
            short.len()
        );
        let mut room = TextBudget::default();
        let all: usize = (0..100).map(|_| room.cut(&short).len()).sum();
        assert!(all <= ALL + 100 * 100, "{all}");
    }
}
