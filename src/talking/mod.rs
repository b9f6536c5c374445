//! Talking back: what became of merged requests on the clusters, as commit statuses and in the requests themselves.
//!
//! ```text
//! merged requests ─▶ Applications reached ─▶ stage (pure) ─▶ words (publish::rollout) ─▶ forge
//!                            ▲ turns of the reconciler
//! ```
//!
//! A task that sleeps until a request was merged; from then on it looks whenever some Application has turned, and sends
//! what is not said yet. It ends with a request when its result is there, or when its time is over. What it has said is
//! found again after a restart by the comment: who finds it as it should be has nothing to send.

mod fleet;
mod stage;

pub use fleet::Fleet;
pub use stage::{Known, Relation, stage};

use crate::{
    cluster::ClusterError,
    error::{Fault, Kind},
    forge::{Commented, Forge, ForgeError, Status as CommitStatus},
    git::GitError,
    name::Name,
    plan::Rollout,
    publish::rollout::{self, MARKER, Merged, Reached, Stage},
    reconcile::Status,
};
use async_trait::async_trait;
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Requests merged longer ago than this are not told any more, as after a long time without a daemon.
pub const OLDEST: Duration = Duration::from_secs(24 * 3600);

/// How long things may take.
#[derive(Debug, Clone)]
pub struct Timing {
    /// After a turn, how long further turns are waited for: a thousand Applications turn within seconds.
    pub gather: Duration,
    /// The least time between two words about one request while it is on its way. Its result is told at once.
    pub pace: Duration,
    /// How long what was merged before this task began may be unclear before anything is said: it was told before, as a
    /// rule, and is only found again.
    pub grace: Duration,
    /// After an Application's own timeout, how much longer its result is waited for.
    pub bound: Duration,
    /// The wait after trouble, doubled each time up to sixty times as long.
    pub backoff: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            gather: Duration::from_millis(500),
            pace: Duration::from_secs(15),
            grace: Duration::from_secs(60),
            bound: Duration::from_secs(30 * 60),
            backoff: Duration::from_secs(10),
        }
    }
}

/// An Application that a request reaches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The cluster.
    pub cluster: String,
    /// Its name.
    pub application: Name,
    /// How long it may take.
    pub timeout: Duration,
}

/// What the task knows the world by: a repository's mirror and the clusters. Everything but [`Ground::rollouts`] may block.
#[async_trait]
pub trait Ground: Send + Sync + 'static {
    /// How the Applications of the repository are.
    fn statuses(&self) -> Vec<Status>;

    /// Tells of each turn of some status.
    fn turns(&self) -> watch::Receiver<u64>;

    /// The Applications that a request reaches; nothing while the commit that merged it has not been read.
    ///
    /// # Errors
    /// If the mirror cannot be read.
    fn reached(&self, merged: &Merged) -> Result<Option<Vec<Target>>, GitError>;

    /// How a revision relates to the commit that merged a request.
    ///
    /// # Errors
    /// If the mirror cannot be read.
    fn relation(&self, merged: &Merged, target: &Target, revision: &str) -> Result<Relation, GitError>;

    /// What became of the last revisions of all Applications on a cluster, the newest first.
    ///
    /// # Errors
    /// If the cluster cannot be asked.
    async fn rollouts(&self, cluster: &str) -> Result<HashMap<Name, Vec<Rollout>>, ClusterError>;
}

/// Why something cannot be told now.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Forge(#[from] ForgeError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("a look at the mirror ended unasked: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

impl Trouble {
    fn fault(&self) -> Option<&dyn Fault> {
        match self {
            Trouble::Forge(error) => Some(error),
            Trouble::Git(error) => Some(error),
            Trouble::Cluster(error) => Some(error),
            Trouble::Ended(_) => None,
        }
    }
}

/// Which request, and the commit of its merge.
type Key = (u64, String);

