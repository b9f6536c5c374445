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

    /// Executes the requests, after the load of the record, which would overwrite a confirmation.
    pub(super) fn execute_requests(&mut self) {
        for request in std::mem::take(&mut self.requests) {
            match request {
                ApplicationRequest::Now => {
                    self.failures.clear();
                    self.repairs.clear();
                    self.forget_failed_ends();
                }
                ApplicationRequest::ConfirmPrune(revision) => {
                    self.inventory.confirmed = Some(revision);
                    self.dirty = true;
                }
            }
        }
    }
}
