//! The change sets of one Environment: its policies decide, its files are edited, and holds keep
//! back what people have reverted.

use super::{
    EnvironmentReport, EnvironmentState, PassReport, PolicyReport, ReleaseOrder, RepoFollower,
    RepoSnapshot, blocking,
    confirm::{Confirmation, ConfirmedChoices, confirm},
    decision::{Decisions, PolicyDecision},
    edits::{self, ScopeEdits},
    evaluate::{self, Evaluation, HoldsByPolicy, RowInputs},
    holds::{self, HoldSources},
    memo::PassMemory,
    pass_state::{PassState, PreparedEnvironment},
    report::{FailureReport, LeftReport},
    scan::forget_confirmed,
};
use crate::{
    core::name::Name,
    images::{
        policy::{Chosen, Holds, MissingFacts},
        scope::EnvironmentScope,
    },
    io::{
        facts::Scanner,
        git::{GitError, Mirror, Person},
    },
    review::{ChangeSet, ReleasedVersion, group, group_apart},
    spec::WriteMode,
};
use std::sync::Arc;

/// Inputs of a plan that are the same for all Environments.
#[derive(Clone, Copy)]
pub(crate) struct PlanInputs<'a> {
    pub(crate) repo: &'a RepoFollower,
    pub(crate) scanner: &'a Scanner,
    pub(crate) holds: HoldSources<'a>,
    pub(crate) choices: &'a ConfirmedChoices,
    pub(crate) memory: &'a Arc<PassMemory>,
    pub(crate) snapshot: &'a RepoSnapshot,
}

/// Plans the changes of one Environment.
///
/// It decides first as if nothing had ever been reverted and no tag had moved since its scan. Only
/// if that changes something, digests are confirmed again, the history is read, and the policies
/// decide again under its holds. New choices are confirmed last.
pub(crate) async fn prepare(
    inputs: PlanInputs<'_>,
    scope: &Arc<EnvironmentScope>,
    pass: &mut PassState<'_>,
    report: &mut PassReport,
) -> Result<PreparedEnvironment, GitError> {
    let environment = &scope.environment;
    let mut row = EnvironmentReport::new(&environment.name, EnvironmentState::UpToDate);
    let author = environment
        .author
        .as_ref()
        .and_then(|author| Person::new(&author.name, &author.email).ok());
    if environment.suspend {
        row.state = EnvironmentState::Suspended;
        return Ok(PreparedEnvironment {
            report: row,
            sets: Vec::new(),
            author,
        });
    }
    let mut held = Arc::new(HoldsByPolicy::new());
    let (mut decisions, mut edits) = decide(inputs, scope, pass, &held, report).await?;
    if !edits.files.is_empty() && forget_confirmed(scope, &mut pass.scans) {
        (decisions, edits) = decide(inputs, scope, pass, &held, report).await?;
    }
    if !edits.files.is_empty() {
        let mut all = holds::read(inputs.holds, inputs.snapshot, scope, pass.now).await?;
        if let Some(order) = pass.release {
            lift(&mut all, order, scope);
        }
        held = Arc::new(all);
        if held.values().any(|holds| !holds.is_empty()) {
            (decisions, edits) = decide(inputs, scope, pass, &held, report).await?;
        }
    }
    if !edits.files.is_empty() {
        let mut evaluation = evaluation(inputs, scope, pass, &held);
        evaluation.decisions = decisions;
        let (evaluation, edited) = confirm_choices(inputs, evaluation, edits).await;
        (decisions, edits) = end(evaluation, edited, pass, report)?;
    }
    let decisions = Arc::new(decisions);
    let (policies, failures) = rows(inputs, scope, pass, (&held, &decisions)).await;
    for failure in failures {
        report.add_failure(failure);
    }
    let (sets, left) = divide(scope, edits).await;
    row.left = left;
    row.released = released(inputs, pass, &environment.name);
    row.policies = policies;
    for policy in &mut row.policies {
        let suspended = policy.suspended;
        mark_unknown(policy, suspended, &pass.scans, report);
    }
    if row.policies.iter().any(|policy| policy.unknown) {
        row.state = EnvironmentState::Unknown;
    }
    let refusal = pass.release.and_then(|order| order.refusal(&row));
    let sets = match refusal {
        Some(refusal) => {
            row.state = EnvironmentState::Failed;
            report.add_failure(refusal);
            Vec::new()
        }
        None => sets.into_iter().map(Arc::new).collect(),
    };
    Ok(PreparedEnvironment {
        report: row,
        sets,
        author,
    })
}

