use super::*;

fn shown(findings: &Findings) -> Vec<String> {
    let slot = |slot: &ReferenceSlot| {
        format!(
            "{}={}@{}:{}",
            slot.part.as_str(),
            slot.value,
            slot.line,
            slot.column
        )
    };
    findings
        .references
        .iter()
        .map(|reference| {
            let policy = reference
                .policy()
                .map(|policy| format!("({policy})"))
                .unwrap_or_default();
            let slots: Vec<_> = reference.slots.iter().map(slot).collect();
            format!(
                "{}{policy} {} [{}]",
                reference.why.as_str(),
                reference.locator,
                slots.join(" ")
            )
        })
        .chain(
            findings
                .notes
                .iter()
                .map(|note| format!("{:?} {}:{}", note.kind, note.line, note.column)),
        )
        .collect()
}

#[track_caller]
fn check(kind: FileKind, text: &str, expected: &[&str]) {
    let findings = find(kind, text.as_bytes());
    assert_eq!(shown(&findings), expected, "{text}");
    assert_eq!(Findings::decode(&findings.encode()), Ok(findings));
}

#[test]
fn marker_belongs_to_the_scalar_on_its_line() {
    for (text, expected) in [
        (
            "a: x/b:1 # {\"$imagepolicy\": \"ns:n\"}\n",
            "marker(ns/n) 0:a [whole=x/b:1@1:4]",
        ),
        (
            "- x/b:1 # {\"$imagepolicy\": \"ns:n\"}\n",
            "marker(ns/n) 0:[0] [whole=x/b:1@1:3]",
        ),
        (
            "x/b:1 # {\"$imagepolicy\": \"ns:n\"}\n",
            "marker(ns/n) 0: [whole=x/b:1@1:1]",
        ),
        (
            "a: [{image: x/b:1, name: c}] # {\"$imagepolicy\": \"ns:n\"}\n",
            "marker(ns/n) 0:a[name=c].image [whole=x/b:1@1:13]",
        ),
        (
            "a: {t: [x, y/z:2]} # {\"$imagepolicy\": \"ns:n\"}\n",
            "marker(ns/n) 0:a.t[1] [whole=y/z:2@1:12]",
        ),
        (
            "a: '1.0' # {\"$imagepolicy\": \"ns:n:tag\"}\n",
            "marker(ns/n) 0:a [tag=1.0@1:4]",
        ),
        (
            "a: | # {\"$imagepolicy\": \"ns:n\"}\n  x/b:1\n",
            "marker(ns/n) 0:a [whole=x/b:1\n@2:3]",
        ),
        (
            "- >- # {\"$imagepolicy\": \"ns:n\"}\n\n  x/b:1\n- c\n",
            "marker(ns/n) 0:[0] [whole=\nx/b:1@3:3]",
        ),
        (
            "k:\n  # {\"$imagepolicy\": \"ns:n\"}\n  a: x/b:1\n",
            "marker(ns/n) 0:k.a [whole=x/b:1@3:6]",
        ),
        (
            "k:\n# {\"$imagepolicy\": \"ns:n\"}\n- x/b:1\n",
            "marker(ns/n) 0:k[0] [whole=x/b:1@3:3]",
        ),
        (
            "\u{feff}a: x/b:1 # {\"$imagepolicy\": \"ns:n\"}\r\nb: 2\r\n",
            "marker(ns/n) 0:a [whole=x/b:1@1:4]",
        ),
        (
            "a: \"x/b:1\"\t# {\"$imagepolicy\": \"ns:n\"}\n",
            "marker(ns/n) 0:a [whole=x/b:1@1:4]",
        ),
    ] {
        check(FileKind::Yaml, text, &[expected]);
    }
}

