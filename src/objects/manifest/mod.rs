//! Manifests: YAML and JSON text to objects, as kubectl reads them, and back.
//!
//! Nothing is guessed and nothing is dropped: what is no object is an error with file and line
//! ([`ManifestError`]), all errors of a file at once. Lists (`kind: List` and others) are
//! flattened, empty documents skipped. Ciphertext (SOPS), LFS pointers and text that is not UTF-8
//! are errors: a cluster must never get them.
//!
//! Declarations of our own group and of Flux's image group are for tagboat, not for the cluster.
//! They are skipped, and listed.

mod scalar;
mod value;
mod write;
#[cfg(test)]
mod tests;

pub use scalar::{is_plain_text, resolve_plain};
pub use value::{ManifestDocument, ManifestStream, SyntaxProblem, printed_yaml, yaml};
pub use write::{to_yaml, to_yaml_stream};

use crate::{
    core::error::{Classify, ErrorKind},
    objects::object::{Gvk, Object, ObjectError, ObjectKey, ObjectOrigin, PREFIX},
};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::{collections::HashMap, fmt, sync::Arc};

/// Flux's group of image kinds, whose objects `spec` reads.
const FLUX: &str = "image.toolkit.fluxcd.io";

/// A manifest that cannot be used, with its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct ManifestError {
    pub origin: ObjectOrigin,
    /// The problem and its remedy.
    pub message: String,
}

impl Classify for ManifestError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Config
    }
}

/// The result of reading manifests.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    /// The objects in the order of the text, each with its place.
    pub objects: Vec<Object>,
    /// Declarations, which are not for the cluster.
    pub left_out: Vec<(ObjectOrigin, ObjectKey)>,
    pub mistakes: Vec<ManifestError>,
    /// Suspicious content that is taken all the same, one line each.
    pub warnings: Vec<String>,
}

impl Manifests {
    /// Reads a file. Its name decides the format: `.json` is JSON, anything else YAML.
    pub fn read(&mut self, file: &str, bytes: &[u8]) {
        let name: Arc<str> = Arc::from(file);
        let at = |line: usize| ObjectOrigin {
            file: name.clone(),
            line,
        };
        let text = match text_of(bytes) {
            Ok(text) => text,
            Err(why) => {
                return self.mistakes.push(ManifestError {
                    origin: ObjectOrigin {
                        file: name,
                        line: 0,
                    },
                    message: why.to_owned(),
                });
            }
        };
        let (documents, problems) = if file.ends_with(".json") {
            json(text)
        } else {
            yaml(text)
        };
        if let Some(first) = problems.first().filter(|_| text.contains("{{")) {
            // Any other error follows from that.
            let message =
                "it is a template (it holds \"{{\"), not a manifest; templates belong into a chart"
                    .to_owned();
            return self.mistakes.push(ManifestError {
                origin: at(first.line),
                message,
            });
        }
        self.mistakes
            .extend(
                problems
                    .into_iter()
                    .map(|SyntaxProblem { line, message }| ManifestError {
                        origin: at(line),
                        message,
                    }),
            );
        for ManifestDocument {
            line, items, value, ..
        } in documents
        {
            self.take(value, &at(line), &items);
        }
    }

    /// Reads the output of a program; all of it has one origin.
    pub fn read_printed(&mut self, origin: &ObjectOrigin, text: &str) {
        let stream = printed_yaml(text);
        for SyntaxProblem { line, message } in stream.problems {
            self.mistakes.push(ManifestError {
                origin: origin.clone(),
                message: format!("line {line} of what was rendered: {message}"),
            });
        }
        for SyntaxProblem { line, message } in stream.duplicates {
            self.warnings.push(format!(
                "{origin}: line {line} of what was rendered: {message}; the last one counts, as in Kubernetes"
            ));
        }
        for ManifestDocument { value, .. } in stream.documents {
            self.take(value, origin, &[]);
        }
    }

    /// Takes a value that was read elsewhere.
    pub fn add(&mut self, value: Value, origin: &ObjectOrigin) {
        self.take(value, origin, &[]);
    }

    /// Adds an error for each duplicate object, naming both places.
    pub fn find_duplicates(&mut self) {
        let mut seen: HashMap<ObjectKey, usize> = HashMap::new();
        for (index, object) in self.objects.iter().enumerate() {
            let key = object.key();
            let Some(first) = seen.insert(key.clone(), index) else {
                continue;
            };
            seen.insert(key.clone(), first);
            let (Some(origin), Some(first)) = (&object.origin, &self.objects[first].origin) else {
                continue;
            };
            let message = match origin == first && origin.line == 0 {
                true => format!("{key} is there twice in what was rendered"),
                false => format!("{key} is already at {first}"),
            };
            self.mistakes.push(ManifestError {
                origin: origin.clone(),
                message,
            });
        }
    }

