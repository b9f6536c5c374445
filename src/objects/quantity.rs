//! Kubernetes quantities (`resource.Quantity`), compared: `10Gi`, `1.5`, `100m`, `1e3`.

use serde_json::Value;
use std::cmp::Ordering;

/// Compares two quantities, each a text or a number; `None` if one is no quantity.
pub fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    let read = |value: &Value| match value {
        Value::String(text) => nanos(text),
        Value::Number(number) => nanos(&number.to_string()),
        _ => None,
    };
    Some(read(one)?.cmp(&read(other)?))
}

/// Powers of ten of the decimal suffixes, relative to a nano.
const DECIMAL: [(&str, u32); 10] = [
    ("n", 0),
    ("u", 3),
    ("m", 6),
    ("", 9),
    ("k", 12),
    ("M", 15),
    ("G", 18),
    ("T", 21),
    ("P", 24),
    ("E", 27),
];

/// Powers of two of the binary suffixes.
const BINARY: [(&str, u32); 6] = [
    ("Ki", 10),
    ("Mi", 20),
    ("Gi", 30),
    ("Ti", 40),
    ("Pi", 50),
    ("Ei", 60),
];

/// Returns a quantity in billionths, the finest unit that Kubernetes keeps.
fn nanos(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-');
    let end = text.find(|c| !digits(c)).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let unit = |power: u32| 10i128.checked_pow(power);
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return scaled(number, unit(9)?.checked_mul(1i128 << power)?);
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return scaled(number, unit(*power)?);
    }
    let exponent: i64 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    scaled(number, unit(u32::try_from(exponent + 9).ok()?)?)
}

/// Returns a decimal number times a unit, rounded down.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (is_negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut value = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.bytes().take(40) {
        place /= 10;
        value = value.checked_add(i128::from(digit - b'0').checked_mul(place)?)?;
    }
    Some(if is_negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantity_comparison_table() {
        use Ordering::{Equal, Greater, Less};
        for (one, other, expected) in [
            (json!("10Gi"), json!("5Gi"), Some(Greater)),
            (json!("1Gi"), json!("1G"), Some(Greater)),
            (json!("1024Mi"), json!("1Gi"), Some(Equal)),
            (json!("0.5Gi"), json!("512Mi"), Some(Equal)),
            (json!("1e3"), json!("1k"), Some(Equal)),
            (json!("1E"), json!("1Ei"), Some(Less)),
            (json!("100m"), json!(0.1), Some(Equal)),
            (json!(1), json!("1.5"), Some(Less)),
            (json!("-1"), json!("1"), Some(Less)),
            (json!("1Gib"), json!("1Gi"), None),
            (json!(""), json!("1"), None),
            (json!("."), json!("1"), None),
            (json!("1e99"), json!("1"), None),
            (json!(null), json!("1"), None),
        ] {
            assert_eq!(compare(&one, &other), expected, "{one} {other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn quantity_any_text_never_panics(text in "[0-9.eE+KMi-]{0,60}") {
            let value = Value::from(text);
            let _ = compare(&value, &value);
        }
    }
}
