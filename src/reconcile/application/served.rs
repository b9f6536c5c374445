//! Kinds that the cluster does not serve yet.
//!
//! The API server publishes a kind a moment after its CRD is established. Until then, requests
//! about its objects fail.

use super::AppReconciler;
use crate::{
    io::cluster::{ClusterError, Resources},
    objects::{object::Gvk, plan::DesiredObject},
    reconcile::work::{AcceptedRevision, Work},
};
use futures::future::BoxFuture;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// The time that an API server has to publish the kind of an established CRD. Afterwards the
/// object is sent, and the refusal says what is wrong with its kind or version.
const PUBLISHING: Duration = Duration::from_secs(30);

/// The kinds of established CRDs that the API server does not publish yet.
pub(super) const NOT_SERVED: &str = "the API server does not serve yet";

impl AppReconciler {
    /// Waits until discovery knows a kind that the last pass missed; `None` if it missed none.
    ///
    /// Boxed: thousands of sleeping tasks wait for no kind.
    pub(super) fn kinds_served(&self) -> Option<BoxFuture<'static, ()>> {
        let target = self.target.as_ref()?;
        let unserved = target.desired.iter().filter(|one| !one.served);
        let unserved: Vec<Gvk> = unserved.map(DesiredObject::gvk).collect();
        // A pass that fails waits for its back-off.
        if unserved.is_empty() || self.failed_passes > 0 {
            return None;
        }
        let mut resources = self.cluster.client.follow_resources();
        Some(Box::pin(async move {
            let is_served =
                |known: &Resources| unserved.iter().any(|kind| known.find(kind).is_some());
            let served = resources.wait_for(|known| known.as_deref().is_some_and(is_served));
            if served.await.is_err() {
                std::future::pending().await
            }
        }))
    }

    /// Returns whether an object waits until the kind that an applied CRD brings is served.
    pub(super) fn awaits_kind(&self, one: &DesiredObject, dependency: &DesiredObject) -> bool {
        let until = self.target.as_ref().and_then(|target| target.published_by);
        !one.served
            && dependency
                .gvk()
                .is("apiextensions.k8s.io", "CustomResourceDefinition")
            && until.is_none_or(|until| Instant::now() < until)
    }

    /// Limits the wait for the publication of kinds, from when nothing else is missing.
    pub(super) fn await_publication(&mut self, waiting: &BTreeSet<usize>) {
        let Some(target) = &self.target else { return };
        if target.published_by.is_some() || !target.has_unserved_kinds() {
            return;
        }
        let begins = {
            let cluster = self.cluster.state();
            let missing = |one, after| self.missing(&cluster, one, after);
            let mut waiting = waiting.iter().map(|index| &target.desired[*index]);
            waiting.any(|one| {
                let mut missing = one.after.iter().map(|after| missing(one, after));
                missing.any(|missing| missing == Some(NOT_SERVED))
            })
        };
        if begins && let Some(target) = &mut self.target {
            target.published_by = Some(Instant::now() + PUBLISHING);
        }
    }

    /// Accepts the revision again once the cluster serves a missing kind: its scope decides in
    /// which namespace the objects lie.
    pub(super) async fn accept_served_kinds(&mut self) -> Result<(), ClusterError> {
        let Some(target) = &mut self.target else {
            return Ok(());
        };
        if !target.has_unserved_kinds() {
            return Ok(());
        }
        let resources = self.cluster.client.resources().await?;
        let is_served_now = target
            .desired
            .iter()
            .any(|one| !one.served && resources.find(&one.gvk()).is_some());
        let source = target.unserved_source.take_if(|_| is_served_now);
        let Some((application, rendered)) = source.map(|source| *source) else {
            return Ok(());
        };
        self.work = Some(Work::Apply(Box::new(AcceptedRevision {
            revision: target.revision.clone(),
            application,
            rendered,
        })));
        self.accept_work().await
    }
}
