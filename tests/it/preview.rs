//! Previews without clusters: affected Applications, their objects before and after, and the
//! command. `cluster_real::preview` covers dry runs.

use super::{
    git_support::{ANN, NOW, Sandbox},
    render_support::{script, settings},
    support::cluster::kubeconfig,
    update_support::{Fleet, Setup, env, semver},
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tagboat::{
    events::Recorder,
    io::{
        git::{Mirror, ObjectId},
        render::Renderer,
    },
    preview::{PreviewClusters, Previewer, RevisionFiles},
    review::{ApplicationChange, ApplicationPreview, DryRunVerdict, ObjectChange, Preview},
    sandbox::git::BareRepository,
    spec::settings::{self, RenderSettings},
    update::{DeclarationScope, Previews},
};

const ENV: &str = "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n---\n";

fn application(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{environment: dev, path: apps/{name}, cluster: prod, targetNamespace: shop{spec}}}\n---\n"
    )
}

fn config(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{value: '{value}'}}\n---\n"
    )
}

/// A repository and a previewer of it without clusters.
struct World {
    sandbox: Sandbox,
    mirror: Arc<Mirror>,
    previewer: Previewer,
}

impl World {
    fn new(files: &[(&str, &str)]) -> Self {
        let sandbox = Sandbox::new(files);
        let mirror = Arc::new(sandbox.mirror("mirror"));
        mirror.fetch().unwrap();
        // Prints the files of the base that the kustomization names, and of its own folder.
        let kustomize = script(
            sandbox.dir.path(),
            "kustomize",
            "[ \"$1\" = version ] && echo v0.0.0-test && exit\nfor file in $(sed -n 's,^resources: \\[\\(.*\\)\\],\\1,p' kustomization.yaml); do\n  for one in $file/*.yaml; do [ $one = $file/kustomization.yaml ] || { echo ---; cat $one; }; done\ndone",
        );
        let render = RenderSettings {
            kustomize,
            ..settings()
        };
        let previewer = Previewer {
            files: RevisionFiles::Mirror(Arc::clone(&mirror)),
            scope: DeclarationScope::default(),
            renderer: Arc::new(Renderer::new(&render, &sandbox.dir.path().join("copies"))),
            clusters: PreviewClusters::none("no cluster is asked"),
        };
        Self {
            sandbox,
            mirror,
            previewer,
        }
    }

    fn head(&self) -> ObjectId {
        self.mirror.head().unwrap()
    }

    /// Previews a commit of these files.
    fn change(&self, files: &[(&str, &str)]) -> Preview {
        let base = self.head();
        self.sandbox.person(files, "change");
        let head = self.mirror.fetch().unwrap().commit;
        self.sandbox
            .runtime
            .block_on(self.previewer.preview(base, head))
    }
}

fn names(preview: &Preview) -> Vec<String> {
    preview
        .applications
        .iter()
        .map(|application| application.name.to_string())
        .collect()
}

/// Kind and name of each object with its change.
fn objects(application: &ApplicationPreview) -> Vec<(&str, ObjectChange)> {
    application
        .objects
        .iter()
        .map(|object| (object.object.as_str(), object.change))
        .collect()
}

