//! The functions that expressions may call.
//!
//! | group | functions |
//! |---|---|
//! | text | `size`, `contains`, `startsWith`, `endsWith`, `matches`, `charAt`, `indexOf`, `lastIndexOf`, `lowerAscii`, `upperAscii`, `replace`, `split`, `join`, `substring`, `trim` |
//! | types | `string`, `int`, `uint`, `double`, `bool`, `dyn`, `timestamp`, `duration` |
//! | optional values | `optional.of`, `optional.none`, `optional.ofNonZeroValue`, `hasValue`, `value`, `or`, `orValue` |
//! | sets | `sets.contains`, `sets.intersects`, `sets.equivalent` |

use super::{
    EvaluationError,
    cost::{Cost, Evaluated, failed},
    value::{List, Text, Value},
};
use crate::core::text::plain;
use jiff::{SignedDuration, Timestamp};
use std::rc::Rc;

/// A known function, called with as many arguments as it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Function(&'static Signature);

#[derive(Debug, PartialEq, Eq)]
struct Signature {
    name: &'static str,
    style: Style,
    /// The least and most arguments, without a receiver.
    arguments: (usize, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Global,
    Method,
    Both,
}

const fn signature(name: &'static str, style: Style, least: usize, most: usize) -> Signature {
    Signature {
        name,
        style,
        arguments: (least, most),
    }
}

static FUNCTIONS: [Signature; 32] = [
    signature("size", Style::Both, 0, 0),
    signature("contains", Style::Method, 1, 1),
    signature("startsWith", Style::Method, 1, 1),
    signature("endsWith", Style::Method, 1, 1),
    signature("charAt", Style::Method, 1, 1),
    signature("indexOf", Style::Method, 1, 2),
    signature("lastIndexOf", Style::Method, 1, 1),
    signature("lowerAscii", Style::Method, 0, 0),
    signature("upperAscii", Style::Method, 0, 0),
    signature("replace", Style::Method, 2, 3),
    signature("split", Style::Method, 1, 2),
    signature("join", Style::Method, 0, 1),
    signature("substring", Style::Method, 1, 2),
    signature("trim", Style::Method, 0, 0),
    signature("string", Style::Global, 1, 1),
    signature("int", Style::Global, 1, 1),
    signature("uint", Style::Global, 1, 1),
    signature("double", Style::Global, 1, 1),
    signature("bool", Style::Global, 1, 1),
    signature("dyn", Style::Global, 1, 1),
    signature("timestamp", Style::Global, 1, 1),
    signature("duration", Style::Global, 1, 1),
    signature("optional.of", Style::Global, 1, 1),
    signature("optional.none", Style::Global, 0, 0),
    signature("optional.ofNonZeroValue", Style::Global, 1, 1),
    signature("hasValue", Style::Method, 0, 0),
    signature("value", Style::Method, 0, 0),
    signature("or", Style::Method, 1, 1),
    signature("orValue", Style::Method, 1, 1),
    signature("sets.contains", Style::Global, 2, 2),
    signature("sets.intersects", Style::Global, 2, 2),
    signature("sets.equivalent", Style::Global, 2, 2),
];

/// Returns whether functions are qualified by a name.
pub(super) fn is_library(name: &str) -> bool {
    matches!(name, "optional" | "sets")
}

/// Finds a function that is called without a receiver.
pub(super) fn global(name: &str, arguments: usize) -> Result<Function, String> {
    let found = find(name, |style| style != Style::Method)?;
    // The receiver of a method is the argument of the function.
    let receiver = usize::from(found.style == Style::Both);
    checked(found, arguments, receiver)
}

/// Finds a function that is called on a receiver.
pub(super) fn method(name: &str, arguments: usize) -> Result<Function, String> {
    let found = find(name, |style| style != Style::Global)?;
    checked(found, arguments, 0)
}

fn find(name: &str, fits: impl Fn(Style) -> bool) -> Result<&'static Signature, String> {
    let all = || {
        FUNCTIONS
            .iter()
            .filter(|function| fits(function.style))
            .map(|function| function.name)
    };
    FUNCTIONS
        .iter()
        .find(|function| function.name == name && fits(function.style))
        .ok_or_else(|| {
            let all: Vec<&str> = all().collect();
            format!("this function is unknown; available: {}", all.join(", "))
        })
}

