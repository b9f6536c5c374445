//! Prune: deletes owned objects that are no longer desired, when every gate is open.

use super::{
    AppReconciler,
    assess::{Assessment, FailedObject},
    watch_failure,
};
use crate::{
    core::{error::Classify, name::Name},
    events::{Event, EventReason},
    io::cluster::{ClusterError, DeleteRequest, DeleteResult},
    objects::{
        autoscale::AUTOSCALERS,
        health::{self, Health},
        object::{Gvk, ObjectKey},
        plan::{self, Confirmation, ObjectOwner, PrunePlan, PruneTarget},
    },
    reconcile::{cluster_state::ClusterState, diff::ApplyRefusal, status::Message, work::Target},
};
use tokio::time::Instant;

/// The state of a pruned object until the watch shows its deletion.
const BEING_DELETED: &str = "it is being deleted";

#[derive(Debug, Default)]
pub(crate) struct PruneResult {
    /// Objects that stay in the cluster, and other remarks.
    pub notes: Vec<Message>,
    /// What the prune waits for.
    pub waits: Vec<Message>,
    /// Objects that are deleted when the workloads beside them are healthy.
    pub held: Vec<Message>,
    /// Why the user must confirm the deletions first.
    pub confirmation: Option<String>,
    /// Objects that could not be deleted.
    pub failures: Vec<Message>,
    pub wake_at: Option<Instant>,
}

/// The facts that decide whether planned deletions may run.
pub(crate) struct PruneFacts<'a> {
    pub application: &'a Name,
    /// The number of planned deletions.
    pub deletions: usize,
    /// Why the newest revision cannot be read.
    pub unreadable: Option<&'a Message>,
    /// Whether every desired object is applied.
    pub all_applied: bool,
    /// The first unread Application of the same repository, and how many there are.
    pub unread: Option<(Name, usize)>,
    /// An unselected Application of the repository that cannot be read.
    pub unreadable_unselected: Option<(Name, String)>,
    /// What is unread of other repositories.
    pub unread_elsewhere: Option<String>,
    /// Whether the user confirmed these deletions at this revision.
    pub confirmed: bool,
    /// Why the deletions need a confirmation.
    pub confirmation: Option<String>,
}

/// Why a gate is closed, and what follows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum GateClosed {
    /// The prune waits.
    Wait(Message),
    /// Waiting is useless; the message is a remark.
    Skip(Message),
    Confirm(String),
}

/// A condition that keeps a prune from running.
pub(crate) struct PruneGate {
    pub name: &'static str,
    pub closed: fn(&PruneFacts<'_>) -> Option<GateClosed>,
}

/// The gates in the order in which they are reported.
pub(crate) const GATES: [PruneGate; 5] = [
    PruneGate {
        name: "readable",
        closed: |facts| {
            let why = facts.unreadable?;
            Some(GateClosed::Wait(Message::application(format!(
                "nothing is deleted before this revision can be read: {why}"
            ))))
        },
    },
    PruneGate {
        name: "applied",
        closed: |facts| {
            let old = old_objects(facts.deletions);
            (!facts.all_applied).then(|| {
                GateClosed::Wait(Message::application(format!(
                    "{old} deleted when everything else has been applied"
                )))
            })
        },
    },
    // Another Application may declare an object that this one no longer does: a move.
    PruneGate {
        name: "repository",
        closed: |facts| {
            let (first, count) = facts.unread.as_ref()?;
            let old = old_objects(facts.deletions);
            let Some((name, why)) = &facts.unreadable_unselected else {
                return Some(GateClosed::Wait(Message::application(format!(
                    "{old} deleted when {first} has been read, which may declare some of them ({count} still to be read)"
                ))));
            };
            let hint = format!(
                "When {name} can be read, run `tagboat sync {}`, or `tagboat sync --all`.",
                facts.application
            );
            let message = format!(
                "{old} not deleted now: {name} may declare some of them and cannot be read: {why}"
            );
            Some(GateClosed::Skip(
                Message::application(message).with_hint(Some(hint)),
            ))
        },
    },
    PruneGate {
        name: "other-repositories",
        closed: |facts| {
            let unread = facts.unread_elsewhere.as_ref()?;
            let old = old_objects(facts.deletions);
            let hint = format!(
                "If it cannot declare them, run `tagboat sync {} --confirm-prune`.",
                facts.application
            );
            let message = format!(
                "{old} deleted when {unread} has been read, which may declare some of them"
            );
            (!facts.confirmed)
                .then(|| GateClosed::Wait(Message::application(message).with_hint(Some(hint))))
        },
    },
    PruneGate {
        name: "confirmation",
        closed: |facts| facts.confirmation.clone().map(GateClosed::Confirm),
    },
];

/// Returns the first closed gate.
pub(crate) fn closed_gate(facts: &PruneFacts<'_>) -> Option<(&'static str, GateClosed)> {
    GATES
        .iter()
        .find_map(|gate| Some((gate.name, (gate.closed)(facts)?)))
}

impl AppReconciler {
    /// Plans what becomes of owned objects that are no longer desired.
    pub(crate) fn plan_prune(&self, target: &Target, cluster: &ClusterState) -> PrunePlan {
        let owner = ObjectOwner {
            application: &self.name,
            prune: target.options.prune,
            deleting: target.deleting,
            revision: &target.revision,
            own_namespace: self.cluster.client.own_namespace(),
            rights: &target.options.rights,
            cluster: self.cluster.client.name(),
        };
        let is_claimed_elsewhere = |key: &ObjectKey| cluster.heir(&self.name, key).is_some();
        plan::plan_prune(
            owner,
            &target.desired,
            &self.inventory,
            |key| cluster.live(key),
            is_claimed_elsewhere,
        )
    }

