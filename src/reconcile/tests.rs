//! What a sleeping Application costs, and what is said before anything is known.

use super::{cluster_state::observed, *};
use crate::objects::{
    object::{CompactObject, Object},
    plan::{KindAtomicFields, ValueHash},
};
use std::time::Duration;

/// One with the cluster `a`, which cannot be reached.
async fn reconciler() -> Reconciler {
    let folder = tempfile::tempdir().unwrap();
    Reconciler::open(
        &[reachable(folder.path())],
        Path::to_owned,
        ReconcileMode::Act,
        CancellationToken::new(),
    )
    .await
    .unwrap()
}

/// The cluster `a`, to which there is a way.
fn reachable(folder: &Path) -> settings::ClusterSettings {
    let kubeconfig = folder.join("config");
    std::fs::write(
        &kubeconfig,
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n",
    )
    .unwrap();
    settings::ClusterSettings {
        name: "a".into(),
        kubeconfig: Some(kubeconfig),
        context: None,
        repositories: Vec::new(),
        requests_per_second: None,
        concurrency: 1,
        take_over: Vec::new(),
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
async fn a_task_that_sleeps_takes_little_room() {
    let reconciler = reconciler().await;
    let runner = AppReconciler::new(
        "a/b".parse().unwrap(),
        Arc::clone(&reconciler.hubs["a"]),
        Arc::clone(&reconciler.shared),
        ApplicationHandle::new(&repository()),
    );
    let size = size_of_val(&runner.run());
    assert!(size < 4 << 10, "{size} bytes, thousands of times");
}

#[tokio::test]
async fn nothing_is_settled_before_its_revision_was_taken() {
    let reconciler = Arc::new(reconciler().await);
    let settled = async |revision: &str| {
        reconciler
            .wait_until_observed("r", revision, None, Duration::from_millis(50), |_| {})
            .await
    };
    assert!(!settled("1").await, "nobody has said what there is");
    let render: Arc<RenderFn> = Arc::new(|_| Err(Message::application("no").into()));
    reconciler.reconcile(
        &repository(),
        "1",
        &Declarations::default(),
        Some(&BTreeSet::new()),
        &render,
    );
    assert!(settled("1").await, "there is nothing");
    assert!(!settled("2").await);
}

/// Applications, each on a cluster.
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
    let told = reconciler.statuses().into_iter();
    told.flat_map(|status| {
        status
            .problems
            .into_iter()
            .map(move |row| (status.application.to_string(), row.to_string()))
    })
    .collect()
}

#[tokio::test]
async fn a_cluster_without_a_way_into_it_stops_no_other() {
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
            CancellationToken::new(),
        )
        .await
    };
    assert!(
        open(std::slice::from_ref(&lost)).await.is_err(),
        "there is no other"
    );
    let reconciler = Arc::new(open(&[lost, there]).await.unwrap());
    let render: Arc<RenderFn> = Arc::new(|_| Err(Message::application("no").into()));
    reconciler.reconcile(
        &repository(),
        "1",
        &declared(&[("here", "a"), ("far", "lost"), ("astray", "b")]),
        None,
        &render,
    );
    let said = problems(&reconciler);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].0 == "x/astray"
            && said[0]
                .1
                .ends_with("there is no cluster \"b\" in tagboat.yaml; known are a, lost"),
        "{said:?}"
    );
    assert!(
        said[1].0 == "x/far" && said[1].1.starts_with("apps.yaml:") && said[1].1.contains("/none"),
        "{said:?}"
    );
}

#[tokio::test]
async fn what_was_said_of_a_revision_does_not_outlive_it() {
    let reconciler = Arc::new(reconciler().await);
    let render: Arc<RenderFn> = Arc::new(|_| Err(Message::application("no").into()));
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
    // Another repository's are its own.
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
async fn a_dependency_is_judged_where_it_is_declared() {
    let reconciler = reconciler().await;
    let shared = &reconciler.shared;
    let needed: Vec<Name> = vec!["mv/base".parse().unwrap()];
    let tell = |repository: &str, cluster: &str, revision: &str, state: ApplicationState| {
        let mut status = ApplicationStatus::new(needed[0].clone(), repository, cluster);
        (status.revision, status.state) = (Some(revision.to_owned()), state);
        shared.publish(&status);
    };
    let said = |revision: &str| {
        let blocked = shared.blocked("ours", &needed, revision);
        blocked.map(|(rows, passes)| {
            (
                rows.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("; "),
                passes,
            )
        })
    };
    assert_eq!(
        said("2"),
        Some(("waits for mv/base, which is not declared".to_owned(), true))
    );
    // It has moved; on either side of the alphabet.
    for (left, now) in [("alpha", "zeta"), ("zeta", "alpha")] {
        tell("ours", left, "2", ApplicationState::Orphaned);
        tell("ours", now, "2", ApplicationState::Synced);
        assert_eq!(said("2"), None, "from {left} to {now}");
        assert_eq!(
            said("3"),
            Some((
                "waits for mv/base, which has not been read at this revision yet".to_owned(),
                true
            ))
        );
        shared.forget(|_| true);
    }
    // Another repository's revisions say nothing of ours.
    tell("theirs", "alpha", "9", ApplicationState::Synced);
    assert_eq!(said("2"), None);
    tell("theirs", "alpha", "9", ApplicationState::Failed);
    assert_eq!(
        said("2"),
        Some(("waits for mv/base, which is failed".to_owned(), true))
    );
}

#[tokio::test]
async fn an_event_that_overtakes_the_answer_is_no_drift() {
    let reconciler = reconciler().await;
    let (hub, name) = (&reconciler.hubs["a"], "x/web".parse::<Name>().unwrap());
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
    let atoms = KindAtomicFields::new(vec!["/spec/selector".into()]);
    let expected = observed::hash(&desired, &answer, &[], &atoms);
    assert_ne!(
        expected,
        observed::hash(&desired, &answer, &[], &KindAtomicFields::NONE),
        "what the answer teaches changes what is compared"
    );
    let key = desired.key();
    let manifest = CompactObject::new(desired);
    let judge = |expected: Option<ValueHash>, atoms: &KindAtomicFields| {
        let watched = observed::WatchedManifest {
            manifest: manifest.clone(),
            ignore: Arc::default(),
            expected,
            atoms: atoms.clone(),
        };
        hub.state().judge(&name, &key, watched);
    };
    judge(None, &KindAtomicFields::NONE);
    hub.observe(&event);
    judge(Some(expected), &atoms);
    hub.observe(&answer);
    let state = hub.state();
    let seen = state.seen(&key).unwrap();
    assert_eq!(
        (seen.live.hash, seen.at, seen.raw.is_none()),
        (Some(expected), 6, true)
    );
}
