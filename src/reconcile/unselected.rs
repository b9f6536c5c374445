//! The Applications of a repository that a command has not named.
//!
//! Nothing of theirs is touched. What they want, and whether they were applied as Git says, is
//! found out when that matters to those that are named, and not before: a repository may have
//! thousands.

use super::{ClusterKinds, RenderFn, cluster_state::ClusterHandle, context::ReconcileContext};
use crate::{
    core::name::Name,
    objects::plan::{self, RolloutOutcome},
    spec::Application,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What is known of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UnselectedObject {
    /// Nobody has looked yet, or somebody is looking.
    Nothing,
    /// What Git says was applied.
    Applied,
    /// What Git says was not applied.
    Behind,
    /// It rests.
    Suspended,
    /// It cannot be read, and why.
    Unread(String),
}

/// One of them.
pub(crate) struct UnnamedApplication {
    pub application: Application,
    pub hub: Arc<ClusterHandle>,
    pub revision: String,
    pub render: Arc<RenderFn>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct UnselectedObjects(Mutex<UnselectedState>);

#[derive(Default)]
struct UnselectedState {
    /// Whether some Applications were named at all.
    named: bool,
    /// By repository and name, with what was found: nothing where nobody has begun to look.
    all: BTreeMap<(String, Name), (Arc<UnnamedApplication>, Option<UnselectedObject>)>,
}

impl UnselectedObjects {
    fn lock(&self) -> MutexGuard<'_, UnselectedState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only some of a repository's Applications are followed, and these are not among them.
    pub fn leave(&self, repository: &str, unnamed: impl IntoIterator<Item = UnnamedApplication>) {
        let mut known = self.lock();
        known.named = true;
        known.all.retain(|(other, _), _| other != repository);
        for one in unnamed {
            known.all.insert(
                (repository.to_owned(), one.application.name.clone()),
                (Arc::new(one), None),
            );
        }
    }

    /// Whether only some Applications are followed.
    pub fn is_named(&self) -> bool {
        self.lock().named
    }
}

impl ReconcileContext {
    /// What is known of an Application that was left aside; somebody looks from now on.
    pub fn aside(self: &Arc<Self>, repository: &str, name: &Name) -> Option<UnselectedObject> {
        let key = (repository.to_owned(), name.clone());
        let mut known = self.rest.lock();
        let (one, found) = known.all.get_mut(&key)?;
        Some(match found {
            Some(found) => found.clone(),
            None => {
                *found = Some(UnselectedObject::Nothing);
                self.look_at(key, Arc::clone(one));
                UnselectedObject::Nothing
            }
        })
    }

    /// Has all Applications of a repository read that were left aside on a cluster. Gives one that
    /// cannot be, and why, once nothing more is to come.
    pub fn read_aside(self: &Arc<Self>, repository: &str, cluster: &str) -> Option<(Name, String)> {
        let mut known = self.rest.lock();
        let here = known
            .all
            .iter_mut()
            .filter(|((of, _), (one, _))| of == repository && one.hub.cluster.name() == cluster);
        let (mut open, mut unread) = (false, None);
        for (key, (one, found)) in here {
            match found {
                None => {
                    (*found, open) = (Some(UnselectedObject::Nothing), true);
                    self.look_at(key.clone(), Arc::clone(one));
                }
                Some(UnselectedObject::Nothing) => open = true,
                Some(UnselectedObject::Unread(why)) => {
                    unread = unread.or_else(|| Some((key.1.clone(), why.clone())))
                }
                Some(_) => {}
            }
        }
        unread.filter(|_| !open)
    }

    /// Whether somebody looks at one of them on a cluster.
    pub fn is_looking_aside(&self, repository: &str, cluster: &str) -> bool {
        let known = self.rest.lock();
        let mut here = known
            .all
            .iter()
            .filter(|((of, _), (one, _))| of == repository && one.hub.cluster.name() == cluster);
        here.any(|(_, (_, found))| *found == Some(UnselectedObject::Nothing))
    }

    fn look_at(self: &Arc<Self>, key: (String, Name), one: Arc<UnnamedApplication>) {
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            let found = match shared.read_one(&one).await {
                Ok(found) => found,
                Err(why) => UnselectedObject::Unread(why),
            };
            if let Some((same, known)) = shared.rest.lock().all.get_mut(&key)
                && Arc::ptr_eq(same, &one)
            {
                *known = Some(found);
            }
            one.hub.state().wake_all();
            shared.turned.send_modify(|count| *count += 1);
        });
    }

    /// Notes what an Application wants, and finds out whether that was applied; else why it cannot
    /// be read.
    async fn read_one(&self, one: &UnnamedApplication) -> Result<UnselectedObject, String> {
        let UnnamedApplication {
            application,
            hub,
            revision,
            render,
        } = one;
        let recorded = hub
            .recorded_of(&application.name)
            .await
            .map_err(|error| error.to_string())?;
        if application.suspend {
            // It keeps what it has.
            let kept = recorded
                .into_iter()
                .flat_map(|recorded| recorded.inventory.entries.into_keys());
            hub.state().note(&application.name, revision, kept);
            return Ok(UnselectedObject::Suspended);
        }
        let permit = self
            .renderings
            .acquire()
            .await
            .map_err(|error| error.to_string())?;
        let (render, declared) = (Arc::clone(render), application.clone());
        let rendered = tokio::task::spawn_blocking(move || render(&declared)).await;
        drop(permit);
        let rendered = rendered
            .map_err(|panic| format!("rendering ended unasked: {panic}"))?
            .map_err(|why| why.message.to_string())?;
        let served = hub
            .cluster
            .resources()
            .await
            .map_err(|error| error.to_string())?;
        let (desired, _) =
            plan::desired_objects(application, rendered.objects(), &ClusterKinds(served));
        let now = Some(plan::hash_all(&desired));
        hub.state().note(
            &application.name,
            revision,
            desired.into_iter().map(|one| one.key),
        );
        let applied = recorded.is_some_and(|recorded| {
            recorded.inventory.rendered == now
                && recorded
                    .history
                    .0
                    .first()
                    .is_some_and(|newest| newest.result == RolloutOutcome::Applied)
        });
        Ok(if applied {
            UnselectedObject::Applied
        } else {
            UnselectedObject::Behind
        })
    }
}
