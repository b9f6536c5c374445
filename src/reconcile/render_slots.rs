//! The slots of renderings: files and programs have their own.

use super::{
    Message,
    fair_slots::FairSlots,
    render_stage::{RenderFailure, RenderFn, RenderStage},
};
use crate::{io::render::Rendered, spec::Application};
use std::sync::Arc;

/// Renderings of each kind at once. They block, and the target machines have two cores.
const RENDERINGS: usize = 2;

/// Renders with few slots, shared fairly by the config repositories.
///
/// Plain manifests and cached results need no slot of a program, so that slow charts do not delay
/// them.
pub(crate) struct RenderSlots {
    files: FairSlots,
    programs: FairSlots,
}

impl Default for RenderSlots {
    fn default() -> Self {
        Self {
            files: FairSlots::new(RENDERINGS),
            programs: FairSlots::new(RENDERINGS),
        }
    }
}

impl RenderSlots {
    /// Renders an Application; nothing if it is not wanted any more when its turn comes.
    pub(super) async fn render(
        &self,
        repository: &str,
        application: &Application,
        render: &Arc<RenderFn>,
        is_wanted: impl Fn() -> bool,
    ) -> Option<Result<Arc<Rendered>, RenderFailure>> {
        let slot = self.files.acquire(repository).await;
        if !is_wanted() {
            return None;
        }
        let (render, application) = (Arc::clone(render), application.clone());
        let stage = blocking(move || render(&application)).await;
        drop(slot);
        let run = match stage {
            Ok(RenderStage::Program(run)) => run,
            Ok(RenderStage::Rendered(rendered)) => return Some(Ok(rendered)),
            Err(failure) => return Some(Err(failure)),
        };
        let slot = self.programs.acquire(repository).await;
        if !is_wanted() {
            return None;
        }
        let rendered = blocking(run).await;
        drop(slot);
        Some(rendered)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RenderFailure> + Send + 'static,
) -> Result<T, RenderFailure> {
    crate::io::try_blocking(work).await.unwrap_or_else(|panic| {
        let message = format!("a rendering exited unexpectedly: {panic}");
        Err(Message::application(message).into())
    })
}
