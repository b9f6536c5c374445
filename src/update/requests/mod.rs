//! Environments whose changes are for review: each change set has a branch and a request, which are
//! brought a step further until they are as they should be.
//!
//! ```text
//! wanting (what is wanted of each branch) ─▶ publish::life (the next step) ─▶ stepping (done, or only said) ─▶ row
//!                                                   ▲                           │
//!                                                   └───────────────────────────┘
//! ```

pub(crate) mod automerge;
pub(crate) mod blocked;
pub(crate) mod body;
pub(crate) mod cache;
pub(crate) mod closed;
pub(crate) mod closed_store;
pub(crate) mod desired;
pub(crate) mod execute;
pub(crate) mod facts;
pub(crate) mod list;
pub(crate) mod merge_refusals;
pub(crate) mod merged;
pub(crate) mod ownership;

use self::{
    desired::{DesiredInputs, DesiredRequest},
    execute::{RequestReconciler, StepOutcome},
    merged::changed,
    ownership::SortedRequests,
};
use super::{
    EnvironmentReport, EnvironmentState, ImageUpdater, PassMode, PassReport, PassState, PassStep,
    PreparedEnvironment, RepoSnapshot, RequestReport, RequestState, blocking,
};
use crate::{
    core::version,
    io::{
        forge,
        git::{GitError, Mirror, ObjectId, Person},
    },
    review::{
        ImageMove, Marker, Proposed,
        lifecycle::{self, BranchCommits, RequestAction},
        subject,
    },
    spec::{Diagnostic, Severity, WriteMode},
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, PoisonError, atomic::Ordering},
};

/// Commits of one branch that are looked at; with more of them it is not the bot's.
const MOST_COMMITS: usize = 20;

/// Steps of one request within one walk: more than any way has.
const MOST_STEPS: usize = 8;

/// What a pass knows of the forge's requests.
pub(crate) enum RequestsPhase {
    /// They have not been asked for.
    Unasked,
    /// Those that are open, with what this pass has changed of them.
    Listed(Vec<forge::PullRequest>),
    /// They could not be had.
    Failed,
}

/// What a pass has done with requests.
#[derive(Default)]
pub(crate) struct RequestsDone {
    /// What became of those that are still there, by branch.
    pub(crate) states: BTreeMap<String, RequestState>,
    /// Those that ended, with their Environment.
    pub(crate) ended: Vec<(String, RequestReport)>,
    /// How often a branch was pushed.
    pub(crate) pushes: BTreeMap<String, u32>,
    /// Branches that were made, whose requests are to be opened.
    pub(crate) made: BTreeSet<String>,
    /// Requests that were merged.
    pub(crate) merged: BTreeSet<u64>,
    /// What the forge said that a request waits for, with the head it was said of and when the wait
    /// ends by itself.
    pub(crate) waiting: HashMap<u64, (ObjectId, Vec<String>, Option<Timestamp>)>,
}

/// What a branch has.
#[derive(Debug, Clone)]
pub(crate) struct BranchState {
    pub(crate) head: ObjectId,
    pub(crate) commits: BranchCommits,
    /// The commit of the target that it is made on, where it has one commit.
    pub(crate) parent: Option<ObjectId>,
    pub(crate) same: bool,
    pub(crate) fresh: bool,
}