/// Tells of the merged requests of one repository until it is stopped. It may be dropped at any point.
///
/// `merged` holds those of the last [`OLDEST`]; what was told already may stay in it.
pub async fn talk(
    ground: Arc<dyn Ground>,
    forge: Arc<dyn Forge>,
    mut merged: watch::Receiver<Arc<[Merged]>>,
    timing: Timing,
    stop: CancellationToken,
) {
    let mut turns = ground.turns();
    let mut teller = Teller { ground, forge, timing, began: Timestamp::now(), talks: BTreeMap::new(), done: BTreeSet::new(), trouble: 0 };
    loop {
        let list = Arc::clone(&merged.borrow_and_update());
        teller.take(&list, Timestamp::now());
        turns.mark_unchanged();
        let wake = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            wake = teller.round() => wake,
        };
        let gather = teller.timing.gather;
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = merged.changed() => if changed.is_err() { return },
            // While nobody waits for a result, no turn wakes.
            turned = turns.changed(), if wake.on_turns => match turned {
                Ok(()) => tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(gather) => {}
                },
                Err(_) => return,
            },
            () = sleep_until(wake.at) => {}
        }
    }
}

/// When to look again.
#[derive(Debug, Default)]
struct Wake {
    at: Option<Instant>,
    on_turns: bool,
}

