//! What a sleeping Application costs, and what is said before anything is known.

use super::*;

/// One with the cluster `a`, which cannot be reached.
async fn reconciler() -> Reconciler {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    std::fs::write(
        &kubeconfig,
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n",
    )
    .unwrap();
    let declared = process::Cluster {
        name: "a".into(),
        kubeconfig: Some(kubeconfig),
        context: None,
        repositories: Vec::new(),
        requests_per_second: None,
        concurrency: 1,
        take_over: Vec::new(),
    };
    Reconciler::open(&[declared], Path::to_owned, Mode::Act, CancellationToken::new()).await.unwrap()
}

fn repository() -> Repository {
    Repository { name: "r".into(), address: "git.example.org/r".into(), part: "main".into() }
}

#[tokio::test]
async fn a_task_that_sleeps_takes_little_room() {
    let reconciler = reconciler().await;
    let runner =
        Runner::new("a/b".parse().unwrap(), Arc::clone(&reconciler.hubs["a"]), Arc::clone(&reconciler.shared), Handle::new(&repository()));
    let size = size_of_val(&runner.run());
    assert!(size < 4 << 10, "{size} bytes, thousands of times");
}

#[tokio::test]
async fn nothing_is_settled_before_its_revision_was_taken() {
    let reconciler = Arc::new(reconciler().await);
    let settled = async |revision: &str| reconciler.settled("r", revision, None, Duration::from_millis(50), |_| {}).await;
    assert!(!settled("1").await, "nobody has said what there is");
    let render: Arc<Render> = Arc::new(|_| Err(Row::whole("no")));
    reconciler.follow(&repository(), "1", &Declarations::default(), Some(&BTreeSet::new()), &render);
    assert!(settled("1").await, "there is nothing");
    assert!(!settled("2").await);
}
