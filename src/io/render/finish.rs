//! The end of every rendering: manifests become a result.

use super::{FolderKind, RenderError, RenderInputs, RenderMethod, Rendered, cache};
use crate::objects::{manifest::Manifests, object::CompactObject, unhandled};
use std::sync::Arc;

/// Checks manifests, and makes them a result.
pub(super) fn finished(
    mut manifests: Manifests,
    how: RenderMethod,
    way: FolderKind,
    mut warnings: Vec<String>,
    inputs: Option<RenderInputs>,
) -> Result<Arc<Rendered>, RenderError> {
    manifests.find_duplicates();
    if !manifests.mistakes.is_empty() {
        return Err(RenderError::Manifests(manifests.mistakes));
    }
    warnings.append(&mut manifests.warnings);
    // Flux substitutes variables in what a Kustomization renders, not in charts.
    let substitutes = way != FolderKind::Helm;
    warnings.extend(unhandled::notes(&manifests.objects, substitutes));
    let hash = cache::hash_of(&manifests.objects);
    Ok(Arc::new(Rendered {
        manifests: manifests
            .objects
            .into_iter()
            .map(CompactObject::new)
            .collect(),
        how,
        warnings,
        left_out: manifests.left_out,
        hash,
        inputs,
    }))
}
