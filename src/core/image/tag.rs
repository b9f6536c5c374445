//! Tags, one and many.

use super::ImageError;
use std::{fmt, str::FromStr};

/// A tag: a letter, digit or underscore, then up to 127 of letters, digits, `_`, `.` and `-`.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    /// Checks `text`.
    pub fn new(text: impl Into<String>) -> Result<Self, ImageError> {
        let text = text.into();
        match refusal(&text) {
            None => Ok(Self(text)),
            Some(why) => Err(ImageError::new("tag", &text, why)),
        }
    }

    /// The tag as the registry spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Bytes allowed in a tag: 1 anywhere but first, 2 first as well. A table, since long lists are
/// checked byte by byte.
const BYTES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            table[byte as usize] = 2;
        } else if byte == b'.' || byte == b'-' {
            table[byte as usize] = 1;
        }
        byte += 1;
    }
    table
};

fn refusal(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    match bytes.first() {
        None => Some("is empty"),
        Some(_) if bytes.len() > 128 => Some("is longer than 128 characters"),
        Some(first) if BYTES[usize::from(*first)] != 2 => {
            Some("must begin with a letter, a digit or '_'")
        }
        Some(_)
            if bytes
                .iter()
                .fold(1, |least, byte| least.min(BYTES[usize::from(*byte)]))
                == 0 =>
        {
            Some("has a character that no tag may have")
        }
        Some(_) => None,
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = ImageError;
    fn from_str(text: &str) -> Result<Self, ImageError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Tag {
    type Error = ImageError;
    fn try_from(text: String) -> Result<Self, ImageError> {
        Self::new(text)
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0
    }
}

/// All tags of a repository in one block of memory, separated by newlines, which no tag can
/// contain.
///
/// The overhead is one byte a tag, so that a million tags of a fleet cost megabytes instead of
/// hundreds of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TagList {
    text: String,
    count: usize,
}

impl TagList {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tag.
    ///
    /// # Errors
    /// If `tag` is no tag; the list is as before, so that one hostile name does not lose the
    /// others.
    pub fn push(&mut self, tag: &str) -> Result<(), ImageError> {
        if let Some(why) = refusal(tag) {
            return Err(ImageError::new("tag", tag, why));
        }
        self.text.push_str(tag);
        self.text.push('\n');
        self.count += 1;
        Ok(())
    }

    /// The tags in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let (bytes, mut start) = (self.text.as_bytes(), 0);
        memchr::memchr_iter(b'\n', bytes).map(move |end| {
            let tag = &self.text[start..end];
            start = end + 1;
            tag
        })
    }

    pub fn contains(&self, tag: &str) -> bool {
        memchr::memmem::find_iter(self.text.as_bytes(), tag.as_bytes()).any(|at| {
            (at == 0 || self.text.as_bytes()[at - 1] == b'\n')
                && self.text.as_bytes().get(at + tag.len()) == Some(&b'\n')
        })
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.text.capacity()
    }

    /// Releases the capacity reserved beyond the text.
    pub fn shrink(&mut self) {
        self.text.shrink_to_fit();
    }

    /// The whole list as text, a tag a line, each line ended: the form it is stored in.
    pub fn as_lines(&self) -> &str {
        &self.text
    }

    /// Reads [`TagList::as_lines`] back; lines that are no tags are left out.
    pub fn from_lines(lines: &str) -> Self {
        let mut list = Self {
            text: String::with_capacity(lines.len() + 1),
            count: 0,
        };
        for line in lines.lines() {
            let _ = list.push(line);
        }
        list
    }
}

impl<'a> FromIterator<&'a str> for TagList {
    /// Collects tags; names that are no tags are left out.
    fn from_iter<T: IntoIterator<Item = &'a str>>(tags: T) -> Self {
        let mut list = Self::new();
        for tag in tags {
            let _ = list.push(tag);
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_hostile_text_is_refused() {
        for bad in [
            "",
            "-a",
            ".a",
            "a b",
            "a\nb",
            "a:b",
            "a#",
            "\u{1b}[31m",
            "é",
            "\"",
            &"a".repeat(129),
        ] {
            assert!(Tag::new(bad).is_err(), "{bad:?}");
        }
        for good in [
            "1.2.3",
            "_x",
            "V1",
            "2025.02.03",
            "a-b_c.d",
            &"a".repeat(128),
        ] {
            assert!(Tag::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn tag_list_keeps_order_and_refuses_bad_names() {
        let mut list = TagList::new();
        list.push("1.2").unwrap();
        assert!(list.push("x\ny").is_err());
        list.push("1").unwrap();
        assert_eq!(list.iter().collect::<Vec<_>>(), ["1.2", "1"]);
        assert_eq!(
            (
                list.len(),
                list.contains("1"),
                list.contains("2"),
                list.contains("1.2")
            ),
            (2, true, false, true)
        );
        assert_eq!(TagList::from_lines(list.as_lines()), list);
    }
}
