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
