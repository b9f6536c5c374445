//! The desired state of each branch: of those that change sets make, and of those that exist and no
//! change set makes any more.

use super::{
    ownership::ForeignRequest,
    state::{BranchSurvey, DesiredRequest},
};
use crate::{
    core::text::plain,
    images::lint,
    io::forge,
    review::{ChangeSet, Marker, Proposed, branch, folder, lifecycle::DesiredBranch},
    spec::{ChangeGroup, Diagnostic, Environment, Severity, WriteMode},
    update::{EnvironmentReport, RepoSnapshot, pass_state::PreparedEnvironment},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Inputs beside the change sets.
pub(crate) struct DesiredInputs<'a, 's> {
    pub(crate) snapshot: &'a RepoSnapshot,
    /// The branch that pull requests are made for.
    pub(crate) target: &'s str,
    /// Open pull requests of this updater.
    pub(crate) open: &'s [forge::PullRequest],
    pub(crate) foreign: &'s [ForeignRequest],
    pub(crate) survey: &'s BranchSurvey,
    pub(crate) findings: &'s [Diagnostic],
}

impl DesiredInputs<'_, '_> {
    /// The reason why a branch belongs to another updater.
    fn taken(&self, branch: &str) -> Option<String> {
        self.foreign
            .iter()
            .filter(|foreign| foreign.request.head == branch)
            .find_map(ForeignRequest::conflict)
    }

    /// The reason why this updater cannot have made a branch without a pull request.
    fn unknown_origin(&self, branch: &str, environment: &Environment) -> Option<String> {
        let files = self.survey.files.get(branch)?.as_deref()?;
        let file = plain(
            files
                .iter()
                .find(|file| !environment.paths.contains(file))?,
        );
        Some(format!(
            "The branch {branch} changes {file}, which does not belong to this Environment: delete the branch if it is not needed, or rename one of two Environments of the same name."
        ))
    }
}

/// Returns the desired state of every branch that exists or should, by Environment and branch.
pub(crate) fn requests<'a>(
    inputs: &DesiredInputs<'a, '_>,
    prepared: &'a [PreparedEnvironment],
) -> Vec<DesiredRequest<'a>> {
    let survey = inputs.survey;
    let mut desired: BTreeMap<String, DesiredRequest<'a>> = BTreeMap::new();
    let markers: BTreeMap<&str, Marker> = inputs
        .open
        .iter()
        .filter_map(|request| Some((request.head.as_str(), Marker::of(request)?)))
        .collect();
    for prepared in prepared {
        let row = &prepared.report;
        let Some(environment) = inputs.snapshot.declared.environments.get(&row.name) else {
            continue;
        };
        for set in &prepared.sets {
            let branch = branch(&row.name, set.group.as_deref());
            let marker = markers.get(branch.as_str()).cloned();
            let exists = marker.is_some() || survey.heads.contains_key(&branch);
            let reason = inputs
                .taken(&branch)
                .or_else(|| inputs.unknown_origin(&branch, environment))
                .or_else(|| survey.blocked.get(&branch).cloned())
                .or_else(|| {
                    exists
                        .then(|| undecided(environment, row, Some(set), marker.as_ref()))
                        .flatten()
                });
            let request = DesiredRequest {
                branch: branch.clone(),
                name: row.name.clone(),
                environment: Some(environment),
                row: Some(row),
                set: Some(set),
                author: prepared.author.as_ref(),
                instead: reason.map(|why| DesiredBranch::Unknown { why }),
                marker,
            };
            desired.insert(branch, request);
        }
    }
    let heads = inputs.open.iter().map(|request| &request.head);
    for branch in heads.chain(survey.heads.keys()) {
        let marker = markers.get(branch.as_str()).cloned();
        if !desired.contains_key(branch)
            && let Some(request) = left_over(inputs, prepared, branch, marker)
        {
            desired.insert(branch.clone(), request);
        }
    }
    desired.into_values().collect()
}

/// The desired state of a branch that no change set makes; none if it is not this updater's.
fn left_over<'a>(
    inputs: &DesiredInputs<'a, '_>,
    prepared: &'a [PreparedEnvironment],
    branch: &str,
    marker: Option<Marker>,
) -> Option<DesiredRequest<'a>> {
    let declared = &inputs.snapshot.declared;
    let environment = declared
        .environments
        .values()
        .find(|environment| branch.starts_with(&folder(&environment.name)));
    let request = inputs.open.iter().find(|request| request.head == branch);
    let unknown_origin = || {
        environment.is_some_and(|environment| inputs.unknown_origin(branch, environment).is_some())
    };
    if request.is_none() && (inputs.taken(branch).is_some() || unknown_origin()) {
        return None;
    }
    let desired = match (environment, request) {
        // It may belong to an updater of another branch of the repository.
        (None, Some(request)) if request.base != inputs.target || marker.is_none() => return None,
        (None, None) if !inputs.survey.ended.contains(branch) => return None,
        (_, Some(_)) if marker.is_none() => {
            DesiredBranch::Unknown { why: "Its text has no readable marker; close it by hand if it is no longer needed.".to_owned() }
        }
        (None, _) if declared.has_errors() => DesiredBranch::Unknown {
            why: "Its Environment is not among the valid declarations, and some declarations have errors.".to_owned(),
        },
        (None, _) => DesiredBranch::Nothing { why: "Its Environment is no longer declared.".to_owned() },
        (Some(environment), _) if environment.suspend => {
            DesiredBranch::Unknown { why: format!("The Environment {} is suspended.", environment.name) }
        }
        (Some(environment), _) if environment.via == WriteMode::Commit => {
            DesiredBranch::Nothing { why: format!("The Environment {} commits directly now.", environment.name) }
        }
        (Some(environment), _) => {
            let row = prepared.iter().find(|prepared| prepared.report.name == environment.name).map(|prepared| &prepared.report)?;
            match broken(inputs, environment).or_else(|| undecided(environment, row, None, marker.as_ref())) {
                Some(why) => DesiredBranch::Unknown { why },
                None => DesiredBranch::Nothing { why: reasons(row, marker.as_ref()) },
            }
        }
    };
    let segment = || branch.split('/').nth(1).unwrap_or_default().to_owned();
    let name = environment.map(|environment| environment.name.clone());
    let name = name
        .or_else(|| marker.as_ref().map(|marker| marker.environment.clone()))
        .unwrap_or_else(segment);
    Some(DesiredRequest {
        branch: branch.to_owned(),
        name,
        environment,
        row: None,
        set: None,
        author: None,
        instead: Some(desired),
        marker,
    })
}

