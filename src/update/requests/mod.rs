//! Pull requests: each change set has a branch and a pull request, which are advanced step by step
//! until they are up to date.
//!
//! ```text
//! desired (state of each branch) ─▶ review::lifecycle (next step) ─▶ execute (or only report) ─▶ row
//!                                            ▲                          │
//!                                            └──────────────────────────┘
//! ```
//!
//! A pull request has ended when it was merged or closed.

pub(crate) mod authors;
pub(crate) mod automerge;
pub(crate) mod blocked;
pub(crate) mod body;
pub(crate) mod branches;
pub(crate) mod cache;
pub(crate) mod close;
pub(crate) mod closed;
pub(crate) mod closed_store;
pub(crate) mod desired;
pub(crate) mod execute;
pub(crate) mod facts;
pub(crate) mod list;
pub(crate) mod merge_refusals;
pub(crate) mod merged;
pub(crate) mod ownership;
pub(crate) mod preview;
pub(crate) mod recent_merges;
pub(crate) mod rows;
pub(crate) mod state;
pub(crate) mod twins;

pub(crate) use rows::add_rows;

use self::{
    authors::RequestAuthors,
    cache::SharedRequestCache,
    desired::DesiredInputs,
    ownership::{ForeignRequest, RequestOwnership, SortedRequests},
    state::{BranchState, DesiredRequest, StepOutcome},
};
use super::{
    EnvironmentState, FailureReport, PassMode, PassReport, Previews, RepoFollower, RepoSnapshot,
    RequestReport, RequestState, Scans,
    commit::Publisher,
    pass_state::{
        PassClock, PassState, PassStep, PreparedEnvironment, RequestPhase, RequestProgress,
    },
};
use crate::{
    io::{
        facts::Scanner,
        forge::{self, Forge},
        git::GitError,
    },
    review::{Marker, lifecycle},
    spec::{Diagnostic, Severity},
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Steps of one pull request within one round: more than any sequence of steps has.
const MOST_STEPS: usize = 8;

/// The pause before an improvable text is written again and a refused merge is retried, and the
/// time after its opening in which missing labels are added to a pull request.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Everything outside a pass that the work on pull requests reads and writes.
#[derive(Clone, Copy)]
pub(crate) struct RequestContext<'u> {
    pub(crate) repo: &'u RepoFollower,
    pub(crate) publisher: &'u Publisher,
    pub(crate) scanner: &'u Scanner,
    pub(crate) forge: &'u Arc<dyn Forge>,
    pub(crate) previews: Option<&'u Arc<dyn Previews>>,
    pub(crate) cache: &'u SharedRequestCache,
}

impl RequestContext<'_> {
    /// The means to tell the bot's pull requests from others; none before they were listed.
    pub(crate) fn authors(&self) -> Option<Arc<RequestAuthors>> {
        self.cache.lock().authors.clone()
    }

    /// The branch that pull requests are made for.
    pub(crate) fn target(&self) -> &str {
        self.repo.mirror.remote().branch()
    }
}

/// Reconciles the pull requests of one round.
pub(crate) struct RequestReconciler<'w> {
    pub(crate) context: RequestContext<'w>,
    pub(crate) snapshot: &'w RepoSnapshot,
    pub(crate) mode: PassMode,
    pub(crate) now: Timestamp,
    pub(crate) clock: PassClock,
    /// The open pull requests of this updater, with the changes made so far.
    pub(crate) open: Vec<forge::PullRequest>,
    pub(crate) foreign: Vec<ForeignRequest>,
    pub(crate) ownership: &'w RequestOwnership,
    /// The branches that exist.
    pub(crate) branches: HashMap<String, BranchState>,
    pub(crate) scans: &'w mut Scans,
    pub(crate) progress: &'w mut RequestProgress,
    pub(crate) failures: Vec<FailureReport>,
    pub(crate) warnings: Vec<String>,
}

/// Advances the pull requests of these Environments by one round.
///
/// The outcome tells whether the snapshot must be read again.
pub(crate) async fn reconcile(
    context: Option<RequestContext<'_>>,
    ending: &AtomicBool,
    snapshot: &RepoSnapshot,
    prepared: Vec<PreparedEnvironment>,
    pass: &mut PassState<'_>,
    report: &mut PassReport,
) -> Result<PassStep, GitError> {
    let Some(context) = context else {
        report_missing_forge(snapshot, prepared, report);
        return Ok(PassStep::Done);
    };
    let open = match std::mem::replace(&mut pass.requests, RequestPhase::Failed) {
        RequestPhase::Listed(open) => open,
        phase => {
            let failed = matches!(phase, RequestPhase::Failed);
            pass.requests = phase;
            for mut prepared in prepared {
                if failed && prepared.report.state != EnvironmentState::Suspended {
                    prepared.report.state = EnvironmentState::Waiting;
                }
                report.environments.push(prepared.report);
            }
            return Ok(PassStep::Done);
        }
    };
    let ownership = ownership::read(context, snapshot, &open).await?;
    let SortedRequests {
        ours: open,
        foreign,
    } = ownership.sort(open, context.authors().as_deref());
    let survey = branches::survey(context, snapshot.commit, &open, pass.now).await?;
    let inputs = DesiredInputs {
        snapshot,
        target: context.target(),
        open: &open,
        foreign: &foreign,
        survey: &survey,
        findings: &report.findings,
    };
    let desired = desired::requests(&inputs, &prepared);
    for warning in blocked::warnings(&desired, &survey) {
        report.add_warning(warning);
    }
    let branches = branches::states(context, snapshot, &desired, &survey.heads).await?;
    let mut reconciler = RequestReconciler {
        context,
        snapshot,
        mode: pass.mode,
        now: pass.now,
        clock: pass.clock,
        open,
        foreign,
        ownership: &ownership,
        branches,
        scans: &mut pass.scans,
        progress: &mut pass.progress,
        failures: Vec::new(),
        warnings: Vec::new(),
    };
    let (rows, step) = reconciler.run(&desired, ending).await?;
    let RequestReconciler {
        mut open,
        foreign,
        failures,
        warnings,
        ..
    } = reconciler;
    open.extend(foreign.into_iter().map(|foreign| foreign.request));
    pass.requests = RequestPhase::Listed(open);
    for failure in failures {
        report.add_failure(failure);
    }
    for warning in warnings {
        report.add_warning(warning);
    }
    report
        .environments
        .extend(prepared.into_iter().map(|prepared| prepared.report));
    for (name, requests) in rows {
        add_rows(report, &name, requests);
    }
    Ok(step)
}

