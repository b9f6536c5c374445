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

/// Renderings of plain files at once.
const PLAIN: usize = 16;

/// The slots for renderings.
pub(super) struct Renderings {
    plain: Semaphore,
    programs: Semaphore,
}

impl Renderings {
    /// Creates as many slots for programs as there are processors.
    pub(super) fn new() -> Self {
        let slots = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            plain: Semaphore::new(PLAIN),
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
        let stage = {
            // No semaphore is ever closed.
            let _slot = self.plain.acquire().await;
            let stage = crate::io::try_blocking(move || render.begin(&declared));
            stage.await.map_err(panicked)?
        };
        let rendered = match stage {
            Ok(RenderStage::Rendered(rendered)) => Ok(rendered),
            Ok(stage @ RenderStage::Program { .. }) => {
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
