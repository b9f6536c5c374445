//! The text of a diff: two states of an object as YAML.

use crate::objects::{
    manifest,
    object::{Object, ObjectKey},
    plan,
};
use similar::TextDiff;
use std::time::Duration;

/// The names of the two sides of a diff with a cluster.
const SIDES: [&str; 2] = ["cluster", "git"];

/// How long a diff may search for its shortest form; after that it is correct but longer.
const DIFF_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs [`unified_diff`] on a blocking thread: it may compute for [`DIFF_TIMEOUT`].
pub(super) async fn diff_in_background(
    key: &ObjectKey,
    before: Option<Object>,
    after: Option<Object>,
) -> String {
    let key = key.clone();
    crate::io::blocking(move || unified_diff(&key, SIDES, before.as_ref(), after.as_ref())).await
}

/// Returns a unified diff of two states of an object as YAML; empty if they are equal.
pub fn unified_diff(
    key: &ObjectKey,
    sides: [&str; 2],
    before: Option<&Object>,
    after: Option<&Object>,
) -> String {
    let (left, right) = plan::redact_pair(before, after);
    let yaml = |object: Option<Object>| {
        object
            .map(|object| manifest::to_yaml(object.value()))
            .unwrap_or_default()
    };
    let (left, right) = (yaml(left), yaml(right));
    if left == right {
        return String::new();
    }
    let name = |exists: bool, side: &str| {
        if exists {
            format!("{side}/{key}")
        } else {
            "/dev/null".to_owned()
        }
    };
    TextDiff::configure()
        .timeout(DIFF_TIMEOUT)
        .diff_lines(&left, &right)
        .unified_diff()
        .context_radius(3)
        .header(
            &name(before.is_some(), sides[0]),
            &name(after.is_some(), sides[1]),
        )
        .to_string()
}
