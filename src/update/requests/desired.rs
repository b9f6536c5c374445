//! What is wanted of each request's branch: of those that the Environments' change sets make, and
//! of those that are there and that nothing makes any more.

use super::ownership::ForeignRequest;
use crate::update::{EnvironmentReport, PreparedEnvironment, RepoSnapshot};
use crate::{
    io::{forge, git::Person},
    objects::health::plain,
    review::{ChangeSet, Marker, Proposed, branch, folder, lifecycle::DesiredBranch},
    spec::{ChangeGroup, Diagnostic, Environment, Severity, WriteMode},
};
use std::collections::{BTreeMap, BTreeSet};

/// One branch, and what is wanted of it.
pub(crate) struct DesiredRequest<'a> {
    /// The branch.
    pub(crate) branch: String,
    /// The Environment's name.
    pub(crate) name: String,
    /// The Environment, as long as it is declared.
    pub(crate) environment: Option<&'a Environment>,
    /// Its row in the report, if it has one.
    pub(crate) row: Option<&'a EnvironmentReport>,
    /// The changes that are wanted.
    pub(crate) set: Option<&'a ChangeSet>,
    /// Who writes its commits, where it is not the bot.
    pub(crate) person: Option<&'a Person>,
    /// What is wanted instead of the changes, or why nobody can say.
    pub(crate) otherwise: Option<DesiredBranch>,
    /// What its open request tells the bot.
    pub(crate) marker: Option<Marker>,
}

/// What is known beside the change sets.
pub(crate) struct DesiredInputs<'a, 's> {
    pub(crate) world: &'a RepoSnapshot,
    /// The branch that requests are made for.
    pub(crate) target: &'s str,
    /// The open requests that are this updater's.
    pub(crate) open: &'s [forge::PullRequest],
    /// Those of others.
    pub(crate) others: &'s [ForeignRequest],
    /// The branches that are there; of those that may be somebody else's with the files that they
    /// change.
    pub(crate) branches: &'s BTreeMap<String, Option<Vec<String>>>,
    pub(crate) findings: &'s [Diagnostic],
    /// Branches that rest, each with the reason.
    pub(crate) resting: &'s BTreeMap<String, String>,
    /// Branches of which a request for the target is known to have ended.
    pub(crate) ended: &'s BTreeSet<String>,
}

impl DesiredInputs<'_, '_> {
    /// Why a branch is another updater's, if it has an open request.
    fn kept(&self, branch: &str) -> Option<String> {
        self.others
            .iter()
            .filter(|others| others.request.head == branch)
            .find_map(ForeignRequest::keeps)
    }

    /// Why a branch without a request is none that this updater has made for an Environment.
    fn strange(&self, branch: &str, environment: &Environment) -> Option<String> {
        let files = self.branches.get(branch)?.as_deref()?;
        let file = plain(
            files
                .iter()
                .find(|file| !environment.paths.contains(file))?,
        );
        Some(format!(
            "The branch {branch} changes {file}, which is not of this Environment: delete the branch if nobody needs it, or give one of two Environments of the same name another."
        ))
    }
}

/// Every branch that something is wanted of, or that is there, in the order of Environments and
/// branches.
pub(crate) fn items<'a>(
    sight: &DesiredInputs<'a, '_>,
    prepared: &'a [PreparedEnvironment],
) -> Vec<DesiredRequest<'a>> {
    let mut items: BTreeMap<String, DesiredRequest<'a>> = BTreeMap::new();
    let markers: BTreeMap<&str, Marker> = sight
        .open
        .iter()
        .filter_map(|request| Some((request.head.as_str(), Marker::of(request)?)))
        .collect();
    for PreparedEnvironment {
        report,
        sets,
        person,
    } in prepared
    {
        let Some(environment) = sight.world.declared.environments.get(&report.name) else {
            continue;
        };
        for set in sets {
            let branch = branch(&report.name, set.group.as_deref());
            let marker = markers.get(branch.as_str()).cloned();
            let there = marker.is_some() || sight.branches.contains_key(&branch);
            let doubt = || {
                there
                    .then(|| doubt(environment, report, Some(set), marker.as_ref()))
                    .flatten()
            };
            let taken = sight
                .kept(&branch)
                .or_else(|| sight.strange(&branch, environment))
                .or_else(|| sight.resting.get(&branch).cloned());
            let otherwise = taken
                .or_else(doubt)
                .map(|why| DesiredBranch::Unknown { why });
            let (name, environment, row) = (report.name.clone(), Some(environment), Some(report));
            let item = DesiredRequest {
                branch: branch.clone(),
                name,
                environment,
                row,
                set: Some(set),
                person: person.as_ref(),
                otherwise,
                marker,
            };
            items.insert(branch, item);
        }
    }
    let heads = sight.open.iter().map(|request| &request.head);
    for branch in heads.chain(sight.branches.keys()) {
        if !items.contains_key(branch)
            && let Some(item) = left_over(
                sight,
                prepared,
                branch,
                markers.get(branch.as_str()).cloned(),
            )
        {
            items.insert(branch.clone(), item);
        }
    }
    items.into_values().collect()
}