    /// Deletes owned objects that are no longer desired, if every gate is open.
    pub(crate) async fn prune(
        &mut self,
        assessment: &Assessment,
    ) -> Result<PruneResult, ClusterError> {
        let mut result = PruneResult::default();
        let Some(target) = &self.target else {
            return Ok(result);
        };
        let plan = self.plan_prune(target, &self.cluster.state());
        let plan = self.confirm(plan);
        self.drop_entries(&plan, &mut result);
        self.report_handovers(&plan, &mut result);
        let terminating = plan.terminating.iter();
        result
            .waits
            .extend(terminating.map(|key| Message::object(key, BEING_DELETED)));
        if plan.delete.is_empty() {
            let objects = Some(self.inventory.entries.len());
            if assessment.all_applied()
                && result.waits.is_empty()
                && self.inventory.objects != objects
            {
                self.inventory.objects = objects;
                self.dirty = true;
            }
            return Ok(result);
        }
        if let Some((_, closed)) = closed_gate(&self.prune_facts(&plan, assessment)) {
            match closed {
                GateClosed::Wait(message) => result.waits.push(message),
                GateClosed::Skip(message) => result.notes.push(message),
                GateClosed::Confirm(why) => result.confirmation = Some(why),
            }
            return Ok(result);
        }
        for object in plan.delete {
            match workload_in_the_way(&object.key, &assessment.unhealthy) {
                Some(workload) => result.held.push(Message::object(
                    &object.key,
                    format!("it is deleted when {workload}, which may still use it, is healthy"),
                )),
                None => self.delete(object, &mut result).await,
            }
        }
        Ok(result)
    }

    /// Confirms the planned deletions, if the user asked for it at this revision. Deletions that
    /// come later need another confirmation, also if none is due now.
    fn confirm(&mut self, mut plan: PrunePlan) -> PrunePlan {
        let revision = self.target.as_ref().map(|target| target.revision.as_str());
        let given = self
            .confirming
            .take_if(|given| Some(&**given) == revision)
            .filter(|_| !plan.delete.is_empty());
        let Some(revision) = given.map(String::from) else {
            return plan;
        };
        let objects = plan.delete.iter().map(|target| target.key.clone());
        let objects = objects.collect();
        self.inventory.confirmed = Some(Box::new(Confirmation { revision, objects }));
        self.dirty = true;
        plan.confirmation = None;
        plan
    }

    fn prune_facts(&self, plan: &PrunePlan, assessment: &Assessment) -> PruneFacts<'_> {
        let unreadable = self.unreadable_message();
        let all_applied = assessment.all_applied();
        let unread = self.cluster.state().unread(&self.repository.name);
        // Reading unselected Applications costs renderings: only if it decides.
        let unreadable_unselected = if unread.is_some() && unreadable.is_none() && all_applied {
            let cluster = self.cluster.client.name();
            self.context
                .read_all_unselected(&self.repository.name, cluster)
        } else {
            None
        };
        let revision = self.target.as_ref().map(|target| &target.revision);
        PruneFacts {
            application: &self.name,
            deletions: plan.delete.len(),
            unreadable,
            all_applied,
            unread,
            unreadable_unselected,
            unread_elsewhere: self.cluster.state().unread_elsewhere(&self.repository.name),
            confirmed: revision.is_some_and(|revision| {
                let keys = plan.delete.iter().map(|target| &target.key);
                let given = self.inventory.confirmed.as_ref();
                given.is_some_and(|given| given.covers(revision, keys))
            }),
            confirmation: plan.confirmation.clone(),
        }
    }

