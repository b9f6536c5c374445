//! Overlays rendered in the process and by the real kustomize: the same objects.

use super::{
    kustomize_layouts::LAYOUTS,
    kustomize_overlays,
    render_support::{World, settings, source},
};
use std::path::PathBuf;
use tagboat::{
    io::render::{RenderError, RenderMethod, Rendered},
    spec::settings::{KustomizeMode, RenderSettings},
};

/// Random overlays that each run compares; `KUSTOMIZE_OVERLAYS=500` compares more.
const OVERLAYS: u64 = 60;

fn programs(kustomize_mode: KustomizeMode) -> RenderSettings {
    let program = std::env::var_os("TAGBOAT_TEST_KUSTOMIZE")
        .expect("TAGBOAT_TEST_KUSTOMIZE is not set: run tests/run render");
    RenderSettings {
        kustomize: PathBuf::from(program),
        kustomize_mode,
        ..settings()
    }
}

/// Without any program.
fn alone() -> RenderSettings {
    RenderSettings {
        kustomize_mode: KustomizeMode::Auto,
        ..settings()
    }
}

fn text(rendered: &Rendered) -> String {
    tagboat::objects::manifest::to_yaml_stream(
        rendered.objects().iter().map(|object| object.value()),
    )
}

/// Renders with both; returns whether no program was needed. Panics where they differ.
fn is_ours(world: &World, path: &str, what: &str) -> bool {
    let render = |settings: &RenderSettings| {
        world
            .renderer(settings)
            .render_folder(&world.root(), &source(path))
    };
    let printed = render(&programs(KustomizeMode::Program));
    let built = render(&alone());
    match (built, printed) {
        (Ok(built), Ok(printed)) => {
            assert_eq!(built.how, RenderMethod::KustomizeInProcess, "{what}");
            let (built, printed) = (text(&built), text(&printed));
            assert_eq!(built, printed, "{what}");
            true
        }
        (Err(RenderError::NoProgram { .. }), _) => false,
        (built, printed) => panic!("{what}: in the process {built:?}, by kustomize {printed:?}"),
    }
}

#[test]
#[ignore = "needs kustomize: run tests/run render"]
fn kustomize_random_overlays_are_the_same() {
    let count = std::env::var("KUSTOMIZE_OVERLAYS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(OVERLAYS);
    let mut ours = 0;
    for seed in 0..count {
        let files = kustomize_overlays::random(seed);
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        ours += u64::from(is_ours(&World::new(&files), "top", &format!("seed {seed}")));
    }
    // Some have what both refuse, as two Namespaces of one name.
    assert!(
        ours * 10 >= count * 8,
        "only {ours} of {count} need no program"
    );
}

#[test]
#[ignore = "needs kustomize: run tests/run render"]
fn kustomize_public_layouts_need_no_program() {
    let (mut ours, mut others) = (0, Vec::new());
    for (name, path, files) in LAYOUTS {
        if is_ours(&World::new(files), path, name) {
            ours += 1;
        } else {
            others.push(*name);
        }
    }
    assert!(LAYOUTS.len() >= 40, "only {} layouts", LAYOUTS.len());
    assert!(
        ours * 10 >= LAYOUTS.len() * 9,
        "{ours} of {} need no program; these do: {others:?}",
        LAYOUTS.len()
    );
}

const WEB: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: web, image: web}]}\n";

