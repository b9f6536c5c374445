//! A file of a config repository, parsed at most once for all its readers.

use super::{FileKind, Findings, MARKER, Needles, Note, NoteKind, mentions, walk};
use crate::core::yaml::{self, YamlStream};
use std::cell::OnceCell;

/// The bytes of a file, parsed when the first reader needs the YAML.
#[derive(Debug)]
pub struct YamlFile<'s> {
    kind: FileKind,
    bytes: &'s [u8],
    /// The YAML, or the note that explains why there is none.
    stream: OnceCell<Result<YamlStream<'s>, Option<Note>>>,
}

impl<'s> YamlFile<'s> {
    /// Wraps the bytes of a file without parsing them.
    pub fn new(kind: FileKind, bytes: &'s [u8]) -> Self {
        Self {
            kind,
            bytes,
            stream: OnceCell::new(),
        }
    }

    /// Returns the kind that the file's path tells.
    pub fn kind(&self) -> FileKind {
        self.kind
    }

    /// Returns the content as it is.
    pub fn bytes(&self) -> &'s [u8] {
        self.bytes
    }

    /// Parses the file; a template, and anything else that is no YAML, gives none.
    pub fn stream(&self) -> Option<&YamlStream<'s>> {
        self.parsed().as_ref().ok()
    }

    /// Finds the references of the file. Never fails: what cannot be read is a [`Note`].
    ///
    /// The result depends on the kind and the bytes alone. Time is linear in the length.
    pub fn findings(&self) -> Findings {
        let only = |note: Note| Findings {
            references: Vec::new(),
            notes: vec![note],
        };
        match self.parsed() {
            Ok(stream) => match encrypted(stream) {
                Some(place) => only(note(
                    NoteKind::Encrypted,
                    place,
                    "the file is encrypted by SOPS".to_owned(),
                )),
                None => walk::walk(self.kind, stream).bounded(),
            },
            Err(Some(note)) => only(note.clone()),
            Err(None) => Findings::default(),
        }
    }

    /// Finds the references, with the notes that concern watched images and the mentions of these.
    pub fn watched_findings(&self, needles: &Needles) -> Findings {
        let mut findings = self.findings();
        let mentions = match self.kind {
            FileKind::ChartTemplate if !needles.hit_template(self.bytes) => None,
            _ => mentions::find(self, needles, &findings),
        };
        match mentions {
            Some(mentions) => mentions::note(self, mentions, &mut findings),
            // Nothing in the file names a watched image.
            None => findings.notes.clear(),
        }
        findings
    }

    fn parsed(&self) -> &Result<YamlStream<'s>, Option<Note>> {
        self.stream.get_or_init(|| parse(self.kind, self.bytes))
    }
}

fn parse(kind: FileKind, bytes: &[u8]) -> Result<YamlStream<'_>, Option<Note>> {
    if kind == FileKind::NotYaml {
        return Err(None);
    }
    let fail = |kind, place, message: String| Err(Some(note(kind, place, message)));
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            let place = yaml::line_column(good, good.len());
            return fail(NoteKind::NotUtf8, place, "the file is not UTF-8".to_owned());
        }
    };
    if text.starts_with("version https://git-lfs.github.com/spec/") {
        let message = "the file is a pointer to large-file storage".to_owned();
        return fail(NoteKind::LfsPointer, (1, 1), message);
    }
    if kind == FileKind::ChartTemplate {
        let place = yaml::line_column(text, text.find(MARKER).unwrap_or(0));
        let message = "a template of a chart is not edited: mark the chart's values instead";
        return fail(NoteKind::Template, place, message.to_owned());
    }
    yaml::parse(text).or_else(|error| {
        let place = (error.line, error.column);
        // Other formats have this ending, too: with comments, a value on each line.
        if kind == FileKind::Json {
            Err(None)
        } else if text.contains("{{") {
            let message = format!(
                "a template that is no YAML is not edited ({})",
                error.message
            );
            fail(NoteKind::Template, place, message)
        } else {
            fail(NoteKind::Unparsable, place, error.message)
        }
    })
}

fn note(kind: NoteKind, (line, column): (u32, u32), message: String) -> Note {
    Note {
        kind,
        line,
        column,
        message,
    }
}

/// Returns where a file shows that SOPS encrypted it: a `sops` key at the top of a document, or a
/// value in its form. Either suffices, since any edit breaks the file's MAC.
fn encrypted(stream: &YamlStream<'_>) -> Option<(u32, u32)> {
    let source = stream.source().as_bytes();
    if memchr::memmem::find(source, b"sops").is_some() {
        let key = stream
            .documents()
            .flatten()
            .find_map(|root| root.entry("sops").filter(|(_, value)| value.is_mapping()));
        if let Some((key, _)) = key {
            return Some((key.line(), key.column()));
        }
    }
    memchr::memmem::find(source, b"ENC[")?;
    let node = stream
        .nodes()
        .find(|node| node.value().is_some_and(|value| value.starts_with("ENC[")))?;
    Some((node.line(), node.column()))
}
