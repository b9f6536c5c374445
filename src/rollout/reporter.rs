//! What is reported about each pull request, and when.

use super::{
    ReportTiming, RolloutSource, RolloutTarget, StageInput, records::ClusterRecords, stage,
};
use crate::{
    core::{error::Classify, name::Name, retry},
    events::{Event, EventFact, EventReason, Recorder},
    io::{
        cluster::ClusterError,
        forge::{CommitStatus, Forge, ForgeError},
        git::GitError,
    },
    reconcile::ApplicationStatus,
    review::rollout::{self, MergedRequest, RolloutStage, RolloutStatus},
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// Statuses by cluster and name.
type Statuses = HashMap<(String, Name), ApplicationStatus>;

/// The number of a pull request, and its merge commit.
type MergeKey = (u64, String);

/// Why a rollout cannot be reported now.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReportTrouble {
    #[error(transparent)]
    Forge(#[from] ForgeError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("a read of the mirror exited unexpectedly: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

impl ReportTrouble {
    fn classified(&self) -> Option<&dyn Classify> {
        match self {
            ReportTrouble::Forge(error) => Some(error),
            ReportTrouble::Git(error) => Some(error),
            ReportTrouble::Cluster(error) => Some(error),
            ReportTrouble::Ended(_) => None,
        }
    }
}

/// When to look again.
#[derive(Debug, Default)]
pub(crate) struct ReportWake {
    pub at: Option<Instant>,
    pub on_status_change: bool,
}

impl ReportWake {
    fn at(&mut self, at: Instant) {
        self.at = Some(self.at.map_or(at, |known| known.min(at)));
    }
}

pub(crate) struct RolloutReporter {
    source: Arc<dyn RolloutSource>,
    pub(super) forge: Arc<dyn Forge>,
    pub(super) events: Recorder,
    timing: ReportTiming,
    started_at: Timestamp,
    reports: BTreeMap<MergeKey, RequestReport>,
    /// Pull requests with nothing left to report.
    done: BTreeSet<MergeKey>,
    /// The back-off of the forge.
    back_off: RetryDelay,
}

/// An exponential back-off.
#[derive(Debug, Default)]
pub(super) struct RetryDelay {
    failures: u32,
    until: Option<Instant>,
}

impl RetryDelay {
    fn begin(&mut self, error: &ReportTrouble, first: Duration) {
        self.failures = self.failures.saturating_add(1);
        let delay = error
            .classified()
            .and_then(Classify::retry_after)
            .unwrap_or_else(|| retry::delay(self.failures, first, first.saturating_mul(60)));
        self.until = Some(Instant::now() + delay);
    }
}

/// The report about one pull request.
pub(super) struct RequestReport {
    pub merged: Arc<MergedRequest>,
    pub first_seen: Instant,
    /// Whether it was merged while this process ran, so that no earlier one reported it.
    pub is_new: bool,
    pub targets: Option<Arc<Vec<RolloutTarget>>>,
    /// The records read so far.
    pub recorded: ClusterRecords,
    /// Final stages, which no later event changes.
    pub final_stages: BTreeMap<RolloutTarget, RolloutStage>,
    /// Failures that stay reported while they are retried.
    pub trouble: BTreeMap<RolloutTarget, RolloutStage>,
    /// The comment known to exist.
    pub text: Option<String>,
    /// The statuses known to exist.
    pub statuses: BTreeMap<String, CommitStatus>,
    pub reported_at: Option<Instant>,
    /// What the token may not write; logged once, and not retried.
    pub muted: MutedForge,
    /// The back-off of mirror and clusters.
    pub back_off: RetryDelay,
}

#[derive(Default)]
pub(super) struct MutedForge {
    pub comment: bool,
    pub statuses: bool,
}

impl RolloutReporter {
    pub(super) fn new(
        source: Arc<dyn RolloutSource>,
        forge: Arc<dyn Forge>,
        timing: ReportTiming,
        events: Recorder,
    ) -> Self {
        Self {
            source,
            forge,
            events,
            timing,
            started_at: Timestamp::now(),
            reports: BTreeMap::new(),
            done: BTreeSet::new(),
            back_off: RetryDelay::default(),
        }
    }

    /// Records an event about a merged pull request.
    pub(super) fn record_event(&self, merged: &MergedRequest, event: Event) {
        let event = event
            .environment(&merged.environment)
            .pull_request(Some(merged.request.number))
            .fact(EventFact::Commit, merged.commit.as_str());
        self.events.record(event);
    }

    /// Adds new pull requests, and forgets those no longer listed.
    pub(super) fn take(&mut self, list: &[MergedRequest], now: Timestamp) {
        let keys: BTreeSet<MergeKey> = list.iter().map(key).collect();
        self.done.retain(|key| keys.contains(key));
        self.reports.retain(|key, _| keys.contains(key));
        for merged in list {
            let key = key(merged);
            if self.done.contains(&key) || self.reports.contains_key(&key) {
                continue;
            }
            if !rollout::is_recent(merged.at, now) {
                self.done.insert(key);
                continue;
            }
            let report = RequestReport {
                merged: Arc::new(merged.clone()),
                first_seen: Instant::now(),
                is_new: merged.at >= self.started_at,
                targets: None,
                recorded: ClusterRecords::default(),
                final_stages: BTreeMap::new(),
                trouble: BTreeMap::new(),
                text: None,
                statuses: BTreeMap::new(),
                reported_at: None,
                muted: MutedForge::default(),
                back_off: RetryDelay::default(),
            };
            self.reports.insert(key, report);
        }
    }

    /// Looks at every pull request once, and sends what is new.
    pub(super) async fn round(&mut self) -> ReportWake {
        let mut wake = ReportWake::default();
        if self.reports.is_empty() {
            return wake;
        }
        if let Some(until) = self.back_off.until.filter(|until| *until > Instant::now()) {
            wake.at(until);
            return wake;
        }
        let statuses = self
            .source
            .statuses()
            .into_iter()
            .map(|status| ((status.cluster.clone(), status.application.clone()), status));
        let statuses: Arc<Statuses> = Arc::new(statuses.collect());
        // Each cluster is read once a round, and only if needed.
        let mut recorded = ClusterRecords::default();
        let mut reports = std::mem::take(&mut self.reports);
        let mut over = Vec::new();
        for (key, report) in &mut reports {
            if let Some(until) = report
                .back_off
                .until
                .filter(|until| *until > Instant::now())
            {
                wake.at(until);
                continue;
            }
            match self
                .update(report, &statuses, &mut recorded, &mut wake)
                .await
            {
                Ok(ended) => {
                    report.back_off = RetryDelay::default();
                    over.extend(ended.then(|| key.clone()));
                }
                Err(error) => {
                    let of_forge = matches!(error, ReportTrouble::Forge(_));
                    let failures = if of_forge {
                        self.back_off.failures
                    } else {
                        report.back_off.failures
                    };
                    if failures == 0 {
                        let hint = error.classified().and_then(Classify::hint);
                        let message = format!(
                            "cannot report the rollout of a merged pull request yet: {error}"
                        );
                        let event = Event::warning(EventReason::RolloutReportFailed, message);
                        self.record_event(&report.merged, event.hint(hint));
                    }
                    if of_forge {
                        // The others share the same forge.
                        self.back_off.begin(&error, self.timing.backoff);
                        self.back_off
                            .until
                            .into_iter()
                            .for_each(|until| wake.at(until));
                        break;
                    }
                    if Instant::now() >= report.end(&self.timing) {
                        let message = "gave up reporting the rollout of a merged pull request";
                        let event = Event::warning(EventReason::RolloutReportFailed, message);
                        self.record_event(&report.merged, event);
                        over.push(key.clone());
                        continue;
                    }
                    report.back_off.begin(&error, self.timing.backoff);
                    report
                        .back_off
                        .until
                        .into_iter()
                        .for_each(|until| wake.at(until));
                }
            }
        }
        self.reports = reports;
        for key in over {
            self.reports.remove(&key);
            self.done.insert(key);
        }
        wake.on_status_change = !self.reports.is_empty();
        wake
    }

    /// Looks at one pull request, and sends what is new; returns whether it is done.
    async fn update(
        &mut self,
        report: &mut RequestReport,
        statuses: &Arc<Statuses>,
        recorded: &mut ClusterRecords,
        wake: &mut ReportWake,
    ) -> Result<bool, ReportTrouble> {
        let now = Instant::now();
        if report.targets.is_none() {
            let (source, merged) = (Arc::clone(&self.source), Arc::clone(&report.merged));
            report.targets = crate::io::try_blocking(move || source.targets(&merged))
                .await??
                .map(Arc::new);
        }
        let end = report.end(&self.timing);
        let Some(targets) = report.targets.clone() else {
            if now >= end {
                let message = "the merge commit of a pull request never reached the branch; its rollout is not reported";
                let event = Event::warning(EventReason::RolloutReportFailed, message);
                self.record_event(&report.merged, event);
                return Ok(true);
            }
            wake.at(end);
            return Ok(false);
        };
        if targets.is_empty() {
            let message = "the pull request reaches no Application";
            let event = Event::debug(EventReason::RolloutEmpty, message);
            self.record_event(&report.merged, event);
            return Ok(true);
        }
        let mut reached = self.stages(report, &targets, statuses, recorded).await?;
        if now >= end {
            for one in reached
                .iter_mut()
                .filter(|one| one.stage.is_open() && one.stage != RolloutStage::Suspended)
            {
                let last = match &one.stage {
                    RolloutStage::Waiting(why) | RolloutStage::Progressing(why) => why.clone(),
                    _ => String::new(),
                };
                one.stage = RolloutStage::GivenUp {
                    after: end.duration_since(report.first_seen),
                    last,
                };
            }
        } else {
            wake.at(end);
        }
        let open = reached.iter().any(|one| one.stage.is_open());
        let over = now >= end || reached.iter().all(|one| one.stage.is_last());
        // A report of an earlier process is found again once the stages are clear; until then it
        // stays.
        let (grace, pace) = (
            report.first_seen + self.timing.grace,
            report
                .reported_at
                .map(|reported_at| reported_at + self.timing.pace),
        );
        let quiet = match report.reported_at {
            None => (!report.is_new).then_some(grace),
            Some(_) => pace,
        };
        if let Some(until) = quiet.filter(|until| open && !over && now < *until) {
            wake.at(until);
            return Ok(false);
        }
        self.send(report, &reached).await?;
        self.back_off = RetryDelay::default();
        Ok(over)
    }

    /// Returns the stages of all targets.
    async fn stages(
        &self,
        report: &mut RequestReport,
        targets: &Arc<Vec<RolloutTarget>>,
        statuses: &Arc<Statuses>,
        recorded: &mut ClusterRecords,
    ) -> Result<Vec<RolloutStatus>, ReportTrouble> {
        // After a restart, the records know the rollouts in between.
        if !report.is_new && report.reported_at.is_none() {
            for target in targets
                .iter()
                .filter(|target| !report.recorded.has(&target.cluster))
                .collect::<Vec<_>>()
            {
                let known = recorded.read(&*self.source, &target.cluster).await?;
                report
                    .recorded
                    .clusters
                    .insert(target.cluster.clone(), known);
            }
        }
        let mut stages = self.compute_stages(report, targets, statuses).await?;
        // The status has only the newest revision: the record tells whether another one came in
        // between.
        let unsure = |(target, stage): (&RolloutTarget, &RolloutStage)| {
            (matches!(stage, RolloutStage::Superseded { .. })
                && !report.final_stages.contains_key(target))
            .then(|| target.cluster.clone())
        };
        let clusters: BTreeSet<String> = targets.iter().zip(&stages).filter_map(unsure).collect();
        if !clusters.is_empty() {
            for cluster in clusters {
                let known = recorded.read(&*self.source, &cluster).await?;
                report.recorded.clusters.insert(cluster, known);
            }
            stages = self.compute_stages(report, targets, statuses).await?;
        }
        let mut reached = Vec::new();
        for (target, mut stage) in targets.iter().zip(stages) {
            if stage.is_last() {
                report.final_stages.insert(target.clone(), stage.clone());
            }
            match (&stage, report.trouble.get(target)) {
                (RolloutStage::Failed(_), _) => {
                    drop(report.trouble.insert(target.clone(), stage.clone()))
                }
                (RolloutStage::Applying | RolloutStage::Waiting(_), Some(trouble)) => {
                    stage = trouble.clone()
                }
                _ => drop(report.trouble.remove(target)),
            }
            reached.push(RolloutStatus {
                application: target.application.clone(),
                cluster: target.cluster.clone(),
                stage,
            });
        }
        Ok(reached)
    }

    async fn compute_stages(
        &self,
        report: &RequestReport,
        targets: &Arc<Vec<RolloutTarget>>,
        statuses: &Arc<Statuses>,
    ) -> Result<Vec<RolloutStage>, ReportTrouble> {
        let (source, merged, statuses, targets) = (
            Arc::clone(&self.source),
            Arc::clone(&report.merged),
            Arc::clone(statuses),
            Arc::clone(targets),
        );
        let (final_stages, recorded) = (report.final_stages.clone(), report.recorded.clone());
        let compute = move || {
            let one = |target: &RolloutTarget| {
                if let Some(stage) = final_stages.get(target) {
                    return Ok(stage.clone());
                }
                let status = statuses.get(&(target.cluster.clone(), target.application.clone()));
                let rollouts = recorded.rollouts(target, status);
                stage(
                    &StageInput {
                        merged: merged.at,
                        status,
                        rollouts: &rollouts,
                    },
                    |revision| source.relation(&merged, target, revision),
                )
            };
            targets
                .iter()
                .map(one)
                .collect::<Result<Vec<RolloutStage>, GitError>>()
        };
        Ok(crate::io::try_blocking(compute).await??)
    }
}

impl RequestReport {
    /// Returns when the report is given up.
    fn end(&self, timing: &ReportTiming) -> Instant {
        let longest = self
            .targets
            .iter()
            .flat_map(|targets| targets.iter())
            .map(|target| target.timeout)
            .max();
        self.first_seen + longest.unwrap_or_default() + timing.bound
    }
}

fn key(merged: &MergedRequest) -> MergeKey {
    (merged.request.number, merged.commit.clone())
}