fn not_asked(application: &ApplicationPreview, index: usize) -> &str {
    match &application.objects[index].verdict {
        DryRunVerdict::NotAsked { reason: why } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn preview_shared_base_renders_its_users_only() {
    let declared: String = ["a", "b", "c"].map(|name| application(name, "")).concat();
    let world = World::new(&[
        ("all.yaml", &format!("{ENV}{declared}")),
        ("base/kustomization.yaml", "resources: []\n"),
        ("base/config.yaml", &config("shared", "1")),
        ("apps/a/kustomization.yaml", "resources: [../../base]\n"),
        ("apps/b/kustomization.yaml", "resources: [../../base]\n"),
        ("apps/c/kustomization.yaml", "resources: [own]\n"),
        ("apps/c/own/kustomization.yaml", "resources: []\n"),
        ("apps/c/own/config.yaml", &config("own", "1")),
    ]);
    let preview = world.change(&[("base/config.yaml", &config("shared", "2"))]);
    assert_eq!(names(&preview), ["shop/a", "shop/b"], "{preview:#?}");
    assert_eq!(
        world.previewer.renderer.runs(),
        4,
        "both sides of two Applications"
    );
    let one = &preview.applications[0];
    assert_eq!(
        (one.change, objects(one)),
        (
            ApplicationChange::Files,
            vec![("ConfigMap shop/shared", ObjectChange::Change)]
        )
    );
    assert_eq!(
        one.objects[0].diff,
        "--- before/ConfigMap shop/shared\n+++ after/ConfigMap shop/shared\n@@ -4,4 +4,4 @@\n   name: shared\n   namespace: shop\n data:\n-  value: \"1\"\n+  value: \"2\"\n"
    );
    assert_eq!(not_asked(one, 0), "no cluster is asked");
    assert!(!preview.is_refused() && !preview.is_broken() && !preview.may_tell_more());
    // A rendering is cached, and a file that no Application reads changes nothing.
    let preview = world.change(&[
        ("base/config.yaml", &config("shared", "1")),
        ("README.md", "words\n"),
    ]);
    assert_eq!(
        (names(&preview).len(), world.previewer.renderer.runs()),
        (2, 4)
    );
    assert_eq!(
        world.change(&[("README.md", "more words\n")]),
        Preview::default()
    );
    let only = BTreeSet::from(["shop/c".parse().unwrap()]);
    let head = world.head();
    world
        .sandbox
        .person(&[("base/config.yaml", &config("shared", "3"))], "again");
    let next = world.mirror.fetch().unwrap().commit;
    assert_eq!(
        world
            .sandbox
            .runtime
            .block_on(world.previewer.between(head, next, Some(&only))),
        Preview::default()
    );
}

#[test]
fn preview_skips_recently_silent_cluster() {
    let declared = application("a", "");
    let mut world = World::new(&[
        ("all.yaml", &format!("{ENV}{declared}")),
        ("apps/a/all.yaml", &config("a", "1")),
    ]);
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Every connection is closed without a response.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let came = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&came);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(connection);
        }
    });
    let kubeconfig = kubeconfig(
        &serde_json::json!({"server": server}),
        &serde_json::json!({"token": "t0ken"}),
    );
    let dir = world.sandbox.dir.path().to_owned();
    std::fs::write(dir.join("kubeconfig"), kubeconfig.to_string()).unwrap();
    let cluster = settings::ClusterSettings::new("prod", Some("kubeconfig".into()));
    world.previewer.clusters = world.sandbox.runtime.block_on(PreviewClusters::open(
        &[cluster],
        |path: &Path| dir.join(path),
        &Recorder::default(),
    ));
    let mut verdicts = BTreeSet::new();
    let mut connections = Vec::new();
    for value in ["2", "3"] {
        let preview = world.change(&[("apps/a/all.yaml", &config("a", value))]);
        verdicts.insert(not_asked(&preview.applications[0], 0).to_owned());
        assert!(preview.may_tell_more(), "{preview:#?}");
        connections.push(came.load(Ordering::SeqCst));
    }
    assert!(
        connections[0] > 0 && connections[0] == connections[1],
        "{connections:?}"
    );
    assert!(
        verdicts.len() == 1
            && verdicts
                .first()
                .unwrap()
                .contains("cluster prod cannot be asked"),
        "{verdicts:?}"
    );
}

#[test]
fn preview_policy_change_affects_no_cluster() {
    let policy = "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {name: web}\nspec: {image: example.org/web, policy: {semver: {range: 1.x}}}\n";
    let world = World::new(&[
        ("all.yaml", &format!("{ENV}{}", application("a", ""))),
        ("apps/a/all.yaml", &config("a", "1")),
        ("policy.yaml", policy),
    ]);
    assert_eq!(
        world.change(&[("policy.yaml", &policy.replace("1.x", "2.x"))]),
        Preview::default()
    );
}

