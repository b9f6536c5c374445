//! Values of an evaluation. Those of the object are borrowed.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Number, Value as Json};
use std::{cmp::Ordering, rc::Rc};

#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    List(List<'a>),
    Map(Fields<'a>),
    Optional(Option<Rc<Self>>),
    Timestamp(Timestamp),
    Duration(SignedDuration),
}

/// Text that is cheap to copy.
#[derive(Debug, Clone)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Computed(Rc<str>),
}

#[derive(Debug, Clone)]
pub(super) enum List<'a> {
    Borrowed(&'a [Json]),
    Computed(Rc<[Value<'a>]>),
}

#[derive(Debug, Clone)]
pub(super) enum Fields<'a> {
    Borrowed(&'a Map<String, Json>),
    Computed(Rc<[(Value<'a>, Value<'a>)]>),
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Computed(text) => text,
        }
    }
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            List::Borrowed(list) => list.len(),
            List::Computed(list) => list.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            List::Borrowed(list) => list.get(index).map(Value::from),
            List::Computed(list) => list.get(index).cloned(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Value<'a>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<'a> Fields<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Fields::Borrowed(fields) => fields.len(),
            Fields::Computed(fields) => fields.len(),
        }
    }

    /// Returns the value of a key without comparing it to more than a literal's keys.
    pub(super) fn get(&self, key: &Value<'_>) -> Option<Value<'a>> {
        match self {
            Fields::Borrowed(fields) => match key {
                Value::Text(key) => fields.get(key.as_str()).map(Value::from),
                _ => None,
            },
            Fields::Computed(fields) => fields
                .iter()
                .find(|(name, _)| name.is_same_key(key))
                .map(|(_, value)| value.clone()),
        }
    }

    pub(super) fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Fields::Borrowed(fields) => {
                let key = |key: &'a String| Value::Text(Text::Borrowed(key));
                fields.keys().map(key).collect()
            }
            Fields::Computed(fields) => fields.iter().map(|(key, _)| key.clone()).collect(),
        }
    }
}

impl<'a> From<&'a Json> for Value<'a> {
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => number.into(),
            Json::String(text) => Value::Text(Text::Borrowed(text)),
            Json::Array(list) => Value::List(List::Borrowed(list)),
            Json::Object(fields) => Value::Map(Fields::Borrowed(fields)),
        }
    }
}

impl From<&Number> for Value<'_> {
    fn from(number: &Number) -> Self {
        if let Some(number) = number.as_i64() {
            return Value::Int(number);
        }
        match number.as_u64() {
            Some(number) => Value::Uint(number),
            None => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
        }
    }
}

impl<'a> Value<'a> {
    pub(super) fn text(text: impl Into<Rc<str>>) -> Self {
        Value::Text(Text::Computed(text.into()))
    }

    pub(super) fn list(values: Vec<Self>) -> Self {
        Value::List(List::Computed(values.into()))
    }

    pub(super) fn optional(value: Option<Self>) -> Self {
        Value::Optional(value.map(Rc::new))
    }

    /// Returns the name of the type in CEL.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::Text(_) => "string",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Optional(_) => "optional",
            Value::Timestamp(_) => "timestamp",
            Value::Duration(_) => "duration",
        }
    }

    /// Orders two values; `None` if they have no order, as a number and a text.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            (Value::Text(left), Value::Text(right)) => Some(left.as_str().cmp(right.as_str())),
            (Value::Timestamp(left), Value::Timestamp(right)) => Some(left.cmp(right)),
            (Value::Duration(left), Value::Duration(right)) => Some(left.cmp(right)),
            (left, right) => compare_numbers(left, right),
        }
    }

    /// Compares scalar keys.
    fn is_same_key(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Value::Bool(left), Value::Bool(right)) => left == right,
            (Value::Text(left), Value::Text(right)) => left.as_str() == right.as_str(),
            (left, right) => compare_numbers(left, right) == Some(Ordering::Equal),
        }
    }

    /// Returns a whole number, for an index.
    pub(super) fn as_index(&self) -> Option<usize> {
        match self {
            Value::Int(number) => usize::try_from(*number).ok(),
            Value::Uint(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }
}

/// Orders numbers of any types; `None` for anything else, and for NaN.
pub(super) fn compare_numbers(left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
    #[allow(
        clippy::cast_precision_loss,
        reason = "CEL compares whole numbers and doubles as doubles"
    )]
    let double = |value: &Value<'_>| match value {
        Value::Int(number) => Some(*number as f64),
        Value::Uint(number) => Some(*number as f64),
        Value::Double(number) => Some(*number),
        _ => None,
    };
    let whole = |value: &Value<'_>| match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::Uint(number) => Some(i128::from(*number)),
        _ => None,
    };
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => double(left)?.partial_cmp(&double(right)?),
    }
}
