//! What is said of each request, and when.

use super::{ReportTiming, RolloutSource, RolloutTarget, StageInput, stage};
use crate::{
    core::{error::Classify, name::Name},
    io::{
        cluster::ClusterError,
        forge::{CommentOutcome, CommitStatus, Forge, ForgeError, ForgeProblem},
        git::GitError,
    },
    objects::plan::Rollout,
    reconcile::ApplicationStatus,
    review::rollout::{self, MARKER, MergedRequest, RolloutStage, RolloutStatus},
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// How the Applications are, by cluster and name.
type Statuses = HashMap<(String, Name), ApplicationStatus>;

/// Which request, and the commit of its merge.
type MergeKey = (u64, String);

/// Why something cannot be told now.
#[derive(Debug, thiserror::Error)]
enum ReportTrouble {
    #[error(transparent)]
    Forge(#[from] ForgeError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("a look at the mirror ended unasked: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

impl ReportTrouble {
    fn fault(&self) -> Option<&dyn Classify> {
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
    pub on_turns: bool,
}

impl ReportWake {
    fn at(&mut self, at: Instant) {
        self.at = Some(self.at.map_or(at, |known| known.min(at)));
    }
}

pub(crate) struct RolloutReporter {
    ground: Arc<dyn RolloutSource>,
    forge: Arc<dyn Forge>,
    timing: ReportTiming,
    began: Timestamp,
    talks: BTreeMap<MergeKey, RequestReport>,
    /// Those of the list that nothing more is said of.
    done: BTreeSet<MergeKey>,
    /// The forge is not asked before that.
    rest: RetryDelay,
}

/// A wait after trouble.
#[derive(Debug, Default)]
struct RetryDelay {
    times: u32,
    until: Option<Instant>,
}

impl RetryDelay {
    fn begin(&mut self, error: &ReportTrouble, backoff: Duration) {
        let doubled = backoff
            .saturating_mul(1 << self.times.min(6))
            .min(backoff.saturating_mul(60));
        self.times = self.times.saturating_add(1);
        self.until = Some(
            Instant::now()
                + error
                    .fault()
                    .and_then(Classify::retry_after)
                    .unwrap_or(doubled),
        );
    }
}

/// One request.
struct RequestReport {
    merged: Arc<MergedRequest>,
    heard: Instant,
    /// Whether it was merged while this task ran, so that nobody has told anything yet.
    fresh: bool,
    targets: Option<Arc<Vec<RolloutTarget>>>,
    /// What clusters had recorded when they were asked.
    recorded: ClusterRecords,
    /// Results that stay, whatever happens later.
    last: BTreeMap<RolloutTarget, RolloutStage>,
    /// Trouble that stays told while it is only tried again.
    trouble: BTreeMap<RolloutTarget, RolloutStage>,
    /// The comment's text, once it is known to stand there.
    text: Option<String>,
    /// The statuses that are known to stand there.
    statuses: BTreeMap<String, CommitStatus>,
    told: Option<Instant>,
    /// What the token may not do; it was said, and is not tried again.
    mute: MutedForge,
    /// Mirror and clusters are not asked before that.
    rest: RetryDelay,
}

#[derive(Default)]
struct MutedForge {
    comment: bool,
    statuses: bool,
}

impl RolloutReporter {
    pub fn new(
        ground: Arc<dyn RolloutSource>,
        forge: Arc<dyn Forge>,
        timing: ReportTiming,
    ) -> Self {
        Self {
            ground,
            forge,
            timing,
            began: Timestamp::now(),
            talks: BTreeMap::new(),
            done: BTreeSet::new(),
            rest: RetryDelay::default(),
        }
    }

    /// Takes up what is new in the list, and forgets what is not in it any more.
    pub fn take(&mut self, list: &[MergedRequest], now: Timestamp) {
        let keys: BTreeSet<MergeKey> = list.iter().map(key).collect();
        self.done.retain(|key| keys.contains(key));
        self.talks.retain(|key, _| keys.contains(key));
        for merged in list {
            let key = key(merged);
            if self.done.contains(&key) || self.talks.contains_key(&key) {
                continue;
            }
            if !rollout::is_recent(merged.at, now) {
                self.done.insert(key);
                continue;
            }
            let talk = RequestReport {
                merged: Arc::new(merged.clone()),
                heard: Instant::now(),
                fresh: merged.at >= self.began,
                targets: None,
                recorded: ClusterRecords::default(),
                last: BTreeMap::new(),
                trouble: BTreeMap::new(),
                text: None,
                statuses: BTreeMap::new(),
                told: None,
                mute: MutedForge::default(),
                rest: RetryDelay::default(),
            };
            self.talks.insert(key, talk);
        }
    }

    /// Looks at every request once, and sends what is not said yet.
    pub async fn round(&mut self) -> ReportWake {
        let mut wake = ReportWake::default();
        if self.talks.is_empty() {
            return wake;
        }
        if let Some(until) = self.rest.until.filter(|until| *until > Instant::now()) {
            wake.at(until);
            return wake;
        }
        let statuses = self
            .ground
            .statuses()
            .into_iter()
            .map(|status| ((status.cluster.clone(), status.application.clone()), status));
        let statuses: Arc<Statuses> = Arc::new(statuses.collect());
        // Each cluster is asked once a round, and only if somebody needs it.
        let mut recorded = ClusterRecords::default();
        let mut talks = std::mem::take(&mut self.talks);
        let mut over = Vec::new();
        for (key, talk) in &mut talks {
            if let Some(until) = talk.rest.until.filter(|until| *until > Instant::now()) {
                wake.at(until);
                continue;
            }
            match self.tell(talk, &statuses, &mut recorded, &mut wake).await {
                Ok(ended) => {
                    talk.rest = RetryDelay::default();
                    over.extend(ended.then(|| key.clone()));
                }
                Err(error) => {
                    let of_forge = matches!(error, ReportTrouble::Forge(_));
                    let times = if of_forge {
                        self.rest.times
                    } else {
                        talk.rest.times
                    };
                    if times == 0 {
                        let hint = error.fault().and_then(Classify::hint);
                        warn!(
                            request = talk.merged.request.number,
                            hint, "the rollout of a merged request cannot be told yet: {error}"
                        );
                    }
                    if of_forge {
                        // The others have the same forge before them.
                        self.rest.begin(&error, self.timing.backoff);
                        self.rest.until.into_iter().for_each(|until| wake.at(until));
                        break;
                    }
                    if Instant::now() >= talk.end(&self.timing) {
                        warn!(
                            request = talk.merged.request.number,
                            "its rollout is not told"
                        );
                        over.push(key.clone());
                        continue;
                    }
                    talk.rest.begin(&error, self.timing.backoff);
                    talk.rest.until.into_iter().for_each(|until| wake.at(until));
                }
            }
        }
        self.talks = talks;
        for key in over {
            self.talks.remove(&key);
            self.done.insert(key);
        }
        wake.on_turns = !self.talks.is_empty();
        wake
    }

    /// Looks at one request, and sends what is not said yet; whether nothing more follows.
    async fn tell(
        &mut self,
        talk: &mut RequestReport,
        statuses: &Arc<Statuses>,
        recorded: &mut ClusterRecords,
        wake: &mut ReportWake,
    ) -> Result<bool, ReportTrouble> {
        let now = Instant::now();
        if talk.targets.is_none() {
            let (ground, merged) = (Arc::clone(&self.ground), Arc::clone(&talk.merged));
            talk.targets = tokio::task::spawn_blocking(move || ground.reached(&merged))
                .await??
                .map(Arc::new);
        }
        let end = talk.end(&self.timing);
        let Some(targets) = talk.targets.clone() else {
            if now >= end {
                let (number, commit) = (talk.merged.request.number, &talk.merged.commit);
                warn!(
                    request = number,
                    commit,
                    "the commit that merged a request never came to the branch; its rollout is not told"
                );
                return Ok(true);
            }
            wake.at(end);
            return Ok(false);
        };
        if targets.is_empty() {
            debug!(
                request = talk.merged.request.number,
                "it reaches no Application"
            );
            return Ok(true);
        }
        let mut reached = self.stages(talk, &targets, statuses, recorded).await?;
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
                    after: end.duration_since(talk.heard),
                    last,
                };
            }
        } else {
            wake.at(end);
        }
        let open = reached.iter().any(|one| one.stage.is_open());
        let over = now >= end || reached.iter().all(|one| one.stage.is_last());
        // What was told by an earlier process is found again as soon as it is clear; until then it
        // stays as it stands.
        let (grace, pace) = (
            talk.heard + self.timing.grace,
            talk.told.map(|told| told + self.timing.pace),
        );
        let quiet = match talk.told {
            None => (!talk.fresh).then_some(grace),
            Some(_) => pace,
        };
        if let Some(until) = quiet.filter(|until| open && !over && now < *until) {
            wake.at(until);
            return Ok(false);
        }
        self.send(talk, &reached).await?;
        self.rest = RetryDelay::default();
        Ok(over)
    }

    /// How far each Application has come.
    async fn stages(
        &self,
        talk: &mut RequestReport,
        targets: &Arc<Vec<RolloutTarget>>,
        statuses: &Arc<Statuses>,
        recorded: &mut ClusterRecords,
    ) -> Result<Vec<RolloutStatus>, ReportTrouble> {
        // After a restart the clusters know what became of the revisions in between.
        if !talk.fresh && talk.told.is_none() {
            for target in targets
                .iter()
                .filter(|target| !talk.recorded.has(&target.cluster))
                .collect::<Vec<_>>()
            {
                let known = recorded.ask(&*self.ground, &target.cluster).await?;
                talk.recorded.clusters.insert(target.cluster.clone(), known);
            }
        }
        let mut stages = self.look(talk, targets, statuses).await?;
        // Only the newest revision is at hand: whether another one has really come in between is
        // asked before it is said.
        let unsure = |(target, stage): (&RolloutTarget, &RolloutStage)| {
            (matches!(stage, RolloutStage::Superseded { .. }) && !talk.last.contains_key(target))
                .then(|| target.cluster.clone())
        };
        let clusters: BTreeSet<String> = targets.iter().zip(&stages).filter_map(unsure).collect();
        if !clusters.is_empty() {
            for cluster in clusters {
                let known = recorded.ask(&*self.ground, &cluster).await?;
                talk.recorded.clusters.insert(cluster, known);
            }
            stages = self.look(talk, targets, statuses).await?;
        }
        let mut reached = Vec::new();
        for (target, mut stage) in targets.iter().zip(stages) {
            if stage.is_last() {
                talk.last.insert(target.clone(), stage.clone());
            }
            match (&stage, talk.trouble.get(target)) {
                (RolloutStage::Failed(_), _) => {
                    drop(talk.trouble.insert(target.clone(), stage.clone()))
                }
                (RolloutStage::Applying | RolloutStage::Waiting(_), Some(trouble)) => {
                    stage = trouble.clone()
                }
                _ => drop(talk.trouble.remove(target)),
            }
            reached.push(RolloutStatus {
                application: target.application.clone(),
                cluster: target.cluster.clone(),
                stage,
            });
        }
        Ok(reached)
    }

    async fn look(
        &self,
        talk: &RequestReport,
        targets: &Arc<Vec<RolloutTarget>>,
        statuses: &Arc<Statuses>,
    ) -> Result<Vec<RolloutStage>, ReportTrouble> {
        let (ground, merged, statuses, targets) = (
            Arc::clone(&self.ground),
            Arc::clone(&talk.merged),
            Arc::clone(statuses),
            Arc::clone(targets),
        );
        let (last, recorded) = (talk.last.clone(), talk.recorded.clone());
        let look = move || {
            let one = |target: &RolloutTarget| {
                if let Some(stage) = last.get(target) {
                    return Ok(stage.clone());
                }
                let status = statuses.get(&(target.cluster.clone(), target.application.clone()));
                let rollouts = recorded.of(target, status);
                stage(
                    &StageInput {
                        merged: merged.at,
                        status,
                        rollouts: &rollouts,
                    },
                    |revision| ground.relation(&merged, target, revision),
                )
            };
            targets
                .iter()
                .map(one)
                .collect::<Result<Vec<RolloutStage>, GitError>>()
        };
        Ok(tokio::task::spawn_blocking(look).await??)
    }

    /// Sends what is not said yet: the statuses, then the comment, which seals them. The first time
    /// the comment goes first: if it stands there already, an earlier process has said everything.
    async fn send(
        &self,
        talk: &mut RequestReport,
        reached: &[RolloutStatus],
    ) -> Result<(), ReportTrouble> {
        let merged = Arc::clone(&talk.merged);
        let number = merged.request.number;
        let statuses = rollout::statuses(&merged, reached);
        let text = rollout::comment(&merged, reached, self.forge.limits().comment, |commit| {
            self.forge.commit_url(commit)
        });
        let mut said = false;
        if talk.text.is_none() && !talk.mute.comment {
            let commented = self.comment(talk, &text).await?;
            if commented == Some(CommentOutcome::Same) {
                talk.statuses = statuses
                    .iter()
                    .map(|status| (status.context.clone(), status.clone()))
                    .collect();
            }
            said |= commented.is_some_and(|commented| commented != CommentOutcome::Same);
        }
        for status in &statuses {
            if talk.mute.statuses || talk.statuses.get(&status.context) == Some(status) {
                continue;
            }
            match self.forge.set_status(&merged.commit, status).await {
                Ok(()) => {
                    talk.statuses.insert(status.context.clone(), status.clone());
                    said = true;
                }
                Err(error) if is_final(&error) => {
                    warn!(
                        request = number,
                        hint = error.hint(),
                        "rollouts are not told as commit statuses: {error}"
                    );
                    talk.mute.statuses = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if talk.text.as_ref() != Some(&text) && !talk.mute.comment {
            said |= self
                .comment(talk, &text)
                .await?
                .is_some_and(|commented| commented != CommentOutcome::Same);
        }
        talk.told = Some(Instant::now());
        if said {
            info!(
                request = number,
                commit = merged.commit,
                "told how its rollout goes"
            );
        }
        Ok(())
    }

    /// Writes the comment; nothing if the token may not.
    async fn comment(
        &self,
        talk: &mut RequestReport,
        text: &str,
    ) -> Result<Option<CommentOutcome>, ReportTrouble> {
        match self.forge.comment(&talk.merged.request, MARKER, text).await {
            Ok(commented) => {
                talk.text = Some(text.to_owned());
                Ok(Some(commented))
            }
            Err(error) if is_final(&error) => {
                warn!(
                    request = talk.merged.request.number,
                    hint = error.hint(),
                    "rollouts are not told in the request: {error}"
                );
                talk.mute.comment = true;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl RequestReport {
    /// When nobody looks any more.
    fn end(&self, timing: &ReportTiming) -> Instant {
        let longest = self
            .targets
            .iter()
            .flat_map(|targets| targets.iter())
            .map(|target| target.timeout)
            .max();
        self.heard + longest.unwrap_or_default() + timing.bound
    }
}

/// Whether trying again does not help: the token may not, the thing is gone, or the forge does not
/// want it.
fn is_final(error: &ForgeError) -> bool {
    matches!(
        error.problem,
        ForgeProblem::Forbidden { .. }
            | ForgeProblem::NotFound { .. }
            | ForgeProblem::Refused { .. }
            | ForgeProblem::Unsupported(_)
            | ForgeProblem::Setup(_)
    )
}

fn key(merged: &MergedRequest) -> MergeKey {
    (merged.request.number, merged.commit.clone())
}

/// What clusters have recorded, as far as they were asked in this round.
#[derive(Debug, Clone, Default)]
struct ClusterRecords {
    clusters: BTreeMap<String, Arc<HashMap<Name, Vec<Rollout>>>>,
}

impl ClusterRecords {
    fn has(&self, cluster: &str) -> bool {
        self.clusters.contains_key(cluster)
    }

    /// What a cluster has recorded; it is asked once.
    async fn ask(
        &mut self,
        ground: &dyn RolloutSource,
        cluster: &str,
    ) -> Result<Arc<HashMap<Name, Vec<Rollout>>>, ClusterError> {
        if let Some(known) = self.clusters.get(cluster) {
            return Ok(Arc::clone(known));
        }
        let rollouts = Arc::new(ground.rollouts(cluster).await?);
        self.clusters
            .insert(cluster.to_owned(), Arc::clone(&rollouts));
        Ok(rollouts)
    }

    /// The rollouts of an Application, the newest first: the status has the newest before it is
    /// recorded.
    fn of(&self, target: &RolloutTarget, status: Option<&ApplicationStatus>) -> Vec<Rollout> {
        let recorded = self
            .clusters
            .get(&target.cluster)
            .and_then(|rollouts| rollouts.get(&target.application));
        let mut all = recorded.cloned().unwrap_or_default();
        if let Some(newest) = status.and_then(|status| status.rollout.as_ref()) {
            match all
                .iter_mut()
                .find(|rollout| rollout.revision == newest.revision)
            {
                Some(known) => known.clone_from(newest),
                None => all.insert(0, newest.clone()),
            }
        }
        all
    }
}
