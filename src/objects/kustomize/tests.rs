//! Tables of small overlays. That kustomize makes the same of them is checked by
//! `tests/it/kustomize_render_real.rs`.

use super::{Handover, HandoverKind, KustomizeFiles, KustomizedObject, Unreadable, build};
use crate::objects::manifest::to_yaml_stream;
use std::collections::HashMap;

/// Files in memory.
struct Files(HashMap<String, Vec<u8>>);

impl Files {
    fn of(files: &[(&str, &str)]) -> Self {
        Self(
            files
                .iter()
                .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
                .collect(),
        )
    }
}

impl KustomizeFiles for Files {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Unreadable> {
        if path.contains("unreadable") {
            return Err(Unreadable);
        }
        Ok(self.0.get(path).cloned())
    }

    fn is_folder(&self, path: &str) -> Result<bool, Unreadable> {
        Ok(path.is_empty()
            || self
                .0
                .keys()
                .any(|file| file.starts_with(&format!("{path}/"))))
    }
}

fn built(files: &[(&str, &str)], folder: &str) -> Result<String, Handover> {
    build(&Files::of(files), folder).map(|objects| text(&objects))
}

fn text(objects: &[KustomizedObject]) -> String {
    to_yaml_stream(objects.iter().filter_map(|object| object.value.as_object()))
}

const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1\n  template:\n    spec:\n      containers:\n      - {name: app, image: \"shop/web:1\", envFrom: [{configMapRef: {name: settings}}]}\n";

fn one(kustomization: &str) -> Result<String, Handover> {
    built(
        &[
            ("x/kustomization.yaml", kustomization),
            ("x/web.yaml", DEPLOYMENT),
        ],
        "x",
    )
}

#[test]
fn transformers_change_what_they_name() {
    for (kustomization, expected) in [
        ("namespace: dev\n", "  name: web\n  namespace: dev\n"),
        ("namePrefix: a-\nnameSuffix: -b\n", "  name: a-web-b\n"),
        ("replicas: [{name: web, count: 3}]\n", "  replicas: 3\n"),
        (
            "images: [{name: shop/web, newTag: \"2\"}]\n",
            "image: shop/web:2\n",
        ),
        (
            "images: [{name: shop/web, newName: other, digest: \"sha256:a\"}]\n",
            "image: other@sha256:a\n",
        ),
        (
            "commonLabels: {a: b}\n",
            "  selector:\n    matchLabels:\n      a: b\n",
        ),
        (
            "labels: [{pairs: {a: \"1\"}}]\n",
            "metadata:\n  labels:\n    a: \"1\"\n",
        ),
        ("commonAnnotations: {a: b}\n", "  annotations:\n    a: b\n"),
        (
            "patches: [{target: {kind: Deploy.*}, patch: '- {op: replace, path: /spec/replicas, value: 9}'}]\n",
            "  replicas: 9\n",
        ),
        (
            "patches: [{patch: '{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {template: {spec: {containers: [{name: app, image: \"p:1\"}]}}}}'}]\n",
            "image: p:1\n        name: app\n",
        ),
        (
            "replacements: [{sourceValue: three, targets: [{select: {kind: Deployment}, fieldPaths: [\"spec.template.spec.containers.[name=app].image\"]}]}]\n",
            "image: three\n",
        ),
    ] {
        let text = one(&format!("resources: [web.yaml]\n{kustomization}")).unwrap();
        assert!(text.contains(expected), "{kustomization}\n{text}");
    }
}

#[test]
fn generator_hash_reaches_its_references() {
    let text = one(
        "resources: [web.yaml]\nconfigMapGenerator: [{name: settings, literals: [KEY=value]}]\n",
    )
    .unwrap();
    // The hash is kustomize's.
    let name = "settings-9f2t6f5h6d";
    assert_eq!(text.matches(name).count(), 2, "{text}");
}

#[test]
fn overlay_leaves_to_the_program_what_it_cannot() {
    use HandoverKind::{Refused, Unsupported};
    for (kustomization, kind, line, why) in [
        ("\nvars: [{name: A}]\n", Unsupported, 2, "variables"),
        ("generators: [a.yaml]\n", Unsupported, 1, "plugins"),
        ("namespace: a\ncrds: [a.yaml]\n", Unsupported, 2, "CRDs"),
        (
            "buildMetadata: [managedByLabel]\n",
            Unsupported,
            1,
            "version",
        ),
        (
            "resources: [https://example.com/a]\n",
            Unsupported,
            1,
            "address",
        ),
        ("namespace: a\nresorces: []\n", Refused, 2, "no such field"),
        (
            "resources:\n- web.yaml\n- none.yaml\n",
            Refused,
            3,
            "none.yaml",
        ),
        ("resources: [../x]\n", Refused, 1, "circle"),
        (
            "resources: [web.yaml, web.yaml]\n",
            Refused,
            1,
            "already there",
        ),
        ("namePrefix: 1\n", Refused, 1, "another type"),
        (
            "resources: [web.yaml]\npatches:\n- {path: a.yaml}\n- target: {kind: Deployment}\n",
            Refused,
            3,
            "a.yaml",
        ),
        (
            "resources: [web.yaml]\npatches: [{target: {name: (?i)web}, patch: '[]'}]\n",
            Unsupported,
            2,
            "pattern",
        ),
        (
            "resources: [web.yaml]\nreplicas: [{name: other, count: 1}]\n",
            Refused,
            2,
            "other",
        ),
        ("{}\n", Refused, 1, "empty"),
    ] {
        let handover = one(kustomization).unwrap_err();
        assert_eq!(
            (handover.kind, handover.origin.line),
            (kind, line),
            "{kustomization}: {handover}"
        );
        assert!(handover.why.contains(why), "{kustomization}: {handover}");
    }
}

#[test]
fn overlay_yaml_read_in_two_ways_is_left() {
    for value in [
        "0x10",
        "1e3",
        "1_000",
        "2020-01-01",
        ".5",
        "0o17",
        "!!str 1",
        "+1",
        "018",
        "9999999999999999",
    ] {
        let resource = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  a: {value}\n"
        );
        let files = [
            ("x/kustomization.yaml", "resources: [a.yaml]\n"),
            ("x/a.yaml", resource.as_str()),
        ];
        let handover = built(&files, "x").unwrap_err();
        assert_eq!(
            handover.origin.to_string(),
            "x/a.yaml:5",
            "{value}: {handover}"
        );
    }
    for (value, expected) in [
        ("yes", "\"yes\""),
        ("0644", "420"),
        ("-3", "-3"),
        ("1.50", "1.5"),
        ("10m", "10m"),
        ("~", "null"),
    ] {
        let resource = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  a: {value}\n"
        );
        let files = [
            ("x/kustomization.yaml", "resources: [a.yaml]\n"),
            ("x/a.yaml", resource.as_str()),
        ];
        let text = built(&files, "x").unwrap();
        assert!(
            text.contains(&format!("  a: {expected}\n")),
            "{value}: {text}"
        );
    }
}

