//! The JSON schema of every answer.

use super::{
    Failure, check::CheckAnswer, diff::DiffAnswer, explain::ExplainAnswer, health::HealthAnswer,
    history::HistoryAnswer, holds::HoldsAnswer, init::InitAnswer, plan::PlanAnswer,
    policies::PoliciesAnswer, preview::PreviewAnswer, release::ReleaseAnswer, render::RenderAnswer,
    requests::RequestsAnswer, rollback::RollbackAnswer, run::RunAnswer, scan::ScanAnswer,
    select::SelectAnswer, set::SetAnswer, status::StatusAnswer, suspend::SuspendAnswer,
    sync::SyncAnswer, tags::TagsAnswer,
};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

type Generate = fn() -> Value;

/// The answers by the name of their command, and the error object of JSON output.
const SCHEMAS: [(&str, Generate); 24] = [
    ("check", of::<CheckAnswer>),
    ("diff", of::<DiffAnswer>),
    ("error", of::<Failure>),
    ("explain", of::<ExplainAnswer>),
    ("health", of::<HealthAnswer>),
    ("history", of::<HistoryAnswer>),
    ("holds", of::<HoldsAnswer>),
    ("init", of::<InitAnswer>),
    ("plan", of::<PlanAnswer>),
    ("policies", of::<PoliciesAnswer>),
    ("preview", of::<PreviewAnswer>),
    ("release", of::<ReleaseAnswer>),
    ("render", of::<RenderAnswer>),
    ("requests", of::<RequestsAnswer>),
    ("resume", of::<SuspendAnswer>),
    ("rollback", of::<RollbackAnswer>),
    ("run", of::<RunAnswer>),
    ("scan", of::<ScanAnswer>),
    ("select", of::<SelectAnswer>),
    ("set", of::<SetAnswer>),
    ("status", of::<StatusAnswer>),
    ("suspend", of::<SuspendAnswer>),
    ("sync", of::<SyncAnswer>),
    ("tags", of::<TagsAnswer>),
];

/// Lists the names that [`answer`] accepts.
pub fn names() -> impl Iterator<Item = &'static str> {
    SCHEMAS.iter().map(|(name, _)| *name)
}

/// Returns the schema of a command's answer.
pub fn answer(name: &str) -> Option<Value> {
    let (_, generate) = SCHEMAS.iter().find(|(known, _)| *known == name)?;
    Some(generate())
}

fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<T>().into()
}
