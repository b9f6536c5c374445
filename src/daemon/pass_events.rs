//! The log of passes: one event for each fact.

use crate::{
    io::blocking,
    spec::Diagnostic,
    update::{EnvironmentReport, EnvironmentState, PassReport, RequestState},
};
use std::{collections::HashSet, sync::Arc};
use tracing::{debug, error, info, warn};

/// Logs the passes over one repository. A pass that changes nothing logs nothing above `debug`.
#[derive(Debug, Default)]
pub(super) struct PassLog {
    /// The diagnostics of the last pass, which are not logged again.
    logged: Arc<HashSet<Diagnostic>>,
}

impl PassLog {
    /// Logs everything but the findings.
    pub fn write(report: &PassReport) {
        let repository = report.repository.as_str();
        for environment in &report.environments {
            self::environment(repository, environment);
        }
        for warning in &report.warnings {
            warn!(repository, "{warning}");
        }
        for failure in &report.failures {
            error!(
                repository,
                kind = %failure.kind,
                hint = failure.hint,
                "{}",
                failure.message
            );
        }
        debug!(
            repository,
            revision = report.revision,
            listings = report.requests.listings,
            heads = report.requests.heads,
            "pass finished"
        );
    }

    /// Logs the findings that the last pass did not have.
    ///
    /// There can be hundreds of thousands of them, so they are compared by hash, in a blocking
    /// task.
    pub async fn write_findings(&mut self, report: &mut PassReport) {
        // A pass that did not reach the revision has no diagnostics.
        if report.revision.is_none() {
            return;
        }
        let findings = std::mem::take(&mut report.findings);
        let (repository, last) = (report.repository.clone(), Arc::clone(&self.logged));
        self.logged = blocking(move || {
            for finding in findings.iter().filter(|finding| !last.contains(finding)) {
                warn!(
                    repository,
                    place = %finding.place,
                    severity = %finding.severity,
                    "{}",
                    finding.message
                );
            }
            Arc::new(findings.into_iter().collect())
        })
        .await;
    }
}

fn environment(repository: &str, report: &EnvironmentReport) {
    let environment = report.name.as_str();
    for commit in report.commits.iter().filter(|commit| commit.id.is_some()) {
        let subject = commit.message.lines().next().unwrap_or_default();
        info!(repository, environment, commit = commit.id, "{subject}");
    }
    for request in &report.requests {
        let reason = request.waits.join(" ");
        if request.state.is_change() {
            info!(
                repository,
                environment,
                url = request.url,
                reason,
                "{}: {}",
                request.state.as_str(),
                request.title
            );
        } else if request.state == RequestState::Stopped {
            debug!(
                repository,
                environment,
                url = request.url,
                "stopped: {reason}"
            );
        }
    }
    match report.state {
        EnvironmentState::WindowClosed => info!(
            repository,
            environment,
            until = report.until.map(tracing::field::display),
            "changes wait for a window"
        ),
        EnvironmentState::Failed => {
            warn!(repository, environment, "changes could not be published");
        }
        _ => {}
    }
}