#[test]
fn overlay_expansion_is_bounded() {
    // Each level builds the one below twice.
    let mut files = vec![(
        "l0/kustomization.yaml".to_owned(),
        "namePrefix: a\nresources: [a.yaml]\n".to_owned(),
    )];
    files.push((
        "l0/a.yaml".into(),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n".into(),
    ));
    for level in 1..20 {
        let below = level - 1;
        for (side, prefix) in [("a", "left-"), ("b", "right-")] {
            files.push((
                format!("l{level}{side}/kustomization.yaml"),
                format!("namePrefix: {prefix}\nresources: [../l{below}]\n"),
            ));
        }
        files.push((
            format!("l{level}/kustomization.yaml"),
            format!("resources: [../l{level}a, ../l{level}b]\n"),
        ));
    }
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let handover = built(&files, "l19").unwrap_err();
    assert!(handover.why.contains("more than are handled"), "{handover}");
    assert_eq!(handover.kind, HandoverKind::Unsupported);
}

#[test]
fn patch_that_copies_is_bounded() {
    let copies: String = (0..60)
        .map(|at| format!("    - {{op: copy, from: /spec, path: /spec/copy{at}}}\n"))
        .collect();
    let handover = one(&format!(
        "resources: [web.yaml]\npatches:\n- target: {{kind: Deployment}}\n  patch: |-\n{copies}"
    ))
    .unwrap_err();
    assert!(handover.why.contains("more than are handled"), "{handover}");
}

#[test]
fn file_that_cannot_be_read_is_no_mistake() {
    let handover = one("resources: [unreadable.yaml]\n").unwrap_err();
    assert_eq!(handover.kind, HandoverKind::Unreadable);
}

