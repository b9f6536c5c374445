//! Objects that other Applications of a repository declare: no sync deletes them.

use super::rendering::Renderings;
use crate::{
    core::name::Name,
    io::cluster::ClusterClient,
    objects::tenancy,
    reconcile::{self, RenderFn},
    spec::Application,
};
use futures::{FutureExt as _, StreamExt as _, stream};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::OnceCell;

/// Applications that are rendered at once.
const AT_ONCE: usize = 16;

/// The declared objects of each cluster, read when the first deletion asks for them.
#[derive(Default)]
pub(super) struct DeclaredElsewhere(Mutex<HashMap<String, Arc<OnceCell<DeclaredObjects>>>>);

/// Everything that the Applications of a repository declare on one cluster.
#[derive(Default)]
pub(super) struct DeclaredObjects {
    /// The Applications, in the order of their names.
    names: Vec<Name>,
    /// The Applications that declare an object, by index.
    declared: HashMap<String, Vec<usize>>,
    /// Applications that cannot be read, and may declare anything.
    unreadable: BTreeMap<usize, String>,
}

impl DeclaredElsewhere {
    /// Returns the declared objects on a cluster; renders all Applications there the first time.
    pub(super) async fn on(
        &self,
        cluster: &ClusterClient,
        applications: &BTreeMap<Name, Application>,
        render: &Arc<RenderFn>,
        renderings: &Renderings,
    ) -> Arc<OnceCell<DeclaredObjects>> {
        let cell = {
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(cluster.name().to_owned()).or_default())
        };
        cell.get_or_init(|| DeclaredObjects::read(cluster, applications, render, renderings))
            .await;
        cell
    }
}

impl DeclaredObjects {
    async fn read(
        cluster: &ClusterClient,
        applications: &BTreeMap<Name, Application>,
        render: &Arc<RenderFn>,
        renderings: &Renderings,
    ) -> Self {
        let mut here: Vec<&Application> = applications.values().collect();
        here.retain(|application| {
            application.cluster == cluster.name()
                && !application.suspend
                && tenancy::unit_refusal(application).is_none()
        });
        let reads = (0..here.len()).map(|index| {
            let application = here[index];
            async move {
                let objects = match renderings.render(render, application).await {
                    Ok(rendered) => reconcile::declared_objects(cluster, application, &rendered)
                        .await
                        .map_err(|error| error.to_string()),
                    Err(failure) => Err(failure.error),
                };
                (application.name.clone(), objects)
            }
            .boxed()
        });
        let mut reads = stream::iter(reads).buffered(AT_ONCE);
        let mut all = Self::default();
        while let Some((name, objects)) = reads.next().await {
            all.add(name, objects);
        }
        all
    }

    /// Adds the next Application.
    fn add(&mut self, name: Name, objects: Result<impl IntoIterator<Item = String>, String>) {
        let index = self.names.len();
        self.names.push(name);
        match objects {
            Ok(objects) => {
                for object in objects {
                    self.declared.entry(object).or_default().push(index);
                }
            }
            Err(why) => drop(self.unreadable.insert(index, why)),
        }
    }

    /// Returns why an object of an Application is not deleted, if another one declares it or may
    /// do so: the first one by name.
    pub(super) fn note(&self, application: &Name, object: &str) -> Option<String> {
        let is_other = |index: &&usize| self.names[**index] != *application;
        let declared = self.declared.get(object).into_iter().flatten();
        let declared = declared.filter(is_other).min().copied();
        let unreadable = self.unreadable.keys().find(is_other).copied();
        match (declared, unreadable) {
            (_, Some(index)) if declared.is_none_or(|declared| index < declared) => Some(format!(
                "not deleted before {}, which may declare it, can be read: {}",
                self.names[index], self.unreadable[&index]
            )),
            (Some(index), _) => Some(format!(
                "not deleted: Application {} declares it, and takes it over",
                self.names[index]
            )),
            (None, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn note_names_the_first_other_application() {
        let mut all = DeclaredObjects::default();
        let [a, b, c]: [Name; 3] = ["x/a", "x/b", "x/c"].map(|name| name.parse().unwrap());
        all.add(a.clone(), Ok(["one".to_owned(), "two".to_owned()]));
        all.add(b.clone(), Err::<[String; 2], _>("not YAML".to_owned()));
        all.add(c.clone(), Ok(["two".to_owned(), "three".to_owned()]));
        let unreadable = "not deleted before x/b, which may declare it, can be read: not YAML";
        let taken =
            |name: &Name| format!("not deleted: Application {name} declares it, and takes it over");
        assert_eq!(all.note(&c, "one"), Some(taken(&a)));
        assert_eq!(all.note(&a, "one").as_deref(), Some(unreadable));
        assert_eq!(all.note(&a, "three").as_deref(), Some(unreadable));
        assert_eq!(all.note(&b, "three"), Some(taken(&c)));
        assert_eq!(all.note(&b, "two"), Some(taken(&a)));
        assert_eq!(all.note(&b, "four"), None);
    }
}