#[test]
fn marker_malformed_or_lost_is_noted() {
    for (text, expected) in [
        ("a: x/b:1 # {\"$imagepolicy\": \"ns:n\"\n", "BadMarker 1:10"),
        ("a: x/b:1 # {\"$imagepolicy\": 1}\n", "BadMarker 1:10"),
        (
            "a: x/b:1 # {\"$imagepolicy\": \"ns:n:part\"}\n",
            "BadMarker 1:10",
        ),
        (
            "a: x/b:1 # {\"$imagepolicy\": \"NS:n\"}\n",
            "BadMarker 1:10",
        ),
        (
            "a: x/b:1 # {\"$imagepolicy\": \"a:b\"} {\"$imagepolicy\": \"a:c\"}\n",
            "BadMarker 1:10",
        ),
        (
            "a: # {\"$imagepolicy\": \"ns:n\"}\n  x/b:1\n",
            "LostMarker 1:4",
        ),
        (
            "a: # {\"$imagepolicy\": \"ns:n\"}\nb: c\n",
            "LostMarker 1:4",
        ),
        (
            "# {\"$imagepolicy\": \"ns:n\"}\n\na: x/b:1\n",
            "LostMarker 1:1",
        ),
        (
            "k:\n# {\"$imagepolicy\": \"ns:n\"}\n  a: x/b:1\n",
            "LostMarker 2:1",
        ),
        ("a: 1\n# {\"$imagepolicy\": \"ns:n\"}\n", "LostMarker 2:1"),
        (
            "a: [x/b:1, x/c:2] # {\"$imagepolicy\": \"ns:n\"}\n",
            "LostMarker 1:19",
        ),
        (
            "a: |\n  x/b:1 # {\"$imagepolicy\": \"ns:n\"}\n",
            "LostMarker 2:3",
        ),
        ("a: 'text with $imagepolicy'\n", "LostMarker 1:4"),
        (
            "a: &x x/b:1\nb: *x # {\"$imagepolicy\": \"ns:n\"}\n",
            "Alias 2:7",
        ),
        (
            "tag: 1 # {\"$imagepolicy\": \"ns:n:tag\"}\ntag: 2\n",
            "DoubledKey 2:1",
        ),
    ] {
        check(FileKind::Yaml, text, &[expected]);
    }
    check(
        FileKind::Yaml,
        "# see $imagepolicy in the guide\na: 1\n",
        &[],
    );
    let above = "# {\"$imagepolicy\": \"a:b\"}\nx: a/b:1 # {\"$imagepolicy\": \"c:d\"}\n";
    check(
        FileKind::Yaml,
        above,
        &["marker(c/d) 0:x [whole=a/b:1@2:4]", "LostMarker 1:1"],
    );
}

#[test]
fn references_found_in_kubernetes_objects() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, annotations: {image: 'a/b:1'}}\nspec:\n  template:\n    spec:\n      initContainers: [{name: i, image: busybox:1}]\n      containers:\n      - image: a/b:2\n        name: app\n      - image: ''\n      - image: a/b:${TAG}\n      - image: ${IMAGE}\n";
    check(
        FileKind::Yaml,
        deployment,
        &[
            "image Deployment/web:spec.template.spec.initContainers[name=i].image [whole=busybox:1@7:41]",
            "image Deployment/web:spec.template.spec.containers[name=app].image [whole=a/b:2@9:16]",
            "image Deployment/web:spec.template.spec.containers[2].image [whole=a/b:${TAG}@12:16]",
        ],
    );
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: x.io/v1\n  kind: Prometheus\n  metadata: {name: p, namespace: m}\n  spec: {image: 'q/p:v1'}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {image: 'a/b:1'}}\n";
    check(
        FileKind::Yaml,
        list,
        &["image 0:items[Prometheus/m/p].spec.image [whole=q/p:v1@7:17]"],
    );
    check(
        FileKind::Yaml,
        "- {apiVersion: v1, kind: Pod, spec: {containers: [{image: a:1}]}}\n",
        &["image 0:[0].spec.containers[0].image [whole=a:1@1:59]"],
    );
    check(
        FileKind::Yaml,
        "services: {web: {image: a/b:1}}\n",
        &["helm 0:services.web.image [whole=a/b:1@1:25]"],
    );
    let twice = "apiVersion: v1\nkind: Pod\nspec:\n  a: {image: x/y:1, image: x/y:2}\n  containers: [{name: c, image: x/y:1}, {name: c, image: x/y:2}]\n";
    check(
        FileKind::Yaml,
        twice,
        &[
            "image 0:spec.containers[name=c].image [whole=x/y:1@5:33]",
            "image 0:spec.containers[name=c].image#2 [whole=x/y:2@5:58]",
            "DoubledKey 4:21",
        ],
    );
}

