//! One document of a declaration file, checked against a JSON schema, with the position of every
//! field.
//!
//! The schema decides which fields and types are valid; all its errors are reported at once with
//! line and column. Checks beyond a schema (is this a range, a time zone, a repository?) happen
//! where the raw shape becomes a checked value, through [`SpecReader::check`].

use super::{
    diagnostic::{Diagnostic, Severity, SourcePlace},
    repair::repaired,
    spelling::nearest,
    validator::{SpecSchema, likeliest_branch},
};
use crate::core::{
    pointer,
    text::{escape_control, without_controls},
    yaml,
};
use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Display;

/// A document with its file, its value and its tree.
pub(crate) struct SpecDocument<'a> {
    pub file: &'a str,
    pub value: Value,
    root: yaml::Node<'a>,
}

/// Collects the mistakes of one document while it is turned into a checked value.
pub(crate) struct SpecReader<'a> {
    pub document: &'a SpecDocument<'a>,
    pub mistakes: Vec<Diagnostic>,
    /// The pointers of fields that were misspelt, and those that they have in the file.
    renamed: Vec<(String, String)>,
}

impl<'a> SpecDocument<'a> {
    /// Reads the value of one document of a parsed file.
    pub(super) fn new(
        file: &'a str,
        root: yaml::Node<'a>,
        source: &str,
    ) -> Result<Self, Diagnostic> {
        // A block collection's lines must keep their indent, so the slice begins with the line.
        let span = root.span();
        let start = source[..span.start]
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        let start = if source[start..span.start].trim().is_empty() {
            start
        } else {
            span.start
        };
        let options = serde_saphyr::options! { strict_booleans: true };
        match serde_saphyr::from_str_with_options::<Value>(
            source[start..span.end].trim_end(),
            options,
        ) {
            Ok(value) => Ok(Self { file, value, root }),
            Err(error) => Err(Diagnostic {
                place: SourcePlace {
                    file: file.to_owned(),
                    line: root.line() as usize,
                    column: root.column() as usize,
                },
                severity: Severity::Error,
                message: format!(
                    "this document cannot be read: {}",
                    first_line(&error.to_string())
                ),
            }),
        }
    }

    /// Returns the text of a top-level field.
    pub(super) fn word(&self, key: &str) -> Option<&str> {
        self.value.get(key)?.as_str()
    }

    /// Returns the position of a JSON pointer's value, or of the nearest parent that exists.
    pub(super) fn place(&self, pointer: &str) -> SourcePlace {
        let (line, column) = self.root.pointer(pointer).line_column();
        SourcePlace {
            file: self.file.to_owned(),
            line: line as usize,
            column: column as usize,
        }
    }
}

fn first_line(text: &str) -> String {
    without_controls(text.lines().next().unwrap_or_default(), 200)
}

impl<'a> SpecReader<'a> {
    /// Starts reading.
    pub(super) fn new(document: &'a SpecDocument<'a>) -> Self {
        Self {
            document,
            mistakes: Vec::new(),
            renamed: Vec::new(),
        }
    }

    /// Returns the raw shape.
    ///
    /// Where the schema finds mistakes, it is that of a repaired copy, so that further checks find
    /// the rest of them. The caller makes nothing of it then: [`SpecReader::failed`] tells.
    pub(super) fn shape<T: DeserializeOwned>(&mut self, schema: &SpecSchema) -> Option<T> {
        for error in schema.errors(&self.document.value) {
            self.schema_mistakes(schema, &error);
        }
        if self.failed() {
            let repaired = repaired(schema, &self.document.value)?;
            self.renamed = repaired.renamed;
            return serde_json::from_value(repaired.value).ok();
        }
        match serde_json::from_value(self.document.value.clone()) {
            Ok(shape) => Some(shape),
            Err(error) => {
                self.error("", error);
                None
            }
        }
    }

    /// Returns whether an error was found; warnings do not count.
    pub(super) fn failed(&self) -> bool {
        self.mistakes
            .iter()
            .any(|mistake| mistake.severity == Severity::Error)
    }

