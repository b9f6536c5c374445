//! The cost of a commit that touches no Application, as their number grows: `cargo bench --bench
//! commit`.
//!
//! Everything that a daemon does from the fetch to the last status counts, in processor time of
//! this process, the making of the commit included. The cluster is the sandbox, which serves no
//! request meanwhile. Git's server side is `git`, in a process of its own.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark prints, and stops at the first surprise"
)]

#[path = "support/table.rs"]
mod table;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tagboat::{
    events::Recorder,
    io::{
        git::{Mirror, ObjectId, Remote, RemoteAccess},
        render::Renderer,
    },
    reconcile::{ApplicationState, GitRevision, ReconcileMode, Reconciler, RenderFn, RepositoryId},
    sandbox::{
        git::BareRepository,
        kube::{SandboxCluster, SandboxOptions},
    },
    spec::settings::{ClusterSettings, RenderSettings},
    update::{self, RepoSnapshot, SnapshotCache},
};
use tokio_util::sync::CancellationToken;

const WHO: (&str, &str) = ("Ann", "ann@example.org");
const PATIENCE: Duration = Duration::from_secs(600);
const COMMITS: usize = 20;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let counts: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let counts = match counts.as_slice() {
        [] => &[250, 1_000, 4_000, 10_000],
        counts => counts,
    };
    table::heading();
    let (mut processor, mut elapsed) = (Vec::new(), Vec::new());
    for &count in counts {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (used, took) = runtime.block_on(measure(count));
        let what = format!("a commit beside {count} Applications, processor (ms)");
        match count {
            1_000 => table::row(&what, used, 5.0, table::BOUND),
            10_000 => table::row(&what, used, 30.0, table::BOUND),
            _ => table::figure(&what, used),
        }
        processor.push((count, used));
        elapsed.push((count, took));
    }
    table::growth("processor time (ms)", &processor, 1.0);
    table::growth("elapsed time (ms)", &elapsed, 1.0);
}

/// Returns the mean processor time and the median elapsed time of a commit, in milliseconds.
async fn measure(applications: usize) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let repository = create(&folder.path().join("fleet.git"), applications);
    let mut fleet = Fleet::open(folder.path()).await;
    fleet.follow().await;
    let (used, mut elapsed) = (processor_time(), Vec::new());
    for number in 0..COMMITS {
        let text = format!("commit {number}");
        let second = 1_790_000_001 + i64::try_from(number).unwrap();
        repository
            .commit(&[("README.md", &text)], WHO, second, "docs")
            .unwrap();
        let began = Instant::now();
        fleet.follow().await;
        elapsed.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let processor = (processor_time() - used) / COMMITS as f64;
    fleet.stop.cancel();
    fleet.reconciler.shut_down().await;
    (processor, median(&mut elapsed))
}

fn create(dir: &Path, applications: usize) -> BareRepository {
    let mut declared = "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n".to_owned();
    let mut files = Vec::with_capacity(applications + 2);
    for number in 0..applications {
        declared.push_str(&format!(
            "---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: app-{number}, namespace: fleet}}\nspec: {{environment: dev, path: apps/{number}, cluster: test}}\n"
        ));
        files.push((
            format!("apps/{number}/config.yaml"),
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: app-{number}, namespace: default}}\ndata: {{key: value}}\n"),
        ));
    }
    files.push(("tagboat/apps.yaml".to_owned(), declared));
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    BareRepository::create(dir, &files, WHO, 1_790_000_000, "first").unwrap()
}

/// A daemon's way from the branch to the cluster.
struct Fleet {
    mirror: Arc<Mirror>,
    renderer: Arc<Renderer>,
    reconciler: Arc<Reconciler>,
    snapshots: Option<SnapshotCache>,
    last: Option<Arc<GitRevision>>,
    store: std::path::PathBuf,
    stop: CancellationToken,
    _cluster: SandboxCluster,
}

impl Fleet {
    async fn open(folder: &Path) -> Self {
        let cluster = SandboxCluster::start(SandboxOptions::default())
            .await
            .unwrap();
        let kubeconfig = folder.join("kubeconfig");
        std::fs::write(&kubeconfig, cluster.kubeconfig()).unwrap();
        let address = format!("file://{}", folder.join("fleet.git").display());
        let remote = Remote::new(&address, Some("main"), RemoteAccess::default()).unwrap();
        let mirror = Arc::new(Mirror::open(&folder.join("mirror"), remote).unwrap());
        let stop = CancellationToken::new();
        let clusters = [ClusterSettings::new("test", Some(kubeconfig))];
        let (mode, events) = (ReconcileMode::Act, Recorder::default());
        let reconciler =
            Reconciler::open(&clusters, Path::to_owned, mode, &events, stop.clone()).await;
        Self {
            mirror,
            renderer: Arc::new(Renderer::new(
                &RenderSettings::default(),
                &folder.join("render"),
            )),
            reconciler: Arc::new(reconciler.unwrap()),
            snapshots: Some(SnapshotCache::default()),
            last: None,
            store: folder.join("store"),
            stop,
            _cluster: cluster,
        }
    }

    /// Fetches the head, and waits until every Application is reconciled at it.
    async fn follow(&mut self) {
        let (mirror, store) = (Arc::clone(&self.mirror), self.store.clone());
        let (renderer, last) = (Arc::clone(&self.renderer), self.last.take());
        let mut snapshots = self.snapshots.take().unwrap();
        let read = move || -> (RepoSnapshot, GitRevision, SnapshotCache) {
            let commit: ObjectId = mirror.fetch().unwrap().commit;
            std::fs::create_dir_all(&store).unwrap();
            let (snapshot, warnings) =
                update::read(&mirror, commit, &None.into(), &store, &mut snapshots).unwrap();
            assert!(warnings.is_empty(), "{warnings:?}");
            let revision = match last {
                Some(last) => last.followed_by(commit),
                None => GitRevision::new(renderer, mirror, commit),
            };
            (snapshot, revision, snapshots)
        };
        let (snapshot, revision, snapshots) = tagboat::io::blocking(read).await;
        let revision = Arc::new(revision);
        (self.snapshots, self.last) = (Some(snapshots), Some(Arc::clone(&revision)));
        let repository = RepositoryId {
            name: "fleet".to_owned(),
            address: "git.example.org/fleet".to_owned(),
            part: "main".to_owned(),
        };
        let commit = snapshot.commit.to_string();
        self.reconciler.reconcile(
            &repository,
            &commit,
            &snapshot.declared,
            None,
            &(revision as Arc<RenderFn>),
        );
        let done = self
            .reconciler
            .wait_until_observed("fleet", &commit, None, PATIENCE, |_| {})
            .await;
        let statuses = self.reconciler.statuses();
        let unsynced = statuses
            .iter()
            .find(|status| status.state != ApplicationState::Synced);
        assert!(done && unsynced.is_none(), "{unsynced:?}");
    }
}

/// Processor time of this process in milliseconds: fields 14 and 15 of `stat`, in hundredths of a
/// second.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks = fields.skip(11).take(2);
    ticks
        .map(|ticks| ticks.parse::<f64>().unwrap() * 10.0)
        .sum()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
