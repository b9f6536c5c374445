//! Twins: two open pull requests of one branch, which two bots at the same moment can open where
//! the forge lets them. The first one stays.

use super::{RequestReconciler, state::DesiredRequest};
use crate::{
    io::forge::{self, ForgeError},
    review::{
        PREFIX,
        lifecycle::{ClosedRequest, DesiredBranch},
        merging::HOLD,
    },
    update::{FailureReport, PassMode},
};
use std::collections::BTreeMap;

impl RequestReconciler<'_> {
    /// Closes all but the first pull request of each branch.
    pub(super) async fn close_twins(&mut self, desired: &[DesiredRequest<'_>]) {
        let twins = self.twins(desired);
        for (number, first) in twins {
            if self.mode == PassMode::Write {
                self.context.publisher.begin();
                if let Err(error) = self.close_twin(number, first).await {
                    self.failures.push(FailureReport::at_forge(&error));
                }
            }
            self.open.retain(|known| known.number != number);
        }
    }

    /// Returns the numbers of twins, each with the number of the first one.
    fn twins(&self, desired: &[DesiredRequest<'_>]) -> Vec<(u64, u64)> {
        let target = self.context.target();
        let mut first: BTreeMap<&str, u64> = BTreeMap::new();
        let ours: Vec<&forge::PullRequest> = self
            .open
            .iter()
            .filter(|request| request.base == target && request.head.starts_with(PREFIX))
            .collect();
        for request in &ours {
            let number = first.entry(&request.head).or_insert(request.number);
            *number = request.number.min(*number);
        }
        // Of a branch whose desired state is unknown nothing is closed.
        let is_decided = |head: &str| {
            desired.iter().any(|item| {
                item.branch == head && !matches!(item.instead, Some(DesiredBranch::Unknown { .. }))
            })
        };
        ours.iter()
            .filter(|request| is_decided(&request.head))
            .filter_map(|request| Some((request.number, *first.get(request.head.as_str())?)))
            .filter(|(number, first)| first < number)
            .collect()
    }

    /// Closes a pull request if it still is the twin of another one, and no label holds it.
    async fn close_twin(&mut self, number: u64, first: u64) -> Result<(), ForgeError> {
        let request = self.context.forge.get(number).await?;
        let branch = self
            .open
            .iter()
            .find(|known| known.number == first)
            .map(|known| known.head.as_str());
        let authors = self.context.authors();
        let is_ours = authors.is_some_and(|authors| authors.marker(&request).is_some());
        let is_held = request.labels.iter().any(|label| label == HOLD);
        let is_twin = request.base == self.context.target() && branch == Some(&request.head);
        if request.state == forge::RequestStatus::Open && is_ours && is_twin && !is_held {
            let reason = format!("Pull request {first} has the same branch.");
            self.close_with_comment(&request, &reason).await?;
            self.forget(&request, ClosedRequest::Superseded);
        }
        Ok(())
    }
}
