//! Sending what is to be applied, in its order, as much at once as the cluster takes; and deleting
//! what is to go.

use super::{
    ANSWERABLE, AppReconciler, Target,
    assess::{Assessment, FailedObject},
    short, unwatched,
};
use crate::reconcile::{
    cluster_state::{ClusterState as Cluster, observed},
    diff::ApplyRefusal,
    permits::WorkPermit,
    status::{DriftedObject, Message},
};
use crate::{
    core::error::Classify,
    io::cluster::{self, ApplyRequest, ClusterError, ClusterProblem, DeleteRequest, DeleteResult},
    objects::{
        health, managed_fields,
        object::{ApplyMode, Gvk, MANAGER, Object, ObjectKey},
        plan::{
            self, AppliedState, ApplyOrder, ApplyReason, DesiredObject, InventoryEntry,
            KindAtomicFields, ObjectClaims as _, ObjectOwner, PrunePlan, Rollout, RolloutOutcome,
        },
    },
};
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tracing::{info, warn};

/// How long an object that is created anew may take to go.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of sending one object: its place, and the answer with what is to be remembered of it.
type ApplyAnswer = (
    usize,
    Result<(cluster::ApplyResult, AppliedState), ApplyRefusal>,
);

/// What became of a prune.
#[derive(Debug, Default)]
pub(crate) struct PruneResult {
    /// What stays in the cluster, and why.
    pub notes: Vec<Message>,
    /// What waits.
    pub waits: Vec<Message>,
    /// Why nothing is deleted before somebody says yes.
    pub needs_yes: Option<String>,
    /// What could not be deleted.
    pub failures: Vec<Message>,
    /// When to look again.
    pub wake: Option<Instant>,
}

impl AppReconciler {
    /// Sends objects. A failure stops those that need the object and nobody else. What waits for
    /// the health of another is left to the next look; a newer job stops what has not begun.
    pub(crate) async fn send(
        &mut self,
        todo: &BTreeMap<usize, ApplyReason>,
        turn: &WorkPermit,
    ) -> Result<(), ClusterError> {
        self.announce(todo).await?;
        let mut waiting: BTreeSet<usize> = todo.keys().copied().collect();
        let mut flying: FuturesUnordered<BoxFuture<'static, ApplyAnswer>> = FuturesUnordered::new();
        let mut in_flight: BTreeSet<usize> = BTreeSet::new();
        let mut failed: HashSet<usize> = HashSet::new();
        let mut repairs: HashMap<usize, DriftedObject> = HashMap::new();
        loop {
            if !self.handle.slot.is_filled() && !self.shared.stop.is_cancelled() {
                for index in self.startable(&waiting, &in_flight, &mut failed) {
                    waiting.remove(&index);
                    if failed.contains(&index) {
                        continue;
                    }
                    in_flight.insert(index);
                    // What was changed is known now, and forgotten as soon as it is changed back.
                    if todo[&index] == ApplyReason::Taken {
                        self.taking(index);
                    }
                    if todo[&index].is_drift()
                        && let Some(drifted) = self.repairing(index, todo[&index])
                    {
                        repairs.insert(index, drifted);
                    }
                    flying.push(self.flight(index, turn.clone()));
                }
            }
            let Some((index, answer)) = flying.next().await else {
                break;
            };
            in_flight.remove(&index);
            if !self.answered(index, answer, todo[&index], repairs.get(&index)) {
                failed.insert(index);
            }
        }
        Ok(())
    }

    /// Writes new objects into the inventory before the first of them is sent: whatever dies then,
    /// nothing is orphaned.
    async fn announce(&mut self, todo: &BTreeMap<usize, ApplyReason>) -> Result<(), ClusterError> {
        let Some(current) = &self.current else {
            return Ok(());
        };
        let mut new = false;
        for index in todo.keys() {
            let one = &current.desired[*index];
            self.inventory
                .entries
                .entry(one.key.clone())
                .or_insert_with(|| {
                    new = true;
                    InventoryEntry {
                        version: one.version.clone(),
                        applied: None,
                    }
                });
        }
        // Until the record is saved, whatever becomes of the first try.
        self.dirty |= new;
        let moved = todo.values().any(|why| !why.is_drift());
        if moved && (new || self.record.is_none()) {
            let rollout = Rollout {
                revision: current.revision.clone(),
                result: RolloutOutcome::Progressing,
                since: Timestamp::now(),
                message: String::new(),
            };
            self.history.note(rollout);
        }
        if self.dirty || self.record.is_none() {
            self.save().await?;
        }
        Ok(())
    }

