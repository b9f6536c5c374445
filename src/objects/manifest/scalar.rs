//! Values of scalars, as go-yaml v2 resolves them (its `resolve.go`), which kubectl and the API
//! server's own tools use.
//!
//! Mostly YAML 1.1: `yes`, `on` and `y` are true, `0644` is 420, `1_000` is 1000. A date stays
//! text. Base 60 does not exist. A float without a fraction becomes an integer, because it passes
//! through JSON.

use serde_json::{Number, Value};

/// Resolves a plain scalar.
pub fn resolve_plain(text: &str) -> Value {
    resolved(text).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Returns whether a text without quotes is read as the same text.
pub fn is_plain_text(text: &str) -> bool {
    resolved(text).is_none() && text != "<<"
}

/// Resolves a scalar with a tag of YAML's own; `None` if the text does not match the tag.
pub(crate) fn tagged(tag: &str, text: &str) -> Option<Value> {
    let value = resolved(text);
    match (tag, value) {
        ("!!str" | "!", _) => Some(Value::String(text.to_owned())),
        ("!!null", Some(Value::Null)) => Some(Value::Null),
        ("!!bool", Some(value @ Value::Bool(_))) => Some(value),
        ("!!int", Some(value @ Value::Number(_))) if integer(&text.replace('_', "")).is_some() => {
            Some(value)
        }
        ("!!float", Some(value @ Value::Number(_))) => Some(value),
        ("!!timestamp", None) => Some(Value::String(text.to_owned())),
        _ => None,
    }
}

/// Resolves a plain scalar that is not text.
fn resolved(text: &str) -> Option<Value> {
    // JSON has no infinity and no NaN: the caller refuses them (see `is_number_json_lacks`).
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Some(Value::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Some(Value::Bool(false));
        }
        _ if is_number_json_lacks(text) => return Some(Value::Null),
        _ => {}
    }
    match text.as_bytes().first()? {
        // Only here must underscores stand between digits, as in Go.
        b'.' => is_float(text, true)
            .then(|| text.replace('_', "").parse().ok())
            .flatten()
            .and_then(float),
        b'+' | b'-' | b'0'..=b'9' => {
            let digits = text.replace('_', "");
            match integer(&digits) {
                Some(value) => Some(value),
                None if is_float(&digits, false) => digits.parse().ok().and_then(float),
                None => None,
            }
        }
        _ => None,
    }
}

/// Matches `.inf`, `.nan` and their spellings.
pub(crate) fn is_number_json_lacks(text: &str) -> bool {
    matches!(
        text.strip_prefix(['+', '-']).unwrap_or(text),
        ".inf" | ".Inf" | ".INF"
    ) || matches!(text, ".nan" | ".NaN" | ".NAN")
}

/// Parses an integer of 64 bits in Go's notations: 0x, 0o, 0b, and a leading 0 for octal.
fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // The standard library would accept a second sign.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    let number = u64::from_str_radix(digits, base).ok()?;
    match (negative, i64::try_from(number)) {
        (false, Ok(number)) => Some(number.into()),
        (true, Ok(number)) => Some((-number).into()),
        (true, Err(_)) if number == i64::MIN.unsigned_abs() => Some(i64::MIN.into()),
        // Go's parser of unsigned integers takes no sign, and what exceeds an int64 is a float in
        // Kubernetes.
        (false, Err(_)) if !text.starts_with('+') => {
            Number::from_f64(number as f64).map(Value::Number)
        }
        _ => None,
    }
}

/// Matches `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`.
fn is_float(text: &str, underscores: bool) -> bool {
    fn digits(bytes: &mut &[u8], underscores: bool) -> usize {
        let is_digit = |at: usize, bytes: &[u8]| bytes.get(at).is_some_and(u8::is_ascii_digit);
        let mut count = 0;
        while is_digit(count, bytes)
            || (underscores
                && count > 0
                && bytes.get(count) == Some(&b'_')
                && is_digit(count + 1, bytes))
        {
            count += 1;
        }
        *bytes = &bytes[count..];
        count
    }
    let mut rest = text.as_bytes();
    rest = rest
        .strip_prefix(b"-")
        .or(rest.strip_prefix(b"+"))
        .unwrap_or(rest);
    let whole = digits(&mut rest, underscores);
    if let Some(after) = rest.strip_prefix(b".") {
        rest = after;
        if digits(&mut rest, underscores) == 0 && whole == 0 {
            return false;
        }
    } else if whole == 0 {
        return false;
    }
    if let Some(after) = rest.strip_prefix(b"e").or(rest.strip_prefix(b"E")) {
        rest = after
            .strip_prefix(b"-")
            .or(after.strip_prefix(b"+"))
            .unwrap_or(after);
        if digits(&mut rest, underscores) == 0 {
            return false;
        }
    }
    rest.is_empty()
}

/// Converts a float as JSON does: an integer if it has no fraction and fits an int64; `None` if it
/// is infinite.
pub(crate) fn float(number: f64) -> Option<Value> {
    if !number.is_finite() {
        return None;
    }
    // Both bounds are exact floats; the upper one is the first that exceeds an int64.
    if number.fract() == 0.0
        && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number)
    {
        return Some((number as i64).into());
    }
    Number::from_f64(number).map(Value::Number)
}

/// Converts a key to text as kubectl does; `None` for null and for numbers that it refuses.
pub(crate) fn key(text: &str) -> Option<String> {
    Some(match resolved(text) {
        None => text.to_owned(),
        Some(Value::Bool(yes)) => yes.to_string(),
        Some(Value::Number(_)) => match integer(&text.replace('_', "")) {
            Some(Value::Number(number)) => number.as_i64()?.to_string(),
            // A float is written with the precision of 32 bits.
            _ => short(text.replace('_', "").parse().ok()?),
        },
        Some(_) => return None,
    })
}

/// Go's `FormatFloat(…, 'g', -1, 32)`.
fn short(number: f32) -> String {
    if number == 0.0 {
        return if number.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    if !number.is_finite() {
        return if number > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        exponent if (-4..6).contains(&exponent) => number.to_string(),
        exponent => format!(
            "{digits}e{}{:02}",
            if exponent < 0 { '-' } else { '+' },
            exponent.abs()
        ),
    }
}
