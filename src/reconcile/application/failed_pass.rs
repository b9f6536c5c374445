//! Failed passes: what the status says, and when the next one starts.

use super::{AppReconciler, MAX_ATTEMPTS, back_off};
use crate::{
    core::error::{Classify as _, ErrorKind},
    events::{Event, EventReason},
    io::{cluster::ClusterError, supervise::BUG_HINT},
    reconcile::{
        Reason,
        status::{ApplicationState, Message},
    },
};
use tokio::time::Instant;

impl AppReconciler {
    /// Reports a failed pass; returns the time of the next one.
    pub(super) fn pass_failed(&mut self, error: &ClusterError) -> Instant {
        self.failed_passes = self.failed_passes.saturating_add(1);
        if self.failed_passes == 1 {
            let event = Event::warning(EventReason::ReconcileFailed, error.to_string());
            self.record_event(event.hint(error.hint()));
        }
        let is_remote = error.kind() == ErrorKind::Remote;
        // A caller stops waiting after a few equal failures.
        let observed = !is_remote || self.failed_passes >= MAX_ATTEMPTS;
        let (state, reason) = if is_remote {
            (ApplicationState::Waiting, Reason::ClusterUnreachable)
        } else {
            (ApplicationState::Failed, Reason::ClusterRequestRefused)
        };
        self.status.set_state(state, reason, observed);
        self.status.problems =
            vec![Message::application(error.to_string()).with_hint(error.hint())];
        let wait = error
            .retry_after()
            .unwrap_or_else(|| back_off(self.failed_passes));
        Instant::now() + wait
    }

    /// Starts over after a pass that panicked: nothing that it may have changed half-way is kept.
    ///
    /// Waits for the back-off, and then for its work, which it asks to be handed over again.
    /// Returns false if the process stops.
    pub(super) async fn start_over(&mut self, panic: &str) -> bool {
        let mut fresh = Self::new(
            self.name.clone(),
            self.cluster.clone(),
            self.context.clone(),
            self.handle.clone(),
        );
        fresh.owns_name = self.owns_name;
        fresh.rereads = true;
        fresh.failed_passes = self.failed_passes.saturating_add(1);
        let repository = &self.repository.name;
        fresh.status.revision = self.cluster.state().revision_of(repository);
        let problem = Message::application(format!("the pass panicked: {panic}"));
        fresh.status.problems = vec![problem.with_hint(Some(BUG_HINT.to_owned()))];
        fresh
            .status
            .set_state(ApplicationState::Failed, Reason::TaskPanicked, true);
        *self = fresh;
        self.context.publish(&self.status);
        let wait = back_off(self.failed_passes);
        let text = format!(
            "the pass panicked ({panic}); it starts over in {} s",
            wait.as_secs()
        );
        let event = Event::error(EventReason::TaskPanicked, text);
        self.record_event(event.hint(Some(BUG_HINT)));
        tokio::select! {
            biased;
            () = self.context.stop.cancelled() => return false,
            () = self.handle.mailbox.filled() => return true,
            () = self.handle.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        self.handle.forget_rendering();
        self.context.ask_for_work();
        tokio::select! {
            biased;
            () = self.context.stop.cancelled() => false,
            () = self.handle.mailbox.filled() => true,
        }
    }
}
