//! The namespaces of an Application: created when an apply misses one, deleted with the last
//! Application in them.

use super::AppReconciler;
use crate::{
    core::{
        error::{Classify as _, ErrorKind},
        retry,
    },
    events::{Event, EventReason},
    io::cluster::{ClusterError, DeleteResult, Resource},
    objects::{
        namespace::{self, Occupancy},
        object::DeletionRule,
        plan::DesiredObject,
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
        let mut waits = Vec::new();
        for name in std::mem::take(&mut left.names) {
            let event = match self.delete_namespace(&name, left.checks).await? {
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
                    waits.push(Message::application(format!(
                        "namespace {name} is deleted when it is empty: {why}"
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
        left.checks += 1;
        let delay = retry::delay(left.checks, CHECK_DELAY.0, CHECK_DELAY.1);
        self.inventory.left_namespaces = Some(left);
        self.status
            .set_state(ApplicationState::Deleting, Reason::Deleting, false);
        self.status.problems = waits;
        Ok(Some(Instant::now() + delay))
    }

    async fn delete_namespace(&self, name: &str, checks: u32) -> Result<Fate, ClusterError> {
        let client = &self.cluster.client;
        let is_own = name == client.own_namespace();
        let live = match client.namespace(name).await {
            Ok(Some(live)) if namespace::is_created_by_us(&live) && !is_own => live,
            Ok(_) => return Ok(Fate::Foreign),
            // Accounts with rights on single namespaces create none.
            Err(error) if error.kind() == ErrorKind::Config => return Ok(Fate::Foreign),
            Err(error) => return Err(error),
        };
        let Some(uid) = live.uid().filter(|_| !live.is_terminating()) else {
            return Ok(Fate::Foreign);
        };
        if let DeletionRule::Kept(why) | DeletionRule::Confirmed(why) = live.retention().delete {
            return Ok(Fate::Kept(why.to_owned()));
        }
        let user = self.cluster.state().user_of_namespace(name, &self.name);
        if let Some(user) = user {
            return Ok(Fate::Kept(format!("Application {user} uses it")));
        }
        let occupied = match self.occupant(name).await {
            Ok(occupied) => occupied,
            Err(error) if error.kind() == ErrorKind::Config => {
                return Ok(Fate::Kept(format!("its content is not known: {error}")));
            }
            Err(error) => return Err(error),
        };
        match occupied {
            Some(occupant) if occupant.occupancy == Occupancy::Dependent && checks < CHECKS => {
                return Ok(Fate::Waits(occupant.description));
            }
            Some(occupant) => return Ok(Fate::Kept(occupant.description)),
            None => {}
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

    /// Returns what is left in a namespace: an object that would be lost before one that belongs
    /// to another.
    async fn occupant(&self, name: &str) -> OccupantAnswer {
        let resources = self.cluster.client.resources().await?;
        if let Some(group) = resources.unavailable().next() {
            return Ok(Some(Occupant {
                occupancy: Occupancy::Occupied,
                description: format!("the API service of {group} does not answer"),
            }));
        }
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
        let first = self.cluster.client.first_objects(resource, name).await?;
        let kind = &resource.gvk.kind;
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
