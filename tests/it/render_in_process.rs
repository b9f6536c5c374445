//! Kustomizations where no kustomize program is installed.

use super::render_support::{World, settings, source};
use tagboat::{
    io::render::{RenderError, RenderMethod, Rendered},
    spec::settings::{KustomizeMode, RenderSettings},
};

const MAP: (&str, &str) = (
    "base/map.yaml",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\n",
);

fn render(kustomization: &str) -> Result<Rendered, RenderError> {
    let world = World::new(&[
        MAP,
        ("base/kustomization.yaml", "resources: [map.yaml]\n"),
        ("x/kustomization.yaml", kustomization),
    ]);
    let settings = RenderSettings {
        kustomize_mode: KustomizeMode::Auto,
        ..settings()
    };
    let renderer = world.renderer(&settings);
    let rendered = renderer.render_folder(&world.root(), &source("x"))?;
    assert_eq!((renderer.runs(), world.left()), (0, 0));
    Ok((*rendered).clone())
}

#[test]
fn overlay_is_rendered_without_a_program() {
    let rendered = render("namePrefix: a-\nresources: [../base]\n").unwrap();
    assert_eq!(rendered.how, RenderMethod::KustomizeInProcess);
    assert_eq!(rendered.how.to_string(), "kustomize, in the process");
    let object = &rendered.objects()[0];
    assert_eq!(object.name(), "a-web");
    assert_eq!(
        object.origin.as_ref().unwrap().to_string(),
        "base/map.yaml:1"
    );
}

#[test]
fn missing_program_is_named_with_its_reason() {
    for (kustomization, reason) in [
        (
            "resources: [../base]\nvars: [{name: A}]\n",
            "x/kustomization.yaml:2: vars: ",
        ),
        (
            "resources:\n- ../base\n- none.yaml\n",
            "x/kustomization.yaml:3: there is no \"none.yaml\"",
        ),
    ] {
        let error = render(kustomization).unwrap_err();
        assert!(matches!(error, RenderError::NoProgram { .. }), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn overlay_objects_are_checked_like_manifests() {
    let error = render(
        "resources: [../base]\npatches:\n- target: {kind: ConfigMap}\n  patch: '- {op: add, path: /sops, value: {mac: a}}'\n",
    )
    .unwrap_err();
    assert!(error.to_string().contains("SOPS"), "{error}");
}
