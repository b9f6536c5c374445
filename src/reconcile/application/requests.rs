//! Requests of the user about one Application.

use super::AppReconciler;
use crate::reconcile::ApplicationRequest;

impl AppReconciler {
    /// Takes the waiting requests: the status that this pass publishes answers them.
    pub(super) fn take_requests(&mut self) {
        for request in self.context.take_requests(&self.key()) {
            if !self.requests.contains(&request) {
                self.requests.push(request);
            }
        }
    }

    /// Executes the requests. A confirmation waits for the plan of its revision.
    pub(super) fn execute_requests(&mut self) {
        for request in std::mem::take(&mut self.requests) {
            match request {
                ApplicationRequest::Now => {
                    self.failures.clear();
                    self.repairs.clear();
                    self.forget_failed_ends();
                    self.cluster.retry_watches();
                }
                ApplicationRequest::ConfirmPrune(revision) => {
                    self.confirming = Some(revision.into());
                }
            }
        }
    }
}
