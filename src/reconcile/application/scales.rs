//! Scales: whether the number of replicas in Git counts, or that of an autoscaler or a person.

use super::{AppReconciler, assess::Assessment};
use crate::{
    objects::{object::ObjectKey, plan::ApplyReason},
    reconcile::{autoscalers::autoscaled, status::DriftedObject},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};
use tokio::time::Instant;

/// The time for which the autoscalers of a namespace count as known. They are asked for only while
/// one has scaled an object to another number than Git says.
const TTL: Duration = Duration::from_secs(30);

/// The autoscalers of the namespaces that were asked.
#[derive(Debug, Default)]
pub(crate) struct ScaleChecks {
    /// The targets of the autoscalers of a namespace.
    targets: HashMap<Option<String>, (Instant, HashSet<ObjectKey>)>,
    /// Objects whose autoscaler is gone: their next apply sets the number in Git.
    unscaled: HashSet<ObjectKey>,
}

impl ScaleChecks {
    /// Forgets the autoscalers, since one of them was deleted.
    pub(crate) fn clear(&mut self) {
        self.targets.clear();
    }

    /// Returns whether the apply of an object sets the number in Git.
    pub(crate) fn take_unscaled(&mut self, key: &ObjectKey) -> bool {
        self.unscaled.remove(key)
    }
}

impl AppReconciler {
    /// Adds objects that an autoscaler has scaled which is gone: the number in Git counts again.
    pub(super) async fn assess_scales(&mut self, assessment: &mut Assessment) {
        for (index, key) in self.autoscaled_objects(assessment) {
            if self.is_autoscaled(&key).await {
                continue;
            }
            let repairs = self
                .target
                .as_ref()
                .is_some_and(|target| target.options.repair);
            if repairs {
                assessment.pending.insert(index, ApplyReason::Drifted);
                self.scales.unscaled.insert(key);
            } else {
                assessment.drifted.push(DriftedObject {
                    object: key.to_string(),
                    fields: Vec::new(),
                    deleted: false,
                    repaired_at: None,
                });
            }
        }
    }

    /// Returns the objects that an autoscaler has set to another number than Git says.
    fn autoscaled_objects(&self, assessment: &Assessment) -> BTreeMap<usize, ObjectKey> {
        let Some(target) = &self.target else {
            return BTreeMap::new();
        };
        let cluster = self.cluster.state();
        let is_scaled = |key: &ObjectKey| {
            let observed = cluster.observed(key);
            let mut released = observed.into_iter().flat_map(|observed| &observed.released);
            released.any(|field| field.is_set_by_autoscaler())
        };
        let desired = target.desired.iter().enumerate();
        desired
            .filter(|(index, one)| {
                !assessment.pending.contains_key(index)
                    && !self.failures.contains_key(&one.key)
                    && is_scaled(&one.key)
            })
            .map(|(index, one)| (index, one.key.clone()))
            .collect()
    }

    /// Returns whether an autoscaler targets an object; also if that cannot be known.
    async fn is_autoscaled(&mut self, key: &ObjectKey) -> bool {
        let now = Instant::now();
        if let Some((asked, targets)) = self.scales.targets.get(&key.namespace)
            && now.duration_since(*asked) < TTL
        {
            return targets.contains(key);
        }
        match autoscaled(&self.cluster.client, key.namespace.as_deref()).await {
            Ok(targets) => {
                let found = targets.contains(key);
                let known = (now, targets);
                self.scales.targets.insert(key.namespace.clone(), known);
                found
            }
            Err(_) => true,
        }
    }
}
