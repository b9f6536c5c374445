//! Scenarios of tenants: repositories whose rights are bounded by `tagboat.yaml`.

use super::support::fleet::{Backend, Fleet, config, problems, repository, states};
use reqwest::Method;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use tagboat::{
    io::render::{RenderMethod, Rendered},
    objects::object::{CompactObject, Object, ObjectOrigin},
    reconcile::{ApplicationState, ChangeKind, ClusterReads, Reason, diff_objects},
    spec::{self, rights::RepositoryRights, settings},
};

/// Calls a macro with the names of all scenarios of this file.
macro_rules! for_each_tenant_scenario {
    ($run:ident) => {
        $run!(reconcile_tenants:
            tenant_with_admin_wishes_is_refused,
            tenant_diff_refuses_alike,
            tenant_unit_outside_its_namespaces_is_refused,
            tenant_removal_needs_the_same_rights,
            tenant_takes_nothing_from_the_platform,
            tenant_gives_way_to_the_platform,
            tenant_creates_no_namespace,
            tenant_depends_on_its_own_repository,
            live_annotations_may_be_ignored,
        );
    };
}
pub(crate) use for_each_tenant_scenario;

/// The rights of a tenant, from settings with one cluster; `more` follows its namespaces.
pub(crate) fn rights(own: &str, namespaces: &[&str], more: &str) -> Arc<RepositoryRights> {
    let text = format!(
        "repositories:\n- {{name: platform, url: 'https://git.example.org/shop/fleet'}}\n- name: team\n  url: https://git.example.org/team/deploy\n  tenant:\n    clusters: [test]\n    namespaces: [{}]\n    serviceAccountName: deployer\n{more}clusters:\n- {{name: test, kubeconfig: x, namespace: {own}, repositories: [platform]}}\n",
        namespaces.join(", ")
    );
    let (settings, warnings) = settings::read("tagboat.yaml", &text).unwrap();
    assert_eq!(warnings, []);
    Arc::clone(&settings.repositories[1].rights)
}

/// Makes a fleet a tenant of its own namespace.
pub(super) async fn as_tenant<K: Backend>(fleet: &Fleet<K>, more: &str) {
    let own = fleet.own_namespace();
    fleet.grant(rights(&own, &[&fleet.namespace], more));
    allow_deployer(fleet).await;
}

/// Grants the account `deployer` everything in the fleet's namespace.
async fn allow_deployer<K: Backend>(fleet: &Fleet<K>) {
    let rbac = format!(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{}",
        fleet.namespace
    );
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "deployer"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "deployer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployer"},
        "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": fleet.namespace}]});
    for (plural, body) in [("roles", role), ("rolebindings", binding)] {
        let path = format!("{rbac}/{plural}");
        let (status, answer) = fleet.kube.call(Method::POST, &path, Some(&body)).await;
        assert!(status.is_success() || status.as_u16() == 409, "{answer}");
    }
}

/// A ConfigMap in a namespace.
fn config_in(namespace: &str, name: &str) -> Value {
    let mut object = config(name, "1");
    object["metadata"]["namespace"] = json!(namespace);
    object
}

async fn namespace<K: Backend>(fleet: &Fleet<K>, name: &str) {
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let (status, answer) = fleet
        .kube
        .call(Method::POST, "/api/v1/namespaces", Some(&body))
        .await;
    assert!(status.is_success() || status.as_u16() == 409, "{answer}");
}

/// A ConfigMap anywhere, if it exists.
async fn map_in<K: Backend>(fleet: &Fleet<K>, namespace: &str, name: &str) -> Option<Value> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
    let (status, value) = fleet.kube.call(Method::GET, &path, None).await;
    (status == 200).then_some(value)
}

fn wishes(namespace: &str, own: &str) -> Vec<Value> {
    let binding = |kind: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": "evil"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": namespace}]})
    };
    vec![
        config("honest", "1"),
        config_in("kube-system", "evil"),
        config_in(own, "evil"),
        binding("ClusterRoleBinding"),
        binding("RoleBinding"),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-public", "labels": {"evil": "true"}}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1beta1", "kind": "ClusterRole", "metadata": {"name": "old"}, "rules": []}),
    ]
}