/// Returns the rows of the policies in the report, and failures of the store.
async fn rows(
    inputs: PlanInputs<'_>,
    scope: &Arc<EnvironmentScope>,
    pass: &mut PassState<'_>,
    (held, decisions): (&Arc<HoldsByPolicy>, &Arc<Decisions>),
) -> (Vec<PolicyReport>, Vec<FailureReport>) {
    let (scope, scanner, now) = (Arc::clone(scope), inputs.scanner.clone(), pass.now);
    let (held, decisions) = (Arc::clone(held), Arc::clone(decisions));
    let memory = Arc::clone(inputs.memory);
    let mut scans = std::mem::take(&mut pass.scans);
    let (rows, failures);
    (rows, failures, pass.scans) = blocking(move || {
        let none = Holds::default();
        let (mut rows, mut failures) = (Vec::new(), Vec::new());
        for (name, usage) in &scope.policies {
            let image = &usage.policy.image;
            let inputs = RowInputs {
                environment: &scope.environment.name,
                usage,
                decision: decisions.get(name),
                holds: held.get(name).unwrap_or(&none),
                now,
            };
            let row = evaluate::policy_report(inputs, &memory, &scanner, scans.get_mut(image));
            rows.push(row.unwrap_or_else(|error| {
                failures.push(FailureReport::new(&error).of(image));
                evaluate::plain_row(usage, inputs.decision, inputs.holds)
            }));
        }
        (rows, failures, scans)
    })
    .await;
    (rows, failures)
}

/// Divides the edits of an Environment into change sets; returns also what was left alone.
async fn divide(
    scope: &Arc<EnvironmentScope>,
    edits: ScopeEdits,
) -> (Vec<ChangeSet>, Vec<LeftReport>) {
    if edits.files.is_empty() {
        return (Vec::new(), edits.left);
    }
    let scope = Arc::clone(scope);
    blocking(move || {
        let environment = &scope.environment;
        let divide = match environment.via == WriteMode::Commit {
            true => group,
            false => group_apart,
        };
        let sets = divide(&environment.name, environment.group, &edits.files);
        (sets, edits.left)
    })
    .await
}

/// Lifts the hold of a version that a person released.
fn lift(held: &mut HoldsByPolicy, order: &ReleaseOrder, scope: &EnvironmentScope) {
    let ReleasedVersion { policy, version } = &order.version;
    if scope.environment.name == order.environment
        && let (Some(holds), Some(usage)) = (held.get_mut(policy), scope.policies.get(policy))
    {
        holds.lift(&usage.policy, version);
    }
}

/// Returns the released versions of an Environment: of open pull requests, and of this pass.
fn released(
    inputs: PlanInputs<'_>,
    pass: &PassState<'_>,
    environment: &str,
) -> Vec<ReleasedVersion> {
    let known = inputs.holds.requests.lock().released.clone();
    let ordered = pass
        .release
        .map(|order| (order.environment.clone(), order.version.clone()));
    let mut all: Vec<ReleasedVersion> = Vec::new();
    for (of, version) in known.into_iter().chain(ordered) {
        if of == environment && !all.contains(&version) {
            all.push(version);
        }
    }
    all
}

/// Decides all policies of an Environment and edits its files.
async fn decide(
    inputs: PlanInputs<'_>,
    scope: &Arc<EnvironmentScope>,
    pass: &mut PassState<'_>,
    held: &Arc<HoldsByPolicy>,
    report: &mut PassReport,
) -> Result<(Decisions, ScopeEdits), GitError> {
    let evaluation = evaluation(inputs, scope, pass, held)
        .run(inputs.scanner)
        .await;
    let (evaluation, edits) = edit_with_digests(inputs, evaluation).await;
    end(evaluation, edits, pass, report)
}

/// Confirms new choices, and decides again without the tags that a registry lists and does not
/// have.
async fn confirm_choices(
    inputs: PlanInputs<'_>,
    mut evaluation: Evaluation,
    mut edits: ScopeEdits,
) -> (Evaluation, Result<ScopeEdits, GitError>) {
    let (scanner, choices) = (inputs.scanner, inputs.choices);
    for round in 0.. {
        match confirm(scanner, choices, &mut evaluation, &edits, round).await {
            Confirmation::Confirmed => break,
            Confirmation::Refused => {}
            Confirmation::DecideAgain => {
                evaluation.decisions.clear();
                evaluation = evaluation.run(scanner).await;
            }
        }
        let edited;
        (evaluation, edited) = edit_with_digests(inputs, evaluation).await;
        match edited {
            Ok(edited) => edits = edited,
            Err(error) => return (evaluation, Err(error)),
        }
    }
    (evaluation, Ok(edits))
}

/// Begins an evaluation, which takes the scans of the pass until its end.
fn evaluation(
    inputs: PlanInputs<'_>,
    scope: &Arc<EnvironmentScope>,
    pass: &mut PassState<'_>,
    held: &Arc<HoldsByPolicy>,
) -> Evaluation {
    let scans = std::mem::take(&mut pass.scans);
    Evaluation::new(scope, scans, held, inputs.memory, pass.now)
}

