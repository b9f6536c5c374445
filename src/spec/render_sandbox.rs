//! The values of `render.sandbox`.

use schemars::JsonSchema;
use serde::Deserialize;

/// The confinement of the programs that render.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RenderSandbox {
    /// Confine them as far as the kernel can, with a warning where it cannot.
    #[default]
    Auto,
    /// Run them only if the kernel can confine them.
    Required,
    /// Do not confine them.
    Disabled,
}
