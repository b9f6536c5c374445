//! A repository written for Flux after its image-update guide, updated without any change to it.

use super::update_support::{Fleet, counted};
use serde_json::Value;

/// The guide's files: <https://fluxcd.io/flux/guides/image-update/>, with the registry of the test.
const FILES: &[(&str, &str)] = &[
    (
        "clusters/my-cluster/podinfo-deployment.yaml",
        r#"---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: podinfo
  namespace: default
spec:
  selector:
    matchLabels:
      app: podinfo
  template:
    metadata:
      labels:
        app: podinfo
    spec:
      containers:
      - name: podinfod
        image: {host}/stefanprodan/podinfo:5.0.0 # {"$imagepolicy": "flux-system:podinfo"}
        imagePullPolicy: IfNotPresent
        ports:
        - name: http
          containerPort: 9898
          protocol: TCP
"#,
    ),
    (
        "clusters/my-cluster/podinfo-registry.yaml",
        "---\napiVersion: image.toolkit.fluxcd.io/v1beta2\nkind: ImageRepository\nmetadata:\n  name: podinfo\n  namespace: flux-system\nspec:\n  image: {host}/stefanprodan/podinfo\n  interval: 5m\n",
    ),
    (
        "clusters/my-cluster/podinfo-policy.yaml",
        "---\napiVersion: image.toolkit.fluxcd.io/v1\nkind: ImagePolicy\nmetadata:\n  name: podinfo\n  namespace: flux-system\nspec:\n  imageRepositoryRef:\n    name: podinfo\n  policy:\n    semver:\n      range: 5.0.x\n",
    ),
    (
        "clusters/my-cluster/flux-system-automation.yaml",
        r#"---
apiVersion: image.toolkit.fluxcd.io/v1
kind: ImageUpdateAutomation
metadata:
  name: flux-system
  namespace: flux-system
spec:
  interval: 30m
  sourceRef:
    kind: GitRepository
    name: flux-system
  git:
    checkout:
      ref:
        branch: main
    commit:
      author:
        email: fluxcdbot@users.noreply.github.com
        name: fluxcdbot
      messageTemplate: |
        Automated image update

        {{ range .Changed.Changes -}}
        - {{ .OldValue }} -> {{ .NewValue }}
        {{ end -}}
    push:
      branch: main
  update:
    path: ./clusters/my-cluster
    strategy: Setters
"#,
    ),
    (
        "clusters/my-cluster/helm.yaml",
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: podinfo, namespace: default}\nspec:\n  values:\n    image:\n      repository: {host}/stefanprodan/podinfo # {\"$imagepolicy\": \"flux-system:podinfo:name\"}\n      tag: 5.0.0 # {\"$imagepolicy\": \"flux-system:podinfo:tag\"}\n",
    ),
    (
        "clusters/other/left.yaml",
        "image: {host}/stefanprodan/podinfo:5.0.0 # {\"$imagepolicy\": \"flux-system:podinfo\"}\n",
    ),
];

fn fleet() -> Fleet {
    let fleet = Fleet::new(FILES);
    fleet.publish(
        "stefanprodan/podinfo",
        &[
            "5.0.0",
            "5.0.1",
            "5.0.3",
            "5.1.0",
            "6.0.0",
            "5.0.4-rc.1",
            "latest",
        ],
    );
    fleet
}

#[test]
fn flux_guide_repository_is_updated_unchanged() {
    let fleet = fleet();
    let assert = fleet.tagboat(&["run", "--once"]).assert().code(0);
    let out = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    assert!(out.contains("flux-system/flux-system: committed"), "{out}");
    for (path, text) in FILES {
        let expected = if path.starts_with("clusters/my-cluster/") {
            text.replace("podinfo:5.0.0", "podinfo:5.0.3")
                .replace("tag: 5.0.0", "tag: 5.0.3")
        } else {
            (*text).to_owned()
        };
        assert_eq!(fleet.text(path), expected, "{path}");
    }
    let log = fleet.log();
    assert_eq!(log.len(), 2, "{log:#?}");
    assert_eq!(
        (log[1].author.as_str(), log[1].subject.as_str()),
        (
            "fluxcdbot",
            "flux-system/flux-system: podinfo 5.0.0 → 5.0.3"
        )
    );
    assert!(
        log[1]
            .message
            .ends_with("\nTagboat-Update: flux-system/flux-system\n"),
        "{}",
        log[1].message
    );
}

#[test]
fn flux_up_to_date_pass_costs_two_requests() {
    let fleet = fleet();
    fleet.tagboat(&["run", "--once"]).assert().code(0);
    fleet.images.take();
    fleet.git.take();
    for command in [
        &["plan", "-o", "json"][..],
        &["run", "--once", "-o", "json"],
    ] {
        let assert = fleet.tagboat(command).assert().code(0);
        let reports: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
        assert_eq!(
            reports["passes"][0]["environments"][0]["state"], "upToDate",
            "{reports:#}"
        );
        assert_eq!(
            reports["passes"][0]["environments"][0]["commits"],
            Value::Array(Vec::new())
        );
        assert_eq!(
            reports["passes"][0]["requestsSent"],
            serde_json::json!({"listings": 1, "heads": 0, "registry": 1, "lsRefs": 1})
        );
        assert_eq!(
            counted(&fleet.images.take()),
            [("GET /v2/stefanprodan/podinfo/tags/list".to_owned(), 1)].into()
        );
        let git = [
            ("GET /fleet.git/info/refs".to_owned(), 1),
            ("POST /fleet.git/git-upload-pack".to_owned(), 1),
        ];
        assert_eq!(
            counted(&fleet.git.take()),
            git.into(),
            "the greeting and one ls-refs"
        );
    }
    let assert = fleet.tagboat(&["plan", "--check"]).assert().code(0);
    let out = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    assert!(
        out.contains("up to date") && out.ends_with("nothing to change\n"),
        "{out}"
    );
    assert_eq!(fleet.log().len(), 2);
}

#[test]
fn flux_plan_shows_diff_and_writes_nothing() {
    let fleet = fleet();
    let assert = fleet.tagboat(&["plan", "--check"]).assert().code(1);
    let out = String::from_utf8(assert.get_output().stdout.clone())
        .unwrap()
        .replace(&fleet.registry.host(), "{host}");
    assert!(
        out.contains("would commit")
            && out.contains("-      tag: 5.0.0 # {")
            && out.contains("+      tag: 5.0.3 # {"),
        "{out}"
    );
    assert!(out.contains("not 6.0.0: it"), "the reasons: {out}");
    assert_eq!(fleet.log().len(), 1);
    assert!(
        fleet
            .git
            .take()
            .iter()
            .all(|line| !line.contains("receive-pack"))
    );
}