#[test]
fn preview_secret_change_is_masked() {
    let secret = |value: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: '{{\"stringData\":{{\"password\":\"{value}\"}}}}'\n    kept/copy: '{{\"data\":{{\"password\":\"{value}\"}}}}'\nstringData: {{password: {value}}}\ndata: {{user: YW5uYS1rYXJlbmluYQ==}}\n"
        )
    };
    let world = World::new(&[
        ("all.yaml", &format!("{ENV}{}", application("a", ""))),
        ("apps/a/s.yaml", &secret("korrekt-pferd-7")),
    ]);
    let preview = world.change(&[("apps/a/s.yaml", &secret("batterie-klammer"))]);
    let diff = &preview.applications[0].objects[0].diff;
    assert!(
        diff.contains("-  password: '*** (before)'")
            || diff.contains("-  password: \"*** (before)\""),
        "{diff}"
    );
    assert!(
        diff.contains("*** (after)") && diff.contains("user: "),
        "{diff}"
    );
    let all = format!("{preview:?}{}", serde_json::to_string(&preview).unwrap());
    for word in [
        "korrekt",
        "batterie",
        "a29ycmVrdC",
        "YmF0dGVyaW",
        "anna-kar",
        "YW5uYS1",
    ] {
        assert!(!all.contains(word), "{word}: {all}");
    }
    // A new one shows only the names of its values.
    let preview = world.change(&[(
        "apps/a/t.yaml",
        &secret("batterie-klammer").replace("name: s", "name: t"),
    )]);
    let diff = &preview.applications[0].objects[0].diff;
    assert!(
        diff.contains("+  password: ") && !diff.contains("batterie"),
        "{diff}"
    );
}

#[test]
fn preview_application_changes_are_classified() {
    let declared = [
        ("a", ", prune: true"),
        ("b", ""),
        ("c", ", deletionPolicy: Delete"),
        ("d", ""),
    ]
    .map(|(name, spec)| application(name, spec))
    .concat();
    let mut files = vec![("all.yaml".to_owned(), format!("{ENV}{declared}"))];
    files.extend(
        ["a", "b", "c", "d", "e"].map(|name| (format!("apps/{name}/all.yaml"), config(name, "1"))),
    );
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let world = World::new(&files);
    let declared = [("a", ", prune: true").0, "d", "e"];
    let text = [
        application(declared[0], ", prune: true")
            .replace("targetNamespace: shop", "targetNamespace: store"),
        application("d", "").replace("cluster: prod", "cluster: test"),
        application("e", ""),
    ]
    .concat();
    let preview = world.change(&[("all.yaml", &format!("{ENV}{text}"))]);
    let seen: Vec<(String, &str, ApplicationChange)> = preview
        .applications
        .iter()
        .map(|one| (one.name.name().to_owned(), one.cluster.as_str(), one.change))
        .collect();
    let row = |name: &str, cluster: &'static str, change| (name.to_owned(), cluster, change);
    assert_eq!(
        seen,
        [
            row("a", "prod", ApplicationChange::Declaration),
            row("b", "prod", ApplicationChange::Gone),
            row("c", "prod", ApplicationChange::Gone),
            row("d", "prod", ApplicationChange::Gone),
            row("d", "test", ApplicationChange::New),
            row("e", "prod", ApplicationChange::New),
        ]
    );
    let [a, b, c, d, moved, e] = preview.applications.as_slice() else {
        panic!("{preview:#?}")
    };
    assert_eq!(a.notes, ["its declaration changes: targetNamespace"]);
    assert_eq!(
        objects(a),
        [
            ("ConfigMap store/a", ObjectChange::Create),
            ("ConfigMap shop/a", ObjectChange::Delete)
        ]
    );
    assert_eq!(not_asked(a, 1), "it would be deleted");
    assert_eq!(
        b.notes,
        ["it is not declared any more; what it has applied stays (deletionPolicy: Orphan)"]
    );
    assert_eq!(
        (objects(b), objects(c)),
        (vec![], vec![("ConfigMap shop/c", ObjectChange::Delete)])
    );
    assert_eq!(
        d.notes,
        ["it moves to cluster test; what it has applied stays (deletionPolicy: Orphan)"]
    );
    assert_eq!(
        (moved.notes.as_slice(), objects(moved)),
        (
            ["it comes from cluster prod".to_owned()].as_slice(),
            vec![("ConfigMap shop/d", ObjectChange::Create)]
        )
    );
    assert!(
        e.objects[0]
            .diff
            .starts_with("--- /dev/null\n+++ after/ConfigMap shop/e\n"),
        "{}",
        e.objects[0].diff
    );
    assert!(
        !e.objects[0].diff.contains("tagboat.dev/"),
        "labels of tagboat are no change: {}",
        e.objects[0].diff
    );
    // A declaration that moves within its file is the same one.
    assert_eq!(
        world.change(&[("all.yaml", &format!("# more\n# lines\n{ENV}{text}"))]),
        Preview::default()
    );
    let preview = world.change(&[(
        "all.yaml",
        &format!(
            "{ENV}{}",
            text.replace("path: apps/e", "path: apps/e, suspend: true")
        ),
    )]);
    assert_eq!(
        preview.applications[0].notes,
        [
            "its declaration changes: suspend",
            "it is suspended: nothing is applied until it is resumed"
        ]
    );
}

