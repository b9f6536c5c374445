//! Rendering by the real kustomize and helm.

use super::render_support::{World, secret_server, settings, source};
use std::path::PathBuf;
use tagboat::{
    io::render::{RenderError, RenderMethod, RenderSource, Rendered},
    spec::{
        Helm,
        settings::{RenderSandbox, RenderSettings},
    },
};

fn programs() -> RenderSettings {
    let program = |name: &str| {
        PathBuf::from(
            std::env::var_os(name)
                .unwrap_or_else(|| panic!("{name} is not set: run tests/run render")),
        )
    };
    RenderSettings {
        kustomize: program("TAGBOAT_TEST_KUSTOMIZE"),
        helm: program("TAGBOAT_TEST_HELM"),
        ..settings()
    }
}

fn text(rendered: &Rendered) -> String {
    tagboat::objects::manifest::to_yaml_stream(
        rendered.objects().iter().map(|object| object.value()),
    )
}

fn fails(world: &World, path: &str) -> RenderError {
    world
        .renderer(&programs())
        .render_folder(&world.root(), &source(path))
        .unwrap_err()
}

const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec:\n      containers: [{name: app, image: shop/web, args: [\"yes\", \"0644\"]}]\n";

#[test]
#[ignore = "needs kustomize: run tests/run render"]
fn kustomize_builds_overlay_on_a_distant_base() {
    let world = World::new(&[
        ("base/kustomization.yaml", "resources: [web.yaml]\n"),
        ("base/web.yaml", DEPLOYMENT),
        (
            "parts/quota/kustomization.yaml",
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [quota.yaml]\n",
        ),
        (
            "parts/quota/quota.yaml",
            "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: all}\nspec: {hard: {pods: \"10\"}}\n",
        ),
        (
            "envs/dev/kustomization.yml",
            "namespace: dev\nresources: [../../base]\ncomponents: [../../parts/quota]\nimages: [{name: shop/web, newTag: 1.2.3}]\n\
             configMapGenerator: [{name: settings, files: [motd=motd.txt], options: {disableNameSuffixHash: true}}]\n",
        ),
        ("envs/dev/motd.txt", "hello\nthere\n"),
    ]);
    let rendered = world
        .renderer(&programs())
        .render_folder(&world.root(), &source("envs/dev"))
        .unwrap();
    let expected = "---\napiVersion: v1\nkind: ResourceQuota\nmetadata:\n  name: all\n  namespace: dev\nspec:\n  hard:\n    pods: \"10\"\n\
        ---\napiVersion: v1\ndata:\n  motd: |\n    hello\n    there\nkind: ConfigMap\nmetadata:\n  name: settings\n  namespace: dev\n\
        ---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  namespace: dev\nspec:\n  template:\n    spec:\n      containers:\n      - args:\n        - \"yes\"\n        - \"0644\"\n        image: shop/web:1.2.3\n        name: app\n";
    assert_eq!(text(&rendered), expected);
    let RenderMethod::Kustomize { version } = &rendered.how else {
        panic!("{:?}", rendered.how)
    };
    assert!(version.starts_with("v5."), "{version}");
    assert_eq!(
        rendered.objects()[0].origin.as_ref().unwrap().to_string(),
        "envs/dev/kustomization.yml"
    );
    assert_eq!(world.left(), 0);
}

/// kustomize-controller and Argo CD build without load restrictions, and overlays rely on it.
#[test]
#[ignore = "needs kustomize: run tests/run render"]
fn kustomize_reads_files_above_its_folder() {
    let world = World::new(&[
        (
            "shared/quota.yaml",
            "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: all}\nspec: {hard: {pods: \"10\"}}\n",
        ),
        (
            "shared/more.yaml",
            "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: all}\nspec: {hard: {pods: \"20\"}}\n",
        ),
        ("shared/motd.txt", "hello\n"),
        ("secret.txt", "is no input\n"),
        (
            "envs/dev/kustomization.yaml",
            "resources: [../../shared/quota.yaml]\npatches: [{path: ../../shared/more.yaml}]\n\
             configMapGenerator: [{name: motd, files: [../../shared/motd.txt], options: {disableNameSuffixHash: true}}]\n",
        ),
    ]);
    let rendered = world
        .renderer(&programs())
        .render_folder(&world.root(), &source("envs/dev"))
        .unwrap();
    let text = text(&rendered);
    assert!(
        text.contains("pods: \"20\"") && text.contains("motd.txt: \"hello\\n\""),
        "{text}"
    );
}

#[test]
#[ignore = "needs helm: run tests/run render"]
fn helm_duplicate_key_counts_last_with_warning() {
    let world = World::new(&[
        (
            "chart/Chart.yaml",
            "apiVersion: v2\nname: web\nversion: 1.0.0\n",
        ),
        (
            "chart/templates/config.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: web\n  labels: {app: a}\n  labels: {app: b}\n",
        ),
    ]);
    let rendered = world
        .renderer(&programs())
        .render_folder(&world.root(), &source("chart"))
        .unwrap();
    let text = text(&rendered);
    assert!(
        text.contains("app: b") && !text.contains("app: a"),
        "{text}"
    );
    assert_eq!(rendered.warnings.len(), 1, "{:?}", rendered.warnings);
    assert!(
        rendered.warnings[0].contains("\"labels\" is written twice")
            && rendered.warnings[0].ends_with("the last one counts, as in Kubernetes"),
        "{:?}",
        rendered.warnings
    );
}

#[test]
#[ignore = "needs kustomize: run tests/run render"]
fn kustomize_error_is_shown_nothing_read_outside() {
    let world = World::new(&[
        ("missing/kustomization.yaml", "resources: [none.yaml]\n"),
        ("field/kustomization.yaml", "resorces: []\n"),
        (
            "patch/kustomization.yaml",
            "resources: [a.yaml]\npatches: [{path: link.yaml}]\n",
        ),
        ("patch/a.yaml", DEPLOYMENT),
        ("exec/kustomization.yaml", "generators: [plugin.yaml]\n"),
        (
            "exec/plugin.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, annotations: {config.kubernetes.io/function: \"exec: {path: ./run.sh}\"}}\n",
        ),
        ("exec/run.sh", "#!/bin/sh\necho ran\n"),
    ]);
    std::os::unix::fs::symlink("/etc/hostname", world.root().join("patch/link.yaml")).unwrap();
    for (path, says) in [
        ("missing", "none.yaml"),
        ("field", "resorces"),
        ("patch", "link.yaml"),
        ("exec", "exec"),
    ] {
        let error = fails(&world, path);
        let message = error.to_string();
        assert!(
            matches!(error, RenderError::Failed { .. })
                && message.starts_with(&format!("{path}: kustomize failed: "))
                && message.contains(says),
            "{message}"
        );
        assert!(
            !message.contains("/copies/"),
            "a temporary folder is shown: {message}"
        );
    }
}

#[test]
#[ignore = "needs kustomize: run tests/run render"]
fn kustomize_url_spelling_reaches_no_other_host() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let address = format!("http://{}/x.yaml", server.local_addr().unwrap());
    for text in [
        format!("commonAnnotations: {{u: &u {address:?}}}\nresources: [*u]\n"),
        format!("commonAnnotations: {{a: &a resources}}\n*a : [{address:?}]\n"),
        format!("commonAnnotations: &m {{resources: [{address:?}]}}\n<<: *m\n"),
        format!("RESOURCES: [{address:?}]\n"),
        format!("reſourceſ: [{address:?}]\n"),
        format!("# a note\u{2028}resources: [{address:?}]\n"),
        format!("# a note\u{85}resources: [{address:?}]\n"),
        format!("# a note\rresources: [{address:?}]\n"),
        format!("resources: [\"{address}?{}\"]\n", "a".repeat(2000)),
        format!(
            "transformers: [\"{{apiVersion: builtin, kind: PatchTransformer, metadata: {{name: t}}, path: '{address}'}}\"]\n"
        ),
    ] {
        let world = World::new(&[("x/kustomization.yaml", text.as_str())]);
        let error = fails(&world, "x");
        assert!(
            matches!(error, RenderError::Outside { .. }),
            "{text}: {error}"
        );
        assert!(server.accept().is_err(), "requested by {text}");
    }
}

const TEMPLATES: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}, namespace: {{ .Release.Namespace }}}\ndata:\n  who: {{ .Values.who | quote }}\n  count: {{ .Values.count | quote }}\n  on: {{ .Values.on | quote }}\n---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate, annotations: {helm.sh/hook: \"pre-install,pre-upgrade\"}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: try, annotations: {helm.sh/hook: test}}\n";

fn chart() -> World {
    World::new(&[
        (
            "charts/web/Chart.yaml",
            "apiVersion: v2\nname: web\nversion: 1.0.0\ndependencies: [{name: inner, version: 1.x.x}]\n",
        ),
        (
            "charts/web/values.yaml",
            "who: nobody\ncount: 1\n\"on\": \"no\"\n",
        ),
        ("charts/web/templates/all.yaml", TEMPLATES),
        ("charts/web/templates/NOTES.txt", "words\n"),
        (
            "charts/web/crds/widgets.yaml",
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example.org}\n",
        ),
        (
            "charts/web/charts/inner/Chart.yaml",
            "apiVersion: v2\nname: inner\nversion: 1.0.0\n",
        ),
        (
            "charts/web/charts/inner/templates/sa.yaml",
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: inner}\n",
        ),
        ("values/dev.yaml", "who: dev\ncount: 2\n"),
    ])
}

