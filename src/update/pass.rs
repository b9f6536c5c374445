//! One pass over one config repository, from the registries to a commit or a pull request.

use super::{
    Confirmed, EnvironmentReport, EnvironmentState, FailureReport, ImageUpdater, PassMode,
    PassReport, ReleaseOrder, RepoSnapshot, Rescan, blocking,
    commit::{
        CommitText, PublishOutcome, PushRace, PushTarget, edit_files, lost_race, undone,
        window_is_closed,
    },
    pass_state::{PassState, PassStep, PreparedEnvironment, RequestProgress},
    plan::{self, PlanInputs},
    policy_status,
    report::CommitReport,
    requests::{self, closed_store, merged},
    scan::{self, confirmed},
};
use crate::{
    io::{
        git::{GitError, ObjectId},
        registry::RequestKind,
    },
    review::{ChangeSet, CommitMessage},
    spec::WriteMode,
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

impl ImageUpdater {
    /// Runs one pass. It never fails as a whole: failures stand in the report beside what
    /// succeeded.
    pub async fn pass(&self, mode: PassMode, rescan: &Rescan, now: Timestamp) -> PassReport {
        self.finish(PassState::new(mode, rescan, now), now).await
    }

    /// Runs a pass that waits no longer than `patience` for each registry, for all its answers
    /// together. What takes longer goes on, and [`ImageUpdater::background`] tells when it has
    /// ended.
    pub async fn patient_pass(
        &self,
        rescan: &Rescan,
        patience: Duration,
        now: Timestamp,
    ) -> PassReport {
        let mut pass = PassState::new(PassMode::Write, rescan, now);
        pass.patience = Some(patience);
        self.background.begin_pass();
        self.finish(pass, now).await
    }

    /// Runs a pass that brings a held version back and changes nothing else. Failures stand in the
    /// report.
    pub async fn release(&self, order: &ReleaseOrder, now: Timestamp) -> PassReport {
        let declared = self.repo.declared();
        let due = declared
            .and_then(|declared| Some(declared.policies.get(&order.version.policy)?.image.clone()));
        let rescan = Rescan::Only {
            due: due.into_iter().collect(),
            backing_off: HashSet::new(),
        };
        let mut pass = PassState::new(PassMode::Write, &rescan, now);
        pass.release = Some(order);
        self.finish(pass, now).await
    }

    /// Runs a pass to its end.
    async fn finish(&self, mut pass: PassState<'_>, now: Timestamp) -> PassReport {
        let mut report = PassReport {
            repository: self.repo.config.name.clone(),
            ..PassReport::default()
        };
        let before = self.scanner.registries.stats();
        self.run(&mut pass, &mut report).await;
        if report.failures.is_empty()
            && let Err(error) = self.repo.compact().await
        {
            report.warnings.push(error.to_string());
        }
        if self.forge.is_some()
            && let Err(error) =
                merged::announce(&self.repo, &self.requests, &self.merged, now).await
        {
            report.warnings.push(error.to_string());
        }
        if pass.release.is_none() {
            // A pass that failed may have left out Environments that are still declared.
            let declared = self.repo.declared();
            self.memory.keep_only(&report.environments, |name| {
                let is_declared = declared
                    .as_ref()
                    .is_none_or(|declared| declared.environments.contains_key(name));
                !report.failures.is_empty() && is_declared
            });
        }
        if pass.release.is_none()
            && let Err(error) = policy_status::record(self, &report, &pass.scans, now).await
        {
            report.warnings.push(error.to_string());
        }
        let confirmed: Confirmed = pass.scans.into_iter().filter_map(confirmed).collect();
        let mut known = self
            .confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match pass.release {
            Some(_) => known.extend(confirmed),
            None => *known = confirmed,
        }
        drop(known);
        add_published(&mut report, pass.pushed, pass.progress);
        let after = self.scanner.registries.stats();
        report.requests.listings = after
            .total(RequestKind::Tags)
            .saturating_sub(before.total(RequestKind::Tags));
        report.requests.heads = after
            .total(RequestKind::Head)
            .saturating_sub(before.total(RequestKind::Head));
        report.requests.registry = after.all().saturating_sub(before.all());
        self.publisher.end();
        report
    }

    /// Repeats rounds until one is done, fails, or loses too many races for the branch.
    async fn run(&self, pass: &mut PassState<'_>, report: &mut PassReport) {
        let mut race = PushRace::default();
        let mut rebuilt = false;
        while !self.ending.load(Ordering::SeqCst) {
            report.requests.ls_refs += 1;
            let step = match self.repo.refresh(&mut report.warnings).await {
                Ok(snapshot) => self.round(&snapshot, pass, report).await,
                Err(error) => Err(error),
            };
            match step {
                Ok(PassStep::Done) => return,
                // Later change sets build on this commit, so the snapshot is read again. Nothing is
                // scanned again.
                Ok(PassStep::Pushed) => race.won(),
                Ok(PassStep::Conflict) => {
                    if !race.retry().await {
                        let remote = self.repo.mirror.remote().shown();
                        report.failures.push(lost_race(remote));
                        return;
                    }
                }
                // The mirror is a cache.
                Err(error @ GitError::Broken { .. }) if !rebuilt => {
                    rebuilt = true;
                    report
                        .warnings
                        .push(format!("{error}; the mirror is cloned again"));
                    *self.history.lock().await = super::HoldHistory::default();
                    if let Err(error) = self.repo.rebuild().await {
                        report.failures.push(FailureReport::new(&error));
                        return;
                    }
                }
                Err(error) => {
                    report.failures.push(FailureReport::new(&error));
                    return;
                }
            }
        }
    }

    /// One round through the pass, from a snapshot to at most one pushed commit.
    ///
    /// Pushed commits are noted in `pass` at once, so that no later failure hides them.
    async fn round(
        &self,
        snapshot: &RepoSnapshot,
        pass: &mut PassState<'_>,
        report: &mut PassReport,
    ) -> Result<PassStep, GitError> {
        report.revision = Some(snapshot.commit.to_string());
        self.observe_head(snapshot, pass.now, report).await;
        if let Some((commit, environment, row)) = pass.unsure.take() {
            let head = snapshot.commit;
            if self
                .repo
                .read(move |mirror| mirror.contains(head, commit))
                .await?
            {
                pass.pushed.entry(environment).or_default().push(row);
            }
        }
        report.environments.clear();
        let (mut scopes, findings) = self.lint(snapshot).await;
        report.findings = findings;
        if let Some(order) = pass.release {
            scopes.retain(|scope| scope.environment.name == order.environment);
            scopes = scopes
                .into_iter()
                .map(|scope| order.narrow(scope))
                .collect();
        }
        if let Some(context) = self.request_context() {
            requests::list::once(context, snapshot, pass, report).await?;
        }
        let scanner = match pass.patience {
            Some(patience) => {
                let policies = scopes.iter().flat_map(|scope| scope.policies.values());
                let wanted: HashSet<_> = policies.map(|usage| &usage.policy.image).collect();
                self.background
                    .retain(|repository| wanted.contains(repository));
                self.scanner.patient(&self.background, patience)
            }
            None => self.scanner.clone(),
        };
        scan::repositories(self, &scanner, &scopes, pass, report).await;
        let inputs = PlanInputs {
            repo: &self.repo,
            scanner: &scanner,
            holds: self.hold_sources(),
            choices: &self.choices,
            memory: &self.memory,
            snapshot,
        };
        let (mut committed, mut proposed) = (Vec::new(), Vec::new());
        for scope in &scopes {
            let prepared = plan::prepare(inputs, scope, pass, report).await?;
            match scope.environment.via {
                WriteMode::Commit => committed.push(prepared),
                WriteMode::PullRequest { .. } => proposed.push(prepared),
            }
        }
        // Pull requests are made on the target as it is after the commits.
        for prepared in committed {
            if let Some(step) = self.commit(snapshot, prepared, pass, report).await? {
                return Ok(step);
            }
        }
        let context = self.request_context();
        requests::reconcile(context, &self.ending, snapshot, proposed, pass, report).await
    }

    /// Commits the change sets of one Environment, or reports why they wait.
    ///
    /// Returns a step where the snapshot must be read again.
    async fn commit(
        &self,
        snapshot: &RepoSnapshot,
        prepared: PreparedEnvironment,
        pass: &mut PassState<'_>,
        report: &mut PassReport,
    ) -> Result<Option<PassStep>, GitError> {
        let PreparedEnvironment {
            report: mut row,
            sets,
            author,
        } = prepared;
        let environment = snapshot.declared.environments.get(&row.name);
        // Without changes there is nothing that could wait for a window.
        let ignores_windows = pass.release.is_some_and(|order| order.ignore_windows);
        let closed = !sets.is_empty()
            && !ignores_windows
            && window_is_closed(environment, pass.clock.now(), &mut row);
        let blocked = closed
            || self.request_context().is_some_and(|context| {
                closed_store::blocks_commits(context, &sets, &mut row, report)
            });
        for set in sets {
            let planned = match self.describe(&set, pass.release).await {
                Ok(planned) => planned,
                Err(failure) => {
                    row.state = EnvironmentState::Failed;
                    report.failures.push(failure);
                    break;
                }
            };
            if blocked || pass.mode == PassMode::Plan {
                if !blocked {
                    row.state = EnvironmentState::Planned;
                }
                row.commits.push(planned);
                continue;
            }
            let pushed = pass.pushed.get(&row.name);
            if pushed.is_some_and(|pushed| pushed.iter().any(|commit| commit.images == set.moves)) {
                let remote = self.repo.mirror.remote().shown();
                report.failures.push(undone(remote, &planned));
                row.state = EnvironmentState::Failed;
                row.commits.push(planned);
                break;
            }
            let person = pass.release.and_then(|order| order.commit.person());
            let text = CommitText {
                message: &planned.message,
                author: person.as_ref().or(author.as_ref()),
                now: pass.now,
            };
            let make = edit_files(set.files.clone())?;
            let published = self.publisher.push(PushTarget::Followed, text, make).await;
            let with_id = |commit: ObjectId, planned| CommitReport {
                id: Some(commit.to_string()),
                ..planned
            };
            let failure = match published {
                Ok(PublishOutcome::Done(commit)) => {
                    let pushed = pass.pushed.entry(row.name).or_default();
                    pushed.push(with_id(commit, planned));
                    return Ok(Some(PassStep::Pushed));
                }
                Ok(PublishOutcome::Unsure(commit)) => {
                    pass.unsure = Some((commit, row.name, with_id(commit, planned)));
                    return Ok(Some(PassStep::Conflict));
                }
                Ok(PublishOutcome::Conflict) => return Ok(Some(PassStep::Conflict)),
                Ok(PublishOutcome::Refused(refusal)) => FailureReport::new(&refusal),
                Err(error @ GitError::Broken { .. }) => return Err(error),
                Err(error) => FailureReport::new(&error),
            };
            row.state = EnvironmentState::Failed;
            report.failures.push(failure);
            row.commits.push(planned);
            break;
        }
        report.environments.push(row);
        Ok(None)
    }

    /// Writes the message of a change set, which a template may make long.
    async fn describe(
        &self,
        set: &Arc<ChangeSet>,
        release: Option<&ReleaseOrder>,
    ) -> Result<CommitReport, FailureReport> {
        let message = CommitMessage::new(self.repo.config.message.clone());
        let (set, release) = (Arc::clone(set), release.cloned());
        blocking(move || {
            let message = message
                .of(&set)
                .map_err(|error| FailureReport::new(&error))?;
            Ok(CommitReport {
                id: None,
                message: match release {
                    Some(order) => order.describe(&message),
                    None => message,
                },
                images: set.moves.clone(),
                files: set.files.clone(),
            })
        })
        .await
    }
}

/// Adds to the report what was pushed, merged and closed, also where a failure ended the pass
/// before the rows of the Environments were complete.
fn add_published(
    report: &mut PassReport,
    mut pushed: BTreeMap<String, Vec<CommitReport>>,
    progress: RequestProgress,
) {
    for name in pushed.keys() {
        if !report.environments.iter().any(|row| row.name == *name) {
            report
                .environments
                .push(EnvironmentReport::new(name, EnvironmentState::Committed));
        }
    }
    for (name, request) in progress.ended {
        requests::add_rows(report, &name, vec![request]);
    }
    report
        .environments
        .sort_by(|left, right| left.name.cmp(&right.name));
    for row in &mut report.environments {
        if let Some(mut commits) = pushed.remove(&row.name) {
            commits.append(&mut row.commits);
            row.commits = commits;
            if matches!(
                row.state,
                EnvironmentState::UpToDate | EnvironmentState::Unknown
            ) {
                row.state = EnvironmentState::Committed;
            }
        }
    }
}
