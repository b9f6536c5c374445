//! Render processes under faults, and the render cache. Shell scripts stand in for kustomize and
//! helm; `render_real` has the real ones.

use super::{
    git_support::Sandbox,
    render_support::{World, script, settings, source},
};
use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tagboat::{
    core::error::{Classify, ErrorKind},
    io::{
        git::{Mirror, ObjectId},
        render::{RenderError, RenderMethod, Rendered, Renderer},
    },
    reconcile::{RenderStage, from_git},
    spec::{
        Helm,
        settings::{RenderSandbox, RenderSettings},
    },
};

const KUSTOMIZATION: (&str, &str) = ("x/kustomization.yaml", "resources: [a.yaml]\n");

/// A stand-in that answers for its version, then runs `rest`.
fn standing_in(world: &World, rest: &str) -> RenderSettings {
    let script = world.script(
        "kustomize",
        &format!("[ \"$1\" = version ] && echo v0.0.0-test && exit\n{rest}"),
    );
    RenderSettings {
        kustomize: script,
        ..settings()
    }
}

fn fails(rest: &str, change: impl FnOnce(&mut RenderSettings)) -> (RenderError, Duration) {
    let world = World::new(&[KUSTOMIZATION]);
    let mut settings = standing_in(&world, rest);
    change(&mut settings);
    let started = Instant::now();
    let error = world
        .renderer(&settings)
        .render_folder(&world.root(), &source("x"))
        .unwrap_err();
    assert_eq!(world.left(), 0, "temporary copies stay behind");
    (error, started.elapsed())
}

#[test]
fn render_timeout_kills_the_process_group() {
    let world = World::new(&[KUSTOMIZATION]);
    let pid = world.temporary.path().join("pid");
    // The child outlives its parent and keeps the pipes open.
    let mut settings = standing_in(
        &world,
        &format!("sleep 600 & echo $! > {}; exit 0", pid.display()),
    );
    settings.timeout = Duration::from_millis(500);
    // It writes outside of its scratch folder, for this test.
    settings.sandbox = RenderSandbox::Disabled;
    let error = world
        .renderer(&settings)
        .render_folder(&world.root(), &source("x"))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "x: kustomize was stopped: it took longer than 0.5 s"
    );
    assert_eq!(error.kind(), ErrorKind::Local);
    let child = fs::read_to_string(pid).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let state = || fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    // It is gone, or a zombie of its new parent.
    while !(state().is_empty() || state().contains(") Z ")) {
        assert!(Instant::now() < deadline, "{}", state());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(world.left(), 0);
}

#[test]
fn render_process_limits_are_distinct_errors() {
    let (error, took) = fails("exec sleep 600", |settings| {
        settings.timeout = Duration::from_millis(300)
    });
    assert!(
        error.to_string().contains("longer than 0.3 s") && took < Duration::from_secs(10),
        "{error} {took:?}"
    );
    // It closes its output and keeps running.
    let (error, took) = fails("exec >&- 2>&-; sleep 600", |settings| {
        settings.timeout = Duration::from_millis(300)
    });
    assert!(
        error.to_string().contains("longer than 0.3 s") && took < Duration::from_secs(10),
        "{error} {took:?}"
    );
    let (error, _) = fails("yes 'a: 0123456789012345678901234567890123456789'", |_| {});
    assert_eq!(
        error.to_string(),
        "x: kustomize was stopped: it printed more than 64 MiB"
    );
    assert_eq!(error.kind(), ErrorKind::Config);
    let (error, _) = fails("echo before >&2; kill -9 $$", |settings| {
        settings.memory = 256 << 20
    });
    assert_eq!(
        error.to_string(),
        "x: kustomize was stopped: it was killed, perhaps for memory (it may take 256 MiB): before"
    );
    let (error, _) = fails(
        "printf '\\033[31mno\\n\\n  such thing in %s/x\\n' \"$(cd .. && pwd)\" >&2; exit 3",
        |_| {},
    );
    assert_eq!(
        error.to_string(),
        "x: kustomize failed: \\u{1b}[31mno; such thing in x"
    );
    let (error, _) = fails("exit 1", |_| {});
    assert_eq!(error.to_string(), "x: kustomize failed: it said nothing");
    let (error, _) = fails(
        "yes 'much to complain about' | head -c 10000000 >&2; echo the end >&2; exit 1",
        |_| {},
    );
    assert!(
        error.to_string().len() < 3000 && error.to_string().ends_with("the end"),
        "{error}"
    );
    let (error, _) = fails("printf '\\377'", |_| {});
    assert_eq!(
        error.to_string(),
        "x: kustomize failed: what it printed is not UTF-8 text"
    );
    let (error, _) = fails("printf 'a: 1\\n---\\n- b\\n'", |_| {});
    let RenderError::Manifests(mistakes) = error else {
        panic!("{error}")
    };
    assert_eq!(mistakes.len(), 2);
    assert!(
        mistakes
            .iter()
            .all(|mistake| mistake.to_string().starts_with("x/kustomization.yaml: ")),
        "{mistakes:?}"
    );
}

