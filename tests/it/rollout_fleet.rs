//! Targets of a merged request, and the relation of revisions to it, in a mirror of a served
//! repository.

use super::git_support::Sandbox;
use std::{path::Path, sync::Arc};
use tagboat::{
    events::Recorder,
    io::{
        forge::{Mergeable, PullRequest, RequestEnd, RequestStatus},
        git::{Mirror, ObjectId},
    },
    reconcile::{self, ReconcileMode, Reconciler, RenderFn, RepositoryId},
    review::rollout::MergedRequest,
    rollout::{FleetSource, RevisionRelation, RolloutSource, RolloutTarget},
    spec::{self, Declarations},
    update::RepoSnapshot,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// One is built from a base, the other has all its files. No cluster is known, so nothing is
/// applied.
const APPLICATIONS: &str = r#"
apiVersion: tagboat.dev/v1alpha1
kind: Environment
metadata: {name: dev}
spec: {paths: ["base/**", "envs/dev/**"], update: {via: commit}}
---
apiVersion: tagboat.dev/v1alpha1
kind: Environment
metadata: {name: prod}
spec: {paths: ["envs/prod/**"], update: {via: commit}}
---
apiVersion: tagboat.dev/v1alpha1
kind: Application
metadata: {name: dev, namespace: shop}
spec: {environment: dev, path: envs/dev, cluster: east, timeout: 7m}
---
apiVersion: tagboat.dev/v1alpha1
kind: Application
metadata: {name: prod, namespace: shop}
spec: {environment: prod, path: envs/prod, cluster: west}
"#;

const FILES: [(&str, &str); 5] = [
    ("base/kustomization.yaml", "resources: [web.yaml]\n"),
    ("base/web.yaml", "image: web:1\n"),
    ("envs/dev/kustomization.yaml", "resources: [../../base]\n"),
    ("envs/prod/web.yaml", "image: web:1\n"),
    ("envs/prod-2/web.yaml", "image: web:1\n"),
];

struct Served {
    sandbox: Sandbox,
    mirror: Arc<Mirror>,
    declared: Arc<Declarations>,
    worlds: watch::Sender<Option<RepoSnapshot>>,
    reconciler: Arc<Reconciler>,
    fleet: FleetSource,
}

impl Served {
    fn new() -> Self {
        let sandbox = Sandbox::new(&FILES);
        let mirror = Arc::new(sandbox.mirror("mirror"));
        let declared = spec::read([("apps.yaml", APPLICATIONS.as_bytes())], None);
        assert!(!declared.has_errors(), "{:?}", declared.mistakes);
        let events = Recorder::default();
        let open = Reconciler::open(
            &[],
            Path::to_path_buf,
            ReconcileMode::Act,
            &events,
            CancellationToken::new(),
        );
        let reconciler = Arc::new(sandbox.runtime.block_on(open).unwrap());
        let worlds = watch::Sender::new(None);
        let fleet = FleetSource::new(
            "fleet",
            Arc::clone(&mirror),
            worlds.subscribe(),
            Arc::clone(&reconciler),
        );
        Self {
            sandbox,
            mirror,
            declared: Arc::new(declared),
            worlds,
            reconciler,
            fleet,
        }
    }

    /// Fetches the mirror and reads the served head.
    fn read(&self) -> ObjectId {
        let commit = self.mirror.fetch().unwrap().commit;
        self.worlds.send_replace(Some(RepoSnapshot {
            commit,
            declared: Arc::clone(&self.declared),
            files: Arc::default(),
            needles: Arc::default(),
        }));
        commit
    }

    fn push(&self, files: &[(&str, &str)]) -> ObjectId {
        self.sandbox.person(files, "change")
    }

    fn reached(&self, merged: &MergedRequest) -> Option<Vec<String>> {
        let reached = self.fleet.targets(merged).unwrap()?;
        Some(
            reached
                .iter()
                .map(|target| {
                    format!(
                        "{} on {} within {:?}",
                        target.application, target.cluster, target.timeout
                    )
                })
                .collect(),
        )
    }
}

fn merged(commit: &str, files: &[&str]) -> MergedRequest {
    let request = PullRequest {
        number: 1,
        url: String::new(),
        state: RequestStatus::Merged,
        head: "tagboat/dev/all".to_owned(),
        head_commit: String::new(),
        base: "main".to_owned(),
        title: String::new(),
        body: String::new(),
        labels: Vec::new(),
        author: "bot".to_owned(),
        draft: false,
        opened: None,
        updated: None,
        ended: Some(RequestEnd {
            at: "2026-11-21T12:00:00Z".parse().ok(),
            by: None,
            commit: Some(commit.to_owned()),
        }),
        mergeable: Mergeable::Unknown,
        id: String::new(),
    };
    MergedRequest::new(
        &request,
        "dev",
        files.iter().map(|file| (*file).to_owned()).collect(),
    )
    .unwrap()
}

#[test]
fn targets_are_applications_reading_the_files() {
    let served = Served::new();
    let commit = served
        .push(&[("base/web.yaml", "image: web:2\n")])
        .to_string();
    let of = |files: &[&str]| served.reached(&merged(&commit, files));
    assert_eq!(of(&["base/web.yaml"]), None, "nothing has been read");
    served.read();
    assert_eq!(
        of(&["base/web.yaml"]).unwrap(),
        ["shop/dev on east within 420s"]
    );
    assert_eq!(
        of(&["envs/prod/web.yaml"]).unwrap(),
        ["shop/prod on west within 300s"]
    );
    assert_eq!(
        of(&["envs/prod/web.yaml", "envs/dev/kustomization.yaml"])
            .unwrap()
            .len(),
        2
    );
    for other in [
        "envs/prod-2/web.yaml",
        "envs/prod",
        "README.md",
        "",
        "../envs/prod/web.yaml",
    ] {
        let expected: &[&str] = if other == "envs/prod" {
            &["shop/prod on west within 300s"]
        } else {
            &[]
        };
        assert_eq!(of(&[other]).unwrap(), expected, "{other}");
    }
    // A commit on no branch, or an invalid one, is waited for.
    for commit in ["0123456789abcdef0123456789abcdef01234567", "../../x", ""] {
        assert_eq!(
            served.reached(&merged(commit, &["base/web.yaml"])),
            None,
            "{commit}"
        );
    }
}

#[test]
fn revision_relation_is_before_same_or_other() {
    let served = Served::new();
    let before = served.read();
    let commit = served.push(&[("base/web.yaml", "image: web:2\n")]);
    let elsewhere = served.push(&[
        ("envs/prod/web.yaml", "image: web:2\n"),
        ("README.md", "x\n"),
    ]);
    let again = served.push(&[("base/web.yaml", "image: web:3\n")]);
    let back = served.push(&[("base/web.yaml", "image: web:2\n")]);
    let more = served.push(&[
        (
            "envs/dev/kustomization.yaml",
            "resources: [../../base, ../../extra.yaml]\n",
        ),
        ("extra.yaml", "a: 1\n"),
    ]);
    served.read();
    let target = |name: &str| RolloutTarget {
        cluster: "east".to_owned(),
        application: name.parse().unwrap(),
        timeout: Default::default(),
    };
    let relation = |name: &str, revision: &str| {
        served
            .fleet
            .relation(&merged(&commit.to_string(), &[]), &target(name), revision)
            .unwrap()
    };
    // Twice: the cached result is the same.
    for _ in 0..2 {
        for (name, revision, expected) in [
            ("shop/dev", before, RevisionRelation::Before),
            ("shop/dev", commit, RevisionRelation::Same),
            ("shop/dev", elsewhere, RevisionRelation::Same),
            ("shop/dev", again, RevisionRelation::Other),
            ("shop/dev", back, RevisionRelation::Same),
            ("shop/dev", more, RevisionRelation::Other),
            ("shop/prod", commit, RevisionRelation::Same),
            ("shop/prod", elsewhere, RevisionRelation::Other),
            ("shop/gone", commit, RevisionRelation::Same),
            ("shop/gone", elsewhere, RevisionRelation::Other),
        ] {
            assert_eq!(
                relation(name, &revision.to_string()),
                expected,
                "{name} {revision}"
            );
        }
        for nowhere in ["0123456789abcdef0123456789abcdef01234567", "main", ""] {
            assert_eq!(
                relation("shop/dev", nowhere),
                RevisionRelation::Before,
                "{nowhere}"
            );
        }
    }
}

fn named(name: &str) -> RepositoryId {
    RepositoryId {
        name: name.to_owned(),
        address: format!("git.example.org/{name}"),
        part: "main".to_owned(),
    }
}

#[test]
fn targets_belong_to_the_own_repository() {
    let served = Served::new();
    let commit = served.read();
    let _context = served.sandbox.runtime.enter();
    let turns = served.fleet.status_changes();
    let render: Arc<RenderFn> = Arc::new(|_: &spec::Application| {
        Err(reconcile::Message::application("nothing is rendered here").into())
    });
    let other = spec::read(
        [(
            "apps.yaml",
            APPLICATIONS
                .replace("namespace: shop", "namespace: theirs")
                .as_bytes(),
        )],
        None,
    );
    served
        .reconciler
        .reconcile(&named("other"), &commit.to_string(), &other, None, &render);
    assert!(served.fleet.statuses().is_empty());
    served.reconciler.reconcile(
        &named("fleet"),
        &commit.to_string(),
        &served.declared,
        None,
        &render,
    );
    let statuses = served.fleet.statuses();
    let names: Vec<String> = statuses
        .iter()
        .map(|status| format!("{} {}", status.application, status.state))
        .collect();
    assert_eq!(names, ["shop/dev failed", "shop/prod failed"]);
    assert!(turns.has_changed().unwrap());
    let rollouts = served
        .sandbox
        .runtime
        .block_on(served.fleet.rollouts("east"))
        .unwrap();
    assert!(rollouts.is_empty());
}