pub(super) async fn tenant_with_admin_wishes_is_refused<K: Backend>(fleet: Fleet<K>) {
    let own = fleet.own_namespace();
    as_tenant(
        &fleet,
        "    deny: ['rbac.authorization.k8s.io/*']\n    clusterScoped: [Namespace]\n",
    )
    .await;
    let neighbour = fleet.beside(repository("neighbour", "git.example.com"));
    neighbour.application("neighbour", ", prune: true");
    neighbour.manifests("neighbour", vec![config("theirs", "1")]);
    fleet.application("team", ", prune: true");
    fleet.manifests("team", wishes(&fleet.namespace, &own));
    fleet.commit();
    let statuses = neighbour.applied().await;
    assert_eq!(states(&statuses), [("neighbour", ApplicationState::Synced)]);
    let statuses = fleet.applied().await;
    let status = &statuses["team"];
    assert_eq!(status.state, ApplicationState::Failed, "{status:#?}");
    let namespace = &fleet.namespace;
    let only = format!("only into {namespace} (tenant.namespaces)");
    for (line, object, why) in [
        (2, "ConfigMap kube-system/evil", only.clone()),
        (
            3,
            &format!("ConfigMap {own}/evil"),
            format!("namespace {own} belongs to tagboat"),
        ),
        (
            4,
            "ClusterRoleBinding evil",
            "may not deploy rbac.authorization.k8s.io/ClusterRoleBinding (tenant.deny)".to_owned(),
        ),
        (
            5,
            &format!("RoleBinding {namespace}/evil"),
            "(tenant.deny)".to_owned(),
        ),
        (6, "Namespace kube-public", only),
        (7, "ClusterRole", "(tenant.deny)".to_owned()),
    ] {
        let place = format!("team/all.yaml:{line}");
        let problem = status
            .problems
            .iter()
            .find(|problem| problem.place.as_deref() == Some(&place));
        let problem = problem.unwrap_or_else(|| panic!("{place}: {:#?}", status.problems));
        let told = problem.to_string();
        assert!(told.contains(object) && told.contains(&why), "{told}");
    }
    assert_eq!(status.problems.len(), 6);
    // What it has a right to is there, and nothing else.
    assert!(fleet.live("configmaps", "honest").await.is_some());
    assert!(map_in(&fleet, "kube-system", "evil").await.is_none());
    assert!(map_in(&fleet, &own, "evil").await.is_none());
    let (_, public) = fleet
        .kube
        .call(Method::GET, "/api/v1/namespaces/kube-public", None)
        .await;
    assert!(public["metadata"]["labels"]["evil"].is_null(), "{public:#}");
    // The neighbour goes on.
    neighbour.manifests("neighbour", vec![config("theirs", "2")]);
    let statuses = neighbour.applied().await;
    assert_eq!(states(&statuses), [("neighbour", ApplicationState::Synced)]);
}

pub(super) async fn tenant_diff_refuses_alike<K: Backend>(fleet: Fleet<K>) {
    let own = fleet.own_namespace();
    let platform = fleet.beside(repository("platform", "git.example.com"));
    platform.application("zone", "");
    platform.manifests("zone", vec![config("policy", "platform")]);
    platform.applied().await;
    let more = "    deny: ['rbac.authorization.k8s.io/*']\n    clusterScoped: [Namespace]\n    createNamespaces: false\n";
    as_tenant(&fleet, more).await;
    let missing = format!("{}-missing", fleet.namespace);
    let rights = rights(&own, &[&fleet.namespace, &missing], more);
    fleet.grant(Arc::clone(&rights));
    let mut objects = wishes(&fleet.namespace, &own);
    objects.push(config("policy", "tenant"));
    objects.push(config_in(&missing, "late"));
    fleet.application("team", "");
    fleet.manifests("team", objects.clone());
    let statuses = fleet.applied().await;
    let refused: BTreeSet<String> = statuses["team"]
        .problems
        .iter()
        .filter_map(|problem| problem.object.clone())
        .collect();
    assert_eq!(refused.len(), 8, "{:#?}", statuses["team"].problems);

    let declared = format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {{name: dev}}\nspec: {{paths: ['**'], update: {{via: commit}}}}\n---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: team, namespace: {0}}}\nspec: {{environment: dev, path: team, cluster: test, targetNamespace: {0}}}\n",
        fleet.namespace
    );
    let mut declared = spec::read([("apps.yaml", declared.as_bytes())], None);
    declared.restrict(&rights);
    let application = declared.applications.values().next().unwrap();
    let manifests = objects.into_iter().enumerate().map(|(line, object)| {
        let origin = ObjectOrigin {
            file: "team/all.yaml".into(),
            line: line + 1,
        };
        CompactObject::new(Object::new(object).unwrap().at(origin))
    });
    let rendered = Rendered {
        manifests: manifests.collect(),
        how: RenderMethod::Plain,
        warnings: Vec::new(),
        left_out: Vec::new(),
        hash: String::new(),
        inputs: None,
    };
    let cluster = fleet.reconciler.cluster("test").unwrap();
    let diffs = diff_objects(cluster, application, &rendered, &ClusterReads::default())
        .await
        .unwrap();
    let in_diff = diffs
        .iter()
        .filter(|diff| diff.change == ChangeKind::Refused);
    for diff in in_diff.clone() {
        let problem = statuses["team"]
            .problems
            .iter()
            .find(|problem| problem.object.as_ref() == Some(&diff.object))
            .unwrap();
        let why = diff.error.as_ref().unwrap();
        assert!(problem.message.contains(why), "{problem}: {why}");
        assert_eq!(problem.place, diff.place);
    }
    let in_diff: BTreeSet<String> = in_diff.map(|diff| diff.object.clone()).collect();
    assert_eq!(in_diff, refused);
}