#[test]
fn preview_dropped_objects_pruned_kept_or_moved() {
    let disabled = config("kept", "1").replace(
        "{name: kept}",
        "{name: kept, annotations: {tagboat.dev/prune: disabled}}",
    );
    let all = |names: &[&str]| {
        names
            .iter()
            .map(|name| config(name, "1"))
            .collect::<String>()
    };
    let declared = format!(
        "{ENV}{}{}{}",
        application("a", ", prune: true"),
        application("b", ""),
        application("c", "")
    );
    let a = format!("{}{disabled}", all(&["one", "two", "three"]));
    let world = World::new(&[
        ("all.yaml", &declared),
        ("apps/a/all.yaml", &a),
        ("apps/b/all.yaml", &all(&["left", "right"])),
        ("apps/c/all.yaml", &all(&["own"])),
    ]);
    let preview = world.change(&[
        ("apps/a/all.yaml", &all(&["three"])),
        ("apps/b/all.yaml", &all(&["right"])),
        ("apps/c/all.yaml", &all(&["own", "two"])),
    ]);
    let [a, b, c] = preview.applications.as_slice() else {
        panic!("{preview:#?}")
    };
    let gone = |name: &'static str| (name, ObjectChange::Delete);
    assert_eq!(
        objects(a),
        [
            gone("ConfigMap shop/one"),
            gone("ConfigMap shop/two"),
            gone("ConfigMap shop/kept")
        ]
    );
    assert_eq!(
        [0, 1, 2].map(|index| not_asked(a, index)),
        [
            "it would be deleted",
            "Application shop/c takes it over",
            "it stays in the cluster: prune: disabled"
        ]
    );
    assert_eq!(
        (objects(b), not_asked(b, 0)),
        (
            vec![gone("ConfigMap shop/left")],
            "it stays in the cluster: prune is not set"
        )
    );
    assert_eq!(objects(c), [("ConfigMap shop/two", ObjectChange::Create)]);
}