impl ImageUpdater {
    /// Brings the requests of these Environments a step further; says whether the world must be
    /// read again.
    pub(crate) async fn review(
        &self,
        world: &RepoSnapshot,
        prepared: Vec<PreparedEnvironment>,
        pass: &mut PassState<'_>,
        report: &mut PassReport,
    ) -> Result<PassStep, GitError> {
        let Some(forge) = self.forge.clone() else {
            for PreparedEnvironment {
                report: mut row, ..
            } in prepared
            {
                if let Some(environment) = world
                    .declared
                    .environments
                    .get(&row.name)
                    .filter(|_| row.state != EnvironmentState::Suspended)
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
                report.environments.push(row);
            }
            return Ok(PassStep::Done);
        };
        let open = match std::mem::replace(&mut pass.requesting, RequestsPhase::Failed) {
            RequestsPhase::Listed(open) => open,
            requesting => {
                let failed = matches!(requesting, RequestsPhase::Failed);
                pass.requesting = requesting;
                for PreparedEnvironment {
                    report: mut row, ..
                } in prepared
                {
                    if failed && row.state != EnvironmentState::Suspended {
                        row.state = EnvironmentState::Waiting;
                    }
                    report.environments.push(row);
                }
                return Ok(PassStep::Done);
            }
        };
        let branches = self.mirror.branches()?;
        let whose = self.whose(world, &open)?;
        let SortedRequests { ours: open, others } = whose.sort(open);
        let target = self.mirror.remote().branch().to_owned();
        let ended: BTreeSet<String> = {
            self.known()
                .ended
                .ours(&target)
                .map(|(_, ended)| ended.head.clone())
                .collect()
        };
        let mut there = BTreeMap::new();
        for (branch, head) in &branches {
            let known =
                ended.contains(branch) || open.iter().any(|request| request.head == *branch);
            let files = if known || self.mirror.contains(world.commit, *head)? {
                None
            } else {
                Some(changed(&self.mirror, *head)?)
            };
            there.insert(branch.clone(), files);
        }
        let resting = self.resting(world, &branches, &open, pass.now)?;
        let (target_name, findings) = (target.as_str(), report.findings.as_slice());
        let sight = DesiredInputs {
            world,
            target: target_name,
            open: &open,
            others: &others,
            branches: &there,
            findings,
            resting: &resting,
            ended: &ended,
        };
        let items = desired::items(&sight, &prepared);
        blocked::say(&items, &resting, &branches, &mut report.warnings);
        let looked = self.looked(&items, branches, world.commit).await?;
        let mut rows: BTreeMap<String, Vec<RequestReport>> = BTreeMap::new();
        let mut walk = RequestReconciler {
            updater: self,
            forge,
            world,
            target: &target,
            mode: pass.mode,
            now: pass.now,
            clock: pass.clock,
            open,
            others,
            whose: &whose,
            looked,
            scans: &mut pass.scans,
            done: &mut pass.done,
            failures: Vec::new(),
            warnings: Vec::new(),
        };
        let mut step = PassStep::Done;
        walk.close_twins(&items).await;
        walk.mark_behind(&items).await;
        for item in &items {
            if self.ending.load(Ordering::SeqCst) {
                break;
            }
            let (row, stepped) = walk.live(item).await?;
            rows.entry(item.name.clone()).or_default().extend(row);
            match stepped {
                StepOutcome::Moved if !matches!(step, PassStep::Conflict) => {
                    step = PassStep::Pushed
                }
                StepOutcome::Conflict => step = PassStep::Conflict,
                _ => {}
            }
            // What is merged next must be looked at on the new target.
            if matches!(stepped, StepOutcome::Merged) {
                step = PassStep::Pushed;
                break;
            }
        }
        let RequestReconciler {
            mut open,
            others,
            failures,
            warnings,
            ..
        } = walk;
        open.extend(others.into_iter().map(|others| others.request));
        for failure in failures {
            if !report.failures.contains(&failure) {
                report.failures.push(failure);
            }
        }
        report.warnings.extend(
            warnings
                .into_iter()
                .filter(|warning| !report.warnings.contains(warning))
                .collect::<Vec<_>>(),
        );
        pass.requesting = RequestsPhase::Listed(open);
        report
            .environments
            .extend(prepared.into_iter().map(|prepared| prepared.report));
        for (name, requests) in rows {
            add(report, &name, requests);
        }
        Ok(step)
    }