    fn take(&mut self, value: Value, origin: &ObjectOrigin, items: &[usize]) {
        let mut mistake = |message: String| {
            self.mistakes.push(ManifestError {
                origin: origin.clone(),
                message,
            })
        };
        let Value::Object(fields) = value else {
            return mistake(format!("this document is {}, no object", shape(&value)));
        };
        if fields
            .get("sops")
            .is_some_and(|sops| sops.get("mac").is_some())
        {
            return mistake("it is encrypted with SOPS: decryption is not done here, and ciphertext is never applied".to_owned());
        }
        let text = |field: &str| {
            fields
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let gvk = Gvk::new(text("apiVersion"), text("kind"));
        if let (Some(of), Some(Value::Array(_))) =
            (gvk.kind.strip_suffix("List"), fields.get("items"))
        {
            return self.take_list(fields.clone(), &gvk, of, origin, items);
        }
        if gvk.group == PREFIX || gvk.group == FLUX {
            let name = |field: &str| {
                fields
                    .get("metadata")
                    .and_then(|metadata| metadata.get(field))
                    .and_then(Value::as_str)
                    .map(str::to_owned)
            };
            let key = ObjectKey::new(
                gvk.group,
                gvk.kind,
                name("namespace"),
                name("name").unwrap_or_default(),
            );
            return self.left_out.push((origin.clone(), key));
        }
        match lacks(&fields) {
            Some(message) => mistake(message),
            None => match Object::new(Value::Object(fields)) {
                Ok(object) => self.objects.push(object.at(origin.clone())),
                Err(error) => mistake(error.to_string()),
            },
        }
    }

    fn take_list(
        &mut self,
        mut fields: Map<String, Value>,
        gvk: &Gvk,
        of: &str,
        origin: &ObjectOrigin,
        lines: &[usize],
    ) {
        let Some(Value::Array(items)) = fields.remove("items") else {
            return;
        };
        for (index, mut item) in items.into_iter().enumerate() {
            // The items of a DeploymentList need not have a kind.
            if let (false, Value::Object(item)) = (of.is_empty(), &mut item) {
                item.entry("kind").or_insert_with(|| of.into());
                item.entry("apiVersion")
                    .or_insert_with(|| gvk.api_version().into());
            }
            let origin = lines.get(index).map_or_else(
                || origin.clone(),
                |&line| ObjectOrigin {
                    line,
                    ..origin.clone()
                },
            );
            self.take(item, &origin, &[]);
        }
    }
}

/// Returns why fields are no object, in more detail than [`ObjectError`].
fn lacks(fields: &Map<String, Value>) -> Option<String> {
    let metadata = fields.get("metadata");
    let name = metadata.and_then(|metadata| metadata.get("name"));
    let there = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
    if !there(fields.get("apiVersion")) && !there(fields.get("kind")) {
        return Some(
            "this is no manifest: it has neither apiVersion nor kind; keep other files out of this folder, or begin their names with \".\""
                .to_owned(),
        );
    }
    for (field, value) in [
        ("apiVersion", fields.get("apiVersion")),
        ("kind", fields.get("kind")),
        ("metadata.name", name),
        (
            "metadata.namespace",
            metadata.and_then(|metadata| metadata.get("namespace")),
        ),
    ] {
        if let Some(value) = value.filter(|value| !value.is_string() && !value.is_null()) {
            return Some(format!(
                "{field} is {}, not text{}",
                shape(value),
                if value.is_number() || value.is_boolean() {
                    "; put it in quotes"
                } else {
                    ""
                }
            ));
        }
    }
    let kind = fields
        .get("kind")
        .and_then(Value::as_str)
        .filter(|kind| !kind.is_empty());
    if !there(name) && there(metadata.and_then(|metadata| metadata.get("generateName"))) {
        return Some(format!(
            "{} has generateName, which gives another object at each apply; write metadata.name",
            kind.unwrap_or("it")
        ));
    }
    match Object::new(Value::Object(fields.clone())) {
        Err(ObjectError::Missing(field)) => Some(match kind {
            Some(kind) if field != "kind" => format!("{kind} has no {field}"),
            _ => format!("it has no {field}"),
        }),
        _ => None,
    }
}

/// Decodes the text of a file.
fn text_of(bytes: &[u8]) -> Result<&str, &'static str> {
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Err("it is a pointer of Git LFS, not the file itself; manifests belong into Git");
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// Parses the documents of a JSON text, one value after the other.
fn json(text: &str) -> (Vec<ManifestDocument>, Vec<SyntaxProblem>) {
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(skipped) = text[at..].find(|c: char| !c.is_ascii_whitespace()) {
        at += skipped;
        let line = |byte: usize| 1 + memchr::memchr_iter(b'\n', &text.as_bytes()[..byte]).count();
        let mut stream = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Strict>();
        match stream.next() {
            Some(Ok(Strict(value))) => {
                if !value.is_null() {
                    documents.push(ManifestDocument {
                        line: line(at),
                        items: Vec::new(),
                        value,
                        has_duplicates: false,
                    });
                }
                at += stream.byte_offset();
            }
            Some(Err(error)) => {
                let message = error.to_string();
                let message = message
                    .rsplit_once(" at line ")
                    .map_or(message.as_str(), |(message, _)| message)
                    .to_owned();
                problems.push(SyntaxProblem {
                    line: line(at) + error.line().saturating_sub(1),
                    message,
                });
                break;
            }
            None => break,
        }
    }
    (documents, problems)
}

/// A JSON value without duplicate keys, with numbers as Kubernetes reads them.
struct Strict(Value);

impl<'de> serde::Deserialize<'de> for Strict {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or_else(|_| (value as f64).into(), Value::from))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if fields.contains_key(&key) {
                let _ = map.next_value::<IgnoredAny>();
                return Err(serde::de::Error::custom(format_args!(
                    "the key {:?} is written twice",
                    value::shown(&key)
                )));
            }
            let Strict(value) = map.next_value()?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}
