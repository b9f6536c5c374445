//! Renders declarations on blocking threads, and retries what failed.

use super::{
    Reason, Reconciler, RepositoryId,
    cluster_state::ClusterHandle,
    context::{ApplicationHandle, LastRendered, ReconcileContext},
    render_slots::{FailedRender, FinishedRender},
    render_stage::{RenderFailure, RenderFn, back_off},
    work::{AcceptedRevision, Work},
};
use crate::spec::Application;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;

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
            repository: repository.name.clone(),
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
                RenderOutcome::Failed { retry, due } => {
                    failures += 1;
                    let due = due
                        .or_else(|| retry.map(|first| Instant::now() + back_off(first, failures)));
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
        /// The first back-off; none if only a request brings another attempt.
        retry: Option<Duration>,
        /// The time of the next attempt, where earlier revisions have failed as well.
        due: Option<Instant>,
    },
    TaskEnded,
}

struct RenderAttempt {
    handle: ApplicationHandle,
    generation: u64,
    repository: String,
    application: Application,
    revision: String,
    render: Arc<RenderFn>,
}

impl RenderAttempt {
    async fn run(&self, context: &ReconcileContext) -> RenderOutcome {
        let handle = &self.handle;
        let is_wanted = || handle.is_current(self.generation) && !context.stop.is_cancelled();
        let last = handle.last_rendered().clone();
        let last = last.filter(|last| last.application.declares_like(&self.application));
        let inputs = last.and_then(|last| last.inputs);
        let rendered = context
            .renderings
            .render(
                &self.repository,
                &self.application,
                &self.render,
                inputs.map(|inputs| inputs.key),
                is_wanted,
                || handle.render_retry.is_requested(),
            )
            .await;
        let Some(rendered) = rendered else {
            return RenderOutcome::Done;
        };
        let mut last = handle.last_rendered();
        if !handle.is_current(self.generation) {
            return RenderOutcome::Done;
        }
        let revision = self.revision.clone();
        let (work, now, failure) = match rendered {
            Ok(FinishedRender::Rendered(rendered)) => {
                let now = LastRendered {
                    application: self.application.clone(),
                    hash: rendered.hash.as_str().into(),
                    inputs: rendered.inputs.clone(),
                    revision: revision.clone(),
                };
                let is_same = last.as_ref().is_some_and(|last| last.is_same(&now));
                let work = if is_same {
                    let hash = Arc::clone(&now.hash);
                    Work::Same { revision, hash }
                } else {
                    Work::Apply(Box::new(AcceptedRevision {
                        application: self.application.clone(),
                        revision,
                        rendered,
                    }))
                };
                (work, Some(now), None)
            }
            Ok(FinishedRender::Unchanged) => {
                let Some(last) = last.take() else {
                    // Forgotten meanwhile: the task has lost what it had, and asks for it.
                    return RenderOutcome::Failed {
                        retry: None,
                        due: Some(Instant::now()),
                    };
                };
                let now = LastRendered {
                    application: self.application.clone(),
                    revision: revision.clone(),
                    ..last
                };
                let hash = Arc::clone(&now.hash);
                (Work::Same { revision, hash }, Some(now), None)
            }
            Err(FailedRender {
                failure: RenderFailure { message, retry },
                due,
            }) => {
                let work = Work::Unreadable {
                    revision,
                    reason: Reason::RenderFailed,
                    message,
                };
                (work, None, Some((retry, due)))
            }
        };
        *last = now;
        // Set before the hand-over: the task clears `observed` while a retry is requested.
        handle.render_retry.rendered(failure.is_some());
        match (handle.mailbox.merge(work, Work::after), failure) {
            (Err(_), _) => RenderOutcome::TaskEnded,
            (Ok(()), Some((retry, due))) => RenderOutcome::Failed { retry, due },
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