    /// Returns a good value; records the error of a bad one at the field.
    pub(super) fn check<T, E: Display>(
        &mut self,
        pointer: &str,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|error| self.error(pointer, error)).ok()
    }

    /// Records an error if a list is longer than `most`; returns whether it is short enough.
    pub(super) fn is_at_most(&mut self, pointer: &str, length: usize, most: usize) -> bool {
        if length > most {
            self.error(
                pointer,
                format!("it has {length} entries; at most {most} are allowed"),
            );
        }
        length <= most
    }

    /// Records an error at a field.
    pub(super) fn error(&mut self, pointer: &str, message: impl Display) {
        self.say(pointer, Severity::Error, message);
    }

    /// Records a warning at a field: it has no effect, or another meaning than a reader may expect.
    pub(super) fn warn(&mut self, pointer: &str, message: impl Display) {
        self.say(pointer, Severity::Warning, message);
    }

    fn say(&mut self, pointer: &str, severity: Severity, message: impl Display) {
        let written = self.renamed.iter().find_map(|(name, written)| {
            let rest = pointer.strip_prefix(name.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{written}{rest}"))
        });
        self.mistakes.push(Diagnostic {
            place: self.document.place(written.as_deref().unwrap_or(pointer)),
            severity,
            message: message.to_string(),
        });
    }

    /// Records the mistakes behind an error of the schema, in the words of the file.
    fn schema_mistakes(&mut self, schema: &SpecSchema, error: &ValidationError<'_>) {
        let pointer = error.instance_path().as_str().to_owned();
        let within = describe(&pointer);
        let message = match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                return self.unknown_fields(&schema.known_names(error), &pointer, unexpected);
            }
            // An optional field of schemars is "this or null"; the mistakes of "this" are the
            // interesting ones.
            ValidationErrorKind::AnyOf { context }
            | ValidationErrorKind::OneOfNotValid { context } => match likeliest_branch(context) {
                Some(errors) => {
                    for error in errors {
                        self.schema_mistakes(schema, error);
                    }
                    return;
                }
                None => clean(&error.to_string()),
            },
            ValidationErrorKind::Required { property } => {
                let property = property.as_str().unwrap_or_default();
                format!("`{property}` is missing{within}")
            }
            ValidationErrorKind::Enum { options } => not_an_option(error.instance(), options),
            ValidationErrorKind::Type { kind } => wrong_type(error.instance(), kind, &within),
            ValidationErrorKind::MinProperties { .. }
            | ValidationErrorKind::MaxProperties { .. } => {
                let known = schema.known_names(error).join(", ");
                format!("exactly one of {known} must be written{within}")
            }
            _ => format!("{}{within}", clean(&error.to_string())),
        };
        self.error(&pointer, message);
    }

    fn unknown_fields(&mut self, known: &[&str], pointer: &str, unexpected: &[String]) {
        let within = describe(pointer);
        for name in unexpected {
            let help = match nearest(name, known) {
                Some(nearest) => format!("; did you mean `{nearest}`?"),
                None if known.is_empty() => String::new(),
                None => format!("; known are {}", known.join(", ")),
            };
            self.error(
                &format!("{pointer}/{}", pointer::encode(name)),
                format!("unknown field `{}`{within}{help}", clean(name)),
            );
        }
    }
}

fn not_an_option(instance: &Value, options: &Value) -> String {
    let options = options.as_array().into_iter().flatten();
    let options: Vec<&str> = options.filter_map(Value::as_str).collect();
    let nearest = instance.as_str().and_then(|text| nearest(text, &options));
    let help = nearest.map_or(String::new(), |nearest| {
        format!("; did you mean `{nearest}`?")
    });
    let instance = clean(&instance.to_string());
    format!("{instance} is not one of {}{help}", options.join(", "))
}

fn wrong_type(instance: &Value, kind: &TypeKind, within: &str) -> String {
    let words: Vec<String> = match kind {
        TypeKind::Single(wanted) => vec![wanted.to_string()],
        TypeKind::Multiple(wanted) => wanted
            .iter()
            .map(|wanted| wanted.to_string())
            .filter(|wanted| wanted != "null")
            .collect(),
    };
    let wanted: Vec<String> = words.iter().map(|word| article(word)).collect();
    let help = match instance {
        Value::Number(_) | Value::Bool(_) if words == ["string"] => "; write it in quotes",
        _ => "",
    };
    let (wanted, found) = (wanted.join(" or "), found(instance));
    format!("expected {wanted}{within}, found {found}{help}")
}

/// Returns the first 200 characters of foreign text, escaped.
fn clean(text: &str) -> String {
    let end = text
        .char_indices()
        .nth(200)
        .map_or(text.len(), |(at, _)| at);
    escape_control(&text[..end])
}

/// "/spec/policy" → " in spec.policy".
fn describe(pointer: &str) -> String {
    if pointer.is_empty() {
        String::new()
    } else {
        format!(" in {}", clean(&pointer[1..].replace('/', ".")))
    }
}

fn article(word: &str) -> String {
    match word {
        "string" => "text".to_owned(),
        "object" => "a mapping".to_owned(),
        "array" => "a list".to_owned(),
        "boolean" => "true or false".to_owned(),
        "integer" => "a whole number".to_owned(),
        word => word.to_owned(),
    }
}

fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        // Never the text itself: it may be a secret written in place of {env: NAME}.
        Value::String(_) => "text".to_owned(),
        value => clean(&value.to_string()),
    }
}