fn checked(
    found: &'static Signature,
    arguments: usize,
    receiver: usize,
) -> Result<Function, String> {
    let (least, most) = found.arguments;
    if (least + receiver..=most + receiver).contains(&arguments) {
        return Ok(Function(found));
    }
    let plural = if most + receiver == 1 { "" } else { "s" };
    let expected = match least == most {
        true => format!("{} argument{plural}", most + receiver),
        false => format!("{} to {} arguments", least + receiver, most + receiver),
    };
    Err(format!("it takes {expected}, not {arguments}"))
}

impl Function {
    /// Returns the value if the first arguments decide it: an alternative is not needed then.
    pub(super) fn decided<'a>(self, arguments: &[Value<'a>]) -> Option<Value<'a>> {
        match (self.0.name, arguments) {
            ("or", [first @ Value::Optional(Some(_))]) => Some(first.clone()),
            ("orValue", [Value::Optional(Some(value))]) => Some(Value::clone(value)),
            _ => None,
        }
    }

    /// Calls the function; a receiver is the first argument.
    pub(super) fn call<'a>(self, arguments: &[Value<'a>], cost: &Cost) -> Evaluated<'a> {
        let name = self.0.name;
        match (name, arguments) {
            ("dyn", [value]) => Ok(value.clone()),
            ("optional.none", []) => Ok(Value::optional(None)),
            ("optional.of", [value]) => Ok(Value::optional(Some(value.clone()))),
            ("optional.ofNonZeroValue", [value]) => {
                Ok(Value::optional((!is_zero(value)).then(|| value.clone())))
            }
            ("hasValue", [Value::Optional(value)]) => Ok(Value::Bool(value.is_some())),
            ("value", [Value::Optional(Some(value))]) => Ok(Value::clone(value)),
            ("value", [Value::Optional(None)]) => failed("the optional value is not there"),
            ("or", [Value::Optional(None), other @ Value::Optional(_)])
            | ("orValue", [Value::Optional(None), other]) => Ok(other.clone()),
            ("size", [Value::List(list)]) => Ok(int(list.len())),
            ("size", [Value::Map(fields)]) => Ok(int(fields.len())),
            ("sets.contains", [Value::List(all), Value::List(some)]) => {
                Ok(Value::Bool(contains_all(all, some, cost)?))
            }
            ("sets.equivalent", [Value::List(left), Value::List(right)]) => Ok(Value::Bool(
                contains_all(left, right, cost)? && contains_all(right, left, cost)?,
            )),
            ("sets.intersects", [Value::List(left), Value::List(right)]) => {
                for element in left.iter() {
                    if contains(right, &element, cost)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            ("join", [Value::List(list), separator @ ..]) => join(list, separator, cost),
            (_, [Value::Text(text), rest @ ..]) if self.0.style != Style::Global => {
                of_text(name, text, rest, cost)
            }
            (_, [value]) => convert(name, value, cost),
            _ => no_overload(name, arguments),
        }
    }
}

fn no_overload<'a>(name: &str, arguments: &[Value<'_>]) -> Evaluated<'a> {
    let types: Vec<&str> = arguments.iter().map(Value::type_name).collect();
    failed(format!("{name}() does not take {}", types.join(", ")))
}

fn int<'a>(number: usize) -> Value<'a> {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Optional(None) => true,
        Value::Bool(value) => !value,
        Value::Int(number) => *number == 0,
        Value::Uint(number) => *number == 0,
        Value::Double(number) => *number == 0.0,
        Value::Text(text) => text.as_str().is_empty(),
        Value::List(list) => list.len() == 0,
        Value::Map(fields) => fields.len() == 0,
        Value::Duration(duration) => duration.is_zero(),
        Value::Optional(Some(_)) | Value::Timestamp(_) => false,
    }
}

