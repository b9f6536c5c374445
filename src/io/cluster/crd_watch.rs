//! Waits for kinds to be served: CRDs and APIServices are watched while a kind is missing, and not
//! before.

use super::{
    ClusterClient, RequestIdentity,
    discovery::{Resource, Resources},
    request, url,
    watch_timing::{LIFE, LONGEST_REFUSED},
};
use crate::objects::object::Gvk;
use futures::StreamExt;
use kube::core::WatchEvent;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Definitions appear in bursts; this debounces discovery.
const SETTLE: Duration = Duration::from_millis(100);

/// The media type for objects without their content.
pub(crate) const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// The kinds that bring kinds: apiVersion and kind, and the plural.
pub(crate) const DEFINITIONS: [((&str, &str), &str); 2] = [
    (
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        "customresourcedefinitions",
    ),
    (("apiregistration.k8s.io/v1", "APIService"), "apiservices"),
];

/// While kinds are waited for, watches what brings kinds and asks again what the cluster serves
/// when one of their groups shows up.
pub(crate) async fn definitions(
    cluster: ClusterClient,
    gvk: Gvk,
    plural: &str,
    mut waiting: watch::Receiver<BTreeMap<String, usize>>,
) {
    let resource = Resource {
        gvk,
        plural: plural.to_owned(),
        namespaced: false,
        verbs: BTreeSet::default(),
        has_status: false,
    };
    loop {
        if waiting.wait_for(|groups| !groups.is_empty()).await.is_err() {
            return;
        }
        let enough = waiting.clone();
        tokio::select! {
            watched = follow_definitions(&cluster, &resource, &waiting) => if !watched {
                // If definitions may not be watched, polling at a long interval is the only way.
                tokio::time::sleep(LONGEST_REFUSED + request::jitter(1000)).await;
                let _ = cluster.refresh().await;
            },
            () = nothing_waits(enough) => {}
        }
    }
}

async fn nothing_waits(mut waiting: watch::Receiver<BTreeMap<String, usize>>) {
    let _ = waiting.wait_for(BTreeMap::is_empty).await;
}

/// Watches definitions from the present state until the watch ends; false if it could not start or
/// ended at once.
async fn follow_definitions(
    cluster: &ClusterClient,
    resource: &Resource,
    waiting: &watch::Receiver<BTreeMap<String, usize>>,
) -> bool {
    let began = Instant::now();
    let Ok(path) = url::collection(resource, None) else {
        return false;
    };
    // Without a version a watch begins with what there is.
    let path = format!(
        "{path}{}",
        url::query(&[("watch", "1"), ("timeoutSeconds", &LIFE.to_string())])
    );
    let Ok(mut events) = cluster
        .watch(&RequestIdentity::Own, resource, path, METADATA)
        .await
    else {
        return false;
    };
    let mut due: Option<(Instant, u32)> = None;
    loop {
        let settled = async {
            match due {
                Some((at, _)) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(WatchEvent::Added(value) | WatchEvent::Modified(value))) => {
                    // "plural.group" of a definition, "version.group" of a service.
                    let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                    if name.split_once('.').is_some_and(|(_, group)| waiting.borrow().contains_key(group)) {
                        due = Some((Instant::now() + SETTLE, 0));
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return began.elapsed() > Duration::from_secs(1),
            },
            () = settled => {
                // The server publishes a new kind a moment after its definition is established.
                let asked = due.map_or(0, |(_, asked)| asked);
                let _ = cluster.refresh().await;
                due = (asked < 4).then(|| (Instant::now() + SETTLE * 3u32.pow(asked + 1), asked + 1));
            }
        }
    }
}

/// Waits until what discovery knows of a group is enough; meanwhile its definitions are watched
/// for.
pub(crate) async fn until_served(
    cluster: &ClusterClient,
    waiting: &watch::Sender<BTreeMap<String, usize>>,
    group: &str,
    enough: impl Fn(&Resources) -> bool,
) {
    waiting.send_modify(|groups| *groups.entry(group.to_owned()).or_default() += 1);
    let mut resources = cluster.follow_resources();
    let _ = resources
        .wait_for(|known| known.as_ref().is_some_and(|known| enough(known)))
        .await;
    waiting.send_modify(|groups| {
        if let Some(count) = groups.get_mut(group) {
            *count -= 1;
        }
        groups.retain(|_, count| *count > 0);
    });
}
