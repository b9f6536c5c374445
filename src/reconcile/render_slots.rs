//! The slots of renderings: files and programs have their own.

use super::{
    Message,
    fair_slots::FairSlots,
    render_stage::{RenderFailure, RenderFn, RenderStage},
    render_timeouts::RenderTimeouts,
};
use crate::{
    io::render::{InputsKey, Rendered},
    spec::Application,
};
use std::sync::Arc;
use tokio::time::Instant;

/// Programs at once: each may take `render.memory`, and the limits in `deploy/` count on two.
const PROGRAMS: usize = 2;

/// Renders with few slots, shared fairly by the config repositories.
///
/// Plain manifests and cached results need no slot of a program, so that slow charts do not delay
/// them.
pub(crate) struct RenderSlots {
    files: FairSlots,
    programs: FairSlots,
    timeouts: RenderTimeouts,
}

/// A rendering that succeeded.
#[derive(Debug)]
pub(crate) enum FinishedRender {
    Rendered(Arc<Rendered>),
    /// The inputs are those of the last rendering.
    Unchanged,
}

/// A rendering that failed.
pub(crate) struct FailedRender {
    pub failure: RenderFailure,
    /// The time of the next attempt, where it took too long.
    pub due: Option<Instant>,
}

impl From<RenderFailure> for FailedRender {
    fn from(failure: RenderFailure) -> Self {
        Self { failure, due: None }
    }
}

impl Default for RenderSlots {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            files: FairSlots::new(cores.max(2)),
            programs: FairSlots::new(PROGRAMS),
            timeouts: RenderTimeouts::default(),
        }
    }
}

impl RenderSlots {
    /// Renders an Application; nothing if it is not wanted any more when its turn comes.
    ///
    /// An Application whose inputs are `last` is not rendered.
    ///
    /// What took too long with the same inputs, at any revision, fails again without a program
    /// until its back-off has passed, unless another attempt is requested.
    pub(super) async fn render(
        &self,
        repository: &str,
        application: &Application,
        render: &Arc<RenderFn>,
        last: Option<InputsKey>,
        is_wanted: impl Fn() -> bool,
        is_requested: impl Fn() -> bool,
    ) -> Option<Result<FinishedRender, FailedRender>> {
        let slot = self.files.acquire(repository).await;
        if !is_wanted() {
            return None;
        }
        let (render, application) = (Arc::clone(render), application.clone());
        let stage = blocking(move || {
            if last.is_some() && render.known_inputs(&application) == last {
                return Ok(None);
            }
            render.begin(&application).map(Some)
        });
        let stage = stage.await;
        drop(slot);
        let (run, inputs) = match stage {
            Ok(None) => return Some(Ok(FinishedRender::Unchanged)),
            Ok(Some(RenderStage::Program { run, inputs })) => (run, inputs),
            Ok(Some(RenderStage::Rendered(rendered))) => {
                return Some(Ok(FinishedRender::Rendered(rendered)));
            }
            Err(failure) => return Some(Err(failure.into())),
        };
        let pending = || {
            let (failure, due) = self.timeouts.pending(inputs?, Instant::now())?;
            (!is_requested()).then_some(FailedRender {
                failure,
                due: Some(due),
            })
        };
        if let Some(failed) = pending() {
            return Some(Err(failed));
        }
        let slot = self.programs.acquire(repository).await;
        if !is_wanted() {
            return None;
        }
        // Another Application with the same inputs may have failed meanwhile.
        if let Some(failed) = pending() {
            return Some(Err(failed));
        }
        let rendered = blocking(run).await;
        drop(slot);
        let failure = rendered.as_ref().err();
        let due = inputs.and_then(|inputs| self.timeouts.ended(inputs, failure, Instant::now()));
        let rendered = rendered.map(FinishedRender::Rendered);
        Some(rendered.map_err(|failure| FailedRender { failure, due }))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{reconcile::TIMEOUT_RETRY, spec};
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn application() -> Application {
        let text = "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {name: shop, namespace: dev}\nspec: {environment: dev, path: a, cluster: c}\n";
        let read = spec::read([("a.yaml", text.as_bytes())], None);
        read.applications.into_values().next().unwrap()
    }

    #[tokio::test]
    async fn slow_chart_waits_although_revision_moves() {
        let (slots, application) = (RenderSlots::default(), application());
        let runs = Arc::new(AtomicUsize::new(0));
        // Each revision has a function of its own.
        let revision = |inputs: InputsKey| -> Arc<RenderFn> {
            let runs = Arc::clone(&runs);
            Arc::new(move |_: &Application| {
                let runs = Arc::clone(&runs);
                Ok(RenderStage::Program {
                    run: Box::new(move || {
                        runs.fetch_add(1, Ordering::SeqCst);
                        Err(RenderFailure {
                            message: Message::application("it took longer than 60 s"),
                            retry: Some(TIMEOUT_RETRY),
                        })
                    }),
                    inputs: Some(inputs),
                })
            })
        };
        let render = async |inputs, requested| {
            let revision = revision(inputs);
            let render = slots.render(
                "fleet",
                &application,
                &revision,
                None,
                || true,
                || requested,
            );
            let failed = render.await.unwrap().err().unwrap();
            (failed.due.unwrap(), runs.load(Ordering::SeqCst))
        };
        let (first, ran) = render([1; 32], false).await;
        assert_eq!(ran, 1);
        assert_eq!(render([1; 32], false).await, (first, 1));
        // A change of the chart and a request run it; the request counts as one more failure.
        assert_eq!(render([2; 32], false).await.1, 2);
        let (second, ran) = render([1; 32], true).await;
        assert_eq!(ran, 3);
        assert!(second >= first + TIMEOUT_RETRY);
        assert_eq!(render([1; 32], false).await, (second, 3));
    }
}
