//! Rows of pull requests in the report of a pass.

use super::{RequestReconciler, state::DesiredRequest};
use crate::{
    core::version,
    review::{
        ImageMove, Proposed,
        lifecycle::{LifecycleStep, RequestAction},
        subject,
    },
    update::{EnvironmentReport, EnvironmentState, PassReport, RequestReport, RequestState},
};

/// Adds rows to an Environment, whose state follows from them.
pub(crate) fn add_rows(report: &mut PassReport, name: &str, requests: Vec<RequestReport>) {
    if requests.is_empty() {
        return;
    }
    let index = report
        .environments
        .iter()
        .position(|row| row.name == name)
        .unwrap_or_else(|| {
            report
                .environments
                .push(EnvironmentReport::new(name, EnvironmentState::UpToDate));
            report.environments.len() - 1
        });
    let row = &mut report.environments[index];
    row.requests.extend(requests);
    row.requests
        .sort_by(|one, other| (&one.branch, one.number).cmp(&(&other.branch, other.number)));
    row.until = row
        .until
        .into_iter()
        .chain(row.requests.iter().filter_map(|request| request.until))
        .min();
    let any = |states: &[RequestState]| {
        row.requests
            .iter()
            .any(|request| states.contains(&request.state))
    };
    use RequestState::{
        Failed, Open, Opened, Stopped, Updated, Waiting, WouldClose, WouldMerge, WouldOpen,
        WouldUpdate,
    };
    row.state = match row.state {
        EnvironmentState::Suspended
        | EnvironmentState::Committed
        | EnvironmentState::WindowClosed
        | EnvironmentState::Waiting => row.state,
        _ if any(&[Failed]) => EnvironmentState::Failed,
        _ if any(&[WouldOpen, WouldUpdate, WouldMerge, WouldClose]) => EnvironmentState::Planned,
        EnvironmentState::Unknown => EnvironmentState::Unknown,
        _ if any(&[Opened, Updated, Open, Waiting, Stopped]) => EnvironmentState::Proposed,
        state => state,
    };
}

impl RequestReconciler<'_> {
    /// The row of a plan, which knows the first step alone.
    pub(super) fn planned_row(
        &self,
        item: &DesiredRequest<'_>,
        decision: &LifecycleStep,
    ) -> RequestReport {
        let state = match decision.action {
            RequestAction::Close | RequestAction::Delete => RequestState::WouldClose,
            _ if self.request(item).is_none() => RequestState::WouldOpen,
            _ => RequestState::WouldUpdate,
        };
        self.report(item, state, vec![decision.reason.clone()])
    }

    /// The row after a quiet decision; none if there is no pull request to show.
    pub(super) fn row(
        &self,
        item: &DesiredRequest<'_>,
        decision: &LifecycleStep,
    ) -> Option<RequestReport> {
        let done = self.progress.states.get(&item.branch).copied();
        let state = match (decision.action, done) {
            (RequestAction::Nothing, _) if self.request(item).is_none() => return None,
            (RequestAction::Close | RequestAction::Delete, _) => return None,
            (RequestAction::Stop, _) => RequestState::Stopped,
            (_, Some(done)) => done,
            (RequestAction::Wait, None) => RequestState::Waiting,
            (_, None) => RequestState::Open,
        };
        let reason = Some(decision.reason.clone())
            .filter(|reason| !reason.is_empty() && decision.action.is_quiet());
        Some(RequestReport {
            until: decision.until,
            ..self.report(item, state, reason.into_iter().collect())
        })
    }

    pub(super) fn report(
        &self,
        item: &DesiredRequest<'_>,
        state: RequestState,
        waits: Vec<String>,
    ) -> RequestReport {
        let request = self.request(item);
        let proposed = || {
            let rows = item.marker.iter().flat_map(|marker| &marker.moves);
            let row = |row: &Proposed| ImageMove {
                policy: row.policy.clone(),
                repository: row.repository.clone(),
                old: row.old.clone(),
                new: row.new.clone(),
                digest: row.digest.clone(),
                bump: version::bump(row.old.as_deref(), row.new.as_str()),
                places: Vec::new(),
            };
            rows.map(row).collect()
        };
        let title = request
            .map(|request| request.title.clone())
            .or_else(|| item.set.map(|set| subject(set)));
        RequestReport {
            branch: item.branch.clone(),
            number: request.map(|request| request.number),
            url: request.map(|request| request.url.clone()),
            title: title.unwrap_or_else(|| item.branch.clone()),
            state,
            waits,
            until: None,
            images: item.set.map_or_else(proposed, |set| set.moves.clone()),
            files: item.set.map_or_else(Vec::new, |set| set.files.clone()),
        }
    }
}
