//! From a declaration to its objects, on a thread of its own; and again, where what was in the way
//! may have passed.

use super::{
    Message, Reconciler, RepositoryId,
    application::{AcceptedRevision, Work, back_off},
    cluster_state::ClusterHandle,
    context::{ApplicationHandle, ReconcileContext},
};
use crate::{
    core::error::Classify as _,
    io::{
        git::{Mirror, ObjectId},
        render::{RenderSource, Rendered, Renderer},
    },
    spec::Application,
};
use std::sync::{Arc, Mutex, PoisonError, atomic::Ordering};
use tokio::{sync::Notify, time::Instant};

/// Renders an Application at a revision; blocks.
pub type RenderFn = dyn Fn(&Application) -> Result<Arc<Rendered>, RenderFailure> + Send + Sync;

/// Why an Application cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderFailure {
    /// In words, with its file and object.
    pub message: Message,
    /// Whether another try may go well though Git stays as it is.
    pub transient: bool,
}

impl From<Message> for RenderFailure {
    /// A mistake in Git.
    fn from(message: Message) -> Self {
        Self {
            message,
            transient: false,
        }
    }
}

/// Renders from a commit of a mirror.
pub fn from_git(renderer: Arc<Renderer>, mirror: Arc<Mirror>, commit: ObjectId) -> Arc<RenderFn> {
    Arc::new(move |application| {
        renderer
            .render(&mirror, commit, &RenderSource::from(application))
            .map_err(|error| {
                let message = Message {
                    hint: error.hint(),
                    ..Message::application(error.to_string())
                };
                RenderFailure {
                    message,
                    transient: error.may_pass(),
                }
            })
    })
}

/// A rendering that failed, and can be tried again.
#[derive(Debug, Default)]
pub(crate) struct RenderRetry {
    /// Nothing if none has failed; else whether somebody asked for another try, which has not come
    /// to an end.
    failed: Mutex<Option<bool>>,
    woken: Notify,
}

impl RenderRetry {
    fn set(&self, failed: Option<bool>) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }

    /// Nothing is left to try; who waits to do so looks whether it is still meant.
    pub fn forget(&self) {
        self.set(None);
        self.woken.notify_one();
    }

    /// Asks for another try at once; whether there is something to try.
    pub fn ask(&self) -> bool {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = failed.as_mut() {
            *asked = true;
            self.woken.notify_one();
        }
        failed.is_some()
    }

    /// Whether somebody waits for another try.
    pub fn is_asked(&self) -> bool {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) == Some(true)
    }
}

impl Reconciler {
    /// Renders, and hands over what comes of it, unless a later revision has been read meanwhile.
    /// What cannot be rendered is tried again: after a while where it may pass, and whenever
    /// somebody asks.
    pub(crate) fn render(
        self: &Arc<Self>,
        hub: &Arc<ClusterHandle>,
        repository: &RepositoryId,
        application: Application,
        revision: String,
        render: Arc<RenderFn>,
    ) {
        let (this, hub, repository) = (Arc::clone(self), Arc::clone(hub), repository.clone());
        let mut handle = self.runner(&hub, &repository, &application.name);
        let mut turn = handle.turns();
        self.shared.tasks.spawn(async move {
            let shared = &this.shared;
            let mut times = 0;
            loop {
                let passing =
                    match once(shared, &handle, turn, &application, &revision, &render).await {
                        RenderOutcome::Done => return,
                        RenderOutcome::Failed { passing } => passing,
                        RenderOutcome::Late => {
                            // The task has come to its end meanwhile, as it was to: this is for
                            // another one.
                            if !hub.state().is_at(&repository.name, &revision) {
                                return;
                            }
                            (handle, turn) = (this.runner(&hub, &repository, &application.name), 1);
                            match handle.turn.compare_exchange(
                                0,
                                turn,
                                Ordering::SeqCst,
                                Ordering::SeqCst,
                            ) {
                                Ok(_) => continue,
                                // It has been given something else already.
                                Err(_) => return,
                            }
                        }
                    };
                times += 1;
                let due = passing.then(|| Instant::now() + back_off(times));
                while !handle.again.is_asked() && due.is_none_or(|due| Instant::now() < due) {
                    let late = async {
                        match due {
                            Some(due) => tokio::time::sleep_until(due).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = shared.stop.cancelled() => return,
                        () = handle.again.woken.notified() => {}
                        () = late => {}
                    }
                    if handle.turn.load(Ordering::SeqCst) != turn {
                        return;
                    }
                }
            }
        });
    }
}

/// What came of one rendering.
enum RenderOutcome {
    /// It was handed over, or nobody wants it any more.
    Done,
    /// There are no objects.
    Failed { passing: bool },
    /// The task that it is for is over.
    Late,
}

/// One rendering.
async fn once(
    shared: &ReconcileContext,
    handle: &ApplicationHandle,
    turn: u64,
    application: &Application,
    revision: &str,
    render: &Arc<RenderFn>,
) -> RenderOutcome {
    let Ok(permit) = shared.renderings.acquire().await else {
        return RenderOutcome::Done;
    };
    if handle.turn.load(Ordering::SeqCst) != turn || shared.stop.is_cancelled() {
        return RenderOutcome::Done;
    }
    let (declared, render, revision) =
        (application.clone(), Arc::clone(render), revision.to_owned());
    let rendered = tokio::task::spawn_blocking(move || render(&declared)).await;
    drop(permit);
    let rendered = rendered.unwrap_or_else(|panic| {
        Err(Message::application(format!("rendering ended unasked: {panic}")).into())
    });
    let mut last = handle.last.lock().unwrap_or_else(PoisonError::into_inner);
    if handle.turn.load(Ordering::SeqCst) != turn {
        return RenderOutcome::Done;
    }
    let (job, now, failed) = match rendered {
        Ok(rendered) => {
            let now = Some((application.clone(), rendered.hash.clone()));
            match *last == now {
                true => (Work::Same { revision }, now, None),
                false => (
                    Work::Apply(Box::new(AcceptedRevision {
                        application: application.clone(),
                        revision,
                        rendered,
                    })),
                    now,
                    None,
                ),
            }
        }
        Err(RenderFailure { message, transient }) => (
            Work::Broken {
                revision,
                row: message,
            },
            None,
            Some(transient),
        ),
    };
    *last = now;
    // Before the job: with it comes what whoever asked is waiting for.
    handle.again.set(failed.map(|_| false));
    match (handle.slot.merge(job, Work::after), failed) {
        (Err(_), _) => RenderOutcome::Late,
        (Ok(()), Some(passing)) => RenderOutcome::Failed { passing },
        (Ok(()), None) => RenderOutcome::Done,
    }
}
