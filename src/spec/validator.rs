//! The schema of a kind, with what its errors lack: the valid names, and the likeliest alternative.

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;

/// The schema of one kind: its text, to look up names in, and the validator made of it.
pub(crate) struct SpecSchema {
    pub value: Value,
    validator: Validator,
}

impl SpecSchema {
    /// The schema of a raw shape, without references inside, so that a schema path leads to its
    /// node.
    pub(super) fn of<T: schemars::JsonSchema>() -> Self {
        let settings = schemars::generate::SchemaSettings::draft2020_12()
            .with(|settings| settings.inline_subschemas = true);
        let value = settings
            .into_generator()
            .into_root_schema_for::<T>()
            .to_value();
        let validator = jsonschema::validator_for(&value).expect("schemars writes valid schemas");
        Self { value, validator }
    }

    /// Returns the mistakes of a value.
    pub(super) fn errors<'v>(
        &'v self,
        value: &'v Value,
    ) -> impl Iterator<Item = ValidationError<'v>> {
        self.validator.iter_errors(value)
    }

    /// Returns the valid field names at the place of an error: those beside the failed keyword.
    pub(super) fn known_names(&self, error: &ValidationError<'_>) -> Vec<&str> {
        let path = error.schema_path().as_str();
        let parent = &path[..path.rfind('/').unwrap_or(0)];
        let properties = self
            .value
            .pointer(parent)
            .and_then(|node| node.get("properties"))
            .and_then(Value::as_object);
        properties
            .into_iter()
            .flat_map(|properties| properties.keys().map(String::as_str))
            .collect()
    }
}

/// Returns the errors of the alternative that the file most likely means: the one whose errors lie
/// deepest, and are not about the type of the whole.
pub(super) fn likeliest_branch<'e, 'i>(
    context: &'e [Vec<ValidationError<'i>>],
) -> Option<&'e [ValidationError<'i>]> {
    let likelihood = |errors: &&Vec<ValidationError<'_>>| {
        let depths = errors
            .iter()
            .map(|error| error.instance_path().as_str().len());
        let is_type =
            |error: &ValidationError<'_>| matches!(error.kind(), ValidationErrorKind::Type { .. });
        (depths.max().unwrap_or(0), !errors.iter().any(is_type))
    };
    let branch = context.iter().max_by_key(likelihood)?;
    (!branch.is_empty()).then_some(branch)
}