    /// Drops inventory entries of objects that are gone or no longer ours.
    fn drop_entries(&mut self, plan: &PrunePlan, result: &mut PruneResult) {
        // An unanswered apply may still create its object, which the watch then shows. The object
        // of a deletion that we sent has been seen.
        let may_still_come = Instant::now() < self.answers_until;
        let (kept, dropped) = plan
            .unanswered
            .iter()
            .partition::<Vec<_>, _>(|key| may_still_come && !self.deleting.contains(key));
        result.wake_at = (!kept.is_empty()).then_some(self.answers_until);
        result.notes.extend(kept.into_iter().map(|key| {
            Message::object(
                key,
                "its apply was not answered and may still arrive; it would be deleted",
            )
        }));
        let dropped = dropped.into_iter().map(|key| (key, None));
        let reasons = plan.drop.iter().map(|(key, why)| (key, why.as_deref()));
        for (key, why) in reasons.chain(dropped) {
            // Absence from the watch does not prove deletion while the watch is broken.
            if let Some(trouble) = self.watch_trouble(key) {
                let message = Message {
                    object: Some(key.to_string()),
                    ..watch_failure(&key.kind, trouble)
                };
                if trouble.transient {
                    result.waits.push(message);
                } else {
                    result.failures.push(message);
                }
                continue;
            }
            if let Some(why) = why {
                let message = format!("{key}: {why}");
                self.record_event(Event::info(EventReason::PruneSkipped, message));
                result.notes.push(Message::object(key, why));
            }
            self.inventory.remove(key);
            if AUTOSCALERS.contains(&(key.group.as_str(), key.kind.as_str())) {
                // Git's number of replicas may count now, which was decided before this prune.
                self.scales.clear();
                result.wake_at = Some(Instant::now());
            }
            self.deleting.remove(key);
            self.failures.remove(key);
            self.dirty = true;
        }
    }

    /// Reports the objects that another Application takes over.
    fn report_handovers(&self, plan: &PrunePlan, result: &mut PruneResult) {
        let cluster = self.cluster.state();
        for key in &plan.handed_over {
            let heir = cluster.heir(&self.name, key);
            match heir.filter(|heir| !cluster.has_task(heir)) {
                // The command has not selected the new owner: waiting is useless.
                Some(other) => result.notes.push(Message::object(
                    key,
                    format!("{other} takes it over when it is applied"),
                )),
                None => result
                    .waits
                    .push(Message::object(key, "another Application takes it over")),
            }
        }
    }

    async fn delete(&mut self, object: PruneTarget, result: &mut PruneResult) {
        let key = &object.key;
        if self.deleting.contains(key) {
            result.waits.push(Message::object(key, BEING_DELETED));
            return;
        }
        if let Some(failed) = self
            .failures
            .get(key)
            .filter(|failed| failed.retry_at > Instant::now())
        {
            result.failures.push(failed.message.clone());
            return;
        }
        let gvk = Gvk {
            group: key.group.clone(),
            version: object.version.clone(),
            kind: key.kind.clone(),
        };
        let error = match self.send_delete(&gvk, &object).await {
            Ok(deleted) => {
                if deleted == DeleteResult::Deleted {
                    let message = format!("deleted {key}: removed from Git");
                    self.record_event(Event::info(EventReason::ObjectPruned, message));
                }
                self.failures.remove(key);
                // The watch shows when it is gone.
                result.waits.push(Message::object(key, BEING_DELETED));
                self.deleting.insert(object.key);
                return;
            }
            Err(error) => error,
        };
        let ApplyRefusal { error, why } =
            ApplyRefusal::of(&self.cluster.client, key, &gvk, None, error).await;
        let message =
            Message::object(key, format!("it cannot be deleted: {why}")).with_hint(error.hint());
        let event = Event::warning(EventReason::PruneFailed, message.to_string());
        self.record_event(event.hint(error.hint()));
        result.failures.push(message.clone());
        let no_manifest = plan::hash_all(&[]);
        let failed = FailedObject::after(self.failures.get(key), message, &error, no_manifest);
        self.failures.insert(object.key, failed);
    }

