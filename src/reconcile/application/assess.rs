//! What is to be done with the objects of an Application, seen against what is live; and how soon
//! again.

use super::{AppReconciler, Target, back_off, unwatched};
use crate::reconcile::{
    cluster_state::{CONSULT, ClusterState as Cluster, Trouble, observed::ForeignChange},
    status::{ApplicationStatus, DriftedObject, Message, PlannedAction},
};
use crate::{
    core::{error::Classify, name::Name},
    io::cluster::ClusterError,
    objects::{
        health::{self, Health},
        object::ObjectKey,
        plan::{self, ApplyReason, ObjectAction, PrunePlan, SkipReason, ValueHash},
    },
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;
use tracing::warn;

/// An object that could not be applied.
#[derive(Debug)]
pub(crate) struct FailedObject {
    pub row: Message,
    /// How often in a row.
    pub times: u32,
    /// When it is tried again.
    pub until: Instant,
    /// Of which manifest.
    pub manifest: ValueHash,
    /// Whether it may pass by itself.
    pub passing: bool,
}

impl FailedObject {
    /// After one more failure.
    pub fn after(
        before: Option<&Self>,
        row: Message,
        error: &ClusterError,
        manifest: ValueHash,
    ) -> Self {
        let times = before
            .filter(|before| before.manifest == manifest)
            .map_or(0, |before| before.times)
            .saturating_add(1);
        let wait = error.retry_after().unwrap_or_else(|| back_off(times));
        Self {
            row,
            times,
            until: Instant::now() + wait,
            manifest,
            passing: error.kind() != crate::core::error::ErrorKind::Config,
        }
    }
}

/// How long a repair waits when the same field is changed again within [`AGAIN`]: two tools that
/// fight over it would else fight for ever, and nobody would hear of it.
const PACES: [Duration; 3] = [
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(600),
];

/// The time in which a change counts as the same quarrel.
const AGAIN: Duration = Duration::from_secs(600);

/// Fields of one object of which repairs are remembered; more than that are one quarrel about the
/// object.
const FIELDS: usize = 8;

/// The repairs of one object, by what was changed.
#[derive(Debug, Default)]
pub(crate) struct RepairBackoff(BTreeMap<String, RepairLog>);

#[derive(Debug, Clone, Copy)]
struct RepairLog {
    /// How often in a row.
    times: usize,
    last: Instant,
}

impl RepairLog {
    /// Whether another change now belongs to the same quarrel.
    fn go_on(&self, now: Instant) -> bool {
        now.duration_since(self.last) < AGAIN + PACES[2]
    }
}

impl RepairBackoff {
    /// When changed fields may be repaired: at once, but for those that have been changed again and
    /// again.
    pub fn due(before: Option<&Self>, fields: &[&str], now: Instant) -> Instant {
        let due = |field: &&str| {
            let repairs = before?
                .0
                .get(before?.name(field, now))
                .filter(|repairs| repairs.go_on(now))?;
            Some(repairs.last + PACES[(repairs.times - 1).min(PACES.len() - 1)])
        };
        fields.iter().filter_map(due).max().unwrap_or(now)
    }

    /// Whether a field was changed before, in a quarrel that goes on.
    fn knows(&self, field: &str, now: Instant) -> bool {
        self.0
            .get(self.name(field, now))
            .is_some_and(|repairs| repairs.go_on(now))
    }

    /// Notes a repair.
    pub fn repaired(&mut self, fields: &[&str], now: Instant) {
        self.0.retain(|_, repairs| repairs.go_on(now));
        let names: BTreeSet<String> = fields
            .iter()
            .map(|field| self.name(field, now).to_owned())
            .collect();
        for name in names {
            let repairs = self.0.entry(name).or_insert(RepairLog {
                times: 0,
                last: now,
            });
            *repairs = RepairLog {
                times: repairs.times + 1,
                last: now,
            };
        }
    }

    /// Under which name the repairs of a field are noted: its own, as long as there are few.
    fn name<'f>(&self, field: &'f str, now: Instant) -> &'f str {
        let known = self.0.get(field).is_some_and(|repairs| repairs.go_on(now));
        let others = self
            .0
            .iter()
            .filter(|(name, repairs)| *name != WHOLE && repairs.go_on(now))
            .count();
        if known || others < FIELDS {
            field
        } else {
            WHOLE
        }
    }
}

/// The object as a whole, as a field.
const WHOLE: &str = "/";

/// Whether the object is there, as a field.
const EXISTENCE: &str = "";

