//! Renders declarations on blocking threads, and retries what failed.

use super::{
    Message, Reason, Reconciler, RepositoryId,
    application::back_off,
    cluster_state::ClusterHandle,
    context::{ApplicationHandle, ReconcileContext},
    work::{AcceptedRevision, Work},
};
use crate::{
    core::error::Classify as _,
    io::{
        git::{Mirror, ObjectId},
        render::{RenderSource, Rendered, Renderer},
    },
    spec::Application,
};
use std::sync::{Arc, PoisonError, atomic::Ordering};
use tokio::time::Instant;

/// Renders an Application at a revision. Blocks.
pub type RenderFn = dyn Fn(&Application) -> Result<Arc<Rendered>, RenderFailure> + Send + Sync;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderFailure {
    pub message: Message,
    /// Whether a retry at the same revision may succeed.
    pub transient: bool,
}

impl From<Message> for RenderFailure {
    /// Creates a failure whose cause lies in Git.
    fn from(message: Message) -> Self {
        Self {
            message,
            transient: false,
        }
    }
}

/// Returns a function that renders from a commit of a mirror.
pub fn from_git(renderer: Arc<Renderer>, mirror: Arc<Mirror>, commit: ObjectId) -> Arc<RenderFn> {
    Arc::new(move |application| {
        renderer
            .render(&mirror, commit, &RenderSource::from(application))
            .map_err(|error| RenderFailure {
                message: Message::application(error.to_string()).with_hint(error.hint()),
                transient: error.may_pass(),
            })
    })
}

impl Reconciler {
    /// Renders an Application and hands the result to its task.
    ///
    /// The result is dropped if a newer revision was accepted meanwhile. A transient failure is
    /// retried with back-off, any failure when the user requests it.
    pub(crate) fn render(
        self: &Arc<Self>,
        cluster: &Arc<ClusterHandle>,
        repository: &RepositoryId,
        application: Application,
        revision: String,
        render: Arc<RenderFn>,
    ) {
        let handle = self.handle(cluster, repository, &application.name);
        let attempt = RenderAttempt {
            generation: handle.next_generation(),
            handle,
            application,
            revision,
            render,
        };
        let (this, cluster, repository) =
            (Arc::clone(self), Arc::clone(cluster), repository.clone());
        self.context.tasks.spawn(async move {
            this.render_with_retries(&cluster, &repository, attempt)
                .await;
        });
    }

    async fn render_with_retries(
        self: &Arc<Self>,
        cluster: &Arc<ClusterHandle>,
        repository: &RepositoryId,
        mut attempt: RenderAttempt,
    ) {
        let mut failures = 0;
        loop {
            match attempt.run(&self.context).await {
                RenderOutcome::Done => return,
                RenderOutcome::Failed { transient } => {
                    failures += 1;
                    let due = transient.then(|| Instant::now() + back_off(failures));
                    if !attempt.wait_for_retry(&self.context, due).await {
                        return;
                    }
                }
                RenderOutcome::TaskEnded => {
                    // The task of a removed Application ended in the meantime; this revision
                    // declares it again and needs a new task.
                    if !cluster.state().is_at(&repository.name, &attempt.revision) {
                        return;
                    }
                    attempt.handle = self.handle(cluster, repository, &attempt.application.name);
                    attempt.generation = 1;
                    let fresh = attempt.handle.generation.compare_exchange(
                        0,
                        attempt.generation,
                        Ordering::SeqCst,
                        Ordering::SeqCst,
                    );
                    if fresh.is_err() {
                        // A newer revision has reached the new task first.
                        return;
                    }
                }
            }
        }
    }
}

enum RenderOutcome {
    /// The result was handed over, or a newer revision superseded it.
    Done,
    Failed {
        transient: bool,
    },
    TaskEnded,
}

struct RenderAttempt {
    handle: ApplicationHandle,
    generation: u64,
    application: Application,
    revision: String,
    render: Arc<RenderFn>,
}

impl RenderAttempt {
    async fn run(&self, context: &ReconcileContext) -> RenderOutcome {
        let handle = &self.handle;
        let Ok(permit) = context.render_permits.acquire().await else {
            return RenderOutcome::Done;
        };
        if !handle.is_current(self.generation) || context.stop.is_cancelled() {
            return RenderOutcome::Done;
        }
        let (application, render) = (self.application.clone(), Arc::clone(&self.render));
        let rendered = crate::io::try_blocking(move || render(&application)).await;
        drop(permit);
        let rendered = rendered.unwrap_or_else(|panic| {
            let message = format!("a rendering exited unexpectedly: {panic}");
            Err(Message::application(message).into())
        });
        let mut last_rendered = handle
            .last_rendered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !handle.is_current(self.generation) {
            return RenderOutcome::Done;
        }
        let revision = self.revision.clone();
        let (work, now, transient) = match rendered {
            Ok(rendered) => {
                let now = Some((self.application.clone(), rendered.hash.clone()));
                let work = if *last_rendered == now {
                    Work::Same { revision }
                } else {
                    Work::Apply(Box::new(AcceptedRevision {
                        application: self.application.clone(),
                        revision,
                        rendered,
                    }))
                };
                (work, now, None)
            }
            Err(RenderFailure { message, transient }) => {
                let work = Work::Unreadable {
                    revision,
                    reason: Reason::RenderFailed,
                    message,
                };
                (work, None, Some(transient))
            }
        };
        *last_rendered = now;
        // Set before the hand-over: the task clears `observed` while a retry is requested.
        handle.render_retry.rendered(transient.is_some());
        match (handle.mailbox.merge(work, Work::after), transient) {
            (Err(_), _) => RenderOutcome::TaskEnded,
            (Ok(()), Some(transient)) => RenderOutcome::Failed { transient },
            (Ok(()), None) => RenderOutcome::Done,
        }
    }

    /// Waits for the back-off or a request; returns whether to retry.
    async fn wait_for_retry(&self, context: &ReconcileContext, due: Option<Instant>) -> bool {
        let retry = &self.handle.render_retry;
        while !retry.is_requested() && due.is_none_or(|due| Instant::now() < due) {
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = context.stop.cancelled() => return false,
                () = retry.changed() => {}
                () = timer => {}
            }
            if !self.handle.is_current(self.generation) {
                return false;
            }
        }
        true
    }
}
