//! Parts of a pass report.

use crate::update::{EnvironmentReport, PassReport, PolicyReport};

/// Returns an Environment of a report.
pub(super) fn environment<'r>(report: &'r PassReport, name: &str) -> Option<&'r EnvironmentReport> {
    report
        .environments
        .iter()
        .find(|environment| environment.name == name)
}

fn policy<'r>(environment: &'r EnvironmentReport, name: &str) -> Option<&'r PolicyReport> {
    environment
        .policies
        .iter()
        .find(|policy| policy.name.to_string() == name)
}

/// Returns the tag that a policy selected in an Environment.
pub(super) fn chosen<'r>(environment: &'r EnvironmentReport, name: &str) -> Option<&'r str> {
    Some(policy(environment, name)?.chosen.as_ref()?.as_str())
}

/// Returns the commits that a pass pushed for an Environment.
pub(super) fn commits(report: &PassReport, name: &str) -> Vec<String> {
    let commits = environment(report, name)
        .into_iter()
        .flat_map(|environment| &environment.commits);
    commits.filter_map(|commit| commit.id.clone()).collect()
}