fn released(values: &serde_json::Value) -> RenderSource {
    let helm = Helm {
        release_name: Some("shop-web".to_owned()),
        value_files: vec!["values/dev.yaml".to_owned()],
        values: values.as_object().unwrap().clone(),
    };
    RenderSource {
        helm: Some(helm),
        ..source("charts/web")
    }
}

#[test]
#[ignore = "needs helm: run tests/run render"]
fn helm_value_files_apply_in_order() {
    let world = chart();
    let rendered = world
        .renderer(&programs())
        .render_folder(
            &world.root(),
            &released(&serde_json::json!({"count": "0644"})),
        )
        .unwrap();
    let mut keys: Vec<String> = rendered
        .objects()
        .iter()
        .map(|object| object.key().to_string())
        .collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "ConfigMap shop/shop-web",
            "CustomResourceDefinition widgets.example.org",
            "ServiceAccount inner"
        ]
    );
    let map = rendered
        .objects()
        .into_iter()
        .find(|object| object.gvk().kind == "ConfigMap")
        .unwrap();
    assert_eq!(
        map.value()["data"],
        serde_json::json!({"who": "dev", "count": "0644", "true": "no"}),
        "as kubectl reads a bare on:"
    );
    assert_eq!(
        rendered.warnings,
        [
            "charts/web: Job migrate is a hook (pre-install,pre-upgrade) and left out: hooks are not run"
        ]
    );
    let RenderMethod::Helm { version } = &rendered.how else {
        panic!("{:?}", rendered.how)
    };
    assert!(version.starts_with("v4."), "{version}");
    assert_eq!(
        map.origin.as_ref().unwrap().to_string(),
        "charts/web/Chart.yaml"
    );
    assert_eq!(world.left(), 0);
}