#[test]
fn render_missing_program_is_an_error() {
    let world = World::new(&[KUSTOMIZATION]);
    let render = |kustomize: &Path| {
        let settings = RenderSettings {
            kustomize: kustomize.to_owned(),
            ..settings()
        };
        world
            .renderer(&settings)
            .render_folder(&world.root(), &source("x"))
            .unwrap_err()
    };
    let error = render(Path::new("no-such-kustomize"));
    assert_eq!(
        error.to_string(),
        "x: kustomize is needed to render it, and no-such-kustomize is not on PATH"
    );
    assert_eq!(
        error.hint().unwrap(),
        "Install kustomize (one binary), or write where it is as render.kustomize in tagboat.yaml."
    );
    let text = world.temporary.path().join("text");
    fs::write(&text, "no program").unwrap();
    assert!(
        render(&text).to_string().contains("cannot be started: "),
        "{}",
        render(&text)
    );
}

#[test]
fn render_process_has_a_clean_environment() {
    let world = World::new(&[
        KUSTOMIZATION,
        ("x/a.yaml", ""),
        ("secret.yaml", "no"),
        ("x/.git/config", "no"),
    ]);
    std::os::unix::fs::symlink("/etc/passwd", world.root().join("x/link")).unwrap();
    let head = "apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: a}\\ndata:\\n";
    let settings = standing_in(
        &world,
        &format!(
            "printf '{head}'; echo \"  in: '$(cat)'\"; echo \"  files: '$(cd .. && echo $(find . -type f -o -type l | sort))'\"; env | sed 's/^\\([A-Za-z_]*\\)=\\(.*\\)$/  \\1: \"\\2\"/'; echo \"  data: '$(ulimit -d)'\""
        ),
    );
    let rendered = world
        .renderer(&settings)
        .render_folder(&world.root(), &source("x"))
        .unwrap();
    let objects = rendered.objects();
    let data = objects[0].value()["data"].as_object().unwrap();
    assert_eq!(data["in"], "");
    assert_eq!(data["files"], "./x/a.yaml ./x/kustomization.yaml");
    let inside = world
        .temporary
        .path()
        .join("copies")
        .canonicalize()
        .unwrap();
    for (name, value) in data {
        let value = value.as_str().unwrap();
        match name.as_str() {
            "in" | "files" | "PWD" | "OLDPWD" | "SHLVL" | "_" | "PATH" | "LC_ALL"
            | "KUBECONFIG" | "GOMEMLIMIT" => {}
            "HTTP_PROXY" | "HTTPS_PROXY" | "ALL_PROXY" => assert_eq!(value, "http://127.0.0.1:9"),
            "data" => assert_eq!(
                value,
                if cfg!(target_os = "linux") {
                    "1048576"
                } else {
                    value
                }
            ),
            _ => assert!(Path::new(value).starts_with(&inside), "{name}={value}"),
        }
    }
    assert!(
        rendered
            .warnings
            .iter()
            .any(|warning| warning == "x/link: symbolic links are not followed"),
        "{:?}",
        rendered.warnings
    );
    assert_eq!(
        rendered.how,
        RenderMethod::Kustomize {
            version: "v0.0.0-test".to_owned()
        }
    );
    assert_eq!(world.left(), 0);
}

/// A mirror of a repository, and a stand-in that prints one object for all that it can read.
pub(super) struct Fleet {
    pub sandbox: Sandbox,
    pub mirror: Mirror,
    pub settings: RenderSettings,
}

/// Prints a ConfigMap with a checksum of the copy.
const SUM: &str = "sum=$(cd \"${HOME%/home}/copy\" && find . -type f | sort | xargs cat | cksum | cut -d' ' -f1)\nprintf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: a}\\ndata: {sum: \"%s\"}\\n' \"$sum\"";