impl Wake {
    fn at(&mut self, at: Instant) {
        self.at = Some(self.at.map_or(at, |known| known.min(at)));
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

struct Teller {
    ground: Arc<dyn Ground>,
    forge: Arc<dyn Forge>,
    timing: Timing,
    began: Timestamp,
    talks: BTreeMap<Key, Talk>,
    /// Those of the list that nothing more is said of.
    done: BTreeSet<Key>,
    /// How often in a row something could not be told.
    trouble: u32,
}

/// One request.
struct Talk {
    merged: Arc<Merged>,
    heard: Instant,
    /// Whether it was merged while this task ran, so that nobody has told anything yet.
    fresh: bool,
    targets: Option<Arc<Vec<Target>>>,
    /// Results that stay, whatever happens later.
    last: BTreeMap<Target, Stage>,
    /// The comment's text, once it is known to stand there.
    text: Option<String>,
    statuses: BTreeMap<String, CommitStatus>,
    told: Option<Instant>,
    /// What the token may not do; it was said, and is not tried again.
    mute: Mute,
}

#[derive(Default)]
struct Mute {
    comment: bool,
    statuses: bool,
}

impl Teller {
    /// Takes up what is new in the list, and forgets what is not in it any more.
    fn take(&mut self, list: &[Merged], now: Timestamp) {
        let keys: BTreeSet<Key> = list.iter().map(key).collect();
        self.done.retain(|key| keys.contains(key));
        self.talks.retain(|key, _| keys.contains(key));
        for merged in list {
            let key = key(merged);
            if self.done.contains(&key) || self.talks.contains_key(&key) {
                continue;
            }
            if now.duration_since(merged.at).unsigned_abs() > OLDEST && merged.at < now {
                self.done.insert(key);
                continue;
            }
            let talk = Talk {
                merged: Arc::new(merged.clone()),
                heard: Instant::now(),
                fresh: merged.at >= self.began,
                targets: None,
                last: BTreeMap::new(),
                text: None,
                statuses: BTreeMap::new(),
                told: None,
                mute: Mute::default(),
            };
            self.talks.insert(key, talk);
        }
    }

    /// Looks at every request once, and sends what is not said yet.
    async fn round(&mut self) -> Wake {
        let mut wake = Wake::default();
        if self.talks.is_empty() {
            return wake;
        }
        let statuses: HashMap<(String, Name), Status> =
            self.ground.statuses().into_iter().map(|status| ((status.cluster.clone(), status.application.clone()), status)).collect();
        let statuses = Arc::new(statuses);
        // Each cluster is asked once a round, and only if somebody needs it.
        let mut recorded = Recorded::default();
        let keys: Vec<Key> = self.talks.keys().cloned().collect();
        for key in keys {
            let Some(mut talk) = self.talks.remove(&key) else { continue };
            match self.tell(&mut talk, &statuses, &mut recorded, &mut wake).await {
                Ok(true) => {
                    self.trouble = 0;
                    self.done.insert(key);
                    continue;
                }
                Ok(false) => self.trouble = 0,
                Err(error) => {
                    let fault = error.fault();
                    if self.trouble == 0 {
                        let hint = fault.and_then(Fault::hint);
                        warn!(request = talk.merged.request.number, hint, "the rollout of a merged request cannot be told yet: {error}");
                    }
                    self.trouble = self.trouble.saturating_add(1);
                    let wait = fault.and_then(Fault::retry_after);
                    let wait = wait.unwrap_or_else(|| {
                        self.timing.backoff.saturating_mul(1 << (self.trouble - 1).min(6)).min(self.timing.backoff * 60)
                    });
                    self.talks.insert(key, talk);
                    // The others have the same forge before them: they wait, too.
                    return Wake { at: Some(Instant::now() + wait), on_turns: false };
                }
            }
            self.talks.insert(key, talk);
        }
        wake.on_turns = !self.talks.is_empty();
        wake
    }

    /// Looks at one request, and sends what is not said yet; whether nothing more follows.
    async fn tell(
        &self,
        talk: &mut Talk,
        statuses: &Arc<HashMap<(String, Name), Status>>,
        recorded: &mut Recorded,
        wake: &mut Wake,
    ) -> Result<bool, Trouble> {
        let now = Instant::now();
        if talk.targets.is_none() {
            let (ground, merged) = (Arc::clone(&self.ground), Arc::clone(&talk.merged));
            talk.targets = tokio::task::spawn_blocking(move || ground.reached(&merged)).await??.map(Arc::new);
        }
        let Some(targets) = talk.targets.clone() else {
            let end = talk.heard + self.timing.bound;
            if now >= end {
                let (number, commit) = (talk.merged.request.number, &talk.merged.commit);
                warn!(request = number, commit, "the commit that merged a request never came to the branch; its rollout is not told");
                return Ok(true);
            }
            wake.at(end);
            return Ok(false);
        };
        if targets.is_empty() {
            debug!(request = talk.merged.request.number, "it reaches no Application");
            return Ok(true);
        }
        let patience = targets.iter().map(|target| target.timeout).max().unwrap_or_default() + self.timing.bound;
        let end = talk.heard + patience;
        let mut reached = self.stages(talk, &targets, statuses, recorded).await?;
        if now >= end {
            for one in reached.iter_mut().filter(|one| one.stage.is_open() && one.stage != Stage::Suspended) {
                let last = match &one.stage {
                    Stage::Waiting(why) | Stage::Progressing(why) => why.clone(),
                    _ => String::new(),
                };
                one.stage = Stage::GivenUp { after: patience, last };
            }
        } else {
            wake.at(end);
        }
        let open = reached.iter().any(|one| one.stage.is_open());
        let over = now >= end || reached.iter().all(|one| one.stage.is_last());
        // What was told by an earlier process is found again as soon as it is clear; until then it stays as it stands.
        let (grace, pace) = (talk.heard + self.timing.grace, talk.told.map(|told| told + self.timing.pace));
        let quiet = match talk.told {
            None => (!talk.fresh).then_some(grace),
            Some(_) => pace,
        };
        if let Some(until) = quiet.filter(|until| open && !over && now < *until) {
            wake.at(until);
            return Ok(false);
        }
        self.send(talk, &reached).await?;
        Ok(over)
    }

    /// How far each Application has come.
    async fn stages(
        &self,
        talk: &mut Talk,
        targets: &Arc<Vec<Target>>,
        statuses: &Arc<HashMap<(String, Name), Status>>,
        recorded: &mut Recorded,
    ) -> Result<Vec<Reached>, Trouble> {
        // After a restart the clusters know what became of the revisions in between.
        if !talk.fresh && talk.told.is_none() {
            for target in targets.iter() {
                recorded.ask(&*self.ground, &target.cluster).await?;
            }
        }
        let mut stages = self.look(talk, targets, statuses, recorded).await?;
        // Only the newest revision is at hand: whether another one has really come in between is asked before it is said.
        let unsure = |(target, stage): (&Target, &Stage)| {
            (matches!(stage, Stage::Superseded { .. }) && !talk.last.contains_key(target)).then(|| target.cluster.clone())
        };
        let clusters: BTreeSet<String> = targets.iter().zip(&stages).filter_map(unsure).collect();
        let mut again = false;
        for cluster in clusters {
            again |= recorded.ask(&*self.ground, &cluster).await?;
        }
        if again {
            stages = self.look(talk, targets, statuses, recorded).await?;
        }
        let mut reached = Vec::new();
        for (target, stage) in targets.iter().zip(stages) {
            if stage.is_last() {
                talk.last.insert(target.clone(), stage.clone());
            }
            reached.push(Reached { application: target.application.clone(), cluster: target.cluster.clone(), stage });
        }
        Ok(reached)
    }

    async fn look(
        &self,
        talk: &Talk,
        targets: &Arc<Vec<Target>>,
        statuses: &Arc<HashMap<(String, Name), Status>>,
        recorded: &Recorded,
    ) -> Result<Vec<Stage>, Trouble> {
        let (ground, merged, statuses, targets) =
            (Arc::clone(&self.ground), Arc::clone(&talk.merged), Arc::clone(statuses), Arc::clone(targets));
        let (last, recorded) = (talk.last.clone(), recorded.clone());
        let look = move || {
            let one = |target: &Target| {
                if let Some(stage) = last.get(target) {
                    return Ok(stage.clone());
                }
                let status = statuses.get(&(target.cluster.clone(), target.application.clone()));
                let rollouts = recorded.of(target, status);
                stage(&Known { merged: merged.at, status, rollouts: &rollouts }, |revision| ground.relation(&merged, target, revision))
            };
            targets.iter().map(one).collect::<Result<Vec<Stage>, GitError>>()
        };
        Ok(tokio::task::spawn_blocking(look).await??)
    }

    /// Sends what is not said yet: the statuses, then the comment, which seals them. The first time the comment goes first:
    /// if it stands there already, an earlier process has said everything.
    async fn send(&self, talk: &mut Talk, reached: &[Reached]) -> Result<(), Trouble> {
        let merged = Arc::clone(&talk.merged);
        let number = merged.request.number;
        let statuses = rollout::statuses(&merged, reached);
        let text = rollout::comment(&merged, reached, self.forge.limits().comment, |commit| self.forge.commit_url(commit));
        let mut said = false;
        if talk.text.is_none() && !talk.mute.comment {
            let commented = self.comment(talk, &text).await?;
            if commented == Some(Commented::Same) {
                talk.statuses = statuses.iter().map(|status| (status.context.clone(), status.clone())).collect();
            }
            said |= commented.is_some_and(|commented| commented != Commented::Same);
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
                Err(error) if error.kind() == Kind::Config => {
                    warn!(request = number, hint = error.hint(), "rollouts are not told as commit statuses: {error}");
                    talk.mute.statuses = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if talk.text.as_ref() != Some(&text) && !talk.mute.comment {
            said |= self.comment(talk, &text).await?.is_some_and(|commented| commented != Commented::Same);
        }
        talk.told = Some(Instant::now());
        if said {
            info!(request = number, commit = merged.commit, "told how its rollout goes");
        }
        Ok(())
    }

    /// Writes the comment; nothing if the token may not.
    async fn comment(&self, talk: &mut Talk, text: &str) -> Result<Option<Commented>, Trouble> {
        match self.forge.comment(&talk.merged.request, MARKER, text).await {
            Ok(commented) => {
                talk.text = Some(text.to_owned());
                Ok(Some(commented))
            }
            Err(error) if error.kind() == Kind::Config => {
                warn!(request = talk.merged.request.number, hint = error.hint(), "rollouts are not told in the request: {error}");
                talk.mute.comment = true;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn key(merged: &Merged) -> Key {
    (merged.request.number, merged.commit.clone())
}

/// What clusters have recorded, as far as they were asked in this round.
#[derive(Debug, Clone, Default)]
struct Recorded {
    clusters: BTreeMap<String, Arc<HashMap<Name, Vec<Rollout>>>>,
}

impl Recorded {
    /// Asks a cluster, if it has not been asked; whether it was.
    async fn ask(&mut self, ground: &dyn Ground, cluster: &str) -> Result<bool, ClusterError> {
        if self.clusters.contains_key(cluster) {
            return Ok(false);
        }
        let rollouts = Arc::new(ground.rollouts(cluster).await?);
        self.clusters.insert(cluster.to_owned(), rollouts);
        Ok(true)
    }

    /// The rollouts of an Application, the newest first: the status has the newest before it is recorded.
    fn of(&self, target: &Target, status: Option<&Status>) -> Vec<Rollout> {
        let recorded = self.clusters.get(&target.cluster).and_then(|rollouts| rollouts.get(&target.application));
        let mut all = recorded.cloned().unwrap_or_default();
        if let Some(newest) = status.and_then(|status| status.rollout.as_ref()) {
            match all.iter_mut().find(|rollout| rollout.revision == newest.revision) {
                Some(known) => known.clone_from(newest),
                None => all.insert(0, newest.clone()),
            }
        }
        all
    }
}