#[test]
fn objects_come_in_order_with_their_places() {
    let objects = build(
        &Files::of(&[
            ("x/kustomization.yaml", "resources: [b.yaml, ../y]\nconfigMapGenerator:\n- name: a\n"),
            ("x/b.yaml", "# two\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n"),
            ("y/kustomization.yaml", "resources: [a.yaml]\n"),
            ("y/a.yaml", "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n"),
        ]),
        "x",
    )
    .unwrap();
    let places: Vec<String> = objects
        .iter()
        .map(|object| {
            format!(
                "{} {}",
                object.value["kind"].as_str().unwrap(),
                object.origin
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            "Namespace x/b.yaml:7",
            "ConfigMap x/kustomization.yaml:3",
            "Service x/b.yaml:3",
            "Widget y/a.yaml:1",
        ]
    );
}

#[test]
fn overlay_text_that_printing_changes_is_left() {
    for text in [
        "\"a\\x7fb\"",
        "\"a\\u2028b\"",
        "\"a\\ab\"",
        ">\n    one\n\n    two\n",
        ">+\n    one\n\n",
    ] {
        let resource =
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  a: {text}\n");
        let files = [
            ("x/kustomization.yaml", "resources: [a.yaml]\n"),
            ("x/a.yaml", resource.as_str()),
        ];
        let handover = built(&files, "x").unwrap_err();
        assert_eq!(handover.kind, HandoverKind::Unsupported, "{text}");
    }
}

#[test]
fn json_patch_in_brackets_is_json() {
    let patch = |text: &str| {
        one(&format!(
            "resources: [web.yaml]\npatches:\n- target: {{kind: Deployment}}\n  patch: '{text}'\n"
        ))
    };
    assert!(patch("[{\"op\": \"remove\", \"path\": \"/spec/replicas\"}]").is_ok());
    let handover = patch("[{op: remove, path: /spec/replicas}]").unwrap_err();
    assert_eq!(handover.kind, HandoverKind::Refused);
}

#[test]
fn overlay_deep_nesting_is_walked() {
    let deep = "{a: ".repeat(180) + "1" + &"}".repeat(180);
    let object =
        format!("apiVersion: example.com/v1\nkind: Widget\nmetadata: {{name: a}}\nspec: {deep}\n");
    let files = [
        (
            "x/kustomization.yaml",
            "namespace: a\nimages: [{name: a, newTag: b}]\nresources: [a.yaml]\npatches: [{path: a.yaml}]\n",
        ),
        ("x/a.yaml", object.as_str()),
    ];
    assert!(built(&files, "x").is_ok());
}

/// Small repositories that would take gigabytes.
#[test]
fn overlay_texts_are_bounded() {
    let aliases = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  a: &a \"{}\"\n{}",
        "x".repeat(100_000),
        (0..2_000)
            .map(|n| format!("  b{n}: *a\n"))
            .collect::<String>()
    );
    let maps: String = (0..1_000)
        .map(|n| format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a{n}}}\n"))
        .collect();
    let labels: String = (0..1_000).map(|n| format!("l{n}: \"v\", ")).collect();
    let long = "p".repeat(100_000);
    let fields: String = (0..100).map(|n| format!("  k{n}: ''\n")).collect();
    let many = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata:\n{fields}");
    let wildcard = format!(
        "resources: [a.yaml]\nreplacements:\n{}",
        format!("- {{sourceValue: {}, targets: [{{select: {{kind: ConfigMap}}, fieldPaths: ['data.*']}}]}}\n", "x".repeat(60_000)).repeat(100)
    );
    for (kustomization, objects) in [
        ("resources: [a.yaml]\n".to_owned(), aliases.as_str()),
        (format!("resources: [a.yaml]\nnamePrefix: {long}\n"), &maps),
        (
            format!("resources: [a.yaml]\ncommonLabels: {{{labels}}}\n"),
            &maps,
        ),
        (wildcard, &many),
    ] {
        let files = [
            ("x/kustomization.yaml", kustomization.as_str()),
            ("x/a.yaml", objects),
        ];
        let result = built(&files, "x");
        assert!(
            result.is_err(),
            "{}",
            kustomization.get(..80).unwrap_or_default()
        );
    }
}
