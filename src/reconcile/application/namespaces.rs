//! The namespaces of an Application: created when an apply misses one, deleted with the last
//! Application in them.

use super::AppReconciler;
use crate::{
    core::{
        error::{Classify as _, ErrorKind},
        retry,
    },
    events::{Event, EventReason},
    io::cluster::{ClusterError, ClusterProblem, DeleteResult, Resource, Resources},
    objects::{
        namespace::{self, Occupancy},
        object::DeletionRule,
        plan::DesiredObject,
        tenancy,
    },
    reconcile::{
        Reason,
        status::{ApplicationState, Message},
    },
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use std::time::Duration;
use tokio::time::Instant;

/// Kinds listed at once; the cluster bounds requests beside that.
const CONCURRENCY: usize = 8;

/// The delays between checks of a namespace whose last objects the garbage collector deletes.
const CHECK_DELAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));

/// Checks after which an object that belongs to another one counts as left.
const CHECKS: u32 = 6;

/// The next check of namespaces that may become empty.
pub(super) struct NamespaceCheck {
    due: Instant,
    /// The number of times one was found in use, by objects that may be terminating.
    found_in_use: u32,
    /// Why they are not deleted yet.
    waits: Vec<Message>,
}

/// What is left in a namespace.
struct Occupant {
    occupancy: Occupancy,
    description: String,
}

/// The answer to the question what is left.
type OccupantAnswer = Result<Option<Occupant>, ClusterError>;

/// What becomes of a namespace that an Application has left.
enum Fate {
    /// It is gone, or tagboat has not created it.
    Foreign,
    Kept(String),
    /// Its last objects may be on their way out.
    Waits(String),
    /// Its contents cannot be listed at present.
    Unknown(String),
    Deleted,
}

impl AppReconciler {
    /// Returns whether the namespace of an object is created if it is missing.
    ///
    /// A declared Namespace is not created beforehand: its labels may restrict what is in it.
    pub(super) fn creates_namespace(&self, one: &DesiredObject) -> bool {
        let namespace = one.key.namespace.as_deref();
        namespace.is_some_and(|namespace| {
            one.creates_namespace && !self.cluster.state().is_namespace_claimed(namespace)
        })
    }

    /// Records the namespaces of a removed Application before its objects are deleted.
    pub(super) fn note_left_namespaces(&mut self) {
        let keys = self.inventory.entries.keys();
        let names: Vec<String> = keys.filter_map(|key| key.namespace.clone()).collect();
        let left = self.inventory.left_namespaces.get_or_insert_default();
        for name in names {
            self.dirty |= left.names.insert(name);
        }
    }

    /// Deletes the namespaces that tagboat created and that are empty now; returns when to look
    /// again, if one of them may become empty.
    pub(super) async fn delete_namespaces(&mut self) -> Result<Option<Instant>, ClusterError> {
        let Some(mut left) = self.inventory.left_namespaces.clone() else {
            return Ok(None);
        };
        // A pass may have been woken by anything: only time counts.
        if let Some(check) = &self.namespace_check
            && check.due > Instant::now()
        {
            let (due, waits) = (check.due, check.waits.clone());
            return Ok(Some(self.wait_for_namespaces(due, waits)));
        }
        let before = self.namespace_check.as_ref();
        let mut found_in_use = before.map_or(0, |check| check.found_in_use);
        let (mut waits, mut is_in_use) = (Vec::new(), false);
        for name in std::mem::take(&mut left.names) {
            let event = match self.delete_namespace(&name, found_in_use).await? {
                Fate::Foreign => None,
                Fate::Deleted => {
                    let message = format!("deleted namespace {name}: nothing is left in it");
                    Some(Event::info(EventReason::NamespaceDeleted, message))
                }
                Fate::Kept(why) => {
                    let message = format!("namespace {name} stays: {why}");
                    Some(Event::info(EventReason::NamespaceKept, message))
                }
                Fate::Waits(why) => {
                    is_in_use = true;
                    waits.push(Message::application(format!(
                        "namespace {name} is deleted when it is empty: {why}"
                    )));
                    left.names.insert(name);
                    continue;
                }
                Fate::Unknown(why) => {
                    waits.push(Message::application(format!(
                        "namespace {name} is deleted if it is empty, which is not known: {why}"
                    )));
                    left.names.insert(name);
                    continue;
                }
            };
            if let Some(event) = event {
                self.record_event(event);
            }
        }
        if waits.is_empty() {
            return Ok(None);
        }
        self.inventory.left_namespaces = Some(left);
        let delay = if is_in_use {
            found_in_use += 1;
            retry::delay(found_in_use, CHECK_DELAY.0, CHECK_DELAY.1)
        } else {
            CHECK_DELAY.1
        };
        let due = Instant::now() + delay;
        self.namespace_check = Some(Box::new(NamespaceCheck {
            due,
            found_in_use,
            waits: waits.clone(),
        }));
        Ok(Some(self.wait_for_namespaces(due, waits)))
    }

    /// Shows why namespaces are not deleted yet; returns when they are checked.
    fn wait_for_namespaces(&mut self, due: Instant, waits: Vec<Message>) -> Instant {
        self.status
            .set_state(ApplicationState::Deleting, Reason::Deleting, false);
        self.status.problems = waits;
        due
    }