impl Fleet {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let sandbox = Sandbox::new(files);
        let mirror = sandbox.mirror("mirror");
        let version = "[ \"$1\" = version ] && echo v1 && exit\n";
        let kustomize = script(sandbox.dir.path(), "kustomize", &format!("{version}{SUM}"));
        let helm = script(sandbox.dir.path(), "helm", &format!("{version}{SUM}"));
        Self {
            settings: RenderSettings {
                kustomize,
                helm,
                ..settings()
            },
            mirror,
            sandbox,
        }
    }

    pub(super) fn renderer(&self) -> Renderer {
        Renderer::new(&self.settings, &self.sandbox.dir.path().join("copies"))
    }

    pub(super) fn head(&self) -> ObjectId {
        self.mirror.fetch().unwrap().commit
    }
}

fn sum(rendered: &Rendered) -> String {
    rendered.objects()[0].value()["data"]["sum"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The reconciler keeps the back-off of a slow chart by its inputs.
#[test]
fn render_inputs_are_equal_across_commits() {
    let fleet = Fleet::new(&[
        ("x/kustomization.yaml", "resources: [a.yaml]\n"),
        ("x/a.yaml", "one\n"),
    ]);
    let text = "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {name: a, namespace: shop}\nspec: {environment: dev, path: x, cluster: prod, targetNamespace: shop}\n";
    let declared = tagboat::spec::read([("all.yaml", text.as_bytes())], None);
    let application = declared.applications.into_values().next().unwrap();
    let renderer = Arc::new(fleet.renderer());
    let mirror = Arc::new(fleet.sandbox.mirror("second"));
    let inputs = || {
        let commit = mirror.fetch().unwrap().commit;
        let render = from_git(Arc::clone(&renderer), Arc::clone(&mirror), commit);
        match render.begin(&application).unwrap() {
            RenderStage::Program { inputs, .. } => inputs.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let first = inputs();
    fleet.sandbox.person(&[("README.md", "words\n")], "words");
    assert_eq!(inputs(), first);
    fleet.sandbox.person(&[("x/a.yaml", "two\n")], "change");
    assert_ne!(inputs(), first);
}

#[test]
fn render_runs_only_for_changed_inputs() {
    let fleet = Fleet::new(&[
        ("base/kustomization.yaml", "resources: [a.yaml]\n"),
        ("base/a.yaml", "one\n"),
        ("shared/values.env", "A=1\n"),
        ("dev/kustomization.yaml", "resources: [../base]\n"),
        (
            "prod/kustomization.yaml",
            "resources: [../base]\nconfigMapGenerator: [{name: x, envs: [../shared/values.env]}]\n",
        ),
        ("alone/kustomization.yaml", "resources: []\n"),
        ("plugin/kustomization.yaml", "transformers: [t.yaml]\n"),
        (
            "plain/a.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
        ),
    ]);
    let renderer = fleet.renderer();
    let names = ["dev", "prod", "alone", "plugin", "plain"];
    let all = |commit| {
        names.map(|path| {
            renderer
                .render(&fleet.mirror, commit, &source(path))
                .unwrap()
        })
    };
    let change = |path: &str, text: &str| {
        fleet.sandbox.person(&[(path, text)], "change");
        let before = renderer.runs();
        let rendered = all(fleet.head());
        (rendered, renderer.runs() - before)
    };
    let first = all(fleet.head());
    assert_eq!(renderer.runs(), 4);
    // Another commit changes a file that is read by nothing but the plugin, which may read
    // anything.
    let (second, runs) = change("README.md", "words\n");
    assert_eq!(runs, 1);
    assert!(
        first
            .iter()
            .zip(&second)
            .filter(|(a, b)| Arc::ptr_eq(a, b))
            .count()
            == 4
    );
    // The shared base is part of both overlays.
    let (third, runs) = change("base/a.yaml", "two\n");
    assert_eq!(runs, 3);
    assert!(
        sum(&second[0]) != sum(&third[0])
            && sum(&second[1]) != sum(&third[1])
            && sum(&second[2]) == sum(&third[2])
    );
    assert_ne!(second[0].hash, third[0].hash);
    // One file beside the folders, used by one of them.
    let (_, runs) = change("shared/values.env", "A=2\n");
    assert_eq!(runs, 2);
    let (_, runs) = change("shared/other.env", "B=1\n");
    assert_eq!(runs, 1);
    // A newly referenced file is an input from now on.
    let (_, runs) = change(
        "dev/kustomization.yaml",
        "resources: [../base]\npatches: [{path: ../shared/patch.yaml}]\n",
    );
    assert_eq!(runs, 2);
    let (_, runs) = change("shared/patch.yaml", "now there\n");
    assert_eq!(runs, 2);
    // Back to the earlier content: it is cached.
    let (_, runs) = change("shared/values.env", "A=1\n");
    assert!(runs <= 2, "{runs}");
    // A plain folder needs no program.
    let (_, runs) = change(
        "plain/a.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n",
    );
    assert_eq!(runs, 1);
}

#[test]
fn render_cache_key_has_options_and_programs() {
    let fleet = Fleet::new(&[
        ("c/Chart.yaml", "name: c\n"),
        ("values/dev.yaml", "a: 1\n"),
        ("values/prod.yaml", "a: 2\n"),
    ]);
    let renderer = fleet.renderer();
    let chart = |file: &str, value: i64| {
        let values = [("n".to_owned(), value.into())].into_iter().collect();
        let helm = Helm {
            release_name: None,
            value_files: vec![file.to_owned()],
            values,
        };
        tagboat::io::render::RenderSource {
            helm: Some(helm),
            ..source("c")
        }
    };
    let runs = |source: &tagboat::io::render::RenderSource| {
        let before = renderer.runs();
        renderer
            .render(&fleet.mirror, fleet.head(), source)
            .unwrap();
        renderer.runs() - before
    };
    assert_eq!(runs(&chart("values/dev.yaml", 1)), 1);
    assert_eq!(runs(&chart("values/dev.yaml", 1)), 0);
    assert_eq!(runs(&chart("values/dev.yaml", 2)), 1);
    assert_eq!(runs(&chart("values/prod.yaml", 1)), 1);
    assert_eq!(
        runs(&tagboat::io::render::RenderSource {
            namespace: "other".to_owned(),
            ..chart("values/dev.yaml", 1)
        }),
        1
    );
    fleet
        .sandbox
        .person(&[("values/prod.yaml", "a: 3\n")], "change");
    assert_eq!(
        (
            runs(&chart("values/dev.yaml", 1)),
            runs(&chart("values/prod.yaml", 1))
        ),
        (0, 1)
    );
    script(
        fleet.sandbox.dir.path(),
        "helm",
        &format!("[ \"$1\" = version ] && echo v2 && exit\n{SUM} # other"),
    );
    assert_eq!(runs(&chart("values/dev.yaml", 1)), 1);
    let rendered = renderer
        .render(&fleet.mirror, fleet.head(), &chart("values/dev.yaml", 1))
        .unwrap();
    assert_eq!(
        rendered.how,
        RenderMethod::Helm {
            version: "v2".to_owned()
        }
    );
    let error = renderer
        .render(&fleet.mirror, fleet.head(), &chart("values/none.yaml", 1))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "c: helm failed: there is no file of values values/none.yaml"
    );
}

#[test]
fn render_failure_is_cached_until_file_changes() {
    let fleet = Fleet::new(&[("x/kustomization.yaml", "a: 1\n")]);
    let script_at = fleet.settings.kustomize.clone();
    script(
        script_at.parent().unwrap(),
        "kustomize",
        "[ \"$1\" = version ] && echo v1 && exit\necho no >&2; exit 1",
    );
    let renderer = fleet.renderer();
    let render = || {
        renderer
            .render(&fleet.mirror, fleet.head(), &source("x"))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        [render(), render()],
        ["x: kustomize failed: no"; 2].map(str::to_owned)
    );
    assert_eq!(renderer.runs(), 1);
    fleet
        .sandbox
        .person(&[("x/kustomization.yaml", "a: 2\n")], "change");
    render();
    assert_eq!(renderer.runs(), 2);
    // Transient failures are retried.
    fs::remove_file(&script_at).unwrap();
    assert!(render().contains("is not there"));
    script(
        script_at.parent().unwrap(),
        "kustomize",
        &format!("[ \"$1\" = version ] && echo v1 && exit\n{SUM}"),
    );
    assert!(
        renderer
            .render(&fleet.mirror, fleet.head(), &source("x"))
            .is_ok()
    );
}

#[test]
fn render_plain_folder_is_read_from_git() {
    let fleet = Fleet::new(&[(
        "x/a.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
    )]);
    let renderer = fleet.renderer();
    let rendered = renderer
        .render(&fleet.mirror, fleet.head(), &source("x"))
        .unwrap();
    assert_eq!(
        (rendered.objects().len(), &rendered.how),
        (1, &RenderMethod::Plain)
    );
    assert_eq!(
        rendered.objects()[0].origin.as_ref().unwrap().to_string(),
        "x/a.yaml:1"
    );
    // The root is a folder, too.
    assert_eq!(
        renderer
            .render(&fleet.mirror, fleet.head(), &source(""))
            .unwrap()
            .hash,
        rendered.hash
    );
    let error = renderer
        .render(&fleet.mirror, fleet.head(), &source("x/a.yaml"))
        .unwrap_err();
    assert_eq!(error.to_string(), "x/a.yaml: there is no such folder");
}