#[test]
fn references_join_kustomize_and_helm_parts() {
    let images = "images:\n- name: a/b\n  newName: c/d\n  newTag: '1'\n  digest: sha256:0\n- name: e/f\n- {name: g/h, newTag: 2} # {\"$imagepolicy\": \"ns:n:tag\"}\n";
    let expected = [
        "kustomize 0:images[name=a/b] [tag=1@4:11 digest=sha256:0@5:11]",
        "kustomize 0:images[name=e/f] [name=e/f@6:9]",
        "marker(ns/n) 0:images[name=g/h].newTag [tag=2@7:23]",
    ];
    check(FileKind::Kustomization, images, &expected);
    check(
        FileKind::Yaml,
        images,
        &["marker(ns/n) 0:images[name=g/h].newTag [tag=2@7:23]"],
    );
    let values = "image:\n  registry: r.io\n  repository: a/b\n  tag: v1\n  digest: ''\nsideImage: {repository: c/d, version: 2}\nother: {repository: c/d, version: 2}\nthird: {repository: e, tag: ''}\n";
    check(
        FileKind::Yaml,
        values,
        &[
            "helm 0:image [tag=v1@4:8 digest=@5:11]",
            "helm 0:sideImage [tag=2@6:39]",
            "helm 0:third [tag=@8:29]",
        ],
    );
    assert_eq!(
        find(FileKind::Yaml, values.as_bytes()).references[0].repository,
        Some(ImageRepository::new("r.io/a/b").unwrap())
    );
    let release = "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: r}\nspec:\n  chart: {repository: a, tag: 1}\n  values:\n    image:\n      repository: a/b # {\"$imagepolicy\": \"ns:n:name\"}\n      tag: 1 # {\"$imagepolicy\": \"ns:n:tag\"}\n      digest: sha256:1\n    x: {repository: c/d, tag: 2}\n";
    check(
        FileKind::Yaml,
        release,
        &[
            "marker(ns/n) HelmRelease/r:spec.values.image.repository [tag=1@9:12 name=a/b@8:19]",
            "helm HelmRelease/r:spec.values.x [tag=2@11:31]",
        ],
    );
}

#[test]
fn references_uneditable_file_is_noted() {
    for (kind, text, expected) in [
        (FileKind::Yaml, &b"a: \xff"[..], "NotUtf8 1:4"),
        (
            FileKind::Yaml,
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "LfsPointer 1:1",
        ),
        (FileKind::Yaml, b"a: 1\nsops:\n  mac: x\n", "Encrypted 2:1"),
        (
            FileKind::Yaml,
            b"image: x\npassword: ENC[AES256_GCM,data:x]\n",
            "Encrypted 2:11",
        ),
        (
            FileKind::ChartTemplate,
            b"a: 1\nimage: x:1 # {\"$imagepolicy\"\n",
            "Template 2:16",
        ),
        (
            FileKind::Yaml,
            b"image: {{ .Values.image }}:1\n",
            "Template 1:27",
        ),
        (FileKind::Yaml, b"a: b: c\n", "Unparsable 1:5"),
    ] {
        let findings = find(kind, text);
        assert_eq!(
            shown(&findings),
            [expected],
            "{}",
            String::from_utf8_lossy(text)
        );
    }
    assert_eq!(
        find(
            FileKind::NotYaml,
            b"image: a/b:1 # {\"$imagepolicy\": \"a:b\"}"
        ),
        Findings::default()
    );
    check(
        FileKind::Yaml,
        "sops: text\nx: a:1 # {\"$imagepolicy\": \"a:b\"}\n",
        &["marker(a/b) 0:x [whole=a:1@2:4]"],
    );
}

#[test]
fn references_anchor_counts_once_lost_alias_noted() {
    let pods = |first: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  {first}: &i a/b:1\n  containers:\n  - {{name: c, image: *i}}\n"
        )
    };
    let found = find(FileKind::Yaml, pods("image").as_bytes());
    assert_eq!(shown(&found), ["image Pod/p:spec.image [whole=a/b:1@5:13]"]);
    assert!(found.references[0].slots[0].anchored);
    assert_eq!(
        shown(&find(FileKind::Yaml, pods("other").as_bytes())),
        ["Alias 7:22"]
    );
}