/// A branch that no change set makes; nothing if it is not this updater's, or some person's.
fn left_over<'a>(
    sight: &DesiredInputs<'a, '_>,
    prepared: &'a [PreparedEnvironment],
    branch: &str,
    marker: Option<Marker>,
) -> Option<DesiredRequest<'a>> {
    let declared = &sight.world.declared;
    let environment = declared
        .environments
        .values()
        .find(|environment| branch.starts_with(&folder(&environment.name)));
    let request = sight.open.iter().find(|request| request.head == branch);
    let strange =
        || environment.is_some_and(|environment| sight.strange(branch, environment).is_some());
    if request.is_none() && (sight.kept(branch).is_some() || strange()) {
        return None;
    }
    let wanted = match (environment, request) {
        // Another updater may follow another branch of the repository, and have Environments of its
        // own.
        (None, Some(request)) if request.base != sight.target || marker.is_none() => return None,
        (None, None) if !sight.ended.contains(branch) => return None,
        (_, Some(_)) if marker.is_none() => {
            DesiredBranch::Unknown { why: "Its text has no marker that can be read; close it by hand if it is not wanted any more.".to_owned() }
        }
        (None, _) if declared.has_errors() => DesiredBranch::Unknown {
            why: "Its Environment is not among the declarations that can be read; there are errors in others.".to_owned(),
        },
        (None, _) => DesiredBranch::Nothing { why: "Its Environment is not declared any more.".to_owned() },
        (Some(environment), _) if environment.suspend => {
            DesiredBranch::Unknown { why: format!("The Environment {} is suspended.", environment.name) }
        }
        (Some(environment), _) if environment.via == WriteMode::Commit => {
            DesiredBranch::Nothing { why: format!("The Environment {} writes commits now.", environment.name) }
        }
        (Some(environment), _) => {
            let row = prepared.iter().find(|prepared| prepared.report.name == environment.name).map(|prepared| &prepared.report)?;
            match broken(sight, environment).or_else(|| doubt(environment, row, None, marker.as_ref())) {
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
        person: None,
        otherwise: Some(wanted),
        marker,
    })
}

/// An error for which an Environment may have lost changes that are wanted.
fn broken(sight: &DesiredInputs<'_, '_>, environment: &Environment) -> Option<String> {
    let concerns = |finding: &&Diagnostic| {
        finding.severity == Severity::Error
            && (sight.world.declared.mistakes.contains(finding)
                || finding.place.file == environment.place.file
                || environment.paths.contains(&finding.place.file))
    };
    sight
        .findings
        .iter()
        .find(concerns)
        .map(|error| format!("Mend this first: {}: {}", error.place, error.message))
}

/// Why what is wanted of a branch cannot be said, although there is something: facts that are
/// missing, rests, and clocks that begin anew.
fn doubt(
    environment: &Environment,
    row: &EnvironmentReport,
    set: Option<&ChangeSet>,
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
    // One group of a policy knows all that it needs to know when that policy does.
    let all = environment.group != ChangeGroup::Policy || concerned.is_empty();
    if let Some(unknown) = row
        .policies
        .iter()
        .find(|policy| policy.unknown && (all || concerned.contains(&policy.name)))
    {
        return Some(format!(
            "What {} would choose is not known: {} could not be asked.",
            unknown.name, unknown.repository
        ));
    }
    for proposed in marker.into_iter().flat_map(|marker| &marker.moves) {
        let still = |set: &ChangeSet| {
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
                "{} {} waits for its age, which counts anew.",
                proposed.repository, proposed.new
            ));
        }
    }
    None
}

/// Why nothing is left of a request.
fn reasons(row: &EnvironmentReport, marker: Option<&Marker>) -> String {
    let reason = |proposed: &Proposed| {
        let image = proposed.repository.last_segment();
        let Some(policy) = row
            .policies
            .iter()
            .find(|policy| policy.name == proposed.policy)
        else {
            return format!("{} applies to nothing here any more.", proposed.policy);
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
                    Some(held) => format!("{image} stays {chosen}; held back is {held}."),
                    None => format!("{image} stays {chosen}."),
                }
            }
            (Some(chosen), _) => format!(
                "{} chooses {chosen} now, and nothing of it changes in this request.",
                proposed.policy
            ),
            (None, Some(reason)) => format!("{} chooses nothing: {reason}.", proposed.policy),
            (None, None) => format!("{} chooses nothing.", proposed.policy),
        }
    };
    let told: Vec<String> = marker
        .into_iter()
        .flat_map(|marker| &marker.moves)
        .take(5)
        .map(reason)
        .collect();
    if told.is_empty() {
        "Nothing is left of it to change.".to_owned()
    } else {
        told.join(" ")
    }
}