#[test]
fn preview_unreadable_application_hides_no_other() {
    let declared = format!("{ENV}{}{}", application("a", ""), application("b", ""));
    let world = World::new(&[
        ("all.yaml", &declared),
        ("apps/a/all.yaml", &config("a", "1")),
        ("apps/b/all.yaml", &config("b", "1")),
    ]);
    let preview = world.change(&[
        ("apps/a/all.yaml", "a: [\n"),
        ("apps/b/all.yaml", &config("b", "2")),
    ]);
    let [a, b] = preview.applications.as_slice() else {
        panic!("{preview:#?}")
    };
    assert!(
        a.trouble[0]
            .message
            .starts_with("it cannot be rendered: apps/a/all.yaml:")
            && !a.trouble[0].transient,
        "{a:?}"
    );
    assert_eq!(
        (a.objects.len(), objects(b)),
        (0, vec![("ConfigMap shop/b", ObjectChange::Change)])
    );
    assert!(preview.is_broken() && !preview.may_tell_more());
    // Corrected: the state before is unknown.
    let preview = world.change(&[("apps/a/all.yaml", &config("a", "2"))]);
    let [a] = preview.applications.as_slice() else {
        panic!("{preview:#?}")
    };
    assert!(
        a.notes[0].starts_with(
            "what it was before cannot be rendered, so that every object is shown as new: "
        ),
        "{a:?}"
    );
    assert_eq!(objects(a), [("ConfigMap shop/a", ObjectChange::Create)]);
    assert!(!preview.is_broken());
    // A declaration that becomes unreadable is no removed Application.
    let preview = world.change(&[(
        "all.yaml",
        &declared.replace("path: apps/b", "paht: apps/b"),
    )]);
    let is_expected = |trouble: &tagboat::review::PreviewTrouble| {
        trouble.message.contains("all.yaml:14:26") && trouble.message.contains("paht")
    };
    assert!(
        preview.is_broken() && preview.trouble.iter().any(is_expected),
        "{preview:?}"
    );
    assert_eq!(
        preview.applications[0].notes,
        [
            "it is not declared any more, or its declaration cannot be read; what it has applied stays meanwhile"
        ]
    );
    // A failure that existed before is not part of this change.
    let preview = world.change(&[("apps/a/all.yaml", &config("a", "3"))]);
    assert!(
        !preview.is_broken() && names(&preview) == ["shop/a"],
        "{preview:?}"
    );
}

#[test]
fn preview_missing_program_is_named() {
    let world = World::new(&[
        ("all.yaml", &format!("{ENV}{}", application("a", ""))),
        ("apps/a/all.yaml", &config("a", "1")),
    ]);
    let preview = world.change(&[(
        "apps/a/Chart.yaml",
        "apiVersion: v2\nname: a\nversion: 1.0.0\n",
    )]);
    let trouble = &preview.applications[0].trouble[0];
    assert!(
        trouble.message.contains("helm is needed to render it") && trouble.transient,
        "{trouble:?}"
    );
}

#[test]
fn preview_invalid_object_refused_without_cluster() {
    let declared = format!(
        "{ENV}{}",
        application("a", "").replace(", targetNamespace: shop", "")
    );
    let good = config("a", "1").replace("{name: a}", "{name: a, namespace: shop}");
    let world = World::new(&[("all.yaml", &declared), ("apps/a/all.yaml", &good)]);
    let preview = world.change(&[("apps/a/all.yaml", &format!("{good}{}", config("b", "1")))]);
    let DryRunVerdict::Refused { reason: why } = &preview.applications[0].objects[0].verdict else {
        panic!("{preview:#?}")
    };
    assert!(
        why.starts_with("apps/a/all.yaml:") && why.contains("it names no namespace"),
        "{why}"
    );
    assert!(preview.is_refused());
}

