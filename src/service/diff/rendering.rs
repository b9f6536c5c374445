//! Rendering for a comparison: many at once, but few programs.

use crate::{
    core::error::ErrorKind,
    io::render::Rendered,
    reconcile::{RenderFn, RenderStage},
    service::Failure,
    spec::Application,
};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The slots for programs that render.
pub(super) struct Renderings {
    programs: Semaphore,
}

impl Renderings {
    /// Creates as many slots as there are processors.
    pub(super) fn new() -> Self {
        let slots = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            programs: Semaphore::new(slots),
        }
    }

    /// Renders an Application.
    pub(super) async fn render(
        &self,
        render: &Arc<RenderFn>,
        application: &Application,
    ) -> Result<Arc<Rendered>, Failure> {
        let (render, declared) = (Arc::clone(render), application.clone());
        let panicked = |error| Failure::new(ErrorKind::Bug, format!("rendering panicked: {error}"));
        let stage = crate::io::try_blocking(move || render.begin(&declared));
        let rendered = match stage.await.map_err(panicked)? {
            Ok(RenderStage::Rendered(rendered)) => Ok(rendered),
            Ok(stage @ RenderStage::Program { .. }) => {
                // The semaphore is never closed.
                let _slot = self.programs.acquire().await;
                let program = crate::io::try_blocking(move || stage.finish());
                program.await.map_err(panicked)?
            }
            Err(failure) => Err(failure),
        };
        rendered.map_err(|error| Failure {
            hint: error.message.hint.clone(),
            ..Failure::input(format!("{}: {}", application.name, error.message))
        })
    }
}
