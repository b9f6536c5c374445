//! Writes a text as a scalar in the style of the present one.

use super::TextEdit;
use crate::{
    core::yaml::{NodeStyle, is_null},
    images::references::ReferenceSlot,
};
use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;

/// The new text of one scalar.
#[derive(Debug)]
pub(crate) struct ScalarText {
    pub slot: usize,
    /// The whole new value.
    pub value: String,
    /// The replaced range in bytes of the scalar as written, if only a piece of it changes.
    pub inside: Option<Range<usize>>,
    /// The replacement of that piece.
    pub piece: String,
}

impl ScalarText {
    pub(crate) fn whole(slot: usize, value: String) -> Self {
        Self {
            slot,
            value,
            inside: None,
            piece: String::new(),
        }
    }
}

/// The edit that gives `slot` a new text; `None` if the bytes there are not the slot's, or it
/// cannot be written.
pub(crate) fn edit(source: &[u8], slot: &ReferenceSlot, text: &ScalarText) -> Option<TextEdit> {
    let written = raw(source, slot)?;
    if let Some(inside) = &text.inside {
        return Some(TextEdit {
            range: slot.span.start + inside.start..slot.span.start + inside.end,
            text: text.piece.clone(),
        });
    }
    if slot.style.is_block() {
        // Only the text of the one line changes: header, indent and line break stay.
        let line = written.trim();
        let start = slot.span.start + (written.len() - written.trim_start().len());
        return (line == slot.value.trim() && !line.is_empty()).then(|| TextEdit {
            range: start..start + line.len(),
            text: text.value.clone(),
        });
    }
    Some(TextEdit {
        range: slot.span.clone(),
        text: quoted(&text.value, slot.style),
    })
}

/// The bytes of the slot, if they are what the slot says: a reference of another file must not be
/// written into this.
pub(crate) fn raw<'s>(source: &'s [u8], slot: &ReferenceSlot) -> Option<&'s str> {
    let written = std::str::from_utf8(source.get(slot.span.clone())?).ok()?;
    let between =
        |quote: char| written.len() >= 2 && written.starts_with(quote) && written.ends_with(quote);
    match slot.style {
        // A value left out has no bytes to replace.
        NodeStyle::Plain => (!written.is_empty()
            && (written == slot.value
                || written.contains('\n')
                || slot.value.is_empty() && is_null(written)))
        .then_some(written),
        NodeStyle::SingleQuoted => between('\'').then_some(written),
        NodeStyle::DoubleQuoted => between('"').then_some(written),
        NodeStyle::Literal | NodeStyle::Folded => Some(written),
    }
}

/// `text` in a style. The texts written here are made of tags, digests and repositories, which need
/// no escapes.
fn quoted(text: &str, style: NodeStyle) -> String {
    match style {
        NodeStyle::SingleQuoted => format!("'{text}'"),
        NodeStyle::DoubleQuoted => format!("\"{text}\""),
        _ if reads_otherwise(text) => format!("\"{text}\""),
        _ => text.to_owned(),
    }
}

/// Numbers and dates as some reader of YAML 1.1, YAML 1.2 or Go takes them. Rather too much than
/// too little: quotes around a text that needs none do no harm.
static NUMBERS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?xi)^(?:
            [-+]?[0-9][0-9_]*(?:\.[0-9_]*)?(?:e[-+]?[0-9_]+)?   # 1  1_000  1.10  1e3
          | [-+]?\.[0-9_]+(?:e[-+]?[0-9]+)?                     # .5
          | [-+]?0x[0-9a-f_]+ | [-+]?0o[0-7_]+ | [-+]?0b[01_]+
          | [-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?    # 1:30, base 60
          | [-+]?\.(?:inf|nan)
          | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[t\s].*)?          # 2025-01-01
        )$",
    )
    .ok()
});

/// Returns whether an unquoted `text` would be read as another type or text.
pub(crate) fn reads_otherwise(text: &str) -> bool {
    let words = [
        "null", "~", "y", "n", "yes", "no", "on", "off", "true", "false", "<<", "=",
    ];
    text.is_empty()
        || words.iter().any(|word| text.eq_ignore_ascii_case(word))
        || NUMBERS
            .as_ref()
            .is_none_or(|numbers| numbers.is_match(text))
        || text.starts_with(|first: char| !first.is_ascii_alphanumeric() && first != '_')
        || !text.bytes().all(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':' | b'@' | b'[' | b']')
        })
        || text.contains(['[', ']'])
        || text.ends_with(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_ambiguous_text_is_quoted() {
        for text in [
            "",
            "1",
            "1.10",
            "1.",
            "1e3",
            "12e03456",
            "0x10",
            "0o17",
            "017",
            "0b11",
            "1_000",
            "1:30",
            "1:30:15.5",
            "2025-01-01",
            "2025-1-1",
            "2025-01-01t10",
            "yes",
            "No",
            "ON",
            "y",
            "null",
            "NULL",
            "true",
            "~",
            ".5",
            ".inf",
            "[::1]:5000/a",
            "-a",
            "a:",
            "<<",
            "=",
        ] {
            assert!(reads_otherwise(text), "{text:?}");
        }
        for text in [
            "1.2.3",
            "v1",
            "1.2-rc1",
            "latest",
            "2025.01.02",
            "2025-01",
            "20250101-abc",
            "deadbeef",
            "0xg",
            "a/b:1",
            "nginx:1.25",
            "ghcr.io/a/b:1.0@sha256:0",
            "nobody",
            "_1",
            "1e",
            "e3",
        ] {
            assert!(!reads_otherwise(text), "{text:?}");
        }
    }
}
