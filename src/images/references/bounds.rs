//! Bounds of what one file and one repository may hold: a comment costs a byte, a finding hundreds.

use super::{Findings, Note, NoteKind};

/// References of one file. A file with more is left alone.
pub const MAX_FILE_REFERENCES: usize = 5_000;

/// References of all files of a repository. Files beyond it are left alone, in the order of paths.
pub const MAX_REPOSITORY_REFERENCES: usize = 100_000;

/// Notes of one file; the others are counted.
const MAX_FILE_NOTES: usize = 200;

impl Findings {
    /// Keeps the findings of one file within its bounds.
    pub(super) fn bounded(mut self) -> Self {
        let found = self.references.len();
        if found > MAX_FILE_REFERENCES {
            let place = self.references[MAX_FILE_REFERENCES].line_column();
            self.leave_alone(
                place,
                format!(
                    "the file has {found} image references; a file with more than {MAX_FILE_REFERENCES} is not edited"
                ),
            );
        }
        if self.notes.len() > MAX_FILE_NOTES {
            let further = self.notes.len() - MAX_FILE_NOTES;
            let (line, column) = (
                self.notes[MAX_FILE_NOTES].line,
                self.notes[MAX_FILE_NOTES].column,
            );
            self.notes.truncate(MAX_FILE_NOTES);
            self.notes.push(Note {
                kind: NoteKind::TooMany,
                line,
                column,
                message: format!("{further} further notes about this file are left out"),
            });
        }
        self
    }

    /// Drops the references of a file beyond the bound of its repository. `before` counts those of
    /// the files before it.
    pub fn bound_in_repository(&mut self, before: &mut usize) {
        *before = before.saturating_add(self.references.len());
        if *before > MAX_REPOSITORY_REFERENCES && !self.references.is_empty() {
            let place = self.references[0].line_column();
            self.leave_alone(
                place,
                format!(
                    "the repository has more than {MAX_REPOSITORY_REFERENCES} image references; this file is not edited"
                ),
            );
        }
    }

    /// Tells whether references were dropped because of a bound.
    pub fn is_bounded(&self) -> bool {
        self.notes.iter().any(|note| note.kind == NoteKind::TooMany)
    }

    fn leave_alone(&mut self, (line, column): (u32, u32), message: String) {
        self.references = Vec::new();
        // First, so that it is never among the notes that are left out.
        self.notes.insert(
            0,
            Note {
                kind: NoteKind::TooMany,
                line,
                column,
                message,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{super::FileKind, super::find, *};

    fn file(markers: usize) -> String {
        let lines = (0..markers)
            .map(|index| format!("v{index}: 1.0.0 # {{\"$imagepolicy\": \"apps:web:tag\"}}\n"));
        lines.collect()
    }

    #[test]
    fn references_beyond_the_file_bound_are_left_alone() {
        let most = find(FileKind::Yaml, file(MAX_FILE_REFERENCES).as_bytes());
        assert_eq!(
            (most.references.len(), most.notes.len()),
            (MAX_FILE_REFERENCES, 0)
        );
        let more = find(FileKind::Yaml, file(200_000).as_bytes());
        assert_eq!((more.references.len(), more.notes.len()), (0, 1));
        assert_eq!(more.notes[0].kind, NoteKind::TooMany);
        assert!(
            more.notes[0]
                .message
                .contains("has 200000 image references"),
            "{:?}",
            more.notes
        );
    }

    #[test]
    fn notes_beyond_the_bound_are_counted() {
        let comments = "a: 1 # {\"$imagepolicy\": \"apps:web:part\"}\n".replace("a:", "- a:");
        let found = find(FileKind::Yaml, comments.repeat(200_000).as_bytes());
        assert_eq!(found.notes.len(), MAX_FILE_NOTES + 1);
        let last = &found.notes[MAX_FILE_NOTES];
        assert_eq!(
            last.message,
            "199800 further notes about this file are left out"
        );
    }

    #[test]
    fn references_beyond_the_repository_are_left_alone() {
        let mut before = MAX_REPOSITORY_REFERENCES - 2;
        let mut fits = find(FileKind::Yaml, file(2).as_bytes());
        fits.bound_in_repository(&mut before);
        assert_eq!((fits.references.len(), fits.is_bounded()), (2, false));
        let mut empty = Findings::default();
        empty.bound_in_repository(&mut before);
        assert_eq!(empty, Findings::default());
        let mut exceeds = find(FileKind::Yaml, file(1).as_bytes());
        exceeds.bound_in_repository(&mut before);
        assert_eq!((exceeds.references.len(), exceeds.is_bounded()), (0, true));
    }
}