pub(super) async fn tenant_unit_outside_its_namespaces_is_refused<K: Backend>(fleet: Fleet<K>) {
    as_tenant(&fleet, "").await;
    fleet.application_in("target", "kube-system", "");
    fleet.manifests("target", vec![config("evil", "1")]);
    fleet.application("fine", "");
    fleet.manifests("fine", vec![config("a", "1")]);
    let statuses = fleet.applied().await;
    assert_eq!(
        states(&statuses),
        [
            ("fine", ApplicationState::Synced),
            ("target", ApplicationState::Failed)
        ]
    );
    assert_eq!(statuses["target"].reason, Reason::TenantRefused);
    let told = problems(&statuses["target"]).join("\n");
    assert!(
        told.contains("targetNamespace: the tenant may not deploy into namespace kube-system"),
        "{told}"
    );
    assert!(map_in(&fleet, "kube-system", "evil").await.is_none());
    // A refused declaration removes nothing: the last accepted one stays in force.
    fleet.application_in(
        "fine",
        "kube-system",
        ", prune: true, deletionPolicy: Delete",
    );
    let statuses = fleet.applied().await;
    assert_eq!(statuses["fine"].state, ApplicationState::Failed);
    assert!(fleet.live("configmaps", "a").await.is_some());
}

pub(super) async fn tenant_removal_needs_the_same_rights<K: Backend>(fleet: Fleet<K>) {
    let outside = format!("{}-outside", fleet.namespace);
    namespace(&fleet, &outside).await;
    fleet.application("shop", ", prune: true, deletionPolicy: Delete");
    fleet.manifests("shop", vec![config("a", "1"), config_in(&outside, "b")]);
    fleet.application("stays", ", prune: true, deletionPolicy: Delete");
    fleet.manifests("stays", vec![config("c", "1")]);
    fleet.applied().await;
    // The same repository is a tenant now.
    as_tenant(&fleet, "").await;
    fleet.undeclare("shop");
    fleet.commit();
    fleet.gone("a").await;
    fleet
        .until("the Application is gone", |statuses| {
            !statuses.contains_key("shop")
        })
        .await;
    assert!(map_in(&fleet, &outside, "b").await.is_some());
    assert!(fleet.live("configmaps", "c").await.is_some());
}

pub(super) async fn tenant_takes_nothing_from_the_platform<K: Backend>(fleet: Fleet<K>) {
    let platform = fleet.beside(repository("platform", "git.example.com"));
    platform.application("zone", ", prune: true");
    platform.manifests(
        "zone",
        vec![config("policy", "platform"), config("other", "1")],
    );
    platform.applied().await;
    as_tenant(&fleet, "").await;
    fleet.application("a-team", "");
    fleet.manifests(
        "a-team",
        vec![config("policy", "tenant"), config("mine", "1")],
    );
    let statuses = fleet.applied().await;
    let told = problems(&statuses["a-team"]).join("\n");
    assert!(
        told.contains("of another repository, from which a tenant takes nothing over"),
        "{told}"
    );
    let live = fleet.live("configmaps", "policy").await.unwrap();
    assert_eq!(live["data"]["value"], "platform");
    assert!(fleet.live("configmaps", "mine").await.is_some());
    // What the platform gives up is deleted, not handed over.
    let uid = live["metadata"]["uid"].clone();
    platform.manifests("zone", vec![config("other", "1")]);
    platform.commit();
    fleet
        .live_until("configmaps", "policy", |live| {
            live["metadata"]["uid"] != uid
        })
        .await;
}