/// The error because of which an Environment may lack desired changes.
fn broken(inputs: &DesiredInputs<'_, '_>, environment: &Environment) -> Option<String> {
    let concerns = |finding: &&Diagnostic| {
        finding.severity == Severity::Error
            && (inputs.snapshot.declared.mistakes.contains(finding)
                || lint::stands_for_others(finding)
                || finding.place.file == environment.place.file
                || environment.paths.contains(&finding.place.file))
    };
    inputs
        .findings
        .iter()
        .find(concerns)
        .map(|error| format!("Fix this first: {}: {}", error.place, error.message))
}

/// The reason why the desired state of an existing branch is unknown: missing facts, suspension, or
/// an age that restarted.
fn undecided(
    environment: &Environment,
    row: &EnvironmentReport,
    set: Option<&Arc<ChangeSet>>,
    marker: Option<&Marker>,
) -> Option<String> {
    let mut concerned: BTreeSet<_> = set
        .into_iter()
        .flat_map(|set| &set.moves)
        .map(|row| &row.policy)
        .collect();
    concerned.extend(
        marker
            .into_iter()
            .flat_map(|marker| &marker.moves)
            .map(|row| &row.policy),
    );
    // The group of a single policy depends on that policy alone.
    let all = environment.group != ChangeGroup::Policy || concerned.is_empty();
    if let Some(unknown) = row
        .policies
        .iter()
        .find(|policy| policy.unknown && (all || concerned.contains(&policy.name)))
    {
        return Some(format!(
            "The choice of {} is unknown: {} could not be read.",
            unknown.name, unknown.repository
        ));
    }
    for proposed in marker.into_iter().flat_map(|marker| &marker.moves) {
        let still = |set: &Arc<ChangeSet>| {
            set.moves
                .iter()
                .any(|row| row.policy == proposed.policy && row.new == proposed.new)
        };
        if set.is_some_and(still) {
            continue;
        }
        let Some(policy) = row
            .policies
            .iter()
            .find(|policy| policy.name == proposed.policy)
        else {
            continue;
        };
        if set.is_none() && policy.suspended {
            return Some(format!("The policy {} is suspended.", policy.name));
        }
        let digest = proposed.old.as_deref() == Some(proposed.new.as_str());
        if policy.young.iter().any(|tag| tag == proposed.new.as_str())
            || (digest && policy.free_at.is_some() && policy.chosen.is_none())
        {
            return Some(format!(
                "{} {} is too young again: its age has restarted.",
                proposed.repository, proposed.new
            ));
        }
    }
    None
}

/// The reason why a pull request has nothing left to change.
fn reasons(row: &EnvironmentReport, marker: Option<&Marker>) -> String {
    let reason = |proposed: &Proposed| {
        let image = proposed.repository.last_segment();
        let Some(policy) = row
            .policies
            .iter()
            .find(|policy| policy.name == proposed.policy)
        else {
            return format!("{} has no references here any more.", proposed.policy);
        };
        let (only, new) = (policy.present.len() == 1, proposed.new.as_str());
        if only
            && policy.present[0] == new
            && policy
                .chosen
                .as_ref()
                .is_none_or(|chosen| chosen == &proposed.new)
        {
            return format!("{image} is {new} already.");
        }
        match (&policy.chosen, &policy.reason) {
            (Some(chosen), _) if only && policy.present[0] == chosen.as_str() => {
                match policy.held.first() {
                    Some(held) => format!("{image} stays at {chosen}; held: {held}."),
                    None => format!("{image} stays at {chosen}."),
                }
            }
            (Some(chosen), _) => format!(
                "{} chooses {chosen} now, which changes nothing in this pull request.",
                proposed.policy
            ),
            (None, Some(reason)) => format!("{} chooses nothing: {reason}.", proposed.policy),
            (None, None) => format!("{} chooses nothing.", proposed.policy),
        }
    };
    let reasons: Vec<String> = marker
        .into_iter()
        .flat_map(|marker| &marker.moves)
        .take(5)
        .map(reason)
        .collect();
    if reasons.is_empty() {
        "It has nothing left to change.".to_owned()
    } else {
        reasons.join(" ")
    }
}