    /// What the branches have, against what is wanted of them.
    async fn looked(
        &self,
        items: &[DesiredRequest<'_>],
        branches: BTreeMap<String, ObjectId>,
        target: ObjectId,
    ) -> Result<HashMap<String, BranchState>, GitError> {
        let wanted: Vec<_> = items
            .iter()
            .filter_map(|item| {
                Some((
                    item.branch.clone(),
                    *branches.get(&item.branch)?,
                    item.set.map(|set| set.files.clone()),
                ))
            })
            .collect();
        let (mirror, known) = (Arc::clone(&self.mirror), Arc::clone(&self.known));
        let bot = Person::new(&self.config.author.name, &self.config.author.email)?;
        blocking(move || {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            let heads: BTreeSet<ObjectId> = wanted.iter().map(|(_, head, _)| *head).collect();
            known
                .commits
                .retain(|(head, of), _| *of == target && heads.contains(head));
            known.outlooks.retain(|head| heads.contains(&head));
            let mut looked = HashMap::new();
            for (branch, head, files) in wanted {
                let (commits, parent) = match known.commits.get(&(head, target)) {
                    Some(known) => known.clone(),
                    None => {
                        let found = whose(&mirror, head, target, &bot)?;
                        known.commits.insert((head, target), found.clone());
                        found
                    }
                };
                let same = match (&files, parent) {
                    (Some(files), Some(parent)) => {
                        let files: Vec<_> = files
                            .iter()
                            .map(|file| (file.path.as_str(), &file.before[..], &file.after[..]))
                            .collect();
                        mirror.makes(parent, head, &files)?
                    }
                    _ => false,
                };
                looked.insert(
                    branch,
                    BranchState {
                        head,
                        commits,
                        parent,
                        same,
                        fresh: parent == Some(target),
                    },
                );
            }
            Ok(looked)
        })
        .await
    }
}

/// Whose commits a branch has, and what its commit is made on where it is one of the bot's.
fn whose(
    mirror: &Mirror,
    head: ObjectId,
    target: ObjectId,
    bot: &Person,
) -> Result<(BranchCommits, Option<ObjectId>), GitError> {
    let others = |commit: String, author: String| {
        (
            BranchCommits::Others {
                commit,
                author,
                remade: None,
            },
            None,
        )
    };
    let Some(own) = mirror.beyond(head, target, MOST_COMMITS)? else {
        return Ok(others(head.to_string(), "several people".to_owned()));
    };
    let mut strange = own.iter().filter(|commit| !commit.is_by(bot));
    // One that somebody has written says more than one that somebody has only made anew.
    Ok(
        match strange
            .clone()
            .find(|commit| !commit.is_remade(bot))
            .or_else(|| strange.next())
        {
            Some(commit) if commit.is_remade(bot) => {
                let (commit, author, remade) = (
                    commit.id.to_string(),
                    commit.author.clone(),
                    Some(commit.committer.clone()),
                );
                (
                    BranchCommits::Others {
                        commit,
                        author,
                        remade,
                    },
                    None,
                )
            }
            Some(commit) => others(commit.id.to_string(), commit.author.clone()),
            None => match own.as_slice() {
                [] => (BranchCommits::None, None),
                [one] => (BranchCommits::Own, one.parents.first().copied()),
                _ => (BranchCommits::Own, None),
            },
        },
    )
}

/// Puts rows of requests into the report, beside what else is told of the Environment.
pub(crate) fn add(report: &mut PassReport, name: &str, requests: Vec<RequestReport>) {
    if requests.is_empty() {
        return;
    }
    let at = report
        .environments
        .iter()
        .position(|row| row.name == name)
        .unwrap_or_else(|| {
            report
                .environments
                .push(EnvironmentReport::new(name, EnvironmentState::UpToDate));
            report.environments.len() - 1
        });
    let row = &mut report.environments[at];
    row.requests.extend(requests);
    row.requests
        .sort_by(|one, other| (&one.branch, one.number).cmp(&(&other.branch, other.number)));
    row.until = row
        .until
        .into_iter()
        .chain(row.requests.iter().filter_map(|request| request.until))
        .min();
    let any = |wanted: &[RequestState]| {
        row.requests
            .iter()
            .any(|request| wanted.contains(&request.state))
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
    /// Steps of one branch and its request, until nothing is left to do for now.
    async fn live(
        &mut self,
        item: &DesiredRequest<'_>,
    ) -> Result<(Option<RequestReport>, StepOutcome), GitError> {
        let mut failed = None;
        for _ in 0..MOST_STEPS {
            // Read each time: the text may have been written by the step before.
            let marker = self.request(item).and_then(Marker::of);
            let decision = lifecycle::decide(&self.situation(item, marker.as_ref()));
            if self.mode == PassMode::Plan && !decision.action.is_quiet() {
                return Ok((Some(self.planned(item, &decision)), StepOutcome::Quiet));
            }
            match self.step(item, &decision).await? {
                StepOutcome::Again => {}
                StepOutcome::Failed(failure) => {
                    failed = Some(failure.message.clone());
                    self.failures.push(*failure);
                    break;
                }
                StepOutcome::Settled {
                    waits,
                    until,
                    would_merge,
                } => {
                    let state = if would_merge {
                        Some(RequestState::WouldMerge)
                    } else {
                        self.done.states.get(&item.branch).copied()
                    };
                    let row = self.report(item, state.unwrap_or(RequestState::Open), waits);
                    return Ok((Some(RequestReport { until, ..row }), StepOutcome::Quiet));
                }
                stepped => return Ok((self.row(item, &decision), stepped)),
            }
        }
        let waits: Vec<String> = failed.into_iter().collect();
        Ok((
            Some(self.report(item, RequestState::Failed, waits)),
            StepOutcome::Quiet,
        ))
    }

    /// What a pass would do, as far as its first step says it.
    fn planned(
        &self,
        item: &DesiredRequest<'_>,
        decision: &lifecycle::LifecycleStep,
    ) -> RequestReport {
        let state = match decision.action {
            RequestAction::Close | RequestAction::Delete => RequestState::WouldClose,
            _ if self.request(item).is_none() => RequestState::WouldOpen,
            _ => RequestState::WouldUpdate,
        };
        self.report(item, state, vec![decision.reason.clone()])
    }

    /// The row after a quiet decision; none where there is nothing.
    fn row(
        &self,
        item: &DesiredRequest<'_>,
        decision: &lifecycle::LifecycleStep,
    ) -> Option<RequestReport> {
        let done = self.done.states.get(&item.branch).copied();
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

    /// A row with what is known of a branch and its request.
    pub(crate) fn report(
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
            .or_else(|| item.set.map(subject));
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

    /// The open request of a branch.
    pub(crate) fn request(&self, item: &DesiredRequest<'_>) -> Option<&forge::PullRequest> {
        self.open.iter().find(|request| request.head == item.branch)
    }

    /// Whether the Environment's requests merge by themselves.
    pub(crate) fn via<'i>(
        item: &DesiredRequest<'i>,
    ) -> Option<(
        &'i crate::spec::RequestOptions,
        Option<&'i crate::spec::AutoMerge>,
    )> {
        match &item.environment?.via {
            WriteMode::PullRequest {
                request,
                auto_merge,
            } => Some((request, auto_merge.as_ref())),
            WriteMode::Commit => None,
        }
    }
}
