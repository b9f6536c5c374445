//! The cost of a sleeping task, and statuses before anything is applied.

use super::{cluster_state::observed, *};
use crate::objects::{
    object::{CompactObject, Object},
    plan::{KindAtomicFields, ValueHash},
};
use std::time::Duration;

/// A reconciler with the unreachable cluster `a`.
async fn reconciler() -> Reconciler {
    let folder = tempfile::tempdir().unwrap();
    Reconciler::open(
        &[reachable(folder.path())],
        Path::to_owned,
        ReconcileMode::Act,
        &Recorder::default(),
        CancellationToken::new(),
    )
    .await
    .unwrap()
}

fn reachable(folder: &Path) -> settings::ClusterSettings {
    let kubeconfig = folder.join("config");
    std::fs::write(
        &kubeconfig,
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n",
    )
    .unwrap();
    settings::ClusterSettings {
        concurrency: 1,
        take_over: Vec::new(),
        ..settings::ClusterSettings::new("a", Some(kubeconfig))
    }
}

fn repository() -> RepositoryId {
    RepositoryId {
        name: "r".into(),
        address: "git.example.org/r".into(),
        part: "main".into(),
    }
}

#[tokio::test]
async fn task_asleep_is_small() {
    let reconciler = reconciler().await;
    let reconciler = AppReconciler::new(
        "a/b".parse().unwrap(),
        Arc::clone(&reconciler.clusters["a"]),
        Arc::clone(&reconciler.context),
        ApplicationHandle::new(&repository()),
    );
    let size = size_of_val(&reconciler.run());
    assert!(size < 4 << 10, "{size} bytes, thousands of times");
}

#[tokio::test]
async fn wait_before_acceptance_times_out() {
    let reconciler = Arc::new(reconciler().await);
    let observed = async |revision: &str| {
        reconciler
            .wait_until_observed("r", revision, None, Duration::from_millis(50), |_| {})
            .await
    };
    assert!(!observed("1").await, "nothing was declared");
    let render: Arc<RenderFn> = Arc::new(|_: &Application| Err(Message::application("no").into()));
    reconciler.reconcile(
        &repository(),
        "1",
        &Declarations::default(),
        Some(&BTreeSet::new()),
        &render,
    );
    assert!(observed("1").await, "nothing is declared");
    assert!(!observed("2").await);
}

/// Declares Applications, each on a cluster.
fn declared(applications: &[(&str, &str)]) -> Declarations {
    let mut text =
        "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n"
            .to_owned();
    for (name, cluster) in applications {
        text.push_str(&format!("---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}, namespace: x}}\nspec: {{environment: dev, path: {name}, cluster: {cluster}}}\n"));
    }
    let declared = crate::spec::read([("apps.yaml", text.as_bytes())], None);
    assert!(!declared.has_errors(), "{:?}", declared.mistakes);
    declared
}

fn problems(reconciler: &Reconciler) -> Vec<(String, String)> {
    let statuses = reconciler.statuses().into_iter();
    statuses
        .flat_map(|status| {
            status
                .problems
                .into_iter()
                .map(move |problem| (status.application.to_string(), problem.to_string()))
        })
        .collect()
}

#[tokio::test]
async fn cluster_unusable_stops_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let there = reachable(folder.path());
    let lost = settings::ClusterSettings {
        name: "lost".into(),
        kubeconfig: Some(folder.path().join("none")),
        ..there.clone()
    };
    let open = async |clusters: &[settings::ClusterSettings]| {
        Reconciler::open(
            clusters,
            Path::to_owned,
            ReconcileMode::Act,
            &Recorder::default(),
            CancellationToken::new(),
        )
        .await
    };
    assert!(
        open(std::slice::from_ref(&lost)).await.is_err(),
        "there is no other"
    );
    let reconciler = Arc::new(open(&[lost, there]).await.unwrap());
    let render: Arc<RenderFn> = Arc::new(|_: &Application| Err(Message::application("no").into()));
    reconciler.reconcile(
        &repository(),
        "1",
        &declared(&[("here", "a"), ("far", "lost"), ("astray", "b")]),
        None,
        &render,
    );
    let problems = problems(&reconciler);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].0 == "x/astray"
            && problems[0]
                .1
                .ends_with("there is no cluster \"b\" in tagboat.yaml; available: a, lost"),
        "{problems:?}"
    );
    assert!(
        problems[1].0 == "x/far"
            && problems[1].1.starts_with("apps.yaml:")
            && problems[1].1.contains("/none"),
        "{problems:?}"
    );
}