/// Overlays for which an own implementation easily makes other objects: the kustomization of the
/// base, and that of the overlay.
const DELICATE: &[(&str, &str)] = &[
    // kustomize keeps one value for all places where a transformer has added it.
    (
        "labels: [{pairs: {env: base}, includeSelectors: true}]",
        "labels: [{pairs: {env: prod}}]",
    ),
    (
        "commonLabels: {app.kubernetes.io/version: \"a\"}",
        "labels: [{pairs: {app.kubernetes.io/version: \"b\"}}]",
    ),
    (
        "labels: [{pairs: {env: base}, includeSelectors: true}]",
        "patches: [{patch: '{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, labels: {env: prod}}}'}]",
    ),
    (
        "commonAnnotations: {team: base}",
        "patches: [{patch: '{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, annotations: {team: prod}}}'}]",
    ),
    (
        "labels: [{pairs: {env: base}, includeSelectors: true}]",
        "replacements: [{sourceValue: prod, targets: [{select: {kind: Deployment}, fieldPaths: [metadata.labels.env]}]}]",
    ),
    // Equal values, and values at one place, make no difference.
    (
        "labels: [{pairs: {env: base}, includeSelectors: true}]",
        "labels: [{pairs: {env: base}}]",
    ),
    (
        "labels: [{pairs: {env: base}}]",
        "labels: [{pairs: {env: prod}}]",
    ),
    // kustomize merges into a copy that it drops.
    (
        "",
        "patches: [{patch: '{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, $patch: replace, spec: {paused: true}}'}]",
    ),
    // A directive in a list that the object does not have.
    (
        "",
        "patches: [{patch: '{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {template: {spec: {containers: [{name: web, ports: [{containerPort: 82, protocol: SCTP}, {containerPort: 81, $patch: delete}]}]}}}}'}]",
    ),
    // kustomize reads the source again after each change of it.
    (
        "configMapGenerator: [{name: c, literals: ['x=h:1', 'y=q'], options: {disableNameSuffixHash: true}}]",
        "replacements: [{source: {kind: ConfigMap, fieldPath: data.x}, targets: [{select: {kind: ConfigMap}, fieldPaths: [data.x, data.y], options: {delimiter: ':', index: 1}}]}]",
    ),
    // Its own annotations are among all annotations.
    (
        "namePrefix: p-",
        "namePrefix: q-\nreplacements: [{source: {kind: Deployment, fieldPath: metadata.annotations}, targets: [{select: {kind: Deployment}, fieldPaths: [spec.template.metadata.annotations], options: {create: true}}]}]",
    ),
    (
        "namePrefix: p-",
        "patches: [{target: {annotationSelector: internal.config.kubernetes.io/prefixes}, patch: '[{op: add, path: /spec/paused, value: true}]'}]",
    ),
    (
        "",
        "commonAnnotations: {internal.config.kubernetes.io/prefixes: zz-}",
    ),
    (
        "namePrefix: p-",
        "labels: [{pairs: {a: b}, fields: [{path: metadata/annotations}]}]",
    ),
    (
        "",
        "replacements: [{sourceValue: '5', targets: [{select: {kind: Deployment}, fieldPaths: [spec.template.spec.containers]}]}]",
    ),
];

#[test]
#[ignore = "needs kustomize: run tests/run render"]
fn kustomize_delicate_overlays_are_the_same() {
    let mut ours = 0;
    for (base, overlay) in DELICATE {
        let base = format!("resources: [web.yaml]\n{base}\n");
        let top = format!("resources: [../base]\n{overlay}\n");
        let files = [
            ("base/kustomization.yaml", base.as_str()),
            ("base/web.yaml", WEB),
            ("top/kustomization.yaml", top.as_str()),
        ];
        ours += u64::from(is_ours(&World::new(&files), "top", overlay));
    }
    assert!(ours >= 2, "{ours}");
}

const SERVICE: (&str, &str) = (
    "x/service.yaml",
    "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n",
);

#[test]
#[ignore = "needs kustomize: run tests/run render"]
fn kustomize_unsupported_overlay_runs_the_program() {
    let world = World::new(&[
        SERVICE,
        (
            "x/kustomization.yaml",
            "resources: [service.yaml]\nbuildMetadata: [managedByLabel]\n",
        ),
    ]);
    let renderer = world.renderer(&programs(KustomizeMode::Auto));
    let rendered = renderer.render_folder(&world.root(), &source("x")).unwrap();
    assert!(matches!(rendered.how, RenderMethod::Kustomize { .. }));
    assert_eq!(renderer.runs(), 1);
}

#[test]
#[ignore = "needs kustomize: run tests/run render"]
fn kustomize_refusal_names_file_and_line() {
    let world = World::new(&[
        SERVICE,
        (
            "x/kustomization.yaml",
            "resources:\n- service.yaml\npatches:\n- path: none.yaml\n",
        ),
    ]);
    let error = world
        .renderer(&programs(KustomizeMode::Auto))
        .render_folder(&world.root(), &source("x"))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("x/kustomization.yaml:4: kustomize failed: "),
        "{error}"
    );
}

#[test]
#[ignore = "needs kustomize: run tests/run render"]
fn kustomize_compare_finds_no_difference() {
    let world = World::new(&[
        SERVICE,
        (
            "x/kustomization.yaml",
            "namespace: dev\nresources: [service.yaml]\n",
        ),
    ]);
    let rendered = world
        .renderer(&programs(KustomizeMode::Compare))
        .render_folder(&world.root(), &source("x"))
        .unwrap();
    assert!(matches!(rendered.how, RenderMethod::Kustomize { .. }));
    assert_eq!(rendered.warnings, [""; 0]);
}