/// Reports that Environments want pull requests where no forge is configured.
fn report_missing_forge(
    snapshot: &RepoSnapshot,
    prepared: Vec<PreparedEnvironment>,
    report: &mut PassReport,
) {
    for mut prepared in prepared {
        let row = &mut prepared.report;
        let environment = snapshot.declared.environments.get(&row.name);
        if let Some(environment) = environment
            && row.state != EnvironmentState::Suspended
        {
            row.state = EnvironmentState::Failed;
            report.findings.push(Diagnostic {
                place: environment.place.clone(),
                severity: Severity::Error,
                message: format!(
                    "Environment {}: update.via: pullRequest needs a forge: write `forge` with its token beside the repository in tagboat.yaml, or via: commit here",
                    row.name
                ),
            });
        }
        report.environments.push(prepared.report);
    }
}

impl RequestReconciler<'_> {
    /// Advances every pull request; returns their rows, and whether the snapshot must be read
    /// again.
    async fn run(
        &mut self,
        desired: &[DesiredRequest<'_>],
        ending: &AtomicBool,
    ) -> Result<(BTreeMap<String, Vec<RequestReport>>, PassStep), GitError> {
        let mut rows: BTreeMap<String, Vec<RequestReport>> = BTreeMap::new();
        let mut step = PassStep::Done;
        self.close_twins(desired).await;
        self.mark_behind(desired).await;
        for item in desired {
            if ending.load(Ordering::SeqCst) {
                break;
            }
            let (row, outcome) = self.advance(item).await?;
            rows.entry(item.name.clone()).or_default().extend(row);
            match outcome {
                // The next merge must be decided on the new target.
                StepOutcome::Merged => {
                    step = PassStep::Pushed;
                    break;
                }
                StepOutcome::Moved if !matches!(step, PassStep::Conflict) => {
                    step = PassStep::Pushed;
                }
                StepOutcome::Conflict => step = PassStep::Conflict,
                _ => {}
            }
        }
        Ok((rows, step))
    }

    /// Takes the steps of one branch and its pull request, until none is left for now.
    async fn advance(
        &mut self,
        item: &DesiredRequest<'_>,
    ) -> Result<(Option<RequestReport>, StepOutcome), GitError> {
        let mut failed = None;
        for _ in 0..MOST_STEPS {
            // Read each time: the step before may have written the text.
            let marker = self.request(item).and_then(Marker::of);
            let decision = lifecycle::decide(&self.lifecycle_input(item, marker.as_ref()));
            if self.mode == PassMode::Plan && !decision.action.is_quiet() {
                return Ok((Some(self.planned_row(item, &decision)), StepOutcome::Quiet));
            }
            match self.step(item, &decision).await? {
                StepOutcome::Again => {}
                StepOutcome::Failed(failure) => {
                    failed = Some(failure.message.clone());
                    self.failures.push(*failure);
                    break;
                }
                StepOutcome::UpToDate {
                    waits,
                    until,
                    would_merge,
                } => {
                    let state = if would_merge {
                        Some(RequestState::WouldMerge)
                    } else {
                        self.progress.states.get(&item.branch).copied()
                    };
                    let row = self.report(item, state.unwrap_or(RequestState::Open), waits);
                    return Ok((Some(RequestReport { until, ..row }), StepOutcome::Quiet));
                }
                outcome => return Ok((self.row(item, &decision), outcome)),
            }
        }
        let waits: Vec<String> = failed.into_iter().collect();
        let row = self.report(item, RequestState::Failed, waits);
        Ok((Some(row), StepOutcome::Quiet))
    }

    /// The open pull request of a branch.
    pub(crate) fn request(&self, item: &DesiredRequest<'_>) -> Option<&forge::PullRequest> {
        self.open.iter().find(|request| request.head == item.branch)
    }

    /// Applies a change to an open pull request that was made at the forge.
    pub(crate) fn change(&mut self, number: u64, change: impl FnOnce(&mut forge::PullRequest)) {
        if let Some(request) = self
            .open
            .iter_mut()
            .find(|request| request.number == number)
        {
            change(request);
        }
    }

    /// Notes that this pass has merged or closed a pull request.
    pub(crate) fn forget(&mut self, request: &forge::PullRequest, how: lifecycle::ClosedRequest) {
        self.open.retain(|known| known.number != request.number);
        let mut cache = self.context.cache.lock();
        cache.ended.end(request, how, self.now);
    }

    /// Tells whether a foreign pull request is open from a branch.
    pub(crate) fn is_shared(&self, branch: &str) -> bool {
        self.foreign
            .iter()
            .any(|foreign| foreign.request.head == branch)
    }
}