/// What there is to do, and what there is to say.
#[derive(Debug, Default)]
pub(crate) struct Assessment {
    /// Objects to be sent, by place in the list.
    pub todo: BTreeMap<usize, ApplyReason>,
    /// Objects that cannot be applied.
    pub failures: Vec<Message>,
    /// Objects that wait for something else.
    pub waits: Vec<Message>,
    /// Objects that somebody changed and that are not changed back now.
    pub drifted: Vec<DriftedObject>,
    /// What is left to others, and worth knowing.
    pub notes: Vec<Message>,
    /// Objects that are not healthy, with their keys.
    pub unhealthy: Vec<(ObjectKey, Health)>,
    /// The worst health of all.
    pub worst: Option<health::HealthStatus>,
    /// When something that failed or waits is due.
    pub wake: Option<Instant>,
    /// Whether something failed that may pass by itself.
    pub passing: bool,
    /// Applications that nobody here looks after and that have what is wanted, by their labels;
    /// whether it is to be taken.
    pub strangers: BTreeMap<Name, bool>,
}

impl Assessment {
    /// Whether every object is as it is wanted.
    pub fn all_applied(&self) -> bool {
        self.todo.is_empty() && self.failures.is_empty() && self.waits.is_empty()
    }

    fn at(&mut self, wake: Instant) {
        self.wake = Some(self.wake.map_or(wake, |known| known.min(wake)));
    }

    /// What is to be said, into a status.
    pub fn tell(&self, status: &mut ApplicationStatus) {
        status.health = self.worst;
        status.problems = self.failures.iter().chain(&self.waits).cloned().collect();
        status.drifted.clone_from(&self.drifted);
        status.unhealthy = self
            .unhealthy
            .iter()
            .map(|(key, health)| {
                Message::object(key, format!("{}: {}", health.status, health.message))
            })
            .collect();
        status.notes.clone_from(&self.notes);
    }

    /// What would be done, for people.
    pub fn plan(&self, current: &Target, pruning: &PrunePlan) -> Vec<PlannedAction> {
        let applies = self.todo.iter().map(|(index, why)| PlannedAction {
            action: why.as_str().to_owned(),
            object: current.desired[*index].key.to_string(),
        });
        let prunes = pruning.delete.iter().map(|prune| PlannedAction {
            action: "delete".to_owned(),
            object: prune.key.to_string(),
        });
        applies.chain(prunes).collect()
    }
}

/// How bad a health is, for the worst of many.
fn badness(status: health::HealthStatus) -> u8 {
    match status {
        health::HealthStatus::Current => 0,
        health::HealthStatus::Unknown => 1,
        health::HealthStatus::Terminating => 2,
        health::HealthStatus::InProgress => 3,
        health::HealthStatus::NotFound => 4,
        health::HealthStatus::Failed => 5,
    }
}

impl AppReconciler {
    /// Whether what Applications want that a command has not named makes a difference here.
    pub(crate) fn minds_others(&self, look: &Assessment) -> bool {
        let deletes =
            |current: &Target| !self.pruning(current, &self.hub.state()).delete.is_empty();
        self.shared.rest.is_named()
            && (!look.waits.is_empty()
                || self.shared.plans() && self.current.as_ref().is_some_and(deletes))
    }

