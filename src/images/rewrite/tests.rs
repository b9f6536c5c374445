use super::*;
use crate::images::references::{FileKind, find};
use std::sync::LazyLock;

static ONE: LazyLock<String> = LazyLock::new(|| format!("sha256:{}", "1".repeat(64)));
static TWO: LazyLock<String> = LazyLock::new(|| format!("sha256:{}", "2".repeat(64)));

/// Orders by the last number; a text without one has no order.
fn compare(present: &str, chosen: &str) -> UpdateDirection {
    let version = |text: &str| {
        text.rsplit('.')
            .next()
            .and_then(|last| last.parse::<u64>().ok())
    };
    match (version(present), version(chosen)) {
        (Some(present), Some(chosen)) if present == chosen => UpdateDirection::Equal {
            listed: present != 7,
        },
        (Some(present), Some(chosen)) if present > chosen => UpdateDirection::Lower,
        (Some(_), Some(_)) => UpdateDirection::Newer,
        _ => UpdateDirection::Unorderable,
    }
}

fn decision(tag: &'static str) -> RewriteDecision<'static> {
    RewriteDecision {
        policy: "ns/n".parse().unwrap(),
        repository: ImageRepository::new("ghcr.io/a/b").unwrap(),
        tag: Tag::new(tag).unwrap(),
        digest: None,
        digest_reflection: DigestReflection::Never,
        unpin: false,
        allow_downgrade: false,
        compare: Box::new(move |present| compare(present, tag)),
    }
}

fn rewritten(kind: FileKind, text: &str, choices: &Choices<'_>) -> (String, Vec<&'static str>) {
    let found = find(kind, text.as_bytes());
    assert_eq!(found.notes, [], "{text}");
    let outcome = rewrite(text.as_bytes(), &found.references, choices);
    let without_bytes = rewrite(&[], &found.references, choices);
    assert!(
        may_edit(&found.references, choices) || without_bytes == outcome,
        "the bytes made a difference: {text}"
    );
    assert!(
        outcome.edits.is_empty() || may_edit(&found.references, choices),
        "{text}"
    );
    let after = apply(text.as_bytes(), &outcome.edits);
    let again = find(kind, &after);
    assert_eq!(
        rewrite(&after, &again.references, choices).edits,
        [],
        "not at rest: {}",
        String::from_utf8_lossy(&after)
    );
    (
        String::from_utf8(after).unwrap(),
        outcome.left.iter().map(|left| left.reason.code()).collect(),
    )
}

#[track_caller]
fn check(
    kind: FileKind,
    before: &str,
    after: &str,
    left: &[&str],
    decisions: Vec<RewriteDecision<'_>>,
) {
    let mut choices = Choices::new(true);
    decisions
        .into_iter()
        .for_each(|decision| choices.add(decision));
    let (text, reasons) = rewritten(kind, before, &choices);
    assert_eq!((text.as_str(), &*reasons), (after, left));
}

/// A value marked as a whole, before and after.
#[track_caller]
fn marked(
    before: &str,
    after: Result<&str, &str>,
    change: impl FnOnce(&mut RewriteDecision<'static>),
) {
    let mut decision = decision("1.5");
    change(&mut decision);
    let file = |value: &str| format!("x: {value} # {{\"$imagepolicy\": \"ns:n\"}}\n");
    let (expected, left) = match after {
        Ok(after) => (file(after), vec![]),
        Err(reason) => (file(before), vec![reason]),
    };
    check(
        FileKind::Yaml,
        &file(before),
        &expected,
        &left,
        vec![decision],
    );
}

#[test]
fn rewrite_reference_keeps_spelling_and_style() {
    for (before, after) in [
        ("ghcr.io/a/b:1.1", Ok("ghcr.io/a/b:1.5")),
        ("'ghcr.io/a/b:1.1'", Ok("'ghcr.io/a/b:1.5'")),
        ("\"ghcr.io/a/b:1.1\"", Ok("\"ghcr.io/a/b:1.5\"")),
        ("&anchor GHCR.io/a/b:1.1", Ok("&anchor GHCR.io/a/b:1.5")),
        ("!!str ghcr.io/a/b", Ok("!!str ghcr.io/a/b:1.5")),
        ("{image: ghcr.io/a/b:1.1}", Ok("{image: ghcr.io/a/b:1.5}")),
        ("ghcr.io/a/b:latest", Ok("ghcr.io/a/b:1.5")),
        ("ghcr.io/a/b:1.5", Err("up-to-date")),
        ("ghcr.io/a/b:2.5", Err("equal-version")),
        ("ghcr.io/a/b:1.6", Err("downgrade")),
        ("ghcr.io/a/c:1.1", Err("foreign-repository")),
        ("nginx", Err("foreign-repository")),
        ("'${IMAGE}'", Err("not-a-reference")),
        ("--image=ghcr.io/a/b:1.1", Ok("--image=ghcr.io/a/b:1.5")),
        (
            "'it''s ghcr.io/a/b:1.1, é'",
            Ok("'it''s ghcr.io/a/b:1.5, é'"),
        ),
        (
            "\"\\ta ghcr.io/a/b:1.1 \\u00e9\"",
            Ok("\"\\ta ghcr.io/a/b:1.5 \\u00e9\""),
        ),
        ("\"a ghcr.io\\x2fa/b:1.1\"", Err("unwritable")),
        ("'ghcr.io/a/b:1.1 ghcr.io/a/b:1.2'", Err("not-a-reference")),
        ("--image=ghcr.io/a/b", Err("not-a-reference")),
        ("--image=ghcr.io/a/b:1.9", Err("downgrade")),
    ] {
        marked(before, after, |_| {});
    }
    marked("ghcr.io/a/b:1.6", Ok("ghcr.io/a/b:1.5"), |decision| {
        decision.allow_downgrade = true
    });
    marked("ghcr.io/a/b:2.7", Ok("ghcr.io/a/b:1.7"), |decision| {
        *decision = self::decision("1.7")
    });
    let mut docker = decision("1.5");
    docker.repository = ImageRepository::new("nginx").unwrap();
    check(
        FileKind::Yaml,
        "x: nginx:1.1 # {\"$imagepolicy\": \"ns:n\"}\n",
        "x: nginx:1.5 # {\"$imagepolicy\": \"ns:n\"}\n",
        &[],
        vec![docker],
    );
}

#[test]
fn rewrite_block_scalar_keeps_its_shape() {
    for (before, after) in [
        (
            "x: |- # {\"$imagepolicy\": \"ns:n\"}\n    ghcr.io/a/b:1.1\ny: 1\n",
            "x: |- # {\"$imagepolicy\": \"ns:n\"}\n    ghcr.io/a/b:1.5\ny: 1\n",
        ),
        (
            "x: > # {\"$imagepolicy\": \"ns:n\"}\r\n\r\n  ghcr.io/a/b:1.1\r\n\r\ny: 1\r\n",
            "x: > # {\"$imagepolicy\": \"ns:n\"}\r\n\r\n  ghcr.io/a/b:1.5\r\n\r\ny: 1\r\n",
        ),
        (
            "- | # {\"$imagepolicy\": \"ns:n\"}\n  run\n    ghcr.io/a/b:1.1\n  end",
            "- | # {\"$imagepolicy\": \"ns:n\"}\n  run\n    ghcr.io/a/b:1.5\n  end",
        ),
    ] {
        check(FileKind::Yaml, before, after, &[], vec![decision("1.5")]);
    }
}

#[test]
fn rewrite_digest_follows_the_tag() {
    use DigestReflection::{Always, IfNotPresent, Never};
    let (one, two) = (ONE.as_str(), TWO.as_str());
    let image = |tag: &str, digest: &str| {
        if digest.is_empty() {
            format!("ghcr.io/a/b:{tag}")
        } else {
            format!("ghcr.io/a/b:{tag}@{digest}")
        }
    };
    for (reflection, known, tag, digest, expected) in [
        (Never, true, "1.1", "", Ok(("1.5", ""))),
        (Never, true, "1.1", one, Ok(("1.5", two))),
        (Never, false, "1.1", one, Err("needs-digest")),
        (Never, false, "1.1", "", Ok(("1.5", ""))),
        (Never, true, "1.5", one, Err("up-to-date")),
        (IfNotPresent, true, "1.1", "", Ok(("1.5", two))),
        (IfNotPresent, true, "1.5", "", Ok(("1.5", two))),
        (IfNotPresent, true, "1.5", one, Err("up-to-date")),
        (IfNotPresent, true, "1.1", one, Ok(("1.5", two))),
        (IfNotPresent, false, "1.5", "", Err("needs-digest")),
        (Always, true, "1.5", one, Ok(("1.5", two))),
        (Always, true, "1.5", two, Err("up-to-date")),
        (Always, false, "1.5", one, Err("needs-digest")),
    ] {
        let before = image(tag, digest);
        let after = expected.map(|(tag, digest)| image(tag, digest));
        marked(
            &before,
            after.as_deref().map_err(|reason| *reason),
            |decision| {
                decision.digest_reflection = reflection;
                decision.digest = known.then(|| Digest::new(two).unwrap());
            },
        );
    }
    for (tag, after) in [
        ("1.1", Ok("ghcr.io/a/b:1.5")),
        ("1.5", Ok("ghcr.io/a/b:1.5")),
        ("1.9", Err("downgrade")),
    ] {
        marked(&image(tag, one), after, |decision| decision.unpin = true);
    }
    marked(
        &format!("ghcr.io/a/b@{two}"),
        Err("up-to-date"),
        |decision| decision.digest = Some(Digest::new(two).unwrap()),
    );
    marked(
        &format!("ghcr.io/a/b@{one}"),
        Ok(&image("1.5", two)),
        |decision| decision.digest = Some(Digest::new(two).unwrap()),
    );
}

#[test]
fn rewrite_kustomize_and_helm_gain_no_key() {
    let (one, two) = (ONE.as_str(), TWO.as_str());
    let pinned = || {
        let mut decision = decision("1.10");
        decision.digest = Some(Digest::new(two).unwrap());
        decision
    };
    let images = |tag: &str, digest: &str| {
        format!(
            "images:\n- name: app\n  newName: ghcr.io/a/b\n  newTag: {tag}\n  digest: {digest}\n- name: ghcr.io/a/b\n- {{name: ghcr.io/a/b, newTag: v1}}\n"
        )
    };
    check(
        FileKind::Kustomization,
        &images("1.1", one),
        &images("\"1.10\"", two),
        &["no-tag", "unorderable"],
        vec![pinned()],
    );
    check(
        FileKind::Kustomization,
        &images("1.1", one),
        &images("1.1", one),
        &["needs-digest", "no-tag", "unorderable"],
        vec![decision("1.10")],
    );
    let mut unpin = decision("1.10");
    unpin.unpin = true;
    check(
        FileKind::Kustomization,
        &images("1.1", one),
        &images("1.1", one),
        &["pinned-by-key", "no-tag", "unorderable"],
        vec![unpin],
    );
    let values = |tag: &str, other: &str| {
        format!(
            "image: {{registry: ghcr.io, repository: a/b, tag: {tag}}}\nside:\n  repository: ghcr.io/a/b\n  tag: ''\nglued: {{repository: ghcr.io/a/b, tag: '{other}'}}\n"
        )
    };
    check(
        FileKind::Yaml,
        &values("'1.1'", &format!("1.2@{one}")),
        &values("'1.10'", &format!("1.10@{two}")),
        &["empty-tag"],
        vec![pinned()],
    );
}

#[test]
fn rewrite_part_markers_write_their_part() {
    let entry = |name: &str, tag: &str, extra: &str| {
        format!(
            "images:\n- name: x\n  newName: {name} # {{\"$imagepolicy\": \"ns:n:name\"}}\n  newTag: {tag} # {{\"$imagepolicy\": \"ns:n:tag\"}}\n{extra}"
        )
    };
    check(
        FileKind::Yaml,
        &entry("other/c", "9.9", ""),
        &entry("ghcr.io/a/b", "1.5.2", ""),
        &[],
        vec![decision("1.5.2")],
    );
    check(
        FileKind::Yaml,
        &entry("GHCR.io/a/b", "'1.1'", ""),
        &entry("GHCR.io/a/b", "'1.2'", ""),
        &[],
        vec![decision("1.2")],
    );
    let alone = "spec: {repository: other/c}\nimage:\n  repository: other/c\n  tag: 1.1 # {\"$imagepolicy\": \"ns:n:tag\"}\n";
    check(
        FileKind::Yaml,
        alone,
        alone,
        &["foreign-repository"],
        vec![decision("1.5")],
    );
    let registry = |path: &str, host: &str| {
        format!(
            "image:\n  registry: {host}\n  repository: {path} # {{\"$imagepolicy\": \"ns:n:name\"}}\n"
        )
    };
    check(
        FileKind::Yaml,
        &registry("x/y", "ghcr.io"),
        &registry("a/b", "ghcr.io"),
        &[],
        vec![decision("1.5")],
    );
    check(
        FileKind::Yaml,
        &registry("x/y", "quay.io"),
        &registry("x/y", "quay.io"),
        &["foreign-registry"],
        vec![decision("1.5")],
    );
    let digest = |value: &str| format!("digest: {value} # {{\"$imagepolicy\": \"ns:n:digest\"}}\n");
    let mut known = decision("1.5");
    known.digest = Some(Digest::new(TWO.as_str()).unwrap());
    check(
        FileKind::Yaml,
        &digest("''"),
        &digest(&format!("'{}'", *TWO)),
        &[],
        vec![known],
    );
    check(
        FileKind::Yaml,
        &digest(&ONE),
        &digest(&ONE),
        &["needs-digest"],
        vec![decision("1.5")],
    );
    let tag = |value: &str| format!("t: {value} # {{\"$imagepolicy\": \"ns:n:tag\"}}\n");
    for (before, after, chosen) in [
        ("1.1", "\"1e3\"", "1e3"),
        ("''", "'1.5'", "1.5"),
        ("v1", "\"2025-01-01\"", "2025-01-01"),
        ("main", "yes-no", "yes-no"),
        ("main", "\"yes\"", "yes"),
    ] {
        let chosen = decision(chosen);
        check(
            FileKind::Yaml,
            &tag(before),
            &tag(after),
            &[],
            vec![RewriteDecision {
                compare: Box::new(|_| UpdateDirection::Newer),
                ..chosen
            }],
        );
    }
}

/// A `:tag` marker replaces a tag, or the only piece of the text that looks like one.
#[test]
fn rewrite_tag_marker_keeps_text_around_it() {
    for (before, after) in [
        ("--tag=1.1", Ok("--tag=1.5")),
        ("'--tag=1.1'", Ok("'--tag=1.5'")),
        ("APP_VERSION=1.1", Ok("APP_VERSION=1.5")),
        ("JAVA8_TAG=1.1", Ok("JAVA8_TAG=1.5")),
        ("\"app:1.1\"", Ok("\"app:1.5\"")),
        ("1.1", Ok("\"1.5\"")),
        ("latest", Ok("\"1.5\"")),
        ("null", Ok("\"1.5\"")),
        ("''", Ok("'1.5'")),
        ("--tag=1.5", Err("up-to-date")),
        ("--tag=latest", Err("not-a-tag")),
        ("${TAG}", Err("not-a-tag")),
        ("from 1.1 to 1.2", Err("not-a-tag")),
        ("\"\\x31.1 = v\"", Err("unwritable")),
    ] {
        let file = |value: &str| format!("- {value} # {{\"$imagepolicy\": \"ns:n:tag\"}}\n");
        let (expected, left) = match after {
            Ok(after) => (file(after), vec![]),
            Err(reason) => (file(before), vec![reason]),
        };
        check(
            FileKind::Yaml,
            &file(before),
            &expected,
            &left,
            vec![decision("1.5")],
        );
    }
    let block = |tag: &str| format!("x: |- # {{\"$imagepolicy\": \"ns:n:tag\"}}\n  APP={tag}\n");
    check(
        FileKind::Yaml,
        &block("1.1"),
        &block("1.5"),
        &[],
        vec![decision("1.5")],
    );
    let flow = |tag: &str| {
        format!("- {{name: image.tag, value: {tag}}} # {{\"$imagepolicy\": \"ns:n:tag\"}}\n")
    };
    check(
        FileKind::Yaml,
        &flow("1.1"),
        &flow("\"1.5\""),
        &[],
        vec![decision("1.5")],
    );
}

/// A policy that pins writes the digest into an empty `digest:`, or behind the tag.
#[test]
fn rewrite_pin_finds_a_place_beside_a_tag() {
    let two = TWO.as_str();
    let pinning = |reflection, tag| {
        let mut decision = decision(tag);
        decision.digest = Some(Digest::new(two).unwrap());
        decision.digest_reflection = reflection;
        decision
    };
    let values = "{repository: ghcr.io/a/b, tag: ";
    let kustomize = "images: [{name: ghcr.io/a/b, newTag: ";
    for (kind, before, after) in [
        (
            FileKind::Yaml,
            format!("i: {values}'1.5'}}\n"),
            format!("i: {values}'1.5@{two}'}}\n"),
        ),
        (
            FileKind::Yaml,
            format!("i: {values}'1.1', digest: \"\"}}\n"),
            format!("i: {values}'1.5', digest: \"{two}\"}}\n"),
        ),
        (
            FileKind::Yaml,
            format!("i: {values}'1.5', digest: null}}\n"),
            format!("i: {values}'1.5', digest: {two}}}\n"),
        ),
        (
            FileKind::Yaml,
            format!("i: {values}'1.5', digest: ~}}\n"),
            format!("i: {values}'1.5', digest: {two}}}\n"),
        ),
        (
            FileKind::Yaml,
            format!("i: {values}'1.5', digest: {}}}\n", *ONE),
            format!("i: {values}'1.5', digest: {two}}}\n"),
        ),
        (
            FileKind::Kustomization,
            format!("{kustomize}'1.1'}}]\n"),
            format!("{kustomize}'1.5@{two}'}}]\n"),
        ),
        (
            FileKind::Kustomization,
            format!("{kustomize}'1.1', digest: ''}}]\n"),
            format!("{kustomize}'1.5', digest: '{two}'}}]\n"),
        ),
    ] {
        let always = vec![pinning(DigestReflection::Always, "1.5")];
        check(kind, &before, &after, &[], always);
    }
    let marked = |tag: &str, digest: &str| {
        format!(
            "i:\n  repository: ghcr.io/a/b\n  tag: '{tag}' # {{\"$imagepolicy\": \"ns:n:tag\"}}\n  digest: {digest}\n"
        )
    };
    check(
        FileKind::Yaml,
        &marked("1.5", "''"),
        &marked("1.5", &format!("'{two}'")),
        &[],
        vec![pinning(DigestReflection::Always, "1.5")],
    );
    for never in ["''", "null"] {
        check(
            FileKind::Yaml,
            &marked("1.1", never),
            &marked("1.5", never),
            &[],
            vec![pinning(DigestReflection::Never, "1.5")],
        );
    }
    // A marked tag that is no part of an image stays a tag alone.
    let label = |tag: &str| format!("version: '{tag}' # {{\"$imagepolicy\": \"ns:n:tag\"}}\n");
    check(
        FileKind::Yaml,
        &label("1.1"),
        &label("1.5"),
        &[],
        vec![pinning(DigestReflection::Always, "1.5")],
    );
}

/// Every form that names an image without a marker.
#[test]
fn rewrite_finds_the_forms_without_markers() {
    const ARGO: &str = "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: a}\nspec:\n  source:\n";
    let values = |text: &str| (FileKind::Yaml, text.to_owned());
    let object = |kind: &str, spec: &str| {
        let text = format!(
            "apiVersion: example.org/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec:\n{spec}"
        );
        (FileKind::Yaml, text)
    };
    let argo = |source: &str| (FileKind::Yaml, format!("{ARGO}{source}"));
    let kustomization = |text: &str| (FileKind::Kustomization, text.to_owned());
    for (kind, text) in [
        values("web: {image: 'ghcr.io/a/b:@'}\n"),
        values("web: {image: ghcr.io/a/b, tag: '@'}\n"),
        values("web: {name: ghcr.io/a/b, tag: '@'}\n"),
        values("web: {imageRepository: ghcr.io/a/b, imageTag: '@'}\n"),
        values("web: {repository: 'ghcr.io/a/b:@'}\n"),
        values("base: &base {repository: ghcr.io/a/b}\nweb:\n  <<: *base\n  tag: '@'\n"),
        values("services:\n  web:\n    image: \"ghcr.io/a/b:@\"\n"),
        object("HelmRelease", "  values:\n    image: {repository: ghcr.io/a/b, tag: '@'}\n"),
        object("HelmRelease", "  values:\n    image: 'ghcr.io/a/b:@'\n"),
        object("HelmRelease", "  values:\n    web: {image: ghcr.io/a/b, tag: '@'}\n"),
        object("Custom", "  proxy: {repository: ghcr.io/a/b, tag: '@'}\n"),
        object("Cluster", "  imageName: 'ghcr.io/a/b:@'\n"),
        object("Pod", "  volumes:\n  - {name: v, image: {reference: 'ghcr.io/a/b:@'}}\n"),
        kustomization(
            "patches:\n- target: {kind: Deployment}\n  patch: |-\n    - op: replace\n      path: /spec/template/spec/containers/0/image\n      value: 'ghcr.io/a/b:@'\n",
        ),
        kustomization(
            "patches:\n- patch: |\n\n    apiVersion: apps/v1\n    kind: Deployment\n    metadata: {name: é}\n    spec:\n      containers:\n      - image: 'ghcr.io/a/b:@' # é\n",
        ),
        kustomization(
            "patchesStrategicMerge:\n- |\n  apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n  spec: {containers: [{image: 'ghcr.io/a/b:@'}]}\n",
        ),
        kustomization("helmCharts:\n- name: web\n  valuesInline: {image: {repository: ghcr.io/a/b, tag: '@'}}\n"),
        argo("    helm:\n      valuesObject: {image: {repository: ghcr.io/a/b, tag: '@'}}\n"),
        argo("    helm:\n      values: |\n        image:\n          repository: ghcr.io/a/b\n          tag: '@'\n"),
        argo("    helm:\n      parameters:\n      - {name: image.tag, value: '@'}\n      - {name: image.repository, value: ghcr.io/a/b}\n"),
        argo("    kustomize:\n      images: ['ghcr.io/a/b:@']\n"),
        argo("    kustomize:\n      images: ['web=ghcr.io/a/b:@']\n"),
        (
            FileKind::Json,
            "{\n\t\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n\t\"spec\": {\"containers\": [{\"image\": \"ghcr.io/a/b:@\"}]}\n}\n"
                .to_owned(),
        ),
    ] {
        check(
            kind,
            &text.replace('@', "1.1"),
            &text.replace('@', "1.5"),
            &[],
            vec![decision("1.5")],
        );
    }
    // What only looks like one of them.
    for (kind, text, left) in [
        (
            FileKind::Yaml,
            "web: {name: web, tag: '1.1'}\n",
            &["no-policy"][..],
        ),
        (FileKind::Yaml, "web: {image: ghcr.io/a/b}\n", &[]),
        (
            FileKind::Yaml,
            "base: &base {repository: ghcr.io/a/b}\nweb: {<<: *base, note: x}\n",
            &[],
        ),
        (
            FileKind::Json,
            "// image: ghcr.io/a/b:1.1\n{\"a\": 1,}}\n",
            &[],
        ),
    ] {
        check(kind, text, text, left, vec![decision("1.5")]);
    }
}

/// A YAML null is an absent value, like an empty text.
#[test]
fn rewrite_null_is_an_absent_value() {
    for null in ["null", "~", "Null", "NULL", "''"] {
        let text = format!("i: {{repository: ghcr.io/a/b, tag: {null}}}\n");
        check(
            FileKind::Yaml,
            &text,
            &text,
            &["empty-tag"],
            vec![decision("1.5")],
        );
        let file =
            |tag: &str| format!("i: {{registry: {null}, repository: ghcr.io/a/b, tag: '{tag}'}}\n");
        check(
            FileKind::Yaml,
            &file("1.1"),
            &file("1.5"),
            &[],
            vec![decision("1.5")],
        );
    }
    let pod = "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: null}, {image: ~}]}\n";
    assert_eq!(find(FileKind::Yaml, pod.as_bytes()).references, []);
}

#[test]
fn rewrite_unmarked_needs_exactly_one_policy() {
    let pod = |tag: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nspec: {{containers: [{{image: 'ghcr.io/a/b:{tag}'}}, {{image: redis:1}}]}}\n"
        )
    };
    let other = || RewriteDecision {
        policy: "ns/m".parse().unwrap(),
        ..decision("1.4")
    };
    check(
        FileKind::Yaml,
        &pod("1.1"),
        &pod("1.5"),
        &["no-policy"],
        vec![decision("1.5")],
    );
    check(
        FileKind::Yaml,
        &pod("1.1"),
        &pod("1.1"),
        &["several-policies", "no-policy"],
        vec![decision("1.5"), other()],
    );
    check(
        FileKind::Yaml,
        &pod("main"),
        &pod("main"),
        &["unorderable", "no-policy"],
        vec![decision("1.5")],
    );
    let text = "apiVersion: v1\nkind: Pod\nspec: {image: ghcr.io/a/b:1.1} # {\"$imagepolicy\": \"ns:m\"}\n";
    check(
        FileKind::Yaml,
        text,
        &text.replace("1.1", "1.4"),
        &[],
        vec![decision("1.5"), other()],
    );
    check(
        FileKind::Yaml,
        text,
        text,
        &["unknown-policy"],
        vec![decision("1.5")],
    );
    let mut markers = Choices::new(false);
    markers.add(decision("1.5"));
    assert_eq!(
        rewritten(FileKind::Yaml, &pod("1.1"), &markers),
        (pod("1.1"), vec!["markers-only", "no-policy"])
    );
    let mut idle = Choices::new(true);
    idle.add_nothing(
        "ns/n".parse().unwrap(),
        Some(ImageRepository::new("ghcr.io/a/b").unwrap()),
        "no tag matches",
    );
    assert_eq!(
        rewritten(FileKind::Yaml, &pod("1.1"), &idle).1,
        ["nothing-chosen", "no-policy"]
    );
}

#[test]
fn rewrite_refuses_references_of_another_file() {
    let text = "x: ghcr.io/a/b:1.1 # {\"$imagepolicy\": \"ns:n\"}\n";
    let found = find(FileKind::Yaml, text.as_bytes());
    let mut choices = Choices::new(true);
    choices.add(decision("1.5"));
    for other in [
        "",
        "y: ghcr.io/a/c:1.1 #",
        "\u{feff}x: ghcr.io/a/b:1.1 # {\"$imagepolicy\": \"ns:n\"}\n",
    ] {
        let outcome = rewrite(other.as_bytes(), &found.references, &choices);
        assert_eq!(
            (outcome.edits.len(), outcome.left[0].reason.code()),
            (0, "unwritable"),
            "{other}"
        );
    }
    let twice = [found.references[0].clone(), found.references[0].clone()];
    let outcome = rewrite(text.as_bytes(), &twice, &choices);
    assert_eq!(
        (outcome.edits.len(), outcome.left[0].reason.code()),
        (1, "overlap")
    );
}