#[tokio::test]
async fn refusal_ends_with_its_revision() {
    let reconciler = Arc::new(reconciler().await);
    let render: Arc<RenderFn> = Arc::new(|_: &Application| Err(Message::application("no").into()));
    let places = || {
        reconciler
            .statuses()
            .into_iter()
            .map(|status| (status.application.to_string(), status.cluster))
            .collect::<Vec<_>>()
    };
    let pair = |name: &str, cluster: &str| (name.to_owned(), cluster.to_owned());
    reconciler.reconcile(
        &repository(),
        "1",
        &declared(&[("one", "aa"), ("two", "bb")]),
        None,
        &render,
    );
    assert_eq!(places(), [pair("x/one", "aa"), pair("x/two", "bb")]);
    // Refusals of another repository are its own.
    let other = RepositoryId {
        name: "other".into(),
        ..repository()
    };
    reconciler.reconcile(&other, "1", &declared(&[("three", "cc")]), None, &render);
    reconciler.reconcile(
        &repository(),
        "2",
        &declared(&[("one", "a"), ("two", "bb")]),
        None,
        &render,
    );
    assert_eq!(
        places(),
        [
            pair("x/one", "a"),
            pair("x/two", "bb"),
            pair("x/three", "cc")
        ]
    );
}

#[tokio::test]
async fn dependency_of_same_repository_goes_first() {
    let reconciler = reconciler().await;
    let context = &reconciler.context;
    let needed: Vec<Name> = vec!["mv/base".parse().unwrap()];
    let publish = |repository: &str, cluster: &str, revision: &str, state: ApplicationState| {
        let mut status = ApplicationStatus::new(needed[0].clone(), repository, cluster);
        (status.revision, status.state) = (Some(revision.to_owned()), state);
        context.publish(&status);
    };
    let unready = |revision: &str| {
        let unready = context.unready_dependencies("ours", &needed, revision, false)?;
        let messages = unready.messages.iter().map(ToString::to_string);
        Some((messages.collect::<Vec<_>>().join("; "), unready.transient))
    };
    assert_eq!(
        unready("2"),
        Some(("waits for mv/base, which is not declared".to_owned(), true))
    );
    // Moved to another cluster, before or after the old one by name.
    for (left, now) in [("alpha", "zeta"), ("zeta", "alpha")] {
        publish("ours", left, "2", ApplicationState::Orphaned);
        publish("ours", now, "2", ApplicationState::Synced);
        assert_eq!(unready("2"), None, "from {left} to {now}");
        assert_eq!(
            unready("3"),
            Some((
                "waits for mv/base, which has not been read at this revision yet".to_owned(),
                true
            ))
        );
        context.forget(|_| true);
    }
    // Revisions of another repository cannot be compared.
    publish("theirs", "alpha", "9", ApplicationState::Synced);
    assert_eq!(unready("2"), None);
    publish("theirs", "alpha", "9", ApplicationState::Failed);
    assert_eq!(
        unready("2"),
        Some(("waits for mv/base, which is failed".to_owned(), true))
    );
}

#[tokio::test]
async fn event_before_apply_answer_is_no_drift() {
    let reconciler = reconciler().await;
    let (cluster, name) = (&reconciler.clusters["a"], "x/web".parse::<Name>().unwrap());
    let object = |more: serde_json::Value| {
        let mut object = serde_json::json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "x", "uid": "1"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}},
        });
        json_patch::merge(&mut object, &more);
        Object::new(object).unwrap()
    };
    let desired = object(serde_json::json!({"metadata": {"uid": null}}));
    // A controller writes its status at once, and the watch is faster than the answer to the apply.
    let answer = object(serde_json::json!({"metadata": {"resourceVersion": "5"}}));
    let event = object(
        serde_json::json!({"metadata": {"resourceVersion": "6"}, "status": {"observedGeneration": 1}}),
    );
    let atomic_fields = KindAtomicFields::new(vec!["/spec/selector".into()]);
    let (expected, leaves) = observed::hash_observed(&desired, &answer, &[], &atomic_fields);
    assert_ne!(
        expected,
        observed::hash_observed(&desired, &answer, &[], &KindAtomicFields::NONE).0,
        "the answer reveals atomic fields"
    );
    let key = desired.key();
    let manifest = CompactObject::new(desired);
    let judge = |expected: Option<ValueHash>, atomic_fields: &KindAtomicFields| {
        let watched = observed::WatchedManifest {
            manifest: manifest.clone(),
            ignore: Arc::default(),
            expected,
            expected_leaves: leaves.clone(),
            atomic_fields: atomic_fields.clone(),
            take_over: Arc::default(),
            health: None,
        };
        cluster.state().judge(&name, &key, watched);
    };
    judge(None, &KindAtomicFields::NONE);
    cluster.observe(&event);
    judge(Some(expected), &atomic_fields);
    cluster.observe(&answer);
    let state = cluster.state();
    let seen = state.observed(&key).unwrap();
    assert_eq!(
        (seen.live.hash, seen.resource_version, seen.raw.is_none()),
        (Some(expected), 6, true)
    );
}
