//! The judgement of a live object by its record, as the reconciler makes it: without a dry run.

use super::{Comparison, dry_run::take_over_manifest};
use crate::{
    core::name::Name,
    io::cluster::RequestIdentity,
    objects::{
        health::KindTraits,
        object::{Object, ObjectKey},
        plan::{self, DesiredObject, InventoryEntry, ObjectAction, ObjectClaims, SkipReason},
    },
    reconcile::cluster_state::{
        observed::{self, WatchedManifest},
        released::ReleasedField,
    },
};

/// The result of a look at the record and the live object.
pub(super) enum Recorded {
    /// A sync leaves the object as it is; with remarks.
    Synced(Vec<String>),
    /// The API server must tell. The live object, if it was read just now.
    Unknown(Option<Object>),
}

impl Comparison<'_> {
    /// Judges an object by its record, which is worth a read only if Git has not changed since the
    /// last apply.
    pub(super) async fn recorded(
        &self,
        one: &DesiredObject,
        entry: Option<&InventoryEntry>,
    ) -> Recorded {
        let unchanged = |entry: &&InventoryEntry| {
            let applied = entry.applied.as_ref();
            applied.is_some_and(|applied| applied.manifest == one.hash && !applied.untouched)
        };
        let Some(entry) = entry.filter(unchanged).filter(|_| one.served) else {
            return Recorded::Unknown(None);
        };
        let Ok(resource) = self.cluster.resource(&one.gvk()).await else {
            return Recorded::Unknown(None);
        };
        let name = &self.application.name;
        let listed = self
            .reads
            .live
            .take(self.cluster, name, &resource, &one.key);
        if let Some(object) = listed.await {
            let judged = self.judge(one, entry, move || object.object().ok()).await;
            return match judged {
                Some((Some(notes), _)) => Recorded::Synced(notes),
                // The list is older than the dry run will be: it must not look like a change.
                _ => Recorded::Unknown(None),
            };
        }
        let identity = RequestIdentity::Own;
        let Ok(Some(live)) = self.cluster.get(&identity, &resource, &one.key).await else {
            return Recorded::Unknown(None);
        };
        match self.judge(one, entry, move || Some(live)).await {
            Some((Some(notes), _)) => Recorded::Synced(notes),
            Some((None, live)) => Recorded::Unknown(Some(live)),
            None => Recorded::Unknown(None),
        }
    }

    /// Returns the remarks on an object that a sync leaves as it is, and the object.
    async fn judge(
        &self,
        one: &DesiredObject,
        entry: &InventoryEntry,
        live: impl FnOnce() -> Option<Object> + Send + 'static,
    ) -> Option<(Option<Vec<String>>, Object)> {
        let applied = entry.applied.clone()?;
        let watched = WatchedManifest {
            expected: Some(applied.live),
            expected_leaves: applied.leaves,
            atomic_fields: applied.atomic_fields,
            ..take_over_manifest(self.cluster, one, self.application)
        };
        let (name, one, entry) = (self.application.name.clone(), one.clone(), entry.clone());
        crate::io::blocking(move || {
            let live = live()?;
            Some((synced_notes(&name, &one, &entry, &watched, &live), live))
        })
        .await
    }
}

fn synced_notes(
    application: &Name,
    one: &DesiredObject,
    entry: &InventoryEntry,
    watched: &WatchedManifest,
    live: &Object,
) -> Option<Vec<String>> {
    let observed = observed::observe(live, Some(watched), KindTraits::default());
    let is_ours = observed.live.owner.as_ref() == Some(application);
    let action = plan::decide_action(application, one, Some(entry), Some(&observed.live), &Alone);
    (is_ours && matches!(action, ObjectAction::Leave(SkipReason::Synced))).then(|| {
        let released = observed.released.iter().filter_map(ReleasedField::note);
        let additions = observed::addition_notes(&observed.template_additions);
        released.chain(additions).collect()
    })
}

/// No claims of other Applications: they do not matter to an object that is ours.
struct Alone;

impl ObjectClaims for Alone {
    fn claims(&self, _: &Name, _: &ObjectKey) -> Option<bool> {
        Some(false)
    }

    fn claimants(&self, _: &ObjectKey) -> Vec<Name> {
        Vec::new()
    }

    fn is_tenant(&self, _: &Name) -> bool {
        false
    }

    fn are_foreign(&self, _: &Name, _: &Name) -> bool {
        false
    }
}
