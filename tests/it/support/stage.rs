//! Clusters with states of the test's choice, for the rollout reporter.

use async_trait::async_trait;
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tagboat::{
    core::name::Name,
    io::{cluster::ClusterError, git::GitError},
    objects::plan::{Rollout, RolloutOutcome},
    reconcile::{ApplicationState, ApplicationStatus},
    review::rollout::MergedRequest,
    rollout::{ReportTiming, RevisionRelation, RolloutSource, RolloutTarget},
};
use tokio::sync::watch;

/// Clusters with states of the test's choice. The names of revisions give their relation to the
/// merge: `b1` before it, `s1` the merge itself, `o1` another one.
pub(crate) struct Stage {
    pub statuses: Mutex<BTreeMap<(String, Name), ApplicationStatus>>,
    pub turned: watch::Sender<u64>,
    rollouts: Mutex<HashMap<(String, Name), Vec<Rollout>>>,
    /// The numbers of queries for statuses and for clusters.
    pub looks: Mutex<(usize, usize)>,
    /// The number of next queries for clusters that fail.
    pub down: Mutex<usize>,
    timeout: Duration,
}

impl Stage {
    pub(crate) fn new(timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            statuses: Mutex::default(),
            turned: watch::Sender::new(0),
            rollouts: Mutex::default(),
            looks: Mutex::default(),
            down: Mutex::default(),
            timeout,
        })
    }

    /// Sets the status of an Application on the cluster `east`.
    pub(crate) fn turn(
        &self,
        application: &str,
        revision: &str,
        state: ApplicationState,
        change: impl FnOnce(&mut ApplicationStatus),
    ) {
        let name: Name = application.parse().unwrap();
        let mut status = ApplicationStatus::new(name.clone(), "fleet", "east");
        (status.revision, status.state, status.observed) = (Some(revision.to_owned()), state, true);
        change(&mut status);
        self.statuses
            .lock()
            .unwrap()
            .insert(("east".to_owned(), name), status);
        self.turned.send_modify(|count| *count += 1);
    }

    pub(crate) fn record(&self, application: &str, rollouts: &[Rollout]) {
        self.rollouts.lock().unwrap().insert(
            ("east".to_owned(), application.parse().unwrap()),
            rollouts.to_vec(),
        );
    }

    pub(crate) fn cluster_queries(&self) -> usize {
        self.looks.lock().unwrap().1
    }
}

#[async_trait]
impl RolloutSource for Stage {
    fn statuses(&self) -> Vec<ApplicationStatus> {
        self.looks.lock().unwrap().0 += 1;
        self.statuses.lock().unwrap().values().cloned().collect()
    }
    fn status_changes(&self) -> watch::Receiver<u64> {
        self.turned.subscribe()
    }
    /// The files of a request name its targets.
    fn targets(&self, merged: &MergedRequest) -> Result<Option<Vec<RolloutTarget>>, GitError> {
        if merged.commit == "unknown" {
            return Ok(None);
        }
        let target = |file: &String| RolloutTarget {
            cluster: "east".to_owned(),
            application: file.parse().unwrap(),
            timeout: self.timeout,
        };
        Ok(Some(merged.files.iter().map(target).collect()))
    }
    fn relation(
        &self,
        _: &MergedRequest,
        _: &RolloutTarget,
        revision: &str,
    ) -> Result<RevisionRelation, GitError> {
        Ok(match &revision[..1] {
            "b" => RevisionRelation::Before,
            "s" => RevisionRelation::Same,
            _ => RevisionRelation::Other,
        })
    }
    async fn rollouts(&self, cluster: &str) -> Result<HashMap<Name, Vec<Rollout>>, ClusterError> {
        self.looks.lock().unwrap().1 += 1;
        let mut down = self.down.lock().unwrap();
        if *down > 0 {
            *down -= 1;
            let problem = tagboat::io::cluster::ClusterProblem::Unreachable {
                server: "east.example.org".to_owned(),
                why: "connection refused".to_owned(),
            };
            return Err(ClusterError {
                cluster: cluster.to_owned(),
                subject: String::new(),
                problem: Box::new(problem),
            });
        }
        let all = self.rollouts.lock().unwrap();
        Ok(all
            .iter()
            .filter(|((at, _), _)| at == cluster)
            .map(|((_, name), rollouts)| (name.clone(), rollouts.clone()))
            .collect())
    }
}

/// Short enough for tests, long enough for a reliable order.
pub(crate) fn timing() -> ReportTiming {
    ReportTiming {
        gather: Duration::from_millis(5),
        pace: Duration::ZERO,
        grace: Duration::from_secs(3600),
        bound: Duration::from_secs(3600),
        backoff: Duration::from_millis(20),
    }
}

pub(crate) async fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < end, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn rollout(
    revision: &str,
    result: RolloutOutcome,
    since: Timestamp,
    message: &str,
) -> Rollout {
    Rollout {
        revision: revision.to_owned(),
        result,
        since,
        message: message.to_owned(),
    }
}
