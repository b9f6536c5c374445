//! The clusters that previews may ask, and opening them: one that cannot be asked says why.

use super::{ClusterPermits, text};
use crate::{
    core::error::Classify as _,
    events::Recorder,
    io::cluster::{ClusterClient, ClusterError, ClusterProblem, Resources},
    reconcile::Reconciler,
    review::PreviewTrouble,
    spec::settings,
};
use futures::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A cluster that can be asked, or the reason why it cannot.
#[derive(Debug)]
pub(super) enum ClusterPermit {
    Open {
        cluster: ClusterClient,
        served: Arc<Resources>,
    },
    Closed {
        why: String,
        trouble: Option<PreviewTrouble>,
    },
}

impl ClusterPermit {
    /// The permit for a cluster that was never looked up.
    pub(super) const UNKNOWN: ClusterPermit = ClusterPermit::Closed {
        why: String::new(),
        trouble: None,
    };
}

/// The time limit of discovery.
const DISCOVERY: Duration = Duration::from_secs(10);

/// The time for which an unresponsive cluster is skipped: one that drops all packets costs each
/// preview its full time limit, and previews run one after the other.
const REST: Duration = Duration::from_secs(60);

/// The clusters of a settings file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PreviewClusters {
    inner: Arc<ClustersInner>,
}

#[derive(Debug, Default)]
struct ClustersInner {
    known: BTreeMap<String, Result<ClusterClient, ClusterError>>,
    /// The reason why no cluster is asked at all.
    none: Option<String>,
    silent: Mutex<UnreachableCluster>,
}

/// Unresponsive clusters: since when, and the error.
#[derive(Debug, Default)]
struct UnreachableCluster(BTreeMap<String, (Instant, String)>);

impl UnreachableCluster {
    fn note(&mut self, name: &str, why: &str, now: Instant) {
        self.0.insert(name.to_owned(), (now, why.to_owned()));
    }

    fn of(&self, name: &str, now: Instant) -> Option<String> {
        let (since, why) = self.0.get(name)?;
        (now.saturating_duration_since(*since) < REST).then(|| why.clone())
    }
}

impl PreviewClusters {
    /// Creates a set in which no cluster is asked, for this reason.
    pub fn none(why: impl Into<String>) -> Self {
        Self::made(ClustersInner {
            none: Some(why.into()),
            ..ClustersInner::default()
        })
    }

    /// Reads the kubeconfigs of the clusters. Sends nothing. `resolve` resolves
    /// paths of `tagboat.yaml`. An unusable kubeconfig is reported by the previews that need it.
    pub async fn open(
        declared: &[settings::ClusterSettings],
        resolve: impl Fn(&Path) -> PathBuf,
        events: &Recorder,
    ) -> Self {
        let mut known = BTreeMap::new();
        for one in declared {
            let cluster = ClusterClient::open(one, &resolve, events).await;
            known.insert(one.name.clone(), cluster);
        }
        Self::of(known)
    }

    /// The clusters that a reconciler has open: connections and budgets are shared.
    pub fn shared(declared: &[settings::ClusterSettings], reconciler: &Reconciler) -> Self {
        let known = declared.iter().filter_map(|one| {
            let cluster = reconciler.cluster(&one.name)?.clone();
            Some((one.name.clone(), Ok(cluster)))
        });
        Self::of(known.collect())
    }

    fn of(known: BTreeMap<String, Result<ClusterClient, ClusterError>>) -> Self {
        let none = known
            .is_empty()
            .then(|| "tagboat.yaml names no clusters".to_owned());
        Self::made(ClustersInner {
            known,
            none,
            ..ClustersInner::default()
        })
    }

    fn made(inner: ClustersInner) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Notes that a cluster did not answer: it is let be for a while.
    pub(super) fn note_silent(&self, name: &str, why: &str) {
        self.inner
            .silent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .note(name, why, Instant::now());
    }

    /// Runs discovery on these clusters concurrently.
    pub(super) async fn doors(&self, names: &BTreeSet<&str>) -> ClusterPermits {
        let mut all: Vec<BoxFuture<'_, (String, ClusterPermit)>> = Vec::new();
        for name in names {
            all.push(async move { ((*name).to_owned(), self.door(name).await) }.boxed());
        }
        join_all(all).await.into_iter().collect()
    }

    async fn door(&self, name: &str) -> ClusterPermit {
        let ClustersInner {
            known,
            none,
            silent,
        } = &*self.inner;
        if let Some(why) = none {
            return ClusterPermit::closed(why.clone());
        }
        let Some(cluster) = known.get(name) else {
            let known: Vec<&str> = known.keys().map(String::as_str).collect();
            return ClusterPermit::closed(text::line(&format!(
                "there is no cluster {name:?} in tagboat.yaml; known are {}",
                known.join(", ")
            )));
        };
        if let Some(why) = silent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .of(name, Instant::now())
        {
            return ClusterPermit::troubled(why);
        }
        let failed = |error: &ClusterError| {
            let hint = error
                .hint()
                .map_or(String::new(), |hint| format!(" ({hint})"));
            let why = text::line(&format!(
                "cluster {name} cannot be asked: {}{hint}",
                error.problem
            ));
            if matches!(*error.problem, ClusterProblem::Unreachable { .. }) {
                self.note_silent(name, &why);
            }
            ClusterPermit::troubled(why)
        };
        let cluster = match cluster {
            Ok(cluster) => cluster,
            Err(error) => return failed(error),
        };
        match tokio::time::timeout(DISCOVERY, cluster.resources()).await {
            Ok(Ok(served)) => ClusterPermit::Open {
                cluster: cluster.clone(),
                served,
            },
            Ok(Err(error)) => failed(&error),
            Err(_) => {
                let why = format!(
                    "cluster {name} cannot be asked: no answer within {} s",
                    DISCOVERY.as_secs()
                );
                self.note_silent(name, &why);
                ClusterPermit::troubled(why)
            }
        }
    }
}

impl ClusterPermit {
    fn closed(why: String) -> Self {
        ClusterPermit::Closed { why, trouble: None }
    }

    fn troubled(why: String) -> Self {
        ClusterPermit::Closed {
            trouble: Some(PreviewTrouble {
                message: why.clone(),
                transient: true,
            }),
            why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preview_skips_silent_cluster_for_a_minute() {
        let (mut silent, start) = (UnreachableCluster::default(), Instant::now());
        silent.note("a", "no answer", start);
        for (name, seconds, expected) in [
            ("a", 0, true),
            ("a", 59, true),
            ("a", 60, false),
            ("b", 0, false),
        ] {
            assert_eq!(
                silent
                    .of(name, start + Duration::from_secs(seconds))
                    .is_some(),
                expected,
                "{name} after {seconds} s"
            );
        }
        silent.note("a", "still none", start + Duration::from_secs(61));
        assert_eq!(
            silent.of("a", start + Duration::from_secs(62)).as_deref(),
            Some("still none")
        );
    }
}
