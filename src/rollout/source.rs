//! The rollout source in production: a repository's mirror, its declarations, and the reconciler.

use super::{RevisionRelation, RolloutSource, RolloutTarget};
use crate::{
    core::name::Name,
    io::{
        cluster::ClusterError,
        git::{GitError, Mirror, ObjectId},
        render::{self, RenderSource},
    },
    objects::plan::Rollout,
    reconcile::{ApplicationStatus, Reconciler},
    review::rollout::MergedRequest,
    spec::Application,
    update::RepoSnapshot,
};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// The bound of each cache; a full one is cleared.
const CACHE_SIZE: usize = 10_000;

/// The rollouts of one repository.
pub struct FleetSource {
    repository: String,
    mirror: Arc<Mirror>,
    snapshots: watch::Receiver<Option<RepoSnapshot>>,
    reconciler: Arc<Reconciler>,
    /// By merge, revision and Application. Commits never change, and neither do these.
    relations: Mutex<HashMap<(String, String, Name), RevisionRelation>>,
    /// Whether a revision contains a merge.
    contained: Mutex<HashMap<(String, String), bool>>,
}

impl FleetSource {
    /// Creates the source of a repository, by its name in tagboat.yaml; `snapshots` provides its
    /// revisions.
    pub fn new(
        repository: &str,
        mirror: Arc<Mirror>,
        snapshots: watch::Receiver<Option<RepoSnapshot>>,
        reconciler: Arc<Reconciler>,
    ) -> Self {
        Self {
            repository: repository.to_owned(),
            mirror,
            snapshots,
            reconciler,
            relations: Mutex::default(),
            contained: Mutex::default(),
        }
    }

    fn application(&self, name: &Name) -> Option<Application> {
        self.snapshots
            .borrow()
            .as_ref()?
            .declared
            .applications
            .get(name)
            .cloned()
    }

    /// Returns whether the repository may not use a cluster.
    fn is_closed(&self, cluster: &str) -> bool {
        let snapshot = self.snapshots.borrow();
        let mut rights = snapshot.iter().map(|snapshot| &snapshot.declared.rights);
        rights.any(|rights| rights.cluster_refusal(cluster).is_some())
    }

    fn contains(&self, head: ObjectId, commit: ObjectId) -> Result<bool, GitError> {
        let key = (head.to_string(), commit.to_string());
        if let Some(known) = self
            .contained
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            return Ok(*known);
        }
        let contains = self.mirror.contains(head, commit)?;
        cache(&self.contained, key, contains);
        Ok(contains)
    }

    /// Returns whether everything that an Application renders from is equal at two commits.
    fn renders_same(
        &self,
        application: &Application,
        one: ObjectId,
        other: ObjectId,
    ) -> Result<bool, GitError> {
        let source = RenderSource::from(application);
        let (reads, others) = (
            reads(&self.mirror, one, &source),
            reads(&self.mirror, other, &source),
        );
        if reads != others {
            return Ok(false);
        }
        let (one, other) = (self.mirror.at(one)?, self.mirror.at(other)?);
        for path in &reads {
            let same = match path.as_str() {
                "" => one.tree() == other.tree(),
                path => {
                    one.find(path)?.map(|entry| entry.id) == other.find(path)?.map(|entry| entry.id)
                }
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[async_trait]
impl RolloutSource for FleetSource {
    fn statuses(&self) -> Vec<ApplicationStatus> {
        self.reconciler
            .statuses()
            .into_iter()
            .filter(|status| status.repository == self.repository)
            .collect()
    }

    fn status_changes(&self) -> watch::Receiver<u64> {
        self.reconciler.status_changes()
    }

    fn targets(&self, merged: &MergedRequest) -> Result<Option<Vec<RolloutTarget>>, GitError> {
        let Some(RepoSnapshot {
            commit: head,
            declared,
            ..
        }) = self.snapshots.borrow().clone()
        else {
            return Ok(None);
        };
        // Not a commit id: the forge sent something else, which never reaches the branch.
        let Ok(commit) = merged.commit.parse::<ObjectId>() else {
            return Ok(None);
        };
        if !self.contains(head, commit)? {
            return Ok(None);
        }
        let reached = declared.applications.values().filter(|application| {
            let reads = reads(&self.mirror, commit, &RenderSource::from(*application));
            merged
                .files
                .iter()
                .any(|file| reads.iter().any(|path| is_below(file, path)))
        });
        let target = |application: &Application| RolloutTarget {
            cluster: application.cluster.clone(),
            application: application.name.clone(),
            timeout: application.timeout,
        };
        Ok(Some(reached.map(target).collect()))
    }

    fn relation(
        &self,
        merged: &MergedRequest,
        target: &RolloutTarget,
        revision: &str,
    ) -> Result<RevisionRelation, GitError> {
        let key = (
            merged.commit.clone(),
            revision.to_owned(),
            target.application.clone(),
        );
        if let Some(known) = self
            .relations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            return Ok(*known);
        }
        let (Ok(commit), Ok(head)) = (
            merged.commit.parse::<ObjectId>(),
            revision.parse::<ObjectId>(),
        ) else {
            return Ok(RevisionRelation::Before);
        };
        let relation = match self.application(&target.application) {
            _ if head == commit => RevisionRelation::Same,
            // A fetched revision that is on no branch any more may be gone.
            _ if self.mirror.at(head).is_err() || !self.contains(head, commit)? => {
                RevisionRelation::Before
            }
            Some(application) if self.renders_same(&application, commit, head)? => {
                RevisionRelation::Same
            }
            Some(_) | None => RevisionRelation::Other,
        };
        cache(&self.relations, key, relation);
        Ok(relation)
    }

    async fn rollouts(&self, cluster: &str) -> Result<HashMap<Name, Vec<Rollout>>, ClusterError> {
        if self.is_closed(cluster) {
            return Ok(HashMap::new());
        }
        let recorded = self.reconciler.records(cluster).await?;
        // The history of a namesake is another repository's. A damaged record names no owner.
        let is_ours = |owner: &str| owner.is_empty() || owner == self.repository;
        Ok(recorded
            .into_iter()
            .filter(|(_, recorded)| is_ours(&recorded.inventory.repository))
            .map(|(name, recorded)| (name, recorded.history.0))
            .collect())
    }
}

/// Returns the paths that an Application renders from; its own folder if they cannot be determined.
fn reads(mirror: &Mirror, commit: ObjectId, source: &RenderSource) -> Vec<String> {
    render::reads(mirror, commit, source).unwrap_or_else(|_| vec![source.path.clone()])
}

/// Returns whether a file is `path` or lies below it. Every file lies below the empty path.
fn is_below(file: &str, path: &str) -> bool {
    path.is_empty()
        || file
            .strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn cache<K: std::hash::Hash + Eq, V>(entries: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
    if entries.len() >= CACHE_SIZE {
        entries.clear();
    }
    entries.insert(key, value);
}