#[test]
fn preview_hostile_and_huge_input_is_bounded() {
    let declared = format!("{ENV}{}", application("a", ""));
    let world = World::new(&[
        ("all.yaml", &declared),
        ("apps/a/all.yaml", &config("a", "1")),
    ]);
    let hostile = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"x\\n+++ b\\e[31m\\u202e\", namespace: \"n\\r\"}\ndata: {k: \"\\e[2J\\u202e\"}\n---\n";
    let lines: String = (0..200_000)
        .map(|n| format!("  line{n}: '{n}'\n"))
        .collect();
    let long =
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: long}}\ndata:\n{lines}---\n");
    let wide = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: wide}}\ndata: {{k: {}}}\n---\n",
        "w".repeat(3 << 20)
    );
    let many: String = (0..300).map(|n| config(&format!("many{n}"), "1")).collect();
    let preview = world.change(&[("apps/a/all.yaml", &format!("{hostile}{long}{wide}{many}"))]);
    let one = &preview.applications[0];
    let text = serde_json::to_string(&preview).unwrap();
    assert!(text.len() < 2 << 20, "{} bytes", text.len());
    let tame = |text: &str| {
        text.chars().all(|c| !c.is_control() || c == '\n') && !text.contains('\u{202e}')
    };
    for object in &one.objects {
        assert!(
            tame(&object.diff) && tame(&object.object) && !object.object.contains('\n'),
            "{object:?}"
        );
        assert!(
            object
                .diff
                .lines()
                .all(|line| line.starts_with(['+', '-', '@', ' ', '\\'])),
            "{}",
            object.object
        );
    }
    let of = |name: &str| {
        one.objects
            .iter()
            .find(|object| object.object.ends_with(name))
            .unwrap_or_else(|| panic!("{name}"))
            .diff
            .as_str()
    };
    assert!(
        of("shop/long").ends_with(" more lines are not shown\n")
            || of("shop/long").contains("too much"),
        "{}",
        &of("shop/long")[..200]
    );
    assert!(
        of("shop/wide").contains("not shown"),
        "{}",
        of("shop/wide").len()
    );
    assert!(
        one.notes
            .iter()
            .any(|note| note.contains("more objects change, which are not shown")),
        "{:?}",
        one.notes
    );
}

/// Runs the binary in a folder without the machine's environment.
fn run(folder: &Path, arguments: &[&str], code: i32) -> String {
    let mut command = crate::servers::environment::tagboat();
    command
        .env("HOME", folder)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .current_dir(folder)
        .args(arguments);
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

#[test]
fn preview_command_needs_only_a_checkout() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work");
    std::fs::create_dir_all(work.join("deep/down")).unwrap();
    let declared = format!("{ENV}{}", application("a", ""));
    let first = [
        ("all.yaml", declared.as_str()),
        ("apps/a/all.yaml", &config("a", "1")),
    ];
    let repository = BareRepository::create(&work.join(".git"), &first, ANN, NOW, "first").unwrap();
    let text = run(folder.path(), &["preview", "-C", "work"], 2);
    assert!(text.contains("has no parent to compare it with"), "{text}");
    let second = repository
        .commit(
            &[("apps/a/all.yaml", &config("a", "2"))],
            ANN,
            NOW + 1,
            "second",
        )
        .unwrap();
    let text = run(folder.path(), &["preview", "-C", "work/deep/down"], 0);
    assert!(
        text.contains(": 1 Application is affected\n\nshop/a on prod: 1 object changes\nConfigMap shop/a changes; not asked: no tagboat.yaml names clusters\n")
            && text.contains("-  value: \"1\"\n+  value: \"2\"\n"),
        "{text}"
    );
    let third = repository
        .commit(&[("apps/a/all.yaml", "a: [\n")], ANN, NOW + 2, "third")
        .unwrap();
    let text = run(
        folder.path(),
        &["preview", "-C", "work", "--base", "HEAD~2", "shop/a"],
        1,
    );
    assert!(
        text.contains("it cannot be rendered: apps/a/all.yaml:"),
        "{text}"
    );
    let short = second.to_string()[..8].to_owned();
    let text = run(
        folder.path(),
        &[
            "preview",
            "-C",
            "work",
            "--head",
            &short,
            "--no-cluster",
            "-o",
            "json",
        ],
        0,
    );
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["head"], second.to_string());
    let object = &value["applications"][0]["objects"][0];
    assert_eq!(
        (&value["applications"][0]["change"], &object["change"]),
        (&"files".into(), &"change".into())
    );
    assert_eq!(object["verdict"]["verdict"], "notAsked");
    assert!(
        run(
            folder.path(),
            &["preview", "-C", "work", "--base", &third.to_string()],
            0
        )
        .contains("nothing changes on clusters")
    );
    assert!(
        run(
            folder.path(),
            &["preview", "-C", "work", "--base", "no/such"],
            2
        )
        .contains("is not in the working copy")
    );
    assert!(
        run(folder.path(), &["preview", "-C", ".", "no/such"], 2)
            .contains("lies in no Git working copy")
    );
    let text = run(folder.path(), &["preview", "-C", "work", "no/such"], 2);
    assert!(
        text.contains("no Application no/such in either revision; available: shop/a"),
        "{text}"
    );
    // A branch is compared with its merge base.
    let repo = gix::open_opts(
        repository.dir(),
        gix::open::Options::isolated().open_path_as_is(true),
    )
    .unwrap();
    let change = gix::refs::transaction::RefEdit {
        change: gix::refs::transaction::Change::Update {
            log: Default::default(),
            expected: gix::refs::transaction::PreviousValue::Any,
            new: gix::refs::Target::Object(second),
        },
        name: "refs/remotes/origin/main".try_into().unwrap(),
        deref: false,
    };
    let who = gix::actor::SignatureRef {
        name: "Ann".into(),
        email: "ann@example.org".into(),
        time: "0 +0000",
    };
    repo.edit_references_as([change], Some(who)).unwrap();
    let value: Value = serde_json::from_str(&run(
        folder.path(),
        &["preview", "-C", "work", "-o", "json"],
        1,
    ))
    .unwrap();
    assert_eq!(
        (
            value["base"].as_str().unwrap(),
            value["head"].as_str().unwrap()
        ),
        (second.to_string().as_str(), third.to_string().as_str())
    );
}

