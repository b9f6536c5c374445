//! The Applications of a repository that a command has not named.
//!
//! Nothing of theirs is touched. What they want, and whether they were applied as Git says, is
//! found out when that matters to those that are named, and not before: a repository may have
//! thousands.

use super::{Render, Served, hub::Hub, shared::Shared};
use crate::{
    declare::Application,
    name::Name,
    plan::{self, Outcome},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What is known of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
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
pub(super) struct Unnamed {
    pub application: Application,
    pub hub: Arc<Hub>,
    pub revision: String,
    pub render: Arc<Render>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Rest(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Whether some Applications were named at all.
    named: bool,
    /// By repository and name, with what was found: nothing where nobody has begun to look.
    all: BTreeMap<(String, Name), (Arc<Unnamed>, Option<Found>)>,
}

impl Rest {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only some of a repository's Applications are followed, and these are not among them.
    pub fn leave(&self, repository: &str, unnamed: impl IntoIterator<Item = Unnamed>) {
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

impl Shared {
    /// What is known of an Application that was left aside; somebody looks from now on.
    pub fn aside(self: &Arc<Self>, repository: &str, name: &Name) -> Option<Found> {
        let key = (repository.to_owned(), name.clone());
        let mut known = self.rest.lock();
        let (one, found) = known.all.get_mut(&key)?;
        Some(match found {
            Some(found) => found.clone(),
            None => {
                *found = Some(Found::Nothing);
                self.look_at(key, Arc::clone(one));
                Found::Nothing
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
                    (*found, open) = (Some(Found::Nothing), true);
                    self.look_at(key.clone(), Arc::clone(one));
                }
                Some(Found::Nothing) => open = true,
                Some(Found::Unread(why)) => {
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
        here.any(|(_, (_, found))| *found == Some(Found::Nothing))
    }

    fn look_at(self: &Arc<Self>, key: (String, Name), one: Arc<Unnamed>) {
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            let found = match shared.read_one(&one).await {
                Ok(found) => found,
                Err(why) => Found::Unread(why),
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
    async fn read_one(&self, one: &Unnamed) -> Result<Found, String> {
        let Unnamed {
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
            return Ok(Found::Suspended);
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
            .map_err(|why| why.row.to_string())?;
        let served = hub
            .cluster
            .resources()
            .await
            .map_err(|error| error.to_string())?;
        let (wanted, _) = plan::wanted(application, rendered.objects(), &Served(served));
        let now = Some(plan::of_all(&wanted));
        hub.state().note(
            &application.name,
            revision,
            wanted.into_iter().map(|one| one.key),
        );
        let applied = recorded.is_some_and(|recorded| {
            recorded.inventory.rendered == now
                && recorded
                    .history
                    .0
                    .first()
                    .is_some_and(|newest| newest.result == Outcome::Applied)
        });
        Ok(if applied {
            Found::Applied
        } else {
            Found::Behind
        })
    }
}