    /// Those that may be sent now, and those whose needs have failed (which are noted so).
    fn startable(
        &mut self,
        waiting: &BTreeSet<usize>,
        in_flight: &BTreeSet<usize>,
        failed: &mut HashSet<usize>,
    ) -> Vec<usize> {
        let Some(current) = &self.current else {
            return Vec::new();
        };
        let mut lost: Vec<(usize, usize)> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        {
            let cluster = self.hub.state();
            for index in waiting.iter().copied() {
                let mut free = true;
                for after in &current.desired[index].after {
                    let key = &current.desired[after.index].key;
                    if failed.contains(&after.index)
                        || self.failing.get(key).is_some_and(|failing| {
                            failing.manifest == current.desired[after.index].hash
                        })
                    {
                        lost.push((index, after.index));
                    }
                    let pending =
                        waiting.contains(&after.index) || in_flight.contains(&after.index);
                    free &= !pending
                        && self
                            .lacks(&cluster, &current.desired[after.index], after.healthy)
                            .is_none();
                }
                if free {
                    open.push(index);
                }
            }
        }
        for (index, needed) in &lost {
            let (one, needed) = (&current.desired[*index], &current.desired[*needed]);
            let row = Message::desired(
                one,
                format!("it waits for {}, which could not be applied", needed.key),
            );
            if let Some(cause) = self.failing.get(&needed.key) {
                let (times, until, passing) = (cause.times, cause.until, cause.passing);
                self.failing.insert(
                    one.key.clone(),
                    FailedObject {
                        row,
                        times,
                        until,
                        manifest: one.hash,
                        passing,
                    },
                );
            }
            failed.insert(*index);
        }
        let lost: BTreeSet<usize> = lost.into_iter().map(|(index, _)| index).collect();
        // What has lower waves before it waits for their answers, unless they themselves wait for
        // something else.
        let lowest = open
            .iter()
            .chain(in_flight)
            .map(|index| current.desired[*index].wave)
            .min();
        open.retain(|index| Some(current.desired[*index].wave) == lowest && !lost.contains(index));
        open.extend(lost);
        open
    }