pub(super) fn contains(
    list: &List<'_>,
    wanted: &Value<'_>,
    cost: &Cost,
) -> Result<bool, EvaluationError> {
    for element in list.iter() {
        if cost.equal(&element, wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn contains_all(all: &List<'_>, some: &List<'_>, cost: &Cost) -> Result<bool, EvaluationError> {
    for element in some.iter() {
        if !contains(all, &element, cost)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn join<'a>(list: &List<'a>, separator: &[Value<'a>], cost: &Cost) -> Evaluated<'a> {
    let separator = match separator {
        [] => "",
        [Value::Text(separator)] => separator.as_str(),
        other => return no_overload("join", other),
    };
    let mut joined = String::new();
    for (index, element) in list.iter().enumerate() {
        let Value::Text(text) = &element else {
            return no_overload("join", &[element]);
        };
        cost.text(text.as_str().len() + separator.len())?;
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(text.as_str());
    }
    Ok(Value::text(joined))
}

/// Calls a method of text.
fn of_text<'a>(name: &str, text: &Text<'a>, rest: &[Value<'a>], cost: &Cost) -> Evaluated<'a> {
    let source = text.as_str();
    cost.text(source.len())?;
    // A search prepares the whole text that it looks for.
    for argument in rest {
        if let Value::Text(argument) = argument {
            cost.text(argument.as_str().len())?;
        }
    }
    Ok(match (name, rest) {
        ("size", []) => int(source.chars().count()),
        ("trim", []) => Value::text(source.trim()),
        ("lowerAscii", []) => Value::text(source.to_ascii_lowercase()),
        ("upperAscii", []) => Value::text(source.to_ascii_uppercase()),
        ("contains", [Value::Text(part)]) => Value::Bool(source.contains(part.as_str())),
        ("startsWith", [Value::Text(part)]) => Value::Bool(source.starts_with(part.as_str())),
        ("endsWith", [Value::Text(part)]) => Value::Bool(source.ends_with(part.as_str())),
        ("indexOf", [Value::Text(part)]) => position(source, source.find(part.as_str())),
        ("indexOf", [Value::Text(part), from]) => {
            let from = offset(source, from)?;
            let found = source[from..].find(part.as_str());
            position(source, found.map(|found| found + from))
        }
        ("lastIndexOf", [Value::Text(part)]) => position(source, source.rfind(part.as_str())),
        ("charAt", [index]) => {
            let from = offset(source, index)?;
            let end = source[from..].chars().next().map_or(0, char::len_utf8);
            Value::text(&source[from..from + end])
        }
        ("substring", [from]) => Value::text(&source[offset(source, from)?..]),
        ("substring", [from, to]) => match source.get(offset(source, from)?..offset(source, to)?) {
            Some(part) => Value::text(part),
            None => return failed("substring(): the end is before the start"),
        },
        ("split", [Value::Text(separator), limit @ ..]) => {
            split(source, separator.as_str(), limit, cost)?
        }
        ("replace", [Value::Text(old), Value::Text(new), limit @ ..]) => {
            replace(source, old.as_str(), new.as_str(), limit, cost)?
        }
        _ => {
            let mut types = vec![Value::Text(text.clone())];
            types.extend(rest.iter().cloned());
            return no_overload(name, &types);
        }
    })
}

/// Returns a character's place as CEL counts it, or -1.
fn position<'a>(source: &str, found: Option<usize>) -> Value<'a> {
    match found {
        Some(at) => int(source[..at].chars().count()),
        None => Value::Int(-1),
    }
}

/// Returns the byte of a character that is counted from 0; the end counts as one.
fn offset(source: &str, index: &Value<'_>) -> Result<usize, EvaluationError> {
    let ends = std::iter::once(source.len());
    let starts = source.char_indices().map(|(at, _)| at).chain(ends);
    index
        .as_index()
        .and_then(|index| starts.into_iter().nth(index))
        .ok_or_else(|| EvaluationError::Value("the index is outside the text".to_owned()))
}

/// Returns the number of parts or replacements; every one if it is negative or not given.
fn limit_of(name: &str, limit: &[Value<'_>]) -> Result<usize, EvaluationError> {
    match limit {
        [] => Ok(usize::MAX),
        [Value::Int(limit)] => Ok(usize::try_from(*limit).unwrap_or(usize::MAX)),
        other => no_overload(name, other).map(|_| 0),
    }
}

fn split<'a>(source: &str, separator: &str, limit: &[Value<'a>], cost: &Cost) -> Evaluated<'a> {
    let limit = limit_of("split", limit)?;
    let mut parts = Vec::new();
    let mut push = |part: &str| {
        cost.step()?;
        parts.push(Value::text(part));
        Ok::<(), EvaluationError>(())
    };
    if separator.is_empty() {
        for (index, (at, character)) in source.char_indices().enumerate() {
            if index + 1 >= limit {
                push(&source[at..])?;
                break;
            }
            push(&source[at..at + character.len_utf8()])?;
        }
    } else if limit > 0 {
        for part in source.splitn(limit, separator) {
            push(part)?;
        }
    }
    Ok(Value::list(parts))
}

fn replace<'a>(
    source: &str,
    old: &str,
    new: &str,
    limit: &[Value<'a>],
    cost: &Cost,
) -> Evaluated<'a> {
    let limit = limit_of("replace", limit)?;
    let count = source.matches(old).take(limit).count();
    // Paid before the memory is taken.
    cost.text(count.saturating_mul(new.len()))?;
    Ok(Value::text(source.replacen(old, new, count)))
}

/// Converts a value to another type.
fn convert<'a>(name: &str, value: &Value<'a>, cost: &Cost) -> Evaluated<'a> {
    if let Value::Text(text) = value {
        cost.text(text.as_str().len())?;
    }
    let number = |text: &Text<'_>| {
        let text = plain(text.as_str());
        EvaluationError::Value(format!("{name}() cannot read {text:?}"))
    };
    Ok(match (name, value) {
        ("string", Value::Text(_))
        | ("int", Value::Int(_))
        | ("uint", Value::Uint(_))
        | ("double", Value::Double(_))
        | ("bool", Value::Bool(_))
        | ("timestamp", Value::Timestamp(_))
        | ("duration", Value::Duration(_)) => value.clone(),
        ("string", Value::Bool(value)) => Value::text(value.to_string()),
        ("string", Value::Int(number)) => Value::text(number.to_string()),
        ("string", Value::Uint(number)) => Value::text(number.to_string()),
        ("string", Value::Double(number)) => Value::text(number.to_string()),
        ("string", Value::Timestamp(at)) => Value::text(at.to_string()),
        ("string", Value::Duration(duration)) => {
            Value::text(format!("{}s", duration.as_secs_f64()))
        }
        ("int", Value::Text(text)) => Value::Int(text.as_str().parse().map_err(|_| number(text))?),
        ("uint", Value::Text(text)) => {
            Value::Uint(text.as_str().parse().map_err(|_| number(text))?)
        }
        ("double", Value::Text(text)) => {
            Value::Double(text.as_str().parse().map_err(|_| number(text))?)
        }
        ("bool", Value::Text(text)) => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Value::Bool(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Value::Bool(false),
            _ => return Err(number(text)),
        },
        ("timestamp", Value::Text(text)) => {
            let at = text.as_str().parse::<Timestamp>();
            Value::Timestamp(at.map_err(|_| number(text))?)
        }
        ("duration", Value::Text(text)) => {
            let duration = text.as_str().parse::<SignedDuration>();
            Value::Duration(duration.map_err(|_| number(text))?)
        }
        ("timestamp", Value::Int(seconds)) => match Timestamp::from_second(*seconds) {
            Ok(at) => Value::Timestamp(at),
            Err(_) => return failed("timestamp(): the number is too large"),
        },
        ("int", Value::Timestamp(at)) => Value::Int(at.as_second()),
        ("int" | "uint" | "double", value) => return convert_number(name, value),
        _ => return no_overload(name, std::slice::from_ref(value)),
    })
}

fn convert_number<'a>(name: &str, value: &Value<'a>) -> Evaluated<'a> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let converted = match (name, value) {
        ("int", Value::Uint(number)) => i64::try_from(*number).ok().map(Value::Int),
        ("uint", Value::Int(number)) => u64::try_from(*number).ok().map(Value::Uint),
        #[allow(clippy::cast_possible_truncation, reason = "checked: it fits")]
        ("int", Value::Double(number)) => {
            (number.abs() <= EXACT).then(|| Value::Int(number.trunc() as i64))
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked: it fits"
        )]
        ("uint", Value::Double(number)) => (0.0..=EXACT)
            .contains(number)
            .then(|| Value::Uint(number.trunc() as u64)),
        #[allow(clippy::cast_precision_loss, reason = "as in CEL")]
        ("double", Value::Int(number)) => Some(Value::Double(*number as f64)),
        #[allow(clippy::cast_precision_loss, reason = "as in CEL")]
        ("double", Value::Uint(number)) => Some(Value::Double(*number as f64)),
        _ => return no_overload(name, std::slice::from_ref(value)),
    };
    match converted {
        Some(converted) => Ok(converted),
        None => failed(format!("{name}(): the number is out of range")),
    }
}

/// Concatenates text, paid before the memory is taken.
pub(super) fn concatenate<'a>(left: &Text<'_>, right: &Text<'_>, cost: &Cost) -> Evaluated<'a> {
    cost.text(left.as_str().len() + right.as_str().len())?;
    let joined: Rc<str> = [left.as_str(), right.as_str()].concat().into();
    Ok(Value::text(joined))
}