#[test]
#[ignore = "needs helm: run tests/run render"]
fn helm_error_is_shown() {
    let world = chart();
    world.file(
        "charts/web/templates/bad.yaml",
        "a: {{ required \"who is it?\" .Values.nothing }}\n",
    );
    let error = world
        .renderer(&programs())
        .render_folder(&world.root(), &released(&serde_json::json!({})))
        .unwrap_err();
    assert!(
        matches!(
            error,
            RenderError::Failed {
                program: "helm",
                ..
            }
        ) && error.to_string().contains("who is it?"),
        "{error}"
    );
    // A template cannot reach the cluster, nor another host.
    world.file("charts/web/templates/bad.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {found: {{ lookup \"v1\" \"Secret\" \"a\" \"b\" | toJson | quote }}}\n");
    let rendered = world
        .renderer(&programs())
        .render_folder(&world.root(), &released(&serde_json::json!({})))
        .unwrap();
    assert!(
        rendered.objects().iter().any(|object| object
            .value()
            .get("data")
            .is_some_and(|data| data.get("found") == Some(&"{}".into()))),
        "{}",
        text(&rendered)
    );
}

#[test]
#[ignore = "needs helm: run tests/run render"]
fn render_memory_is_bounded() {
    let world = chart();
    world.file(
        "charts/web/templates/huge.yaml",
        "{{- $text := \"0123456789abcdef\" }}{{- range until 26 }}{{- $text = print $text $text }}{{- end }}\na: {{ len $text }}\n",
    );
    let settings = RenderSettings {
        memory: 128 << 20,
        ..programs()
    };
    let error = world
        .renderer(&settings)
        .render_folder(&world.root(), &released(&serde_json::json!({})))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "charts/web: helm was stopped: it needs more than the 128 MiB of memory that it may take"
    );
}

const SECRET: &str = "the-secret-of-the-bot";

/// A kustomization whose generator gets its `files` from a patch, which no scan of names finds.
fn hidden_file(file: &str) -> World {
    World::new(&[
        ("x/kustomization.yaml", "generators: [generator]\n"),
        (
            "x/generator/kustomization.yaml",
            &format!(
                "resources: [map.yaml]\npatches:\n- target: {{kind: ConfigMapGenerator}}\n  patch: |-\n    - op: add\n      path: /files\n      value: ['found={file}']\n"
            ),
        ),
        (
            "x/generator/map.yaml",
            "apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: map}\nliterals: [a=b]\n",
        ),
    ])
}

