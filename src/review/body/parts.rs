//! Fits a text of rows into a limit: the least important rows are cut first, as a whole, and the
//! text lists the cuts.

/// Importance of rows, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RowRank {
    Notes,
    Files,
    Newer,
    Links,
    Objects,
    Refused,
    Moves,
}

/// Order of cuts: rows lose their long form, or go.
const CUTS: &[(RowRank, RowForm)] = &[
    (RowRank::Notes, RowForm::Short),
    (RowRank::Notes, RowForm::Gone),
    (RowRank::Objects, RowForm::Short),
    (RowRank::Files, RowForm::Gone),
    (RowRank::Newer, RowForm::Gone),
    (RowRank::Links, RowForm::Gone),
    (RowRank::Objects, RowForm::Gone),
    (RowRank::Refused, RowForm::Gone),
    (RowRank::Moves, RowForm::Gone),
];

const GAP: &str = "\n\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RowForm {
    Whole,
    Short,
    Gone,
}

/// A row, which is never cut inside.
#[derive(Debug, Clone)]
pub(crate) struct BodyRow {
    pub text: String,
    /// Replaces `text` where it is too long.
    pub short: Option<String>,
}

impl BodyRow {
    pub(super) fn new(text: String) -> Self {
        Self { text, short: None }
    }

    pub(super) fn with_short(text: String, short: String) -> Self {
        Self {
            text,
            short: Some(short),
        }
    }

