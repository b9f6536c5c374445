//! Repairs of a document whose shape is wrong, so that the checks beyond its schema still run.
//!
//! A misspelt word must not hide that a range or a cron expression beside it is wrong, too. A
//! repaired document only serves to find these mistakes; it never becomes a declaration.

use super::{
    spelling::nearest,
    validator::{SpecSchema, likeliest_branch},
};
use crate::core::pointer;
use jsonschema::{ValidationError, error::ValidationErrorKind};
use serde_json::Value;

/// Rounds of validation; a repair may uncover another mistake below it.
const MOST_ROUNDS: usize = 8;

/// A change of one place of a document.
#[derive(Debug)]
enum Repair {
    Replace(String, Value),
    Remove(String),
    Rename {
        parent: String,
        from: String,
        to: String,
    },
}

/// A repaired copy of a document.
pub(super) struct RepairedValue {
    pub(super) value: Value,
    /// The pointers of renamed fields, and those that the fields have in the file.
    pub(super) renamed: Vec<(String, String)>,
}

/// Returns a copy of `value` that the schema accepts; none if something is missing, or has a shape
/// that nothing can be read from.
pub(super) fn repaired(schema: &SpecSchema, value: &Value) -> Option<RepairedValue> {
    let (mut value, mut renamed) = (value.clone(), Vec::new());
    for _ in 0..MOST_ROUNDS {
        let mut repairs = Vec::new();
        for error in schema.errors(&value) {
            plan(schema, &error, &mut repairs)?;
        }
        if repairs.is_empty() {
            return Some(RepairedValue { value, renamed });
        }
        for repair in repairs {
            if let Repair::Rename { parent, from, to } = &repair {
                let pointer_of = |name| format!("{parent}/{}", pointer::encode(name));
                renamed.push((pointer_of(to), pointer_of(from)));
            }
            repair.apply(&mut value);
        }
    }
    None
}

/// Plans the repair of one mistake; none if there is no repair.
fn plan(schema: &SpecSchema, error: &ValidationError<'_>, repairs: &mut Vec<Repair>) -> Option<()> {
    let pointer = error.instance_path().as_str().to_owned();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = schema.known_names(error);
            for name in unexpected {
                repairs.push(match nearest(name, &known) {
                    Some(meant) => Repair::Rename {
                        parent: pointer.clone(),
                        from: name.clone(),
                        to: meant.to_owned(),
                    },
                    None => Repair::Remove(format!("{pointer}/{}", pointer::encode(name))),
                });
            }
        }
        ValidationErrorKind::Enum { options } => {
            let options: Vec<&str> = options
                .as_array()?
                .iter()
                .filter_map(Value::as_str)
                .collect();
            let written = error.instance().as_str();
            let is_item = pointer
                .rsplit('/')
                .next()
                .is_some_and(|key| key.parse::<usize>().is_ok());
            let meant = written.and_then(|text| nearest(text, &options));
            // Without an item, the places of those behind it would be wrong.
            let meant = meant.or(options.first().copied().filter(|_| is_item));
            repairs.push(match meant {
                Some(meant) => Repair::Replace(pointer, Value::from(meant)),
                None => Repair::Remove(pointer),
            });
        }
        ValidationErrorKind::Type { .. } => match error.instance().as_ref() {
            // Text without its quotes.
            scalar @ (Value::Number(_) | Value::Bool(_)) => {
                repairs.push(Repair::Replace(pointer, Value::from(scalar.to_string())));
            }
            _ => return None,
        },
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            for error in likeliest_branch(context)? {
                plan(schema, error, repairs)?;
            }
        }
        _ => return None,
    }
    Some(())
}

impl Repair {
    fn apply(self, value: &mut Value) {
        match self {
            Self::Replace(at, new) => {
                if let Some(old) = value.pointer_mut(&at) {
                    *old = new;
                }
            }
            Self::Remove(at) => {
                let Some((parent, key)) = at.rsplit_once('/') else {
                    return;
                };
                let key = pointer::decode(key);
                if let Some(Value::Object(fields)) = value.pointer_mut(parent) {
                    fields.remove(&*key);
                }
            }
            Self::Rename { parent, from, to } => {
                if let Some(Value::Object(fields)) = value.pointer_mut(&parent)
                    && let Some(moved) = fields.remove(&from)
                {
                    fields.entry(to).or_insert(moved);
                }
            }
        }
    }
}