    async fn send_delete(
        &self,
        gvk: &Gvk,
        object: &PruneTarget,
    ) -> Result<DeleteResult, ClusterError> {
        let client = &self.cluster.client;
        let resources = client.resources().await?;
        let served = resources
            .find(gvk)
            .or_else(|| resources.preferred(&gvk.group, &gvk.kind));
        let resource = match served {
            Some(resource) => resource.clone(),
            None => client.resource(gvk).await?,
        };
        let request = DeleteRequest::uid(object.uid.as_str());
        client
            .delete(&self.identity(), &resource, &object.key, &request)
            .await
    }
}

/// Returns an unhealthy workload whose pods may still use an object: until a rollout has ended, the
/// old pods run with the old configuration, and must be able to restart with it.
fn workload_in_the_way<'u>(
    key: &ObjectKey,
    unhealthy: &'u [(ObjectKey, Health)],
) -> Option<&'u ObjectKey> {
    let is_configuration = key.group.is_empty()
        && matches!(key.kind.as_str(), "ConfigMap" | "Secret" | "ServiceAccount");
    if !is_configuration {
        return None;
    }
    let mut workloads = unhealthy
        .iter()
        .map(|(workload, _)| workload)
        .filter(|workload| health::runs_pods(&workload.group, &workload.kind));
    workloads.find(|workload| workload.namespace == key.namespace)
}

/// Counts objects to delete, as the beginning of a sentence.
fn old_objects(count: usize) -> String {
    if count == 1 {
        "1 old object is".to_owned()
    } else {
        format!("{count} old objects are")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(application: &Name) -> PruneFacts<'_> {
        PruneFacts {
            application,
            deletions: 2,
            unreadable: None,
            all_applied: true,
            unread: None,
            unreadable_unselected: None,
            unread_elsewhere: None,
            confirmed: false,
            confirmation: None,
        }
    }

    #[test]
    fn prune_gates_each_condition_closes_its_gate() {
        let name: Name = "shop/web".parse().unwrap();
        let other: Name = "shop/db".parse().unwrap();
        let broken = Message::application("not YAML");
        let unread = || Some((other.clone(), 3));
        let cases: Vec<(Option<&str>, &str, PruneFacts<'_>)> = vec![
            (None, "", facts(&name)),
            (
                Some("readable"),
                "wait: nothing is deleted before this revision can be read: not YAML",
                // The first closed gate is reported.
                PruneFacts {
                    unreadable: Some(&broken),
                    all_applied: false,
                    ..facts(&name)
                },
            ),
            (
                Some("applied"),
                "wait: 2 old objects are deleted when everything else has been applied",
                PruneFacts {
                    all_applied: false,
                    unread: unread(),
                    ..facts(&name)
                },
            ),
            (
                Some("repository"),
                "wait: 2 old objects are deleted when shop/db has been read, which may declare some of them (3 still to be read)",
                PruneFacts {
                    unread: unread(),
                    confirmed: true,
                    ..facts(&name)
                },
            ),
            (
                Some("repository"),
                "skip: 1 old object is not deleted now: shop/db may declare some of them and cannot be read: no chart",
                PruneFacts {
                    deletions: 1,
                    unread: unread(),
                    unreadable_unselected: Some((other.clone(), "no chart".to_owned())),
                    ..facts(&name)
                },
            ),
            (
                Some("other-repositories"),
                "wait: 2 old objects are deleted when repository b has been read, which may declare some of them",
                PruneFacts {
                    unread_elsewhere: Some("repository b".to_owned()),
                    confirmation: Some("too many".to_owned()),
                    ..facts(&name)
                },
            ),
            (
                None,
                "",
                PruneFacts {
                    unread_elsewhere: Some("repository b".to_owned()),
                    confirmed: true,
                    ..facts(&name)
                },
            ),
            (
                Some("confirmation"),
                "confirm: too many",
                PruneFacts {
                    confirmation: Some("too many".to_owned()),
                    ..facts(&name)
                },
            ),
        ];
        for (gate, message, facts) in cases {
            let closed = closed_gate(&facts);
            assert_eq!(closed.as_ref().map(|(name, _)| *name), gate, "{message}");
            let text = closed.map(|(_, closed)| match closed {
                GateClosed::Wait(message) => format!("wait: {message}"),
                GateClosed::Skip(message) => format!("skip: {message}"),
                GateClosed::Confirm(why) => format!("confirm: {why}"),
            });
            assert_eq!(text.unwrap_or_default(), message);
        }
    }
}