    async fn delete_namespace(&self, name: &str, found_in_use: u32) -> Result<Fate, ClusterError> {
        let client = &self.cluster.client;
        let Some(options) = self.target.as_ref().map(|target| &target.options) else {
            return Ok(Fate::Foreign);
        };
        let may_delete = tenancy::namespace_refusal(&options.rights, client.name(), name).is_none();
        if name == client.own_namespace() || !may_delete {
            return Ok(Fate::Foreign);
        }
        let live = match client.namespace(name).await {
            Ok(Some(live)) if namespace::is_created_by_us(&live) => live,
            Ok(_) => return Ok(Fate::Foreign),
            Err(error) if error.kind() == ErrorKind::Config => {
                let why = format!("who created it is not known: {error}");
                return Ok(Fate::Kept(why));
            }
            Err(error) => return Err(error),
        };
        let Some(uid) = live.uid().filter(|_| !live.is_terminating()) else {
            return Ok(Fate::Foreign);
        };
        // Its annotations are not tagboat's: none is written when it is created.
        let honors = options.rights.honors_live_annotations(client.name());
        if let DeletionRule::Kept(why) | DeletionRule::Confirmed(why) = live.retention().delete
            && honors
        {
            return Ok(Fate::Kept(why.to_owned()));
        }
        if let Some(reason) = self.use_of_namespace(name) {
            return Ok(Fate::Kept(reason));
        }
        let resources = client.refresh().await?;
        if let Some(group) = resources.unavailable().next() {
            let why = format!("the API service of {group} does not answer");
            return Ok(Fate::Unknown(why));
        }
        let occupied = match self.occupant(name, &resources).await {
            Ok(occupied) => occupied,
            Err(error) if error.kind() == ErrorKind::Config => {
                return Ok(Fate::Kept(format!("its content is not known: {error}")));
            }
            Err(error) => return Err(error),
        };
        match occupied {
            Some(occupant)
                if occupant.occupancy == Occupancy::Dependent && found_in_use < CHECKS =>
            {
                return Ok(Fate::Waits(occupant.description));
            }
            Some(occupant) => return Ok(Fate::Kept(occupant.description)),
            None => {}
        }
        // Another Application may have started meanwhile.
        if let Some(reason) = self.use_of_namespace(name) {
            return Ok(Fate::Kept(reason));
        }
        match client.delete_namespace(&self.identity(), name, uid).await {
            Ok(DeleteResult::Deleted) => Ok(Fate::Deleted),
            Ok(_) => Ok(Fate::Foreign),
            Err(error) if error.kind() == ErrorKind::Config => {
                Ok(Fate::Kept(format!("it cannot be deleted: {error}")))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns why Applications still need a namespace.
    fn use_of_namespace(&self, name: &str) -> Option<String> {
        let state = self.cluster.state();
        if state.is_namespace_claimed(name) {
            return Some("an Application declares it".to_owned());
        }
        let user = state.user_of_namespace(name, &self.name)?;
        Some(format!("Application {user} uses it"))
    }

    /// Returns what is left in a namespace: an object that would be lost before one that belongs
    /// to another.
    async fn occupant(&self, name: &str, resources: &Resources) -> OccupantAnswer {
        let kinds = resources.iter().filter(|resource| {
            let Resource { gvk, .. } = resource;
            let preferred = resources.preferred(&gvk.group, &gvk.kind);
            resource.namespaced
                && resource.can("list")
                && resource.can("create")
                && preferred.is_some_and(|preferred| preferred.gvk == *gvk)
                && namespace::can_occupy(&gvk.group, &gvk.kind)
        });
        let looks: Vec<BoxFuture<'_, OccupantAnswer>> = kinds
            .map(|resource| self.occupant_of_kind(name, resource).boxed())
            .collect();
        let mut looks = stream::iter(looks).buffer_unordered(CONCURRENCY);
        let mut dependent = None;
        while let Some(found) = looks.next().await {
            match found? {
                Some(found) if found.occupancy == Occupancy::Occupied => return Ok(Some(found)),
                found => dependent = dependent.or(found),
            }
        }
        Ok(dependent)
    }

    async fn occupant_of_kind(&self, name: &str, resource: &Resource) -> OccupantAnswer {
        let kind = &resource.gvk.kind;
        let first = match self.cluster.client.first_objects(resource, name).await {
            Ok(first) => first,
            Err(error) => {
                // The kind may have gone, or may not be served yet: later checks show which.
                let occupancy = match *error.problem {
                    ClusterProblem::UnknownKind { .. } | ClusterProblem::NotFound => {
                        Occupancy::Dependent
                    }
                    ClusterProblem::AnswerTooLarge { .. } => Occupancy::Occupied,
                    _ => return Err(error),
                };
                let description = format!("objects of kind {kind} cannot be listed: {error}");
                return Ok(Some(Occupant {
                    occupancy,
                    description,
                }));
            }
        };
        let mut dependent = first.more.then(|| Occupant {
            occupancy: Occupancy::Dependent,
            description: format!("many objects of kind {kind} are in it"),
        });
        for object in &first.objects {
            let occupant = |occupancy| Occupant {
                occupancy,
                description: format!("{kind} {} is in it", object.name()),
            };
            match namespace::occupancy(&resource.gvk, object) {
                Occupancy::None => {}
                Occupancy::Occupied => return Ok(Some(occupant(Occupancy::Occupied))),
                Occupancy::Dependent => {
                    dependent.get_or_insert_with(|| occupant(Occupancy::Dependent));
                }
            }
        }
        Ok(dependent)
    }
}
