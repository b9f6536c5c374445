//! Discovery: requested once, repeated for an unknown kind, and complete while one group is down.

use super::support::*;
use crate::servers::{
    kube::Kube,
    proxy::{Fault, Proxy},
};
use reqwest::Method;
use serde_json::json;
use tagboat::{
    io::cluster::{ApplyRequest, ClusterProblem, RequestIdentity},
    objects::object::Gvk,
};

const OWN: RequestIdentity = RequestIdentity::Own;

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn discovery_is_requested_once() {
    let kube = bare();
    let cluster = open(&kube.kubeconfig).await;
    assert_eq!(
        cluster.stats().without_watches(),
        0,
        "opening sends nothing"
    );
    let resources = cluster.resources().await.unwrap();
    let deployment = resources.find(&Gvk::new("apps/v1", "Deployment")).unwrap();
    assert!(
        deployment.namespaced
            && deployment.can("patch")
            && deployment.dotted() == "deployments.apps"
    );
    assert!(
        !resources
            .find(&Gvk::new("v1", "Namespace"))
            .unwrap()
            .namespaced
    );
    assert_eq!(
        resources
            .preferred("autoscaling", "HorizontalPodAutoscaler")
            .unwrap()
            .gvk
            .version,
        "v2"
    );
    assert_eq!(
        cluster.stats().0["discovery"],
        2,
        "one answer for the core group, one for all others"
    );
    for _ in 0..3 {
        cluster.resource(&Gvk::new("v1", "Pod")).await.unwrap();
        cluster.resources().await.unwrap();
    }
    assert_eq!(cluster.stats().0["discovery"], 2);
    let version = cluster.version().await.unwrap();
    let (_, answer) = kube.call(Method::GET, "/version", None).await;
    assert_eq!(
        (json!(version.text), json!(version.minor.to_string())),
        (answer["gitVersion"].clone(), answer["minor"].clone())
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn discovery_unknown_kind_is_retried_and_found() {
    let kube = bare();
    let cluster = open(&kube.kubeconfig).await;
    let group = "unknown.test.tagboat.dev";
    let boat = boat(group);
    cluster.resources().await.unwrap();
    for _ in 0..20 {
        assert!(matches!(
            problem(cluster.resource(&boat).await),
            ClusterProblem::UnknownKind { .. }
        ));
    }
    assert!(cluster.stats().0["discovery"] <= 6, "{:?}", cluster.stats());
    cluster
        .apply(&OWN, &definition(group), &ApplyRequest::default())
        .await
        .unwrap();
    until("the kind is served", async || {
        cluster.refresh().await.unwrap().find(&boat).is_some()
    })
    .await;
    let namespace = kube.namespace("boats").await;
    let titanic = object(
        json!({"apiVersion": format!("{group}/v1"), "kind": "Boat", "metadata": {"name": "a", "namespace": namespace}, "spec": {"masts": 9}}),
    );
    assert!(
        matches!(problem(cluster.apply(&OWN, &titanic, &ApplyRequest::default()).await), ClusterProblem::Invalid { causes, .. } if causes[0].starts_with("spec.masts"))
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn discovery_broken_group_affects_no_other() {
    let kube = bare();
    let cluster = open(&kube.kubeconfig).await;
    let service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.down.test.tagboat.dev"},
        "spec": {"group": "down.test.tagboat.dev", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "nobody"}},
    });
    cluster
        .apply(&OWN, &object(service), &ApplyRequest::default())
        .await
        .unwrap();
    until("the group is known to be down", async || {
        cluster
            .refresh()
            .await
            .unwrap()
            .unavailable()
            .any(|group| group == "down.test.tagboat.dev/v1")
    })
    .await;
    let resources = cluster.resources().await.unwrap();
    assert!(
        resources.find(&Gvk::new("apps/v1", "Deployment")).is_some()
            && resources.find(&Gvk::new("v1", "Pod")).is_some()
    );
    let error = problem(
        cluster
            .resource(&Gvk::new("down.test.tagboat.dev/v1", "Thing"))
            .await,
    );
    assert!(
        matches!(&error, ClusterProblem::UnknownKind { why: Some(why), down: true, .. } if why.contains("does not answer")),
        "{error:?}"
    );
    kube.call(
        Method::DELETE,
        "/apis/apiregistration.k8s.io/v1/apiservices/v1.down.test.tagboat.dev",
        None,
    )
    .await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn discovery_falls_back_to_each_group() {
    // The real server, queried as by an old client: its plain answers are those of an old server.
    let kube: &Kube = bare();
    let proxy = Proxy::start(kube).await;
    proxy.drop_header("accept");
    let old = open(&kube.kubeconfig_for("admin", &proxy.url, None)).await;
    let new = open(&kube.kubeconfig).await;
    let (old_resources, new_resources) = (
        old.resources().await.unwrap(),
        new.resources().await.unwrap(),
    );
    assert!(old.stats().0["discovery"] > 10);
    for resource in new_resources
        .iter()
        .filter(|resource| !resource.gvk.group.contains("test.tagboat.dev"))
    {
        let plain = old_resources
            .find(&resource.gvk)
            .unwrap_or_else(|| panic!("{} is missing", resource.gvk));
        assert_eq!(
            (&plain.plural, plain.namespaced, &plain.verbs),
            (&resource.plural, resource.namespaced, &resource.verbs)
        );
        let preferred = |resources: &tagboat::io::cluster::Resources| {
            resources
                .preferred(&resource.gvk.group, &resource.gvk.kind)
                .unwrap()
                .gvk
                .clone()
        };
        assert_eq!(preferred(&old_resources), preferred(&new_resources));
    }
    // A failing group is named, the others stay.
    proxy.fault(
        "GET",
        "/apis/batch/v1",
        100,
        Fault::Answer {
            status: 503,
            retry_after: None,
        },
    );
    let resources = old.refresh().await.unwrap();
    assert_eq!(resources.unavailable().collect::<Vec<_>>(), ["batch/v1"]);
    assert!(resources.find(&Gvk::new("apps/v1", "Deployment")).is_some());
    assert!(
        resources.find(&Gvk::new("batch/v1", "Job")).is_some(),
        "the group's known kinds are kept"
    );
}