    /// Puts the row below a heading, which is cut with it.
    pub(super) fn below(self, heading: &str) -> Self {
        Self {
            text: format!("{heading}{}", self.text),
            short: self.short.map(|short| format!("{heading}{short}")),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct BodyPart {
    pub rank: RowRank,
    /// Always shown; may be empty.
    pub title: String,
    /// Shown above the rows if there are any, as the head of a table.
    pub head: String,
    pub rows: Vec<BodyRow>,
    /// Shown below the rows if there are any.
    pub tail: &'static str,
    pub between: &'static str,
    /// Singular and plural of the rows' name.
    pub called: (&'static str, &'static str),
    /// Singular and plural of what the short form lacks.
    pub lacks: (&'static str, &'static str),
}

#[derive(Debug, Clone)]
pub(crate) enum BodyPiece {
    Fixed(String),
    Part(BodyPart),
}

/// Counts things: `1 object`, `2 objects`.
pub(crate) fn count(number: usize, (one, many): (&str, &str)) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

struct BodyCut {
    piece: BodyPiece,
    forms: Vec<RowForm>,
}

impl BodyCut {
    fn text(&self) -> String {
        let part = match &self.piece {
            BodyPiece::Fixed(text) => return text.clone(),
            BodyPiece::Part(part) => part,
        };
        let shown: Vec<&str> = part
            .rows
            .iter()
            .zip(&self.forms)
            .filter_map(|(row, form)| shown(row, *form))
            .collect();
        let number = |form| self.forms.iter().filter(|known| **known == form).count();
        let (shortened, gone) = (number(RowForm::Short), number(RowForm::Gone));
        let mut pieces = Vec::new();
        if !part.title.is_empty() {
            pieces.push(part.title.clone());
        }
        if !shown.is_empty() {
            pieces.push(format!(
                "{}{}{}",
                part.head,
                shown.join(part.between),
                part.tail
            ));
        }
        let mut left_out = Vec::new();
        if shortened > 0 {
            left_out.push(count(shortened, part.lacks));
        }
        if gone > 0 {
            let more = if shown.is_empty() { "" } else { "more " };
            left_out.push(format!(
                "{gone} {more}{}",
                if gone == 1 {
                    part.called.0
                } else {
                    part.called.1
                }
            ));
        }
        if !left_out.is_empty() {
            pieces.push(format!(
                "*Left out, because the text would be too long: {}.*",
                left_out.join(", ")
            ));
        }
        pieces.join(GAP)
    }

    fn rank(&self) -> Option<RowRank> {
        match &self.piece {
            BodyPiece::Fixed(_) => None,
            BodyPiece::Part(part) => Some(part.rank),
        }
    }
}

fn shown(row: &BodyRow, form: RowForm) -> Option<&str> {
    match form {
        RowForm::Whole => Some(&row.text),
        RowForm::Short => Some(row.short.as_deref().unwrap_or(&row.text)),
        RowForm::Gone => None,
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Joins pieces within `limit` characters; true if rows were cut.
///
/// `first` is never cut: only it may exceed the limit.
pub(crate) fn fit(pieces: Vec<BodyPiece>, first: &str, limit: usize) -> (String, bool) {
    let rows = |piece: &BodyPiece| match piece {
        BodyPiece::Fixed(_) => 0,
        BodyPiece::Part(part) => part.rows.len(),
    };
    let mut all: Vec<BodyCut> = pieces
        .into_iter()
        .map(|piece| BodyCut {
            forms: vec![RowForm::Whole; rows(&piece)],
            piece,
        })
        .collect();
    let mut lengths: Vec<usize> = all.iter().map(|cut| length(&cut.text())).collect();
    let top = if first.is_empty() {
        0
    } else {
        length(first) + GAP.len()
    };
    // One gap too many follows the last piece.
    let total = |lengths: &[usize]| {
        (lengths.iter().sum::<usize>() + GAP.len() * lengths.len()).saturating_sub(GAP.len()) + top
    };
    let mut cut = false;
    for (rank, form) in CUTS {
        for at in (0..all.len())
            .rev()
            .filter(|at| all[*at].rank() == Some(*rank))
            .collect::<Vec<_>>()
        {
            while total(&lengths) > limit && shrink(&mut all[at], *form, total(&lengths) - limit) {
                cut = true;
                lengths[at] = length(&all[at].text());
            }
        }
    }
    let mut texts: Vec<String> = all
        .iter()
        .map(BodyCut::text)
        .filter(|text| !text.is_empty())
        .collect();
    while !texts.is_empty()
        && total(&texts.iter().map(|text| length(text)).collect::<Vec<_>>()) > limit
    {
        texts.pop();
        cut = true;
    }
    if !first.is_empty() {
        texts.insert(0, first.to_owned());
    }
    (texts.join(GAP), cut)
}

/// Cuts rows from the end until about as many characters are saved; false if there was nothing to
/// cut.
fn shrink(cut: &mut BodyCut, form: RowForm, excess: usize) -> bool {
    let BodyCut {
        piece: BodyPiece::Part(part),
        forms,
    } = cut
    else {
        return false;
    };
    let (mut saved, mut done) = (0, false);
    for (row, known) in part.rows.iter().zip(forms.iter_mut()).rev() {
        let fits = *known < form && (form == RowForm::Gone || row.short.is_some());
        if !fits {
            continue;
        }
        let before = shown(row, *known).map_or(0, length);
        *known = form;
        done = true;
        saved += before.saturating_sub(shown(row, form).map_or(0, length));
        if saved >= excess {
            break;
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(rank: RowRank, rows: &[&str]) -> BodyPiece {
        BodyPiece::Part(BodyPart {
            rank,
            title: format!("{rank:?}"),
            head: String::new(),
            rows: rows
                .iter()
                .map(|row| BodyRow::new((*row).to_owned()))
                .collect(),
            tail: "",
            between: "\n",
            called: ("row", "rows"),
            lacks: ("diff", "diffs"),
        })
    }

    #[test]
    fn body_cut_drops_least_important_and_notes_it() {
        let long = "x".repeat(90);
        let pieces = || {
            vec![
                part(RowRank::Moves, &[&long]),
                part(RowRank::Notes, &[&long, &long]),
                part(RowRank::Files, &[&long]),
            ]
        };
        let (whole, cut) = fit(pieces(), "<!-- m -->", 10_000);
        assert!(!cut && !whole.contains("Left out"));
        let (text, cut) = fit(pieces(), "<!-- m -->", whole.len() - 1);
        assert!(
            cut && text.contains("1 more row.") && text.matches(&long).count() == 3,
            "{text}"
        );
        for limit in (10..whole.len()).rev() {
            let (text, _) = fit(pieces(), "<!-- m -->", limit);
            assert!(
                length(&text) <= limit && text.starts_with("<!-- m -->"),
                "{limit}: {text}"
            );
        }
    }
}
