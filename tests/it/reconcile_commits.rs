//! The work of a commit, counted: it grows with what the commit touches.

use super::git_support::Sandbox;
use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tagboat::{
    events::Recorder,
    io::{git::Mirror, render::Renderer},
    reconcile::{
        ApplicationState, ApplicationStatus, GitRevision, ReconcileMode, Reconciler, RenderFn,
        RepositoryId,
    },
    sandbox::kube::{SandboxCluster, SandboxOptions},
    spec::settings::{ClusterSettings, RenderSettings},
    update,
};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(120);
const APPLICATIONS: usize = 40;

/// A config repository, and a reconciler that follows it as the daemon does.
struct Fleet {
    git: Sandbox,
    mirror: Arc<Mirror>,
    renderer: Arc<Renderer>,
    reconciler: Arc<Reconciler>,
    last: Option<Arc<GitRevision>>,
    stop: CancellationToken,
    _cluster: SandboxCluster,
}

/// The work that a commit has caused.
#[derive(Debug, PartialEq, Eq)]
struct Work {
    trees: u64,
    passes: u64,
    requests: u64,
}

impl Work {
    const NOTHING: Self = Self {
        trees: 0,
        passes: 0,
        requests: 0,
    };
}

fn manifest(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\ndata: {{key: {value}}}\n"
    )
}

fn application(name: &str) -> String {
    format!(
        "---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}, namespace: fleet}}\nspec: {{environment: dev, path: apps/{name}, cluster: test}}\n"
    )
}

fn declared(names: &[String]) -> String {
    let mut text = "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n".to_owned();
    names.iter().for_each(|name| text += &application(name));
    text
}

fn names() -> Vec<String> {
    (0..APPLICATIONS)
        .map(|number| format!("app-{number}"))
        .collect()
}

impl Fleet {
    fn start() -> Self {
        let mut files = vec![("tagboat.d/apps.yaml".to_owned(), declared(&names()))];
        let folders = names().into_iter();
        files.extend(folders.map(|name| {
            let text = manifest(&name, "first");
            (format!("apps/{name}/config.yaml"), text)
        }));
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        let git = Sandbox::new(&files);
        let mirror = Arc::new(git.mirror("mirror"));
        let folder = git.dir.path().to_owned();
        let stop = CancellationToken::new();
        let (cluster, reconciler) = git.runtime.block_on(async {
            let cluster = SandboxCluster::start(SandboxOptions::default())
                .await
                .unwrap();
            let kubeconfig = folder.join("kubeconfig");
            fs::write(&kubeconfig, cluster.kubeconfig()).unwrap();
            let settings = [ClusterSettings::new("test", Some(kubeconfig))];
            let (mode, events) = (ReconcileMode::Act, Recorder::default());
            let reconciler =
                Reconciler::open(&settings, Path::to_owned, mode, &events, stop.clone()).await;
            (cluster, Arc::new(reconciler.unwrap()))
        });
        let settings = RenderSettings::default();
        let mut fleet = Self {
            mirror,
            renderer: Arc::new(Renderer::new(&settings, &folder.join("render"))),
            reconciler,
            last: None,
            stop,
            git,
            _cluster: cluster,
        };
        fleet.follow();
        fleet.rest();
        fleet
    }

    /// Waits until no task is woken any more by what was applied last.
    fn rest(&mut self) {
        let end = Instant::now() + PATIENCE;
        for number in 0.. {
            let text = format!("quiet {number}");
            self.git.person(&[("README.md", &text)], &text);
            if self.follow() == Work::NOTHING {
                return;
            }
            assert!(Instant::now() < end, "tasks are still woken");
        }
    }