    /// Looks at everything that is wanted.
    pub(crate) fn look(&self) -> Assessment {
        let mut look = Assessment::default();
        let Some(current) = &self.current else {
            return look;
        };
        let mut cluster = self.hub.state();
        let now = Instant::now();
        for refused in &current.refused {
            let place = refused.origin.as_ref().map(ToString::to_string);
            look.failures.push(Message {
                place,
                ..Message::object(&refused.key, refused.why.clone())
            });
        }
        for (index, one) in current.desired.iter().enumerate() {
            if let Some(trouble) = self.unwatched(&one.key) {
                let Message { message, hint, .. } = unwatched(&one.key.kind, trouble);
                let row = Message {
                    hint,
                    ..Message::desired(one, message)
                };
                if trouble.passing {
                    look.waits.push(row)
                } else {
                    look.failures.push(row)
                }
                continue;
            }
            let entry = self.inventory.entries.get(&one.key);
            let action =
                plan::decide_action(&self.name, one, entry, cluster.live(&one.key), &*cluster);
            match action {
                ObjectAction::Leave(left) => {
                    if left == SkipReason::Synced {
                        self.look_at_health(&cluster, &one.key, &mut look);
                        let held = cluster.seen(&one.key).map_or(&[][..], |seen| &seen.held);
                        look.notes.extend(
                            held.iter()
                                .filter_map(|held| Some(Message::object(&one.key, held.note()?))),
                        );
                    }
                    if left == SkipReason::Frozen {
                        look.notes.push(Message::object(
                            &one.key,
                            "it is left alone: reconcile: disabled on the live object",
                        ));
                    }
                }
                ObjectAction::Wait(why) => look.waits.push(Message::desired(one, why)),
                ObjectAction::Refuse(why) => {
                    if let Some(owner) = self.stranger(&cluster, &one.key) {
                        look.strangers.entry(owner).or_insert(false);
                        look.at(now + CONSULT);
                    }
                    look.failures.push(Message::desired(one, why));
                }
                ObjectAction::Apply(why) => {
                    if let Some(failing) = self
                        .failing
                        .get(&one.key)
                        .filter(|failing| failing.manifest == one.hash && failing.until > now)
                    {
                        look.failures.push(failing.row.clone());
                        look.at(failing.until);
                        look.passing |= failing.passing;
                        continue;
                    }
                    if why == ApplyReason::Taken {
                        let due = RepairBackoff::due(self.pace.get(&one.key), &[OWNER], now);
                        if due > now {
                            let owner = cluster.live(&one.key).and_then(|live| live.owner.clone());
                            look.waits
                                .push(Message::desired(one, taken_again(owner.as_ref())));
                            look.at(due);
                            continue;
                        }
                        if let Some(owner) = self.stranger(&cluster, &one.key) {
                            look.strangers.insert(owner, true);
                        }
                    }
                    if why.is_drift()
                        && let Some(drifted) = self.held_back(&cluster, one, why, now)
                    {
                        if let Some(due) = drifted.1 {
                            look.at(due);
                        }
                        look.drifted.push(drifted.0);
                        self.look_at_health(&cluster, &one.key, &mut look);
                        continue;
                    }
                    look.todo.insert(index, why);
                }
            }
        }
        if !look.waits.is_empty() {
            cluster.inherits(&self.name);
        }
        look
    }

    /// The Application whose labels an object carries, if nobody here looks after it.
    fn stranger(&self, cluster: &Cluster, key: &ObjectKey) -> Option<Name> {
        let owner = cluster.live(key)?.owner.as_ref()?;
        (*owner != self.name && cluster.is_stranger(owner)).then(|| owner.clone())
    }

    /// Notes that an object is taken from another Application; says so if that is not the first
    /// time.
    pub(crate) fn taking(&mut self, index: usize) {
        let Some(one) = self
            .current
            .as_ref()
            .and_then(|current| current.desired.get(index))
        else {
            return;
        };
        let (key, now) = (one.key.clone(), Instant::now());
        let owner = self
            .hub
            .state()
            .live(&key)
            .and_then(|live| live.owner.clone());
        let pace = self.pace.entry(key.clone()).or_default();
        if pace.knows(OWNER, now) {
            warn!(application = %self.name, cluster = self.hub.cluster.name(), "{key}: {}", taken_again(owner.as_ref()));
        }
        pace.repaired(&[OWNER], now);
    }

    /// Why nothing is known of an object, if its kind cannot be watched.
    pub(crate) fn unwatched(&self, key: &ObjectKey) -> Option<&Trouble> {
        // All kinds can be watched, as a rule.
        let trouble = || {
            self.unlisted
                .get(&(key.group.clone(), key.kind.clone()))?
                .as_ref()
        };
        if self.unlisted.is_empty() {
            None
        } else {
            trouble()
        }
    }

    fn look_at_health(&self, cluster: &Cluster, key: &ObjectKey, look: &mut Assessment) {
        let Some(health) = cluster.health(key) else {
            return;
        };
        if look
            .worst
            .is_none_or(|worst| badness(worst) < badness(health.status))
        {
            look.worst = Some(health.status);
        }
        if health.status != health::HealthStatus::Current {
            look.unhealthy.push((key.clone(), health.clone()));
        }
    }

    /// A change that is not undone now: because that is not wanted, or because it is done again and
    /// again.
    fn held_back(
        &self,
        cluster: &Cluster,
        one: &plan::DesiredObject,
        why: ApplyReason,
        now: Instant,
    ) -> Option<(DriftedObject, Option<Instant>)> {
        let current = self.current.as_ref()?;
        let fields = cluster
            .seen(&one.key)
            .map(|seen| seen.changed.clone())
            .unwrap_or_default();
        let due = RepairBackoff::due(self.pace.get(&one.key), &quarrels(&fields, why), now);
        if current.terms.repair && due <= now {
            return None;
        }
        let waits = current.terms.repair.then_some(due);
        let repaired_at = waits.and_then(|due| {
            Timestamp::now()
                .checked_add(due.saturating_duration_since(now))
                .ok()
        });
        Some((
            DriftedObject {
                object: one.key.to_string(),
                fields,
                deleted: why == ApplyReason::Deleted,
                repaired_at,
            },
            waits,
        ))
    }

