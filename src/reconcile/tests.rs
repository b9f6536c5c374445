//! What a sleeping Application costs.

use super::*;

#[tokio::test]
async fn a_task_that_sleeps_takes_little_room() {
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
    let reconciler = Reconciler::open(&[declared], Path::to_owned, Mode::Act, CancellationToken::new()).await.unwrap();
    let runner = Runner::new("a/b".parse().unwrap(), Arc::clone(&reconciler.hubs["a"]), Arc::clone(&reconciler.shared), Handle::new("r"));
    let size = size_of_val(&runner.run());
    assert!(size < 4 << 10, "{size} bytes, thousands of times");
}
