//! JSON schemas for editors: each kind, all kinds together, and the settings file.

use super::{APPLICATION, ENVIRONMENT, POLICY, settings};
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaKind {
    /// Every kind of a config repository; a document is one of them.
    All,
    ImagePolicy,
    Environment,
    Application,
    /// The settings file, `tagboat.yaml`.
    Settings,
}

/// Returns the schema (JSON Schema draft 2020-12).
pub fn schema(kind: SchemaKind) -> Value {
    let mut schema = document(kind);
    join_description_lines(&mut schema);
    schema
}

/// Joins the lines of each description: editors show every line break of a doc comment as one.
fn join_description_lines(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "description" => {
                        let paragraphs: Vec<_> = text
                            .split("\n\n")
                            .map(|text| text.replace('\n', " "))
                            .collect();
                        *text = paragraphs.join("\n\n");
                    }
                    value => join_description_lines(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(join_description_lines),
        _ => {}
    }
}

fn document(kind: SchemaKind) -> Value {
    let named = |schema: &Value, name: &str| {
        let mut schema = schema.clone();
        schema["title"] = json!(name);
        schema["properties"]["kind"] = json!({"const": name});
        schema
    };
    match kind {
        SchemaKind::ImagePolicy => named(&POLICY.value, "ImagePolicy"),
        SchemaKind::Environment => named(&ENVIRONMENT.value, "Environment"),
        SchemaKind::Application => named(&APPLICATION.value, "Application"),
        SchemaKind::Settings => settings::schema(),
        SchemaKind::All => {
            let kinds = [
                SchemaKind::ImagePolicy,
                SchemaKind::Environment,
                SchemaKind::Application,
            ];
            // One branch a kind, so that an editor shows the errors of the right kind.
            let branches: Vec<Value> = kinds
                .into_iter()
                .map(|kind| {
                    let schema = document(kind);
                    json!({"if": {"properties": {"kind": schema["properties"]["kind"]}}, "then": schema})
                })
                .collect();
            json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "title": "tagboat.dev/v1alpha1",
                "type": "object",
                "required": ["apiVersion", "kind", "metadata", "spec"],
                "properties": {"kind": {"enum": ["ImagePolicy", "Environment", "Application"]}},
                "allOf": branches
            })
        }
    }
}
