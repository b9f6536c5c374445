//! Image vocabulary: [`ImageRepository`], [`Tag`], [`Digest`], [`ImageRef`], [`Platform`].
//!
//! A value that exists is valid: every constructor checks the grammar of the [distribution
//! reference](https://github.com/distribution/reference), which kubelet and Docker read, so text of
//! a hostile registry cannot travel as a `Tag`.

mod digest;
mod platform;
mod reference;
mod repository;
mod tag;

pub use digest::Digest;
pub use platform::Platform;
pub use reference::ImageRef;
pub use repository::ImageRepository;
pub use tag::{Tag, TagList};

use crate::core::error::{Classify, ErrorKind};

/// Text that is no image word. The text is shown escaped and cut, because it may come from a
/// hostile registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {}: {why}", shown(text))]
pub struct ImageError {
    /// The expected kind: "tag", "digest", "repository", "image reference" or "platform".
    pub what: &'static str,
    /// The offending text as it came.
    pub text: String,
    pub why: &'static str,
}

impl ImageError {
    fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        Self {
            what,
            text: text.chars().take(300).collect(),
            why,
        }
    }
}

impl Classify for ImageError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Config
    }
}

/// Foreign text made safe to print: quoted, control characters escaped, cut after 80 characters.
pub fn shown(text: &str) -> String {
    let mut cut: String = text.chars().take(80).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}