/// Ends an evaluation: the pass gets the scans back, and the report its failures.
fn end(
    evaluation: Evaluation,
    edits: Result<ScopeEdits, GitError>,
    pass: &mut PassState<'_>,
    report: &mut PassReport,
) -> Result<(Decisions, ScopeEdits), GitError> {
    pass.scans = evaluation.scans;
    for failure in evaluation.failures {
        report.add_failure(failure);
    }
    for (repository, warning) in evaluation.running {
        pass.failed.insert(repository.clone());
        report.add_running(repository, warning);
    }
    Ok((evaluation.decisions, edits?))
}

/// Edits the files of an Environment, and fetches the digests that only the files ask for.
async fn edit_with_digests(
    inputs: PlanInputs<'_>,
    evaluation: Evaluation,
) -> (Evaluation, Result<ScopeEdits, GitError>) {
    let (mut evaluation, mut edits) = edit(inputs, evaluation).await;
    if let Ok(first) = &mut edits
        && !first.needs_digest.is_empty()
    {
        for name in std::mem::take(&mut first.needs_digest) {
            add_digest(inputs.scanner, &mut evaluation, &name).await;
        }
        // A reference whose digest is still missing is left alone with that reason.
        (evaluation, edits) = edit(inputs, evaluation).await;
    }
    (evaluation, edits)
}

/// Fetches the digest of a choice, which may be held.
async fn add_digest(scanner: &Scanner, evaluation: &mut Evaluation, name: &Name) {
    let scope = Arc::clone(&evaluation.scope);
    let Some(usage) = scope.policies.get(name) else {
        return;
    };
    let repository = &usage.policy.image;
    let Some(PolicyDecision::Chosen(chosen)) = evaluation.decisions.get(name).cloned() else {
        return;
    };
    let Some(scan) = evaluation.scans.get_mut(repository) else {
        return;
    };
    let missing = MissingFacts::of_digests(vec![chosen.tag.clone()]);
    let decision = match scanner.answer(scan, &missing, evaluation.now).await {
        Err(error) => evaluation.failed(repository, &error),
        Ok(()) => {
            let digest = scan
                .details
                .get(chosen.tag.as_str())
                .and_then(|details| details.digest.clone());
            let hold = digest.as_ref().and_then(|digest| {
                let holds = evaluation.held.get(name)?;
                holds.of(digest.as_str())
            });
            match hold {
                Some(hold) => {
                    PolicyDecision::nothing(format!("the digest of {} is held: {hold}", chosen.tag))
                }
                None => PolicyDecision::Chosen(Chosen { digest, ..chosen }),
            }
        }
    };
    evaluation.decided(name, decision);
}

/// Edits the files of an Environment in a blocking task.
async fn edit(
    inputs: PlanInputs<'_>,
    evaluation: Evaluation,
) -> (Evaluation, Result<ScopeEdits, GitError>) {
    let (snapshot, memory) = (inputs.snapshot.clone(), Arc::clone(inputs.memory));
    inputs
        .repo
        .read(move |mirror| {
            let Evaluation {
                scope,
                decisions,
                scans,
                ..
            } = &evaluation;
            if let Some(left) = memory.unedited(scope, decisions, scans) {
                let edits = ScopeEdits {
                    left,
                    ..ScopeEdits::default()
                };
                return (evaluation, Ok(edits));
            }
            memory.count_files(scope.files().count());
            let edits = edit_files(mirror, &snapshot, scope, decisions, scans);
            if let Ok(edits) = &edits
                && edits.files.is_empty()
                && edits.needs_digest.is_empty()
            {
                memory.keep_unedited(scope, decisions, scans, &edits.left);
            }
            (evaluation, edits)
        })
        .await
}

/// Edits the files of an Environment as they are at a snapshot. Blocks.
pub(crate) fn edit_files(
    mirror: &Mirror,
    snapshot: &RepoSnapshot,
    scope: &EnvironmentScope,
    decisions: &Decisions,
    scans: &super::Scans,
) -> Result<ScopeEdits, GitError> {
    let revision = mirror.at(snapshot.commit)?;
    edits::edit(
        scope,
        &snapshot.declared,
        decisions,
        scans,
        |file| match file.blob {
            Some(blob) => revision.blob(blob),
            None => Ok(revision
                .read(&file.path)?
                .map(|found| found.bytes)
                .unwrap_or_default()),
        },
    )
}

/// Tells whether a decision of a policy rests on facts that are not known.
fn mark_unknown(
    row: &mut PolicyReport,
    suspended: bool,
    scans: &super::Scans,
    report: &PassReport,
) {
    let image = &row.repository;
    let has_failed = || {
        report
            .failures
            .iter()
            .any(|failure| failure.repository.as_ref() == Some(image))
    };
    row.unknown |= !suspended && (!scans.contains_key(image) || has_failed());
}
