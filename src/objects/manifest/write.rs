//! Values → YAML that every reader reads alike: ambiguous text is quoted, and text of several lines
//! is a block scalar.

use super::scalar;
use crate::core::text::is_hidden;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Writes several documents, each after `---`.
pub fn to_yaml_stream<'v>(values: impl IntoIterator<Item = &'v Map<String, Value>>) -> String {
    let mut out = String::new();
    for value in values {
        out.push_str("---\n");
        mapping(&mut out, value, 0);
    }
    out
}

/// Writes one document, with its fields in their order.
pub fn to_yaml(value: &Map<String, Value>) -> String {
    let mut out = String::new();
    mapping(&mut out, value, 0);
    out
}

fn mapping(out: &mut String, fields: &Map<String, Value>, indent: usize) {
    if fields.is_empty() {
        out.push_str("{}\n");
        return;
    }
    for (index, (key, value)) in fields.iter().enumerate() {
        if index > 0 {
            pad(out, indent);
        }
        text(out, key);
        out.push(':');
        field(out, value, indent);
    }
}

/// Writes what follows the colon of a key at `indent`.
fn field(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push('\n');
            pad(out, indent + 2);
            mapping(out, fields, indent + 2);
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            sequence(out, list, indent);
        }
        value => {
            out.push(' ');
            scalar_or_empty(out, value, indent + 2);
        }
    }
}

/// Writes items at the indent of their key, as kubectl does.
fn sequence(out: &mut String, list: &[Value], indent: usize) {
    for item in list {
        pad(out, indent);
        out.push('-');
        match item {
            Value::Object(fields) if !fields.is_empty() => {
                out.push(' ');
                mapping(out, fields, indent + 2);
            }
            Value::Array(list) if !list.is_empty() => {
                out.push('\n');
                sequence(out, list, indent + 2);
            }
            item => {
                out.push(' ');
                scalar_or_empty(out, item, indent + 2);
            }
        }
    }
}

/// Writes a scalar or an empty collection, and the end of its line. `indent` is for block scalars.
fn scalar_or_empty(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        Value::String(string) if is_block(string) => return block(out, string, indent),
        Value::String(string) => text(out, string),
        Value::Number(number) => self::number(out, number),
        other => {
            let _ = write!(out, "{other}");
        }
    }
    out.push('\n');
}

/// Writes a number; a float gets the point that YAML 1.1 demands before an exponent.
fn number(out: &mut String, number: &serde_json::Number) {
    let written = number.to_string();
    match written.split_once('e') {
        Some((digits, exponent)) if !digits.contains('.') => {
            let _ = write!(out, "{digits}.0e{exponent}");
        }
        _ => out.push_str(&written),
    }
}

/// Returns whether a text is read back exactly from a block scalar.
fn is_block(text: &str) -> bool {
    let lines = text.trim_end_matches('\n');
    // A leading blank would need an indentation indicator, and trailing blanks are invisible.
    lines.contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && text
            .chars()
            .all(|c| c == '\n' || (is_printable(c) && c != '\t'))
        && text.lines().all(|line| !line.ends_with(' '))
}

fn block(out: &mut String, text: &str, indent: usize) {
    let ends = text.len() - text.trim_end_matches('\n').len();
    out.push_str(match ends {
        0 => "|-\n",
        1 => "|\n",
        _ => "|+\n",
    });
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        if !line.is_empty() {
            pad(out, indent);
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// Writes text on one line, in double quotes if it is ambiguous.
fn text(out: &mut String, text: &str) {
    if is_bare(text) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x100 => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if (c as u32) < 0x10000 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => {
                let _ = write!(out, "\\U{:08x}", c as u32);
            }
        }
    }
    out.push('"');
}

fn is_bare(text: &str) -> bool {
    let first = text.chars().next();
    // Starts with a letter, or like a path, an image or a version; the scalar rules judge digits.
    first.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.'))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.' | '-' | ':' | '+' | '=' | '@' | '(' | ')' | '<' | '>' | ' ' | '*' | ';' | '$' | '~' | '^'))
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !text.starts_with("...")
        && scalar::is_plain_text(text)
        // Other readers know more numbers: 1:30 in base 60, 0o17, dates.
        && !(text.starts_with(|c: char| c.is_ascii_digit() || c == '.') && text.chars().all(|c| c.is_ascii_hexdigit() || "xob_.:+-TZtz ".contains(c)))
}

/// Returns whether a terminal and YAML show a character as it is.
fn is_printable(c: char) -> bool {
    !is_hidden(c) && !matches!(c, '\u{a0}' | '\u{fffe}'..='\u{ffff}')
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}