    /// What is still missing of an object that another one needs.
    fn lacks(
        &self,
        cluster: &Cluster,
        needed: &DesiredObject,
        healthy: bool,
    ) -> Option<&'static str> {
        let entry = self.inventory.entries.get(&needed.key);
        let left = plan::is_left_alone(needed, entry, cluster.live(&needed.key));
        let health = cluster.health(&needed.key);
        if !left && entry.is_none_or(|entry| entry.applied.is_none()) {
            return Some("is not applied yet");
        }
        // Of what is left to others often nobody sees how it is.
        let well = health.map_or(left, |health| {
            health.status == health::HealthStatus::Current
        });
        (healthy && !well).then_some("is not healthy yet")
    }

    /// What objects wait for that are still to be sent.
    pub(crate) fn held_up(&self, todo: &BTreeMap<usize, ApplyReason>) -> Vec<Message> {
        let Some(current) = &self.current else {
            return Vec::new();
        };
        let cluster = self.hub.state();
        let row = |index: &usize| {
            let one = &current.desired[*index];
            let missing = |after: &ApplyOrder| {
                let needed = &current.desired[after.index];
                Some((&needed.key, self.lacks(&cluster, needed, after.healthy)?))
            };
            let (needed, lacks) = one.after.iter().find_map(missing)?;
            Some(Message::desired(
                one,
                format!("it waits for {needed}, which {lacks}"),
            ))
        };
        todo.keys().filter_map(row).collect()
    }

    /// The request for one object.
    fn flight(&self, index: usize, turn: WorkPermit) -> BoxFuture<'static, ApplyAnswer> {
        let Some(current) = &self.current else {
            return Box::pin(std::future::pending());
        };
        let one = current.desired[index].clone();
        let (hub, identity, name) = (Arc::clone(&self.hub), self.identity(), self.name.clone());
        let ignore = observed::ignored(&current.terms.ignore, &one.key);
        let before = self
            .inventory
            .entries
            .get(&one.key)
            .and_then(|entry| entry.applied.clone());
        let fresh = before.is_none();
        Box::pin(async move {
            let result = async {
                let manifest = one.manifest.object().map_err(|error| ClusterError {
                    cluster: hub.cluster.name().to_owned(),
                    subject: one.key.to_string(),
                    problem: Box::new(ClusterProblem::Protocol {
                        why: error.to_string(),
                    }),
                })?;
                let known = hub
                    .state()
                    .seen(&one.key)
                    .map(|seen| (seen.live.uid.clone(), seen.held.clone()));
                let (uid, held) = known.map_or((None, None), |(uid, held)| (Some(uid), Some(held)));
                // An object that somebody else may have made: fields that are left to others must
                // not be taken with the first apply.
                let strange = held.is_none() && fresh;
                let looked = |object: &Object| {
                    let (manifest, ignore) = (one.manifest.clone(), Arc::clone(&ignore));
                    let watched = observed::WatchedManifest {
                        manifest,
                        ignore,
                        expected: None,
                        atoms: KindAtomicFields::NONE,
                    };
                    observed::look(object, Some(&watched)).held
                };
                let live = async || {
                    let resource = hub.cluster.resource(&one.gvk()).await?;
                    hub.cluster.get(&identity, &resource, &one.key).await
                };
                let mut held =
                    observed::still_held(held.unwrap_or_default(), &manifest, before.as_ref());
                if strange && !ignore.is_empty() {
                    held = live().await?.as_ref().map(looked).unwrap_or_default();
                }
                // Replicas that an autoscaler holds at another number are a conflict: most objects
                // are new, and need not be asked for.
                let scalable =
                    strange && ignore.is_empty() && manifest.pointer("/spec/replicas").is_some();
                let sent = observed::sent(manifest.clone(), &held);
                let how = ApplyRequest {
                    force: !scalable,
                    ..ApplyRequest::default()
                };
                let mut applied = hub.cluster.apply(&identity, &sent, &how).await;
                if scalable
                    && applied.as_ref().is_err_and(|error| {
                        matches!(*error.problem, ClusterProblem::Conflict { .. })
                    })
                {
                    let held = live().await?.as_ref().map(looked).unwrap_or_default();
                    applied = hub
                        .cluster
                        .apply(
                            &identity,
                            &observed::sent(manifest.clone(), &held),
                            &ApplyRequest::default(),
                        )
                        .await;
                }
                let applied = match (applied, uid) {
                    (Err(error), Some(uid))
                        if one.settings.force
                            && matches!(*error.problem, ClusterProblem::Immutable { .. }) =>
                    {
                        // Until the old one is gone can take a minute.
                        turn.give_back();
                        hub.cluster
                            .recreate(&identity, &sent, &uid, &ApplyRequest::default(), PATIENCE)
                            .await?
                    }
                    (applied, _) => applied?,
                };
                let atoms = hub.state().atoms.shared(managed_fields::atomic_fields(
                    &manifest,
                    &applied.live,
                    MANAGER,
                ));
                let owner = plan::owner(&applied.live);
                let noted = AppliedState {
                    uid: applied.live.uid().unwrap_or_default().to_owned(),
                    manifest: one.hash,
                    live: observed::hash(&manifest, &applied.live, &ignore, &atoms),
                    atoms,
                    untouched: one.settings.ssa == ApplyMode::IfNotPresent
                        && !applied.created
                        && owner.as_ref() != Some(&name),
                    replicas: observed::replicas(&manifest),
                };
                Ok((applied, noted))
            };
            match result.await {
                Ok(answer) => (index, Ok(answer)),
                Err(error) => {
                    let manifest = one.manifest.object().ok();
                    (
                        index,
                        Err(ApplyRefusal::of(
                            &hub.cluster,
                            &one.key,
                            &one.gvk(),
                            manifest.as_ref(),
                            error,
                        )
                        .await),
                    )
                }
            }
        })
    }

    /// Notes an answer; whether the object is there now.
    fn answered(
        &mut self,
        index: usize,
        answer: Result<(cluster::ApplyResult, AppliedState), ApplyRefusal>,
        why: ApplyReason,
        repaired: Option<&DriftedObject>,
    ) -> bool {
        let Some(current) = &self.current else {
            return false;
        };
        let one = current.desired[index].clone();
        let (application, cluster, revision) = (
            self.name.clone(),
            self.hub.cluster.name().to_owned(),
            current.revision.clone(),
        );
        match answer {
            Ok((applied, noted)) => {
                self.failing.remove(&one.key);
                let (hash, atoms, untouched) = (noted.live, noted.atoms.clone(), noted.untouched);
                let new = InventoryEntry {
                    version: one.version.clone(),
                    applied: Some(noted),
                };
                let old = self.inventory.entries.insert(one.key.clone(), new.clone());
                let found = self.inventory.found.remove(&one.key);
                self.dirty |= found || old.as_ref() != Some(&new);
                match repaired {
                    Some(drifted) => info!(%application, cluster, "repaired {drifted}"),
                    None => {
                        info!(%application, cluster, revision = short(&revision), "{}: {}", why.as_str(), one.key)
                    }
                }
                if !applied.forced.is_empty() && !why.is_drift() {
                    let fields: Vec<String> = applied
                        .forced
                        .iter()
                        .take(5)
                        .map(ToString::to_string)
                        .collect();
                    info!(%application, cluster, "{}: took {}", one.key, fields.join(", "));
                }
                if !applied.took_over.is_empty() {
                    info!(%application, cluster, "{}: took fields over from {}", one.key, applied.took_over.join(", "));
                }
                self.judge(index, Some(hash), atoms);
                if !untouched {
                    self.hub.observe(&applied.live);
                }
                true
            }
            Err(ApplyRefusal { error, why }) => {
                let row = Message {
                    hint: error.hint(),
                    ..Message::desired(&one, why)
                };
                self.answerable = Instant::now() + ANSWERABLE;
                let failing =
                    FailedObject::after(self.failing.get(&one.key), row, &error, one.hash);
                if failing.times == 1 {
                    warn!(%application, cluster, revision = short(&revision), hint = error.hint(), "{}", failing.row);
                }
                self.failing.insert(one.key, failing);
                false
            }
        }
    }

    /// What becomes of what is owned and no longer wanted.
    pub(crate) fn pruning(&self, current: &Target, cluster: &Cluster) -> PrunePlan {
        let owner = ObjectOwner {
            application: &self.name,
            prune: current.terms.prune,
            deleting: current.deleting,
            revision: &current.revision,
        };
        let elsewhere = |key: &ObjectKey| {
            cluster
                .wanted_by(key)
                .iter()
                .any(|other| *other != self.name)
        };
        plan::plan_prune(
            owner,
            &current.desired,
            &self.inventory,
            |key| cluster.live(key),
            elsewhere,
        )
    }

    /// Deletes what is owned and no longer wanted, when that is sure.
    pub(crate) async fn prune(&mut self, look: &Assessment) -> Result<PruneResult, ClusterError> {
        let mut pruned = PruneResult::default();
        let Some(current) = &self.current else {
            return Ok(pruned);
        };
        let pruning = {
            let cluster = self.hub.state();
            self.pruning(current, &cluster)
        };
        // What comes after all is seen, and deleted then; what was deleted has come.
        let late = Instant::now() < self.answerable;
        let (held, over) = pruning
            .unanswered
            .into_iter()
            .partition::<Vec<_>, _>(|key| late && !self.deleting.contains(key));
        pruned.wake = (!held.is_empty()).then_some(self.answerable);
        pruned.notes.extend(held.iter().map(|key| {
            Message::object(
                key,
                "its apply was not answered and may still come; it would be deleted",
            )
        }));
        for (key, why) in pruning
            .drop
            .into_iter()
            .chain(over.into_iter().map(|key| (key, None)))
        {
            // That it is not seen does not say that it is not there.
            if let Some(trouble) = self.unwatched(&key) {
                let row = Message {
                    object: Some(key.to_string()),
                    ..unwatched(&key.kind, trouble)
                };
                if trouble.passing {
                    pruned.waits.push(row)
                } else {
                    pruned.failures.push(row)
                }
                continue;
            }
            if let Some(why) = why {
                info!(application = %self.name, cluster = self.hub.cluster.name(), "{key}: {why}");
                pruned.notes.push(Message::object(&key, why));
            }
            self.inventory.remove(&key);
            self.deleting.remove(&key);
            self.failing.remove(&key);
            self.dirty = true;
        }
        for key in &pruning.handed {
            let cluster = self.hub.state();
            match cluster
                .wanted_by(key)
                .into_iter()
                .filter(|other| *other != self.name)
                .find(|other| !cluster.is_here(other))
            {
                // A command has not named it: nothing comes of waiting.
                Some(other) => pruned.notes.push(Message::object(
                    key,
                    format!("{other} takes it over when it is applied"),
                )),
                None => pruned
                    .waits
                    .push(Message::object(key, "another Application takes it over")),
            }
        }
        pruned.waits.extend(
            pruning
                .going
                .iter()
                .map(|key| Message::object(key, "it is being deleted")),
        );
        if pruning.delete.is_empty() {
            let objects = Some(self.inventory.entries.len());
            if look.all_applied() && pruned.waits.is_empty() && self.inventory.objects != objects {
                (self.inventory.objects, self.dirty) = (objects, true);
            }
            return Ok(pruned);
        }
        if let Some(broken) = self.broken() {
            pruned.waits.push(Message::application(format!(
                "nothing is deleted before this revision can be read: {broken}"
            )));
            return Ok(pruned);
        }
        if !look.all_applied() {
            let what = old_objects(pruning.delete.len());
            pruned.waits.push(Message::application(format!(
                "{what} deleted when everything else has been applied"
            )));
            return Ok(pruned);
        }
        let unread = self.hub.state().unread(&self.repository.name);
        if let Some((first, more)) = unread {
            match self.shared.read_aside(&self.repository.name, self.hub.cluster.name()) {
                Some((name, why)) => pruned.notes.push(Message {
                    hint: Some(format!("When {name} can be read: tagboat sync {}; or tagboat sync --all", self.name)),
                    ..Message::application(format!(
                        "{} not deleted now: {name} may want something of it and cannot be read: {why}",
                        old_objects(pruning.delete.len())
                    ))
                }),
                None => pruned.waits.push(Message::application(format!(
                    "{} deleted when {first} has been read, which may want something of it ({more} still to be read)",
                    old_objects(pruning.delete.len()),
                ))),
            }
            return Ok(pruned);
        }
        let confirmed = self.inventory.confirmed.as_ref() == Some(&current.revision);
        let elsewhere = self
            .hub
            .state()
            .unread_elsewhere(&self.repository.name)
            .filter(|_| !confirmed);
        if let Some(unread) = elsewhere {
            pruned.waits.push(Message {
                hint: Some(format!("If that is sure not to want it: tagboat sync {} --confirm-prune", self.name)),
                ..Message::application(format!(
                    "what is to be deleted ({}) waits until {unread} has been read, which may want it",
                    pruning.delete.len()
                ))
            });
            return Ok(pruned);
        }
        if pruning.needs_yes.is_some() {
            pruned.needs_yes = pruning.needs_yes;
            return Ok(pruned);
        }
        let identity = self.identity();
        for prune in pruning.delete {
            if self.deleting.contains(&prune.key) {
                continue;
            }
            if let Some(failing) = self
                .failing
                .get(&prune.key)
                .filter(|failing| failing.until > Instant::now())
            {
                pruned.failures.push(failing.row.clone());
                continue;
            }
            let gvk = Gvk {
                group: prune.key.group.clone(),
                version: prune.version.clone(),
                kind: prune.key.kind.clone(),
            };
            let deleted = async {
                let served = self.hub.cluster.resources().await?;
                let resource = match served
                    .find(&gvk)
                    .or_else(|| served.preferred(&gvk.group, &gvk.kind))
                {
                    Some(resource) => resource.clone(),
                    None => self.hub.cluster.resource(&gvk).await?,
                };
                self.hub
                    .cluster
                    .delete(
                        &identity,
                        &resource,
                        &prune.key,
                        &DeleteRequest::uid(prune.uid.as_str()),
                    )
                    .await
            };
            match deleted.await {
                Ok(deleted) => {
                    if deleted == DeleteResult::Deleted {
                        info!(application = %self.name, cluster = self.hub.cluster.name(), "deleted {}: Git does not have it any more", prune.key);
                    }
                    self.failing.remove(&prune.key);
                    self.deleting.insert(prune.key);
                }
                Err(error) => {
                    let ApplyRefusal { error, why } =
                        ApplyRefusal::of(&self.hub.cluster, &prune.key, &gvk, None, error).await;
                    let row = Message {
                        hint: error.hint(),
                        ..Message::object(&prune.key, format!("it cannot be deleted: {why}"))
                    };
                    warn!(application = %self.name, cluster = self.hub.cluster.name(), hint = error.hint(), "{row}");
                    pruned.failures.push(row.clone());
                    let failing = FailedObject::after(
                        self.failing.get(&prune.key),
                        row,
                        &error,
                        plan::hash_all(&[]),
                    );
                    self.failing.insert(prune.key, failing);
                }
            }
        }
        Ok(pruned)
    }
}

/// How many objects are to go, as the beginning of a sentence.
fn old_objects(count: usize) -> String {
    if count == 1 {
        "1 old object is".to_owned()
    } else {
        format!("{count} old objects are")
    }
}
