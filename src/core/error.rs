//! What went wrong, and whose fault it is.
//!
//! Every room has its own error type; what they share is the question a caller asks: wait for a
//! changed file, wait a while, take the new state and do it again, or report a defect.

use std::time::Duration;

/// Whose fault an error is, which decides what happens next.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ErrorKind {
    /// A declaration, the process file or an argument is wrong: nothing helps until it changes.
    Config,
    /// A registry, a Git server or the network: back off and try again.
    Remote,
    /// Somebody else was first: fetch, and do it again on the new state.
    Conflict,
    /// A defect of tagboat.
    Bug,
}

impl ErrorKind {
    /// The word used in logs and JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Config => "config",
            ErrorKind::Remote => "remote",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Bug => "bug",
        }
    }
}

impl std::fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error of a room: a message that names the file, image or remote, and the answers a caller
/// needs.
pub trait Classify: std::error::Error + Send + Sync + 'static {
    /// Whose fault it is.
    fn kind(&self) -> ErrorKind;

    /// The earliest time, from now, at which trying again can help, where the other side said so.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// What to do about it, as a sentence of its own.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Foreign text (of a server, a library, a person) as one harmless line of at most `most`
/// characters: what would steer a terminal, hide text or turn its direction is escaped (Unicode TR
/// 36, "bidirectional overrides").
pub(crate) fn harmless(text: &str, most: usize) -> String {
    let mut out = String::new();
    for (n, c) in text.trim().chars().enumerate() {
        match c {
            _ if n >= most => {
                out.push('…');
                break;
            }
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}') =>
            {
                out.extend(c.escape_default());
            }
            c => out.push(c),
        }
    }
    out
}
