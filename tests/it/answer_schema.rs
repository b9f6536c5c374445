//! The schemas of `tagboat schema answer`, applied to real answers.

use serde_json::Value;
use tagboat::service::schema;

/// Checks JSON output against the schema of its command, or of `error`.
pub(super) fn validate(name: &str, answer: &Value) {
    let schema = schema::answer(name).unwrap_or_else(|| panic!("no schema for {name}"));
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(answer)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}\n{answer:#}");
}

/// Checks the output of a command line that requests JSON.
pub(super) fn validate_output(line: &str, exit: i32, out: &str, err: &str) {
    if !line.ends_with(" -o json") && !line.contains(" -o json ") {
        return;
    }
    let command = line.split(' ').next().unwrap();
    if out.is_empty() {
        assert_ne!(exit, 0, "{line}: neither an answer nor an error");
        validate("error", &serde_json::from_str(err).unwrap());
    } else if command != "schema" {
        validate(command, &serde_json::from_str(out).unwrap());
    }
}

#[test]
fn schemas_of_answers_are_valid() {
    for name in schema::names() {
        let schema = schema::answer(name).unwrap();
        jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(schema["type"], "object", "{name}");
    }
}
