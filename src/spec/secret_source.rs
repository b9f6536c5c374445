//! Where a secret comes from, as `tagboat.yaml` writes it.

use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;

/// The source of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum SecretSource {
    Env(String),
    /// A file; a line end at its end is cut.
    File(PathBuf),
}