    /// What was changed about an object that is to be repaired; notes that it is.
    pub(crate) fn repairing(&mut self, index: usize, why: ApplyReason) -> Option<DriftedObject> {
        let key = self.current.as_ref()?.desired.get(index)?.key.clone();
        let fields = self
            .hub
            .state()
            .seen(&key)
            .map(|seen| seen.changed.clone())
            .unwrap_or_default();
        let object = key.to_string();
        self.pace
            .entry(key)
            .or_default()
            .repaired(&quarrels(&fields, why), Instant::now());
        Some(DriftedObject {
            object,
            fields,
            deleted: why == ApplyReason::Deleted,
            repaired_at: None,
        })
    }
}

/// What a quarrel about an object itself is about: whose labels it carries.
const OWNER: &str = "/metadata/labels";

/// What is said of an object that two take from each other.
fn taken_again(owner: Option<&Name>) -> String {
    match owner {
        Some(owner) => {
            format!(
                "Application {owner} takes it again and again, from another process as it seems; remove it from one of them"
            )
        }
        None => {
            "another Application takes it again and again; remove it from one of them".to_owned()
        }
    }
}

/// What a quarrel is about.
fn quarrels(fields: &[ForeignChange], why: ApplyReason) -> Vec<&str> {
    match (why, fields) {
        (ApplyReason::Deleted, _) => vec![EXISTENCE],
        (_, []) => vec![WHOLE],
        (_, fields) => fields.iter().map(|field| field.path.as_str()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What somebody who changes fields sees: how many seconds each change stands before it is
    /// undone.
    fn stands(changes: &[&[&str]]) -> Vec<u64> {
        let (mut pace, mut now) = (RepairBackoff::default(), Instant::now());
        let mut stood = Vec::new();
        for fields in changes {
            let due = RepairBackoff::due(Some(&pace), fields, now).max(now);
            stood.push(due.duration_since(now).as_secs());
            now = due;
            pace.repaired(fields, now);
        }
        stood
    }

    #[test]
    fn each_field_has_its_own_quarrel_and_many_fields_are_one() {
        assert_eq!(
            stands(&[&["/a"], &["/a"], &["/a"], &["/a"], &["/a"]]),
            [0, 10, 60, 600, 600]
        );
        // Turn by turn is no way around it.
        assert_eq!(
            stands(&[&["/a"], &["/b"], &["/a"], &["/b"], &["/a"], &["/b"]])[..4],
            [0, 0, 10, 0]
        );
        let turns: Vec<&[&str]> = (0..60)
            .map(|turn| {
                if turn % 2 == 0 {
                    &["/a"][..]
                } else {
                    &["/b"][..]
                }
            })
            .collect();
        assert!(stands(&turns).iter().sum::<u64>() > 10_000);
        // What was changed together is undone together, when the slower quarrel is due.
        assert_eq!(
            stands(&[&["/a"], &["/a"], &["/b", "/a"], &["/b"]]),
            [0, 10, 60, 10]
        );
        // Nor is another field each time.
        let names: Vec<String> = (0..60).map(|number| format!("/{number}")).collect();
        let names: Vec<[&str; 1]> = names.iter().map(|name| [name.as_str()]).collect();
        let many: Vec<&[&str]> = names.iter().map(|name| &name[..]).collect();
        let stood = stands(&many);
        assert_eq!(stood[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 60, 600]);
        // Deleted and changed are two things.
        assert_eq!(stands(&[&[EXISTENCE], &["/a"], &[EXISTENCE]]), [0, 0, 10]);
    }

    #[test]
    fn a_quarrel_ends() {
        let mut pace = RepairBackoff::default();
        let now = Instant::now();
        pace.repaired(&["/a"], now);
        pace.repaired(&["/a"], now);
        assert_eq!(
            RepairBackoff::due(Some(&pace), &["/a"], now),
            now + PACES[1]
        );
        let later = now + AGAIN + PACES[2];
        assert_eq!(RepairBackoff::due(Some(&pace), &["/a"], later), later);
        (0..100).for_each(|number| pace.repaired(&[&format!("/{number}")], later));
        assert!(pace.0.len() <= FIELDS + 1, "{pace:?}");
        assert_eq!(RepairBackoff::due(None, &["/a"], now), now);
    }
}