#[test]
fn locator_is_stable_and_bounded() {
    let one = "kind: K\napiVersion: v1\nmetadata: {name: m}\nspec:\n  list:\n  - {name: a, image: 'x/y:1'}\n";
    let two = "# head\na: 1\n---\nkind: K\napiVersion: v1\nmetadata:\n  name: m\nspec:\n  list:\n  - {name: b}\n  # more\n  - {image: 'x/y:2', name: a}\n";
    let locator = |text: &str| {
        find(FileKind::Yaml, text.as_bytes()).references[0]
            .locator
            .clone()
    };
    assert_eq!(locator(one), locator(two));
    let key = "k".repeat(600);
    let deep: String = (0..40)
        .map(|depth| format!("{}{key}:\n", " ".repeat(depth)))
        .collect();
    let deep = format!(
        "{deep}{}a: x/y:1 # {{\"$imagepolicy\": \"a:b\"}}\nz: x/y:1 # {{\"$imagepolicy\": \"a:b\"}}\n",
        " ".repeat(40)
    );
    let found = find(FileKind::Yaml, deep.as_bytes());
    assert!(
        found.references[0].locator.len() < 700 && found.references[0].locator.ends_with(".a"),
        "{}",
        found.references[0].locator
    );
    assert_eq!(found.references[1].locator, "0:z");
}

#[test]
fn findings_damaged_bytes_are_refused() {
    let findings = find(
        FileKind::Yaml,
        b"a: x/b:1 # {\"$imagepolicy\": \"ns:n\"}\nb: *x\n",
    );
    assert_eq!(findings.notes[0].kind, NoteKind::Unparsable);
    let bytes = find(FileKind::Yaml, b"a: x/b:1 # {\"$imagepolicy\": \"ns:n\"}\n").encode();
    for cut in 0..bytes.len() {
        assert!(Findings::decode(&bytes[..cut]).is_err(), "{cut}");
    }
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] = 0xff;
        let _ = Findings::decode(&bytes);
    }
    assert!(Findings::decode(&[VERSION, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
}

#[test]
fn references_scan_takes_linear_time() {
    // All are found, and then counted, since they are more than one file may have.
    let found = |text: &str, expected: &str| {
        let notes = find(FileKind::Yaml, text.as_bytes()).notes;
        let told = notes.iter().any(|note| note.message.contains(expected));
        assert!(told, "{expected}: {:?}", notes.last());
    };
    let documents = "---\nimage: x/y:1 # {\"$imagepolicy\": \"a:b\"}\n".repeat(20_000);
    found(&documents, "has 20000 image references");
    let mapping: String = (0..20_000)
        .map(|i| format!("key{i}: x/y:1 # {{\"$imagepolicy\": \"a:b\"}}\n"))
        .collect();
    found(&mapping, "has 20000 image references");
    let line = format!(
        "apiVersion: v1\nkind: Pod\nspec: [{}]\n",
        "{image: 'x/y:1'}, ".repeat(20_000)
    );
    found(&line, "has 20000 image references");
    let strays = format!("a: |\n{}", "  $imagepolicy\n".repeat(20_000));
    found(&strays, "19800 further notes");
}

/// A comment counts as a marker only if it is nothing else; the others are named.
#[test]
fn marker_with_text_around_is_none() {
    let marker = "{\"$imagepolicy\": \"ns:n:tag\"}";
    for (text, expected) in [
        (
            format!("# tag: 1.2.3 # {marker}\npullPolicy: Always\n"),
            "MarkerInText 1:1",
        ),
        (
            format!("# image: app:v1 # {marker}\nname: app:v2\n"),
            "MarkerInText 1:1",
        ),
        (format!("# OFF {marker}\ntag: a\n"), "MarkerInText 1:1"),
        (
            format!("tag: a # pinned for INC-1; was {marker}\n"),
            "MarkerInText 1:8",
        ),
        (
            format!("tag: a # {marker} until Friday\n"),
            "MarkerInText 1:8",
        ),
        (format!("tag: a ## {marker}\n"), "MarkerInText 1:8"),
    ] {
        check(FileKind::Yaml, &text, &[expected]);
    }
    for text in [
        format!("tag: a #{marker}\n"),
        format!("tag: a #  {marker} \t\n"),
        format!("tag: a # {marker}\r\n"),
        format!("# {marker}\ntag: a\n"),
    ] {
        let found = find(FileKind::Yaml, text.as_bytes());
        assert_eq!(found.references.len(), 1, "{text}: {:?}", found.notes);
    }
    let prose = "# written by $imagepolicy markers\ntag: a\n";
    check(FileKind::Yaml, prose, &[]);
}