#[test]
fn preview_command_reads_a_configured_repository() {
    let declared = format!(
        "{}{}{}",
        semver("app", ">=1.0.0", ""),
        env("dev", ""),
        application("a", "")
    );
    let fleet = Fleet::with(
        &[
            ("all.yaml", declared.as_str()),
            ("apps/a/all.yaml", &config("a", "1")),
        ],
        &Setup::default(),
    );
    let run = |arguments: &[&str], code: i32| {
        let output = fleet.tagboat(arguments).output().unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        text
    };
    let first = fleet.repository.head().unwrap().unwrap();
    fleet.person(&[("apps/a/all.yaml", &config("a", "2"))], "second");
    let text = run(&["preview"], 0);
    assert!(
        text.contains("not asked: tagboat.yaml names no clusters")
            && text.contains("+  value: \"2\""),
        "{text}"
    );
    // A branch that exists on the remote only, and behind main.
    let second = fleet.repository.head().unwrap().unwrap();
    fleet.person(
        &[("apps/a/all.yaml", &config("a", "branch"))],
        "on a branch",
    );
    let branch = fleet.repository.head().unwrap().unwrap();
    let reference = |name: &str, id: ObjectId| {
        fleet
            .repo()
            .reference(name, id, gix::refs::transaction::PreviousValue::Any, "test")
            .unwrap();
    };
    reference("refs/heads/team/new", branch);
    reference("refs/tags/v1", first);
    fleet.set_main(second);
    fleet.person(&[("apps/a/more.yaml", &config("more", "1"))], "meanwhile");
    let text = run(&["preview", "--head", "team/new"], 0);
    assert!(
        text.contains("-  value: \"2\"\n+  value: branch") && !text.contains("more"),
        "{text}"
    );
    let text = run(&["preview", "--base", "v1"], 0);
    assert!(
        text.contains("-  value: \"1\"\n+  value: \"2\"")
            && text.contains("ConfigMap shop/more is created"),
        "{text}"
    );
    let text = run(
        &[
            "preview",
            "--base",
            &first.to_string()[..7],
            "--head",
            &second.to_string(),
        ],
        0,
    );
    assert!(
        text.contains("+  value: \"2\"") && !text.contains("more is created"),
        "{text}"
    );
    assert!(
        run(&["preview", "--head", "no-such"], 2).contains("is no branch, no tag and no commit id")
    );
    assert!(run(&["preview", "--head", "--x y"], 2).contains("--x y"));
    assert!(run(&["preview", "--head", "main^{/x}"], 2).contains("is no branch"));
}
