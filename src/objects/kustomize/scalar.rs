//! Scalars as kustomize reads them.

use super::problem::Problem;
use crate::objects::manifest::is_plain_text;

/// The type of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Text,
    Integer,
    Float,
    Boolean,
}

/// A plain scalar as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    Null {
        /// False for a value left out.
        written: bool,
    },
    Value(ScalarKind),
}

/// Resolves a plain scalar as YAML 1.2 with Go's numbers; what is read differently elsewhere is
/// refused.
pub(super) fn plain(text: &str) -> Result<Plain, Problem> {
    let kind = match text {
        "" => return Ok(Plain::Null { written: false }),
        "~" | "null" | "Null" | "NULL" => return Ok(Plain::Null { written: true }),
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => ScalarKind::Boolean,
        "<<" => return Err(Problem::unsupported("a merge key is used as a value")),
        _ if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-')) => {
            ScalarKind::Text
        }
        _ if is_short_integer(text) => ScalarKind::Integer,
        _ if is_short_float(text) => ScalarKind::Float,
        _ if !is_plain_text(text) || is_date(text) || text.starts_with("0o") => {
            // The value may be a secret.
            return Err(Problem::unsupported(
                "a value is read differently by different readers; put it in quotes",
            ));
        }
        _ => ScalarKind::Text,
    };
    Ok(Plain::Value(kind))
}

/// Matches decimal integers without sign games, and octal ones as file modes are written.
fn is_short_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let all = |digits: &str, last: u8| {
        !digits.is_empty() && digits.bytes().all(|digit| (b'0'..=last).contains(&digit))
    };
    match digits.as_bytes() {
        [b'0'] => text == "0",
        [b'0', ..] => text.len() <= 6 && !text.starts_with('-') && all(digits, b'7'),
        _ => digits.len() <= 15 && all(digits, b'9'),
    }
}

/// Matches decimal fractions of at most fifteen digits.
pub(super) fn is_short_float(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let Some((whole, fraction)) = digits.split_once('.') else {
        return false;
    };
    let all = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    all(whole)
        && all(fraction)
        && digits.len() <= 16
        && (whole == "0" || !whole.starts_with('0'))
        && digits.bytes().any(|digit| (b'1'..=b'9').contains(&digit))
}

/// Matches what begins as a date does.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > 6 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-'
}

/// Returns whether a text that kustomize writes without quotes is read back as the same text.
pub(super) fn is_sure_text(text: &str) -> bool {
    is_plain_text(text) && plain(text) == Ok(Plain::Value(ScalarKind::Text))
}