/// Returns a rendering that is confined, and one that is not.
fn both(world: &World, path: &str) -> [Result<String, RenderError>; 2] {
    [RenderSandbox::Required, RenderSandbox::Disabled].map(|sandbox| {
        let settings = RenderSettings {
            sandbox,
            ..programs()
        };
        world
            .renderer(&settings)
            .render_folder(&world.root(), &source(path))
            .map(|rendered| text(&rendered))
    })
}

#[test]
#[ignore = "needs kustomize: run tests/run render"]
fn kustomize_hidden_url_reaches_no_host() {
    let server = secret_server(SECRET);
    let world = hidden_file(&format!("http://127.0.0.1:{}/", server.port()));
    let [confined, free] = both(&world, "x");
    assert!(free.unwrap().contains(SECRET), "nothing to confine");
    assert_eq!(server.requests(), 1, "by the one that is not confined");
    let error = confined.unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, RenderError::Network { .. }), "{message}");
    assert!(
        message.starts_with(
            "x: kustomize tried to reach another host, and a rendering has no network: "
        ),
        "{message}"
    );
    assert!(!message.contains(SECRET));
    // A name is not even looked up.
    let [confined, _] = both(&hidden_file("http://tagboat.example.com/"), "x");
    assert!(matches!(confined, Err(RenderError::Network { .. })));
}

#[test]
#[ignore = "needs kustomize: run tests/run render"]
fn kustomize_hidden_path_reaches_no_file() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), SECRET).unwrap();
    let world = hidden_file(&secret.path().display().to_string());
    let [confined, free] = both(&world, "x");
    assert!(free.unwrap().contains(SECRET), "nothing to confine");
    let message = confined.unwrap_err().to_string();
    assert!(message.contains("permission denied"), "{message}");
    let [confined, free] = both(&hidden_file("/proc/self/status"), "x");
    assert!(free.unwrap().contains("kustomize"), "nothing to confine");
    let message = confined.unwrap_err().to_string();
    assert!(message.contains("permission denied"), "{message}");
}

#[test]
#[ignore = "needs helm: run tests/run render"]
fn helm_schema_reference_reaches_nothing() {
    let server = secret_server("{}");
    let secret = tempfile::NamedTempFile::new().unwrap();
    // A schema that the values do not fit shows that it was read.
    std::fs::write(secret.path(), "{\"required\": [\"the-secret\"]}").unwrap();
    let world = chart();
    let with = |reference: &str| {
        world.file(
            "charts/web/values.schema.json",
            &format!("{{\"$schema\": \"http://json-schema.org/draft-07/schema#\", \"$ref\": {reference:?}}}"),
        );
        both(&world, "charts/web").map(|rendered| rendered.map_err(|error| error.to_string()))
    };
    let [confined, free] = with(&format!("http://127.0.0.1:{}/x", server.port()));
    assert!(free.is_ok(), "{free:?}");
    assert_eq!(server.requests(), 1, "by the one that is not confined");
    let message = confined.unwrap_err();
    assert!(
        message.starts_with("charts/web: helm tried to reach another host"),
        "{message}"
    );
    let [confined, free] = with(&format!("file://{}", secret.path().display()));
    assert!(free.unwrap_err().contains("the-secret"));
    let message = confined.unwrap_err();
    assert!(
        message.contains("permission denied") && !message.contains("the-secret"),
        "{message}"
    );
    let [confined, _] = with("file:///proc/self/environ");
    assert!(confined.unwrap_err().contains("permission denied"));
}

/// Where the operator allows it, a base that the kustomization names is read from its host; what
/// a patch hides is not.
#[test]
#[ignore = "needs kustomize: run tests/run render"]
fn kustomize_remote_base_has_the_network() {
    let server = secret_server(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: remote}\ndata: {a: far}\n",
    );
    let address = format!("http://127.0.0.1:{}/map.yaml", server.port());
    let base = format!("resources: [{address:?}]\n");
    let settings = RenderSettings {
        allow_remote_bases: true,
        sandbox: RenderSandbox::Required,
        ..programs()
    };
    let render = |world: &World| {
        world
            .renderer(&settings)
            .render_folder(&world.root(), &source("x"))
    };
    let rendered = render(&World::new(&[("x/kustomization.yaml", &base)])).unwrap();
    assert!(text(&rendered).contains("a: far"));
    let error = render(&hidden_file(&address)).unwrap_err();
    assert!(matches!(error, RenderError::Network { .. }), "{error}");
    assert_eq!(server.requests(), 1);
}
