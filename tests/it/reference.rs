//! The reference pages in `docs/reference/` are generated from the program and must be current.
//!
//! `UPDATE_EXPECTED=1 cargo test --test main reference` writes them.

use serde_json::Value;
use std::{fmt::Write as _, fs, path::Path};
use tagboat::{
    cli,
    events::EventReason,
    service,
    spec::{SchemaKind, schema},
};

/// Levels of nested fields in a table.
const DEPTH: usize = 4;

fn assert_current(page: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs/reference")
        .join(page);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&file, text).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "docs/reference/{page} is not current: UPDATE_EXPECTED=1 cargo test --test main reference"
    );
}

#[test]
fn reference_of_declared_kinds_is_current() {
    for (kind, title, page, path) in [
        (
            SchemaKind::ImagePolicy,
            "ImagePolicy",
            "imagepolicy.md",
            "/properties/spec",
        ),
        (
            SchemaKind::Environment,
            "Environment",
            "environment.md",
            "/properties/spec",
        ),
        (
            SchemaKind::Application,
            "Application",
            "application.md",
            "/properties/spec",
        ),
        (SchemaKind::Settings, "tagboat.yaml", "tagboat-yaml.md", ""),
    ] {
        let root = schema(kind);
        let top = resolve(&root, root.pointer(path).unwrap());
        let mut text = format!("# {title}\n\n");
        if let Some(about) = top["description"].as_str() {
            writeln!(text, "{about}\n").unwrap();
        }
        if !path.is_empty() {
            writeln!(
                text,
                "`apiVersion: tagboat.dev/v1alpha1`; the fields below `spec`:\n"
            )
            .unwrap();
        }
        text += "| field | type | meaning |\n|---|---|---|\n";
        rows(&root, top, "", 0, &mut text);
        assert_current(page, &text);
    }
}

#[test]
fn reference_of_answers_is_current() {
    let mut text = "# JSON answers\n\nThe answer of each command with `-o json`. \
                    `tagboat schema answer NAME` prints the full schema.\n"
        .to_owned();
    for name in service::schema::names() {
        let root = service::schema::answer(name).unwrap();
        writeln!(text, "\n## {name}\n").unwrap();
        text += "| field | type | meaning |\n|---|---|---|\n";
        rows(&root, &root, "", 0, &mut text);
    }
    assert_current("answers.md", &text);
}

#[test]
fn reference_of_events_is_current() {
    let mut text = "# Events\n\nWhat tagboat does, it records as events: one for each thing that happened, with a reason \
                    code. Programs read the code; the message is for people and may change. The log is a sink of \
                    all events and has the code in the field `reason`, beside the names of the repository, \
                    Environment, pull request, Application, cluster and revision that the event is about.\n\n\
                    | reason | meaning |\n|---|---|\n"
        .to_owned();
    for (reason, meaning) in EventReason::ALL {
        writeln!(text, "| `{reason}` | {} |", meaning.trim()).unwrap();
    }
    text += "\n## Reasons of Application states\n\nThe field `reason` of an Application in \
             `tagboat status -o json`, beside its `state`.\n\n| reason | meaning |\n|---|---|\n";
    let status = service::schema::answer("status").unwrap();
    let reasons = status["$defs"]["Reason"]["oneOf"].as_array().unwrap();
    for reason in reasons {
        let (code, meaning) = (&reason["const"], &reason["description"]);
        let (code, meaning) = (code.as_str().unwrap(), meaning.as_str().unwrap());
        writeln!(text, "| `{code}` | {} |", meaning.replace('\n', " ")).unwrap();
    }
    assert_current("events.md", &text);
}

#[test]
fn reference_of_commands_is_current() {
    let mut text = "# Commands\n".to_owned();
    let mut program = cli::command().term_width(100);
    program.build();
    let names: Vec<String> = program
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .filter(|name| name != "help" && (cfg!(feature = "demo") || name != "demo"))
        .collect();
    for name in names {
        let command = program.find_subcommand_mut(&name).unwrap();
        let help = command.render_long_help().to_string();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        write!(
            text,
            "\n## tagboat {name}\n\n```text\n{}\n```\n",
            help.join("\n").trim_end()
        )
        .unwrap();
    }
    assert_current("cli.md", &text);
}

/// Writes a row for each field, and below it those of its own fields.
fn rows(root: &Value, schema: &Value, path: &str, depth: usize, text: &mut String) {
    let schema = resolve(root, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let inner = resolve(root, field);
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let about = [field, inner]
            .into_iter()
            .find_map(|schema| schema["description"].as_str());
        let about = about
            .unwrap_or_default()
            .replace('\n', " ")
            .replace('|', "\\|");
        let element = element(root, inner);
        let path = if element.is_some() {
            format!("{path}[]")
        } else {
            path
        };
        writeln!(text, "| `{path}` | {} | {about} |", kind(root, inner)).unwrap();
        if depth < DEPTH {
            rows(root, element.unwrap_or(inner), &path, depth + 1, text);
        }
    }
}

/// Follows `$ref`, and `anyOf` with null.
fn resolve<'v>(root: &'v Value, schema: &'v Value) -> &'v Value {
    if let Some(pointer) = schema["$ref"].as_str() {
        return resolve(root, root.pointer(pointer.trim_start_matches('#')).unwrap());
    }
    let mut some = schema["anyOf"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|one| one["type"] != "null");
    match (some.next(), some.next()) {
        (Some(one), None) => resolve(root, one),
        _ => schema,
    }
}

fn element<'v>(root: &'v Value, schema: &'v Value) -> Option<&'v Value> {
    schema.get("items").map(|items| resolve(root, items))
}

/// Names the type of a field: its JSON type, or its values.
fn kind(root: &Value, schema: &Value) -> String {
    if let Some(element) = element(root, schema) {
        return format!("list of {}", kind(root, element));
    }
    let values = |list: &Value| -> Vec<String> {
        let values = list.as_array().into_iter().flatten();
        values
            .filter_map(Value::as_str)
            .map(|value| format!("`{value}`"))
            .collect()
    };
    let mut found = values(&schema["enum"]);
    for one in schema["oneOf"].as_array().into_iter().flatten() {
        found.extend(values(&one["enum"]));
        found.extend(one["const"].as_str().map(|value| format!("`{value}`")));
    }
    if !found.is_empty() {
        return found.join(", ");
    }
    match &schema["type"] {
        Value::String(one) => one.clone(),
        Value::Array(all) => {
            let all = all
                .iter()
                .filter_map(Value::as_str)
                .filter(|one| *one != "null");
            all.collect::<Vec<_>>().join(" or ")
        }
        _ if schema["properties"].is_object() || schema["oneOf"].is_array() => "object".to_owned(),
        _ => "any".to_owned(),
    }
}
