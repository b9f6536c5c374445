//! The autoscalers of a cluster, asked for when it matters whose number of replicas counts.

use crate::{
    io::cluster::{ClusterClient, ClusterError, RequestIdentity},
    objects::{
        autoscale::{self, AUTOSCALERS},
        object::ObjectKey,
    },
    reconcile::cluster_state::released::ReleasedField,
};
use std::collections::HashSet;

/// Returns the objects of a namespace that autoscalers target.
pub(crate) async fn autoscaled(
    client: &ClusterClient,
    namespace: Option<&str>,
) -> Result<HashSet<ObjectKey>, ClusterError> {
    let resources = client.resources().await?;
    let mut targets = HashSet::new();
    for (group, kind) in AUTOSCALERS {
        let Some(resource) = resources.preferred(group, kind) else {
            continue;
        };
        let found = client
            .list_as(&RequestIdentity::Own, resource, namespace, None, |object| {
                autoscale::scale_target(&object)
            })
            .await?;
        targets.extend(found.into_iter().flatten());
    }
    Ok(targets)
}

/// Returns whether no autoscaler targets an object. Where autoscalers may not be listed, the
/// manager of the scale decides.
pub(crate) async fn is_free(
    client: &ClusterClient,
    key: &ObjectKey,
    released: &[ReleasedField],
) -> bool {
    match autoscaled(client, key.namespace.as_deref()).await {
        Ok(targets) => !targets.contains(key),
        Err(_) => !released.iter().any(ReleasedField::is_set_by_autoscaler),
    }
}