    /// Fetches the head, waits until it is reconciled, and returns what that cost.
    fn follow(&mut self) -> Work {
        let commit = self.mirror.fetch().unwrap().commit;
        let read = update::declared_in(&self.mirror.at(commit).unwrap(), &None.into(), None);
        let before = self.counts();
        let revision = Arc::new(match self.last.take() {
            Some(last) => last.followed_by(commit),
            None => {
                let (renderer, mirror) = (Arc::clone(&self.renderer), Arc::clone(&self.mirror));
                GitRevision::new(renderer, mirror, commit)
            }
        });
        self.last = Some(Arc::clone(&revision));
        let repository = RepositoryId {
            name: "fleet".to_owned(),
            address: "git.example.org/fleet".to_owned(),
            part: "main".to_owned(),
        };
        let commit = commit.to_string();
        self.git.runtime.block_on(async {
            let render = revision as Arc<RenderFn>;
            let declared = read.unwrap();
            self.reconciler
                .reconcile(&repository, &commit, &declared, None, &render);
            let done =
                self.reconciler
                    .wait_until_observed("fleet", &commit, None, PATIENCE, |_| {});
            assert!(done.await, "{:#?}", self.reconciler.statuses());
        });
        let after = self.counts();
        Work {
            trees: after.trees - before.trees,
            passes: after.passes - before.passes,
            requests: after.requests - before.requests,
        }
    }

    fn counts(&self) -> Work {
        Work {
            trees: self.mirror.decoded_trees(),
            passes: self.reconciler.passes(),
            requests: self
                .reconciler
                .cluster("test")
                .unwrap()
                .stats()
                .0
                .values()
                .sum(),
        }
    }

    fn status(&self, name: &str) -> ApplicationStatus {
        let statuses = self.reconciler.statuses().into_iter();
        let mut named = statuses.filter(|status| status.application.name() == name);
        named.next().unwrap()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
        self.git.runtime.block_on(self.reconciler.shut_down());
    }
}

#[test]
fn commit_that_touches_nothing_wakes_no_task() {
    let mut fleet = Fleet::start();
    for text in ["one", "two"] {
        let commit = fleet.git.person(&[("README.md", text)], text);
        assert_eq!(fleet.follow(), Work::NOTHING);
        let statuses = fleet.reconciler.statuses();
        assert_eq!(statuses.len(), APPLICATIONS);
        for status in statuses {
            assert_eq!(status.revision, Some(commit.to_string()));
            assert_eq!(status.state, ApplicationState::Synced);
        }
    }
}

#[test]
fn commit_wakes_only_what_it_touches() {
    let mut fleet = Fleet::start();
    fleet.git.person(&[("README.md", "read")], "docs");
    fleet.follow();
    let second = manifest("app-7", "second");
    let commit = fleet
        .git
        .person(&[("apps/app-7/config.yaml", &second)], "seven");
    let work = fleet.follow();
    // The root, `apps` and the folder itself; its pass and those that its own events ask for.
    assert!(
        work.trees <= 3 && (1..=5).contains(&work.passes),
        "{work:?}"
    );
    assert!(work.requests > 0, "{work:?}");
    let rollout = fleet.status("app-7").rollout.unwrap();
    assert_eq!(rollout.revision, commit.to_string());

    // Declarations that only moved say the same.
    let moved = format!("# words\n\n{}", declared(&names()));
    fleet
        .git
        .person(&[("tagboat.d/apps.yaml", &moved)], "comment");
    fleet.rest();
    let before = fleet.reconciler.passes();
    let moved = format!("# more\n{moved}");
    fleet.git.person(&[("tagboat.d/apps.yaml", &moved)], "more");
    fleet.follow();
    assert_eq!(fleet.reconciler.passes(), before);

    // Another declaration is another Application, though it renders the same.
    let suspended =
        declared(&names()).replace("path: apps/app-9,", "path: apps/app-9, suspend: true,");
    fleet
        .git
        .person(&[("tagboat.d/apps.yaml", &suspended)], "suspend");
    let work = fleet.follow();
    assert!((1..=5).contains(&work.passes), "{work:?}");
    assert_eq!(fleet.status("app-9").state, ApplicationState::Suspended);
    assert_eq!(fleet.status("app-8").state, ApplicationState::Synced);
}

#[test]
fn revision_of_a_sleeping_task_is_the_newest() {
    let mut fleet = Fleet::start();
    fleet.git.person(&[("README.md", "read")], "docs");
    fleet.follow();
    // Woken by what a commit removes, it acts at the revision that it was carried to.
    let rest: Vec<String> = names().into_iter().filter(|name| name != "app-3").collect();
    let commit = fleet
        .git
        .person(&[("tagboat.d/apps.yaml", &declared(&rest))], "remove");
    fleet.follow();
    assert_eq!(fleet.status("app-3").state, ApplicationState::Orphaned);
    assert_eq!(fleet.status("app-4").revision, Some(commit.to_string()));
}
