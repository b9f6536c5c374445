//! Tables that fit the terminal.

use super::{Screen, screen::Color};

/// A cell with its colour.
pub(super) type Cell = (String, Option<Color>);

/// The blanks between two columns.
const GAP: usize = 2;
/// The indent of the further lines of a row.
const INDENT: usize = 4;
/// The least width of the last column: where less is left, it goes to a line of its own.
const LEAST_LAST: usize = 16;

/// Returns a text for the heads, if there are any, and one for each row. The last column is not
/// padded; colours do not count as width.
///
/// On a terminal that is too narrow, the last column is wrapped, and columns that do not fit beside
/// the others go to further lines of the row. Elsewhere each row is one line, for programs.
pub(super) fn table(heads: &[&str], rows: &[Vec<Cell>], screen: &Screen) -> Vec<String> {
    let columns = rows.first().map_or(heads.len(), Vec::len);
    let width = |column: usize| {
        let head = heads.get(column).map_or(0, |head| head.len());
        let cells = rows.iter().map(|row| row[column].0.chars().count());
        cells.max().unwrap_or_default().max(head)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let limit = screen.width().unwrap_or(usize::MAX);
    let lines = layout(&widths, limit);
    let head_cell = |head: &&str| ((*head).to_owned(), Some(Color::Dim));
    let head_row: Vec<Cell> = heads.iter().map(head_cell).collect();
    let all = (!heads.is_empty()).then_some(&head_row).into_iter();
    all.chain(rows)
        .map(|row| self::row(row, &widths, &lines, limit, screen))
        .collect()
}

/// Distributes columns over the lines of a row; returns the first column of each line.
fn layout(widths: &[usize], limit: usize) -> Vec<usize> {
    let mut lines = vec![0];
    let mut used = 0;
    for (column, width) in widths.iter().enumerate() {
        let least = match column + 1 == widths.len() {
            true => (*width).min(LEAST_LAST),
            false => *width,
        };
        let is_first = lines.last() == Some(&column);
        let gap = if is_first { 0 } else { GAP };
        if !is_first && used + gap + least > limit {
            lines.push(column);
            used = INDENT + width;
        } else {
            used += gap + width;
        }
    }
    lines
}

fn row(cells: &[Cell], widths: &[usize], lines: &[usize], limit: usize, screen: &Screen) -> String {
    let mut text = String::new();
    let mut at = 0;
    for (column, (cell, color)) in cells.iter().enumerate() {
        if column > 0 && lines.contains(&column) {
            while text.ends_with(' ') {
                text.pop();
            }
            text.push('\n');
            text.push_str(&" ".repeat(INDENT));
            at = INDENT;
        }
        let is_last = column + 1 == cells.len();
        let room = limit.saturating_sub(at).max(LEAST_LAST);
        for (number, piece) in wrapped(cell, if is_last { room } else { usize::MAX })
            .into_iter()
            .enumerate()
        {
            if number > 0 {
                text.push('\n');
                text.push_str(&" ".repeat(at));
            }
            match color {
                Some(color) => text.push_str(&screen.paint(*color, piece)),
                None => text.push_str(piece),
            }
        }
        if !is_last {
            let padding = widths[column] - cell.chars().count() + GAP;
            text.push_str(&" ".repeat(padding));
            at += widths[column] + GAP;
        }
    }
    text.trim_end().to_owned()
}

/// Wraps text at blanks; a word that is longer than a line stays whole, so that it can be copied.
fn wrapped(text: &str, width: usize) -> Vec<&str> {
    let mut lines = Vec::new();
    let (mut start, mut end) = (0, 0);
    for (at, word) in words(text) {
        let length = text[start..at + word.len()].chars().count();
        if length > width && end > start {
            lines.push(&text[start..end]);
            start = at;
        }
        end = at + word.len();
    }
    lines.push(&text[start..end.max(start)]);
    lines
}

/// Iterates over the words with their places.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(' ')
        .scan(0, |at, word| {
            let place = *at;
            *at += word.len() + 1;
            Some((place, word))
        })
        .filter(|(_, word)| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<Cell>> {
        let cell = |text: &&str| ((*text).to_owned(), None);
        rows.iter()
            .map(|row| row.iter().map(cell).collect())
            .collect()
    }

    #[test]
    fn table_pads_all_columns_but_the_last() {
        let screen = Screen::buffer(false);
        assert_eq!(
            table(&["NAME", "X"], &rows(&[&["a", "long text"]]), &screen),
            ["NAME  X", "a     long text"]
        );
        assert_eq!(table(&[], &rows(&[&["a", "b"]]), &screen), ["a  b"]);
    }

    #[test]
    fn table_wraps_the_last_column() {
        let screen = Screen::buffer(false).with_width(24);
        let rows = rows(&[&["web", "no tag is allowed by the range"]]);
        assert_eq!(
            table(&["NAME", "REASON"], &rows, &screen),
            [
                "NAME  REASON",
                "web   no tag is allowed\n      by the range"
            ]
        );
    }

    #[test]
    fn table_moves_columns_to_further_lines() {
        let screen = Screen::buffer(false).with_width(20);
        let rows = rows(&[&["team/application", "east", "synced", "4"]]);
        assert_eq!(
            table(&["APPLICATION", "CLUSTER", "STATE", "N"], &rows, &screen),
            [
                "APPLICATION\n    CLUSTER  STATE\n    N",
                "team/application\n    east     synced\n    4"
            ]
        );
    }

    #[test]
    fn table_never_runs_over_the_terminal() {
        let screen = Screen::buffer(false).with_width(80);
        let name = "flux-system/a-rather-long-name";
        let reason = "no tag is allowed ".repeat(9);
        let cells = [name, name, "production-eu", "1.2.3-rc.1", &reason];
        for columns in 2..=cells.len() {
            let rows = rows(&[&cells[..columns], &cells[cells.len() - columns..]]);
            // Only a single cell that is longer than a line may run over, and the last is wrapped.
            for text in table(&["A", "B", "C", "D", "E"][..columns], &rows, &screen) {
                let is_long = |line: &str| line.chars().count() > 80 && !line.contains(&*reason);
                assert!(!text.lines().any(is_long), "{text}");
            }
        }
    }
}
