//! Rendering for a comparison: many at once, but few programs.

use crate::{
    core::error::ErrorKind,
    io::render::Rendered,
    objects::object::CompactObject,
    reconcile::{RenderFailure, RenderFn, RenderStage},
    service::Failure,
    spec::Application,
};
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Renderings of plain files at once.
const PLAIN: usize = 16;

/// Renderings of plain files for one cluster that have no room yet.
const PLAIN_AHEAD: usize = 8;

/// The most bytes of renderings that wait for their comparison or are compared, in KiB. The
/// clusters of a query share it equally, so that none waits for another.
const ROOM_KIB: usize = 64 << 10;

/// The least share of a cluster, in KiB.
const LEAST_ROOM_KIB: usize = 1 << 10;

/// The slots for renderings.
pub(super) struct Renderings {
    plain: Semaphore,
    programs: Semaphore,
}

/// The bounds of what is rendered for one cluster ahead of its comparison. Programs are counted
/// apart, since they wait for their slots.
pub(super) struct ClusterRoom {
    plain: Semaphore,
    programs: Semaphore,
    /// One permit a KiB.
    room: Semaphore,
    size: usize,
}

/// A rendering, with its part of the room of a cluster.
pub(super) struct HeldRendering<'r> {
    pub(super) rendered: Arc<Rendered>,
    _room: Option<SemaphorePermit<'r>>,
}

/// Returns the number of programs that run at once: one for each processor.
fn program_slots() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

impl ClusterRoom {
    /// Creates the room of one of so many clusters.
    pub(super) fn new(clusters: usize) -> Self {
        let size = (ROOM_KIB / clusters.max(1)).max(LEAST_ROOM_KIB);
        Self {
            plain: Semaphore::new(PLAIN_AHEAD),
            programs: Semaphore::new(program_slots()),
            room: Semaphore::new(size),
            size,
        }
    }

    /// Waits for room; what is larger than all of it takes all.
    async fn acquire(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let wanted = bytes.div_ceil(1 << 10).clamp(1, self.size);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        // No semaphore is ever closed.
        self.room.acquire_many(wanted).await.ok()
    }
}

impl Renderings {
    /// Creates as many slots for programs as there are processors.
    pub(super) fn new() -> Self {
        Self {
            plain: Semaphore::new(PLAIN),
            programs: Semaphore::new(program_slots()),
        }
    }

    /// Renders an Application, and holds no more for its cluster than there is room for: few
    /// renderings wait for the room, and no slot is kept while they do.
    pub(super) async fn render_within<'r>(
        &self,
        room: &'r ClusterRoom,
        render: &Arc<RenderFn>,
        application: &Application,
    ) -> Result<HeldRendering<'r>, Failure> {
        let plain = room.plain.acquire().await;
        let (rendered, _ahead) = match self.begin(render, application).await? {
            RenderStage::Rendered(rendered) => (rendered, plain),
            stage @ RenderStage::Program { .. } => {
                drop(plain);
                let programs = room.programs.acquire().await;
                (self.finish(stage, application).await?, programs)
            }
        };
        let bytes = rendered.manifests.iter().map(CompactObject::bytes).sum();
        let room = room.acquire(bytes).await;
        Ok(HeldRendering {
            rendered,
            _room: room,
        })
    }

    /// Renders an Application.
    pub(super) async fn render(
        &self,
        render: &Arc<RenderFn>,
        application: &Application,
    ) -> Result<Arc<Rendered>, Failure> {
        let stage = self.begin(render, application).await?;
        self.finish(stage, application).await
    }

    /// Renders plain files; leaves programs to [`Self::finish`].
    async fn begin(
        &self,
        render: &Arc<RenderFn>,
        application: &Application,
    ) -> Result<RenderStage, Failure> {
        let (render, declared) = (Arc::clone(render), application.clone());
        let _slot = self.plain.acquire().await;
        let stage = crate::io::try_blocking(move || render.begin(&declared));
        let stage = stage.await.map_err(panicked)?;
        stage.map_err(|error| failure(application, &error))
    }

    /// Runs the program, if one is needed.
    async fn finish(
        &self,
        stage: RenderStage,
        application: &Application,
    ) -> Result<Arc<Rendered>, Failure> {
        if let RenderStage::Rendered(rendered) = stage {
            return Ok(rendered);
        }
        let _slot = self.programs.acquire().await;
        let program = crate::io::try_blocking(move || stage.finish());
        let rendered = program.await.map_err(panicked)?;
        rendered.map_err(|error| failure(application, &error))
    }
}

fn panicked(error: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorKind::Bug, format!("rendering panicked: {error}"))
}

fn failure(application: &Application, error: &RenderFailure) -> Failure {
    Failure {
        hint: error.message.hint.clone(),
        ..Failure::input(format!("{}: {}", application.name, error.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn large_rendering_takes_the_room_of_its_cluster() {
        let room = ClusterRoom::new(2);
        assert_eq!(room.size, ROOM_KIB / 2);
        let acquired = |bytes| room.acquire(bytes).now_or_never().flatten();
        let large = acquired(usize::MAX);
        assert!(large.is_some());
        assert!(acquired(0).is_none());
        drop(large);
        let half = acquired(ROOM_KIB << 8);
        assert!(half.is_some() && acquired(ROOM_KIB << 8).is_some());
        assert!(acquired((ROOM_KIB << 8) + 1).is_none());
    }
}