pub(super) async fn tenant_gives_way_to_the_platform<K: Backend>(fleet: Fleet<K>) {
    as_tenant(&fleet, "").await;
    fleet.application("a-team", "");
    fleet.manifests("a-team", vec![config("policy", "tenant")]);
    fleet.applied().await;
    let platform = fleet.beside(repository("platform", "git.example.com"));
    platform.application("zone", "");
    platform.manifests("zone", vec![config("policy", "platform")]);
    let statuses = platform.applied().await;
    assert_eq!(
        states(&statuses),
        [("zone", ApplicationState::Synced)],
        "{statuses:#?}"
    );
    fleet
        .until("the tenant is refused", |statuses| {
            statuses["a-team"].state == ApplicationState::Failed
        })
        .await;
    let live = fleet.live("configmaps", "policy").await.unwrap();
    assert_eq!(live["data"]["value"], "platform");
}

pub(super) async fn tenant_creates_no_namespace<K: Backend>(fleet: Fleet<K>) {
    let missing = format!("{}-missing", fleet.namespace);
    let own = fleet.own_namespace();
    let both = [fleet.namespace.as_str(), missing.as_str()];
    fleet.grant(rights(&own, &both, ""));
    allow_deployer(&fleet).await;
    fleet.application_in("shop", &missing, ", createNamespace: true");
    fleet.manifests("shop", vec![config("a", "1")]);
    let statuses = fleet.applied().await;
    let told = problems(&statuses["shop"]).join("\n");
    // A real server decides on the account's rights before it looks for the namespace.
    let refused = format!(
        "namespace {missing} does not exist, and the tenant may not create it (tenant.createNamespaces)"
    );
    assert!(
        told.contains(&refused) || told.contains("may not patch configmaps"),
        "{told}"
    );
    let path = format!("/api/v1/namespaces/{missing}");
    let (status, _) = fleet.kube.call(Method::GET, &path, None).await;
    assert_eq!(status, 404);
}

pub(super) async fn tenant_depends_on_its_own_repository<K: Backend>(fleet: Fleet<K>) {
    let platform = fleet.beside(repository("platform", "git.example.com"));
    platform.application("zone", "");
    platform.manifests("zone", vec![config("zone", "1")]);
    platform.applied().await;
    as_tenant(&fleet, "").await;
    fleet.application("team", &format!(", dependsOn: [{}/zone]", fleet.namespace));
    fleet.manifests("team", vec![config("a", "1")]);
    fleet.commit();
    fleet
        .until("it learns nothing of the platform", |statuses| {
            let status = statuses.get("team");
            status.is_some_and(|status| {
                status.reason == Reason::DependencyNotReady
                    && problems(status)[0].ends_with("which this repository does not declare")
            })
        })
        .await;
}

pub(super) async fn live_annotations_may_be_ignored<K: Backend>(fleet: Fleet<K>) {
    let kept = |mut object: Value| {
        object["metadata"]["annotations"] = json!({"tagboat.dev/prune": "disabled"});
        object
    };
    fleet.application("shop", ", prune: true");
    let all = vec![
        config("frozen", "1"),
        config("held", "1"),
        kept(config("kept", "1")),
    ];
    fleet.manifests("shop", all);
    fleet.applied().await;
    // A user of the namespace freezes one object, and keeps another from being deleted.
    for (name, annotation) in [
        ("frozen", "tagboat.dev/reconcile"),
        ("held", "tagboat.dev/prune"),
    ] {
        let path = fleet.path("configmaps", name);
        let (_, mut live) = fleet.kube.call(Method::GET, &path, None).await;
        live["metadata"]["annotations"][annotation] = json!("disabled");
        let (status, answer) = fleet.kube.call(Method::PUT, &path, Some(&live)).await;
        assert!(status.is_success(), "{answer}");
    }
    fleet.commit();
    fleet
        .until("one object is frozen", |statuses| {
            let notes = statuses["shop"].notes.iter().map(ToString::to_string);
            notes
                .collect::<String>()
                .contains("reconcile: disabled on the live object")
        })
        .await;
    // The tenant entry says that such annotations do not count.
    as_tenant(&fleet, "    honorLiveAnnotations: false\n").await;
    fleet.manifests("shop", vec![config("frozen", "2")]);
    let revision = fleet.commit();
    fleet.gone("held").await;
    let statuses = fleet.settled(&revision).await;
    assert_eq!(states(&statuses), [("shop", ApplicationState::Synced)]);
    let frozen = fleet.live("configmaps", "frozen").await.unwrap();
    assert_eq!(frozen["data"]["value"], "2");
    assert!(
        fleet.live("configmaps", "kept").await.is_some(),
        "the annotation came from Git"
    );
}
